"""FAISS files that were damaged or made by others: a line, or neighbours that exist, and no crash."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from gloam.errors import StoreError
from gloam.files import sealed_json, sha256_file
from gloam.runtime.search.index import DescriptorIndex, add_to_index, build_index
from gloam.runtime.search.index.card import CARD, read_index_card
from tests.runtime.sources import random_source

SPACE = "a" * 64

KINDS = ("Flat", "HNSW16", "IVF8,Flat", "IVF8,PQ4x4fs,RFlat", "PCA4,IVF8,SQ8")
MUTATED = 100  # of each kind
MEMORY = 4 << 30  # bytes of the process that reads them

CHILD = """
import sys, faiss, numpy as np
from pathlib import Path
from gloam.errors import GloamError
from gloam.files import sealed_json, sha256_file
from gloam.runtime.search.index import DescriptorIndex
from tests.runtime.search.index.test_hostile import restate
folder, seed, count, space = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
faiss.omp_set_num_threads(1)
path = folder / "index.faiss"
whole, rng = path.read_bytes(), np.random.default_rng(seed)
queries = np.load(folder.parent / "queries.npy")
for number in range(count):
    content, how = bytearray(whole), rng.random()
    head = min(len(content), 400 if rng.random() < 0.7 else len(content)) - 8
    at = int(rng.integers(head))
    if how < 0.5:
        content[at] ^= 1 << int(rng.integers(8))
    elif how < 0.85:
        value = rng.choice([2**63 - 1, 2**40, 2**31, 10**6, 7, 0]) if rng.random() < 0.8 else 2**64 - 1
        content[at : at + 8] = int(value).to_bytes(8, "little")
    else:
        del content[at:]
    path.write_bytes(content)
    restate(folder)
    print(number, end=" ", flush=True)
    try:
        index = DescriptorIndex.open(folder, mmap=how < 0.1)
        names, scores = index.search(queries, 5, space=space)
        known = {"", *index.names}
        assert all(name in known for row in names for name in row)
        print("read", flush=True)
    except GloamError as error:
        assert "\\n" not in str(error) and str(folder) in str(error), error
        print("refused", flush=True)
"""


def restate(folder: Path) -> None:
    """Let the card of an index state its FAISS file as it is, as whoever made the file would."""
    path = folder / CARD
    value = json.loads(path.read_text())
    (name,) = value["files"]
    value["sha256"][name] = sha256_file(folder / name)
    value["sizes"][name] = (folder / name).stat().st_size
    path.write_bytes(sealed_json(value))


@pytest.mark.slow
@pytest.mark.parametrize("factory", KINDS)
def test_mutated_indexes_that_their_cards_vouch_for(tmp_path: Path, factory: str) -> None:
    source = random_source(700)
    build_index(source, tmp_path / "index", factory)
    np.save(tmp_path / "queries.npy", source.rows[:20])
    words = [sys.executable, "-c", CHILD, str(tmp_path / "index"), "7", str(MUTATED), SPACE]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    done = subprocess.run(words, capture_output=True, text=True, timeout=300, preexec_fn=limited)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-600:])
    assert len(done.stdout.splitlines()) == MUTATED


def test_what_a_file_states_is_compared_with_its_card(tmp_path: Path) -> None:
    source = random_source(60)
    build_index(source, tmp_path / "index")
    path = tmp_path / "index" / "index.faiss"
    values = source.rows
    by_distance = faiss.IndexFlatL2(16)
    by_distance.add(values)
    untrained = faiss.index_factory(16, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    for other in (by_distance, untrained):
        faiss.write_index(other, str(path))
        restate(tmp_path / "index")
        with pytest.raises(StoreError, match=r"index\.faiss: not a trained index of inner products.*build it again"):
            DescriptorIndex.open(tmp_path / "index")
        with pytest.raises(StoreError, match=r"index\.faiss: not a trained index of inner products.*build it again"):
            add_to_index(random_source(5, prefix="more"), tmp_path / "index")


@pytest.mark.parametrize("label", [-3, 60, 2**40])
def test_neighbours_that_the_index_does_not_have_are_refused(tmp_path: Path, label: int) -> None:
    source = random_source(60)
    build_index(source, tmp_path / "index")
    values = source.rows
    cells = faiss.index_factory(16, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    cells.train(values)
    labels = np.arange(60)
    labels[7] = label
    cells.add_with_ids(values, labels)
    faiss.write_index(cells, str(tmp_path / "index" / "index.faiss"))
    restate(tmp_path / "index")
    with pytest.raises(StoreError, match="FAISS answers with vectors that the index does not have; build it again"):
        DescriptorIndex.open(tmp_path / "index").search(values[7:8], 3, space=SPACE, nprobe=4)


@pytest.mark.parametrize("value", [0, -1, 2**40])
def test_search_parameters_have_bounds(tmp_path: Path, value: int) -> None:
    build_index(random_source(60), tmp_path / "index")
    path = tmp_path / "index" / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"search": {"efSearch": value}}))
    with pytest.raises(StoreError, match=rf"damaged \(a search of efSearch {value}\)"):
        read_index_card(tmp_path / "index")
