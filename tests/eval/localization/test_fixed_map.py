"""One map is made once, read again bit for bit, and made again where its file is damaged or an image changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gloam.eval.localization import fixed_map as module
from gloam.eval.localization.fixed_map import fixed_map
from gloam.runtime.localization.colmap import Triangulation
from gloam.runtime.localization.maps.mapping import PairMatcher
from tests.runtime.localization import exact_world

PAIRS = [("a.png", "m.png"), ("b.png", "a.png"), ("b.png", "c.png"), ("c.png", "m.png")]


def made(root: Path, pairs: list[tuple[str, str]] = PAIRS) -> Triangulation:
    with ThreadPoolExecutor(1) as pool:
        return fixed_map(exact_world.matcher(root, root / "kept"), pairs, pool)


def test_a_map_is_read_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(tmp_path)
    assert len(first.points) > 80
    (kept,) = (tmp_path / "kept/maps").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(module, "build_map", lambda *given: pytest.fail("made twice"))
        again = made(tmp_path, [(b, a) for a, b in reversed(PAIRS)] + PAIRS[:1])  # order and repeats do not matter
    assert np.array_equal(again.points, first.points)
    assert again.mean_error == first.mean_error
    assert list(again.observed) == sorted(first.observed)
    assert all(np.array_equal(again.observed[name], rows) for name, rows in first.observed.items())
    kept.write_bytes(kept.read_bytes()[:-60])
    assert np.array_equal(made(tmp_path).points, first.points)
    assert len(list((tmp_path / "kept/maps").iterdir())) == 1


def test_other_pairs_are_another_map(tmp_path: Path) -> None:
    whole, part = made(tmp_path), made(tmp_path, PAIRS[:2])
    assert set(part.observed) == {"a.png", "b.png", "m.png"}
    assert set(whole.observed) == {"a.png", "b.png", "c.png", "m.png"}
    assert len(list((tmp_path / "kept/maps").iterdir())) == 2


def test_the_same_content_under_other_names_is_another_map_and_so_is_other_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, (content, pairs) in enumerate([("x", PAIRS[:2]), ("x", PAIRS[:1] + PAIRS[3:]), ("y", PAIRS[:2])], 1):
        monkeypatch.setattr(PairMatcher, "pair_key", lambda given, pair, content=content: content)
        assert set(made(tmp_path, pairs).observed) == {name for pair in pairs for name in pair}
        assert len(list((tmp_path / "kept/maps").iterdir())) == count


def test_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert len(fixed_map(exact_world.matcher(tmp_path), PAIRS, pool).points) > 80
    assert not list(tmp_path.rglob("*.npz"))
