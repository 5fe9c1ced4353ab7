"""Pickles give data or an error that names what they refer to; nothing in them is called."""

from __future__ import annotations

import collections
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.pickles import load_pickle
from gloam.errors import DataError

CONTENT: dict[str, Any] = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3)),
    "words": np.array(["ab", "c"]),
    "number": np.float64(3.5),
    "nested": ["a", (1, 2.0, None, True), {"k": b"x\xff"}],
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("numpy_1", [False, True])
def test_data_and_arrays(tmp_path: Path, protocol: int, numpy_1: bool) -> None:
    content = pickle.dumps(CONTENT, protocol)
    if numpy_1 and protocol < 4:  # in later protocols the length is stated before the name
        content = content.replace(b"numpy._core", b"numpy.core")
    found = load_pickle(written(tmp_path / "a.pkl", content))
    assert list(found) == list(CONTENT)
    for key in ("matrix", "columns", "big endian", "empty", "words"):
        assert found[key].shape == CONTENT[key].shape
        assert np.array_equal(found[key], CONTENT[key])
        assert found[key].dtype.isnative
    assert found["number"] == 3.5
    assert found["nested"] == CONTENT["nested"]


def test_shared_parts_stay_shared(tmp_path: Path) -> None:
    shared = [np.arange(2)]
    found = load_pickle(written(tmp_path / "a.pkl", pickle.dumps([shared, (shared,)])))
    assert found[0] is found[1][0]


def doubled(kind: Callable[[Any], Any], levels: int) -> Any:
    value = kind([1, 2])
    for _ in range(levels):
        value = kind([value, value])
    return value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value += [value, value]
    return value


def keyed(opcodes: bytes) -> bytes:
    """A few bytes: a tuple of 2**60 numbers, which is then hashed."""
    twice = b"K\x01\x85" + b"2\x86" * 60
    return b"\x80\x04" + opcodes.replace(b"?", twice) + b"."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (keyed(b"}?Ns"), "a key of type tuple"),
        (keyed(b"}(?Nu"), "a key of type tuple"),
        (keyed(b"(?Nd"), "a key of type tuple"),
        (keyed(b"\x8f(?\x90"), "a key of type tuple"),
        (keyed(b"(?\x91"), "a key of type tuple"),
        (pickle.dumps(doubled(tuple, 40)), "shared parts stand for more than"),
        (pickle.dumps({"cids": doubled(list, 40)}), "shared parts stand for more than"),
        (pickle.dumps(cyclic()), "holds itself"),
        (b"\x80\x04" + b"]" * 900 + b"a" * 899 + b".", "deep"),
        (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.", "truncated"),
        (b"\x80\x04Nr\xff\xff\xff\x7f.", None),
        (
            pickle.dumps(np.zeros(4, np.uint8), 4).replace(b"C\x04\0\0\0\0", b"J\xff\xff\xff\x7f"),
            "an array without bytes",
        ),
    ],
)
def test_a_few_bytes_neither_hang_nor_fill_the_memory(tmp_path: Path, content: bytes, reason: str | None) -> None:
    assert len(content) < 3000
    file = written(tmp_path / "a.pkl", content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if reason is None:
        assert load_pickle(file) is None
    else:
        with pytest.raises(DataError, match=reason) as error:
            load_pickle(file)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_flat_tuples_are_keys(tmp_path: Path) -> None:
    content = {(1, "a"): {2, (3, 4)}, "b": frozenset((5,))}
    assert load_pickle(written(tmp_path / "a.pkl", pickle.dumps(content))) == content


class Call:
    def __init__(self, what: Callable[..., Any], *arguments: Any) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> Any:
        return (self.what, self.arguments)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Call(print, "ran"), "builtins.print"),
        (Call(eval, "print('ran')"), "builtins.eval"),
        ({"gnd": [Call(Path, "x")]}, r"pathlib\S*Path"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (Call(np.load, "x", None, True), "numpy.load"),
        (print, "builtins.print"),
    ],
)
def test_a_reference_is_refused_with_its_name(
    tmp_path: Path, value: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "a.pkl", pickle.dumps(value))
    with pytest.raises(DataError, match=f"refers to {name}, which is not plain data; it was not loaded") as error:
        load_pickle(file)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2, 3])[:-3],
        pickle.dumps(np.array([{}, 1], object)),
        pickle.dumps(np.zeros(2, [("a", "i4"), ("b", "f8")])),
        pickle.dumps(np.zeros(4), 2).replace(b"K\x04\x85", b"K\x05\x85"),
        pickle.dumps(np.dtype("f8")),
        b"\x80\x02" + b"(" * 10 + b".",
    ],
)
def test_malformed_ones_and_objects_in_arrays_are_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"not a readable pickle|refers to") as error:
        load_pickle(written(tmp_path / "a.pkl", content))
    assert "\n" not in str(error.value)


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_pickle(tmp_path / "none.pkl")


def test_official_ground_truth(data_pack: Callable[[str], Path]) -> None:
    found = load_pickle(data_pack("gt_formats") / "revisitop" / "gnd_roxford5k.pkl")
    assert (len(found["imlist"]), len(found["qimlist"]), len(found["gnd"])) == (4993, 70, 70)
    assert set(found["gnd"][0]) == {"bbx", "easy", "hard", "junk"}
