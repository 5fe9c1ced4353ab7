"""Adding and merging give the index of the union, refuse what does not belong, and never lose what was there."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from gloam.errors import DataError, GloamError, IncompatibleError, StoreError, UsageError
from gloam.runtime.search.index import DescriptorIndex, add_to_index, build_index, merge_indexes
from tests.damage import named_or_harmless
from tests.runtime.search.index.clustered import clustered
from tests.runtime.sources import MemorySource, random_source

SPACE = "a" * 64


def joined(*sources: MemorySource) -> MemorySource:
    names = [name for source in sources for name in source.names]
    return MemorySource(names, np.concatenate([source.rows for source in sources]))


@pytest.mark.parametrize("shards", [1, 3])
def test_adding_gives_the_index_of_both(tmp_path: Path, shards: int) -> None:
    first, second = random_source(50, 8, 1, "a"), random_source(23, 8, 2, "b")
    build_index(first, tmp_path / "grown", shards=shards)
    card = add_to_index(second, tmp_path / "grown")
    assert card.count == 73
    assert len(card.files) == (1 if shards == 1 else 4)
    build_index(joined(first, second), tmp_path / "whole")
    queries = random_source(9, 8, 5).rows
    found = [DescriptorIndex.open(tmp_path / name).search(queries, 73, space=SPACE)[0] for name in ("grown", "whole")]
    assert found[0] == found[1]
    assert len(list((tmp_path / "grown").iterdir())) == len(card.files) + 2


@pytest.mark.parametrize("shards", [1, 2])
def test_adding_keeps_settings_and_says_what_the_recall_was_measured_on(tmp_path: Path, shards: int) -> None:
    first, second = clustered(1500, 32, 1, "a"), clustered(300, 32, 2, "b")
    built = build_index(first, tmp_path, "IVF16,PQ8x4fs,RFlat", shards=shards)
    card = add_to_index(second, tmp_path)
    assert (card.search, card.training, card.recall) == (built.search, built.training, built.recall)
    assert (card.recall["vectors"], card.count) == (1500, 1800)
    names, _ = DescriptorIndex.open(tmp_path).search(second.rows, 1, space=SPACE)
    assert np.mean([row == [name] for row, name in zip(names, second.names, strict=True)]) > 0.9


def test_merging_gives_the_index_of_all(tmp_path: Path) -> None:
    sources = [random_source(count, 8, count, f"part{count}") for count in (20, 31, 7)]
    for number, source in enumerate(sources):
        build_index(source, tmp_path / str(number), shards=1 + number)
    card = merge_indexes([tmp_path / str(number) for number in range(3)], tmp_path / "merged")
    assert (card.count, len(card.files)) == (58, 6)
    build_index(joined(*sources), tmp_path / "whole")
    queries = random_source(9, 8, 5).rows
    found = [DescriptorIndex.open(tmp_path / name).search(queries, 58, space=SPACE)[0] for name in ("merged", "whole")]
    assert found[0] == found[1]
    added = add_to_index(random_source(4, 8, 9, "more"), tmp_path / "merged")
    assert (added.count, len(added.files)) == (62, 7)


def test_merged_parts_keep_their_own_training(tmp_path: Path) -> None:
    parts = [clustered(1000, 32, seed, f"part{seed}") for seed in (1, 2)]
    for number, source in enumerate(parts):
        build_index(source, tmp_path / str(number), "IVF16,PQ8x4fs,RFlat", seed=number)
    card = merge_indexes([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert card.recall == {}
    whole = joined(*parts)
    names, _ = DescriptorIndex.open(tmp_path / "merged").search(whole.rows, 1, space=SPACE)
    assert np.mean([row == [name] for row, name in zip(names, whole.names, strict=True)]) > 0.95


def test_what_cannot_be_added_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    source = random_source(30, 8, 1, "a")
    card = build_index(source, tmp_path)
    other, broken = random_source(5, 8, 2, "b"), random_source(5, 8, 2, "b")
    other.space, broken.rows[3, 0] = "d" * 64, np.nan
    twice = random_source(2, 8, 2, "b")
    twice.names[1] = twice.names[0]
    read_otherwise = random_source(5, 8, 2, "b")
    read_otherwise.manifest = {"job": {"options": {"max_side": 512}}}  # type: ignore[attr-defined]  # as a store has
    cases: list[tuple[MemorySource, type[GloamError], str]] = [
        (other, IncompatibleError, "space"),
        (random_source(5, 9, 2, "b"), IncompatibleError, "9 values"),
        (random_source(3, 8, 7, "a"), DataError, "already in the index"),
        (twice, DataError, "already in the index"),
        (broken, DataError, "finite"),
        (random_source(0, 8), DataError, "nothing to add"),
        (read_otherwise, IncompatibleError, "max_side"),
    ]
    for bad, kind, match in cases:
        with pytest.raises(kind, match=match) as error:
            add_to_index(bad, tmp_path)
        assert "\n" not in str(error.value)
        assert DescriptorIndex.open(tmp_path).card == card
        assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("shards", [1, 2])
def test_an_interrupted_addition_leaves_the_index(tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = random_source(30, 8, 1, "a")
    card = build_index(source, tmp_path, shards=shards)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(faiss, "write_index", killed)
    with pytest.raises(KeyboardInterrupt):
        add_to_index(random_source(5, 8, 2, "b"), tmp_path)
    monkeypatch.undo()
    assert DescriptorIndex.open(tmp_path).card == card
    assert len(list(tmp_path.iterdir())) == shards + 2


class Killed(BaseException):
    """A process that ends here and cleans nothing up."""


@pytest.mark.parametrize("begun", [True, False])
def test_a_build_after_a_kill_has_the_bytes_and_names_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    old, new = random_source(20, 8, 1, "a"), random_source(30, 8, 2, "b")
    for folder in ("whole", "cut"):
        if begun:
            build_index(old, tmp_path / folder)
    build_index(new, tmp_path / "whole", shards=2)

    def killed(*_: object, **__: object) -> None:
        patch.setattr(Path, "unlink", killed)  # a dead process cleans nothing up
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("gloam.runtime.search.index.build.publish", killed)
        with pytest.raises(Killed):
            build_index(new, tmp_path / "cut", shards=2)
    assert (tmp_path / "cut/begun.json").is_file()
    build_index(new, tmp_path / "cut", shards=2)
    whole, cut = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "cut"))
    assert whole == cut


def test_an_addition_that_was_killed_behind_its_end_is_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(random_source(20, 8, 1, "a"), tmp_path)
    more = random_source(5, 8, 2, "b")

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            add_to_index(more, tmp_path)
    card = add_to_index(more, tmp_path)
    assert card.count == 25
    assert {path.name for path in tmp_path.iterdir()} == {*card.files, card.names, "index.json"}
    other = random_source(5, 8, 3, "b")  # the same names, other descriptors
    with pytest.raises(DataError, match="already in the index"):
        add_to_index(other, tmp_path)


def test_what_cannot_be_merged_is_one_line(tmp_path: Path) -> None:
    build_index(random_source(60, 8, 1, "a"), tmp_path / "a")
    build_index(random_source(60, 8, 2, "b"), tmp_path / "cells", "IVF2,Flat")
    build_index(random_source(60, 8, 2, "a"), tmp_path / "twins")
    foreign = random_source(60, 8, 2, "c")
    foreign.space = "d" * 64
    build_index(foreign, tmp_path / "foreign")
    cases: list[tuple[list[str], str, type[GloamError], str]] = [
        (["a"], "new", UsageError, "two indexes"),
        (["a", "cells"], "a", UsageError, "into itself"),
        (["a", "cells"], "new", IncompatibleError, "build them alike"),
        (["a", "foreign"], "new", IncompatibleError, "space"),
        (["a", "twins"], "new", DataError, "already in the index"),
        (["a", "absent"], "new", StoreError, "not an index"),
    ]
    for names, output, kind, match in cases:
        with pytest.raises(kind, match=match) as error:
            merge_indexes([tmp_path / name for name in names], tmp_path / output)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "new").exists()


def test_damage_of_a_part_is_found_while_it_is_merged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_index(random_source(60, 8, 1, name), tmp_path / name)
    path = tmp_path / "b" / "index.faiss"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="checksum"):
        merge_indexes([tmp_path / "a", tmp_path / "b"], tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["index.json", "index.faiss", "names.txt"])
def test_a_flipped_bit_of_an_index_is_named(tmp_path: Path, name: str) -> None:
    build_index(random_source(50, 8, 1), tmp_path)
    queries = random_source(3, 8, 2).rows

    def read() -> object:
        index = DescriptorIndex.open(tmp_path)
        names, scores = index.search(queries, 5, space=SPACE)
        return names, scores.tobytes(), index.card

    assert named_or_harmless(tmp_path / name, read, 150) >= 149
