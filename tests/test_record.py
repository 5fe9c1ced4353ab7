"""A record survives its journey through JSON; a wrong key or type is refused by the key's name."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloam.errors import UsageError
from gloam.record import Written, fill_dataclass, sparse, to_json


@dataclass(frozen=True)
class Inner:
    width: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class Config:
    name: str
    flag: bool = False
    mode: Literal["day", "night"] = "day"
    sides: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    words: list[str] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | float | None = None
    place: Path = Path("here")
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    several: tuple[Inner, ...] = ()


@dataclass(frozen=True)
class Card(Written):
    name: str
    inner: Inner
    count: int = 1
    minimum: int = sparse(1)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INNERS = st.builds(Inner, st.integers(), FLOATS)
PLAIN = st.recursive(st.none() | st.booleans() | st.integers() | FLOATS | st.text(), st.lists, max_leaves=4)
CONFIGS = st.builds(
    Config,
    name=st.text(),
    flag=st.booleans(),
    mode=st.sampled_from(["day", "night"]),
    sides=st.lists(st.integers()).map(tuple),
    pair=st.tuples(st.integers(), FLOATS),
    words=st.lists(st.text()),
    options=st.dictionaries(st.text(), PLAIN),
    limit=st.none() | st.integers() | FLOATS,
    place=st.sampled_from([Path("a"), Path("a/b")]),
    inner=INNERS,
    maybe=st.none() | INNERS,
    several=st.lists(INNERS, max_size=3).map(tuple),
)


@given(CONFIGS)
def test_random_values_come_back_through_json(config: Config) -> None:
    text = json.dumps(to_json(config), allow_nan=False)
    again = fill_dataclass(Config, json.loads(text), "here")
    assert again == config
    assert type(again.limit) is type(config.limit)  # an int in a union of both stays one
    assert json.dumps(to_json(again), allow_nan=False) == text


WRONG: dict[str, st.SearchStrategy[Any]] = {
    "name": st.none() | st.integers() | st.lists(st.text()),
    "flag": st.none() | st.integers() | st.text(),
    "mode": st.none() | st.integers() | st.text().filter(lambda text: text not in ("day", "night")),
    "sides": st.integers() | st.text() | st.lists(FLOATS | st.booleans(), min_size=1),
    "pair": st.integers() | st.lists(st.integers()).filter(lambda items: len(items) != 2),
    "words": st.text() | st.lists(st.integers(), min_size=1),
    "options": st.none() | st.integers() | st.lists(st.text()),
    "limit": st.booleans() | st.lists(st.integers()),
    "place": st.none() | st.integers(),
    "inner": st.none() | st.integers() | st.lists(st.integers()),
    "maybe": st.integers() | st.text(),
    "several": st.integers() | st.lists(st.integers(), min_size=1),
}


def test_every_type_has_wrong_values() -> None:
    assert set(WRONG) == {item.name for item in dataclasses.fields(Config)}


@given(st.sampled_from(sorted(WRONG)), st.data())
def test_a_wrong_type_is_refused_with_the_name_of_its_key(key: str, data: st.DataObject) -> None:
    with pytest.raises(UsageError) as caught:
        fill_dataclass(Config, {"name": "x", key: data.draw(WRONG[key])}, "c.yaml")
    assert str(caught.value).startswith(f"c.yaml: {key}: ")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "here: key 'name' is missing"),
        ({"name": "x", "sidez": []}, "here: unknown key 'sidez'; did you mean 'sides'?"),
        ({"name": "x", "inner": {"widht": 1}}, "here: inner: unknown key 'widht'; did you mean 'width'?"),
        ({"name": "x", "maybe": {"width": 1.5}}, "here: maybe: width: 1.5 is not of type int"),
        ({"name": "x", "several": [{"rate": "fast"}]}, "here: several: rate: 'fast' is not of type float"),
        ({"name": "x", "mode": "dusk"}, "here: mode: 'dusk' is none of 'day', 'night'"),
        ({"name": "x", "pair": [1]}, "here: pair: [1] must have 2 values"),
        ([], "here: [] is not of type Config"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        fill_dataclass(Config, value, "here")
    assert str(caught.value) == message


def test_ints_and_exponents_become_floats_and_a_base_keeps_the_rest() -> None:
    base = Config("x", inner=Inner(7, 0.25), flag=True)
    found = fill_dataclass(Config, {"inner": {"rate": 1}}, "here", base)
    assert found == dataclasses.replace(base, inner=Inner(7, 1.0))
    assert type(found.inner.rate) is float
    assert fill_dataclass(Inner, {"rate": "1e-6"}, "here").rate == 1e-6  # as YAML 1.1 reads it


def test_a_written_record_is_whole_and_leaves_later_keys_aside() -> None:
    whole = {"name": "x", "inner": {"width": 1}, "count": 2}
    assert fill_dataclass(Card, whole | {"later": 1}, "card") == Card("x", Inner(1), 2)
    for key in whole:
        with pytest.raises(UsageError, match=f"card: key '{key}' is missing"):
            fill_dataclass(Card, {name: item for name, item in whole.items() if name != key}, "card")
    with pytest.raises(UsageError, match="inner: unknown key 'later'"):  # a part that is no such record is strict
        fill_dataclass(Card, whole | {"inner": {"later": 1}}, "card")


@given(st.integers(-3, 3))
def test_a_sparse_field_is_stated_only_where_it_says_something(minimum: int) -> None:
    card = Card("x", Inner(), minimum=minimum)
    assert ("minimum" in to_json(card)) == (minimum != 1)
    assert fill_dataclass(Card, to_json(card), "card") == card


def test_the_floor_needs_the_standard_library_alone() -> None:
    code = "import sys, gloam.record; print({'numpy', 'yaml', 'torch'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert found.stdout.strip() == "set()"
