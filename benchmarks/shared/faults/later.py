"""Faults behind the others, whose places in the list are part of their seeds: heads of checkpoints, images that are
trained on, towns, indexes that their cards vouch for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.shared.faults.stored import Fault, Plant, _swapped, chosen, flip, names_of
from benchmarks.shared.faults.workspace import picture, write_picture
from gloam.files import sealed_json, sha256_file


def later_faults() -> Iterator[Fault]:
    """Every one."""
    for _ in range(6):
        yield Fault("flipped bit", "the head of weights.safetensors", "export", _head)
    for what, change in {"another picture": _another, "of as many bytes": _of_its_size}.items():
        for domain in ("day", "night"):
            yield Fault("stale input", f"a training image: {what}, {domain}", "train", _image(domain, change), "named")
    for pattern in ("town/*/sensors/records_data/**/*.jpg", "town/ground_truth.json", "town/checksums.json"):
        for _ in range(2):
            yield Fault("flipped bit", pattern, "town", _flip(pattern))
    photos = "town/mapping/sensors/records_data/mapping/cam0/*.jpg"
    yield Fault("swapped", f"two of {photos}", "town", _swapped(photos, None))
    for label in (-3, 99):
        yield Fault("lying index", f"a vector of the number {label}", "search", _index(_labelled(label)), "named")
    yield Fault("lying index", "of distances", "search", _index(_by_distance), "named")


def _head(work: Path, rng: np.random.Generator) -> Sequence[str]:
    path = work / "weights.safetensors"
    content = bytearray(path.read_bytes())
    first = content.index(b"gloam.checkpoint")
    bit = int(rng.integers(8 * first, 8 * (first + 600)))  # of the description, which is longer
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return (path.name,)


def _flip(pattern: str) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        (path,) = chosen(work, pattern, rng)
        flip(path, rng)
        return names_of(work, path)

    return plant


def _image(domain: str, change: Callable[[Path, int], None]) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        (path,) = chosen(work, f"domains/{domain}/*.png", rng)
        change(path, int(rng.integers(300, 400)))
        return (path.name, "run with another")

    return plant


def _another(path: Path, seed: int) -> None:
    write_picture(path, seed, (48, 40))


def _of_its_size(path: Path, seed: int) -> None:
    from PIL import Image

    size = path.stat().st_size
    Image.fromarray(picture(seed, (40, 34))).save(path)
    with path.open("ab") as handle:
        handle.write(bytes(max(0, size - path.stat().st_size)))


def _index(change: Callable[[Path], None]) -> Plant:
    """Another FAISS file under the name of one, with its checksum and size in the card."""

    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        path, card = work / "index" / "index.faiss", work / "index" / "index.json"
        change(path)
        value = json.loads(card.read_text())
        value["sha256"][path.name], value["sizes"][path.name] = sha256_file(path), path.stat().st_size
        card.write_bytes(sealed_json(value))
        return (path.name, "FAISS answers")

    return plant


def _labelled(label: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        import faiss

        flat = faiss.read_index(str(path))
        values = flat.reconstruct_n(0, flat.ntotal)
        cells = faiss.index_factory(flat.d, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
        cells.train(values)
        labels = label * np.arange(1, flat.ntotal + 1)
        cells.add_with_ids(values, labels)
        faiss.write_index(cells, str(path))

    return change


def _by_distance(path: Path) -> None:
    import faiss

    flat = faiss.read_index(str(path))
    other = faiss.IndexFlatL2(flat.d)
    other.add(flat.reconstruct_n(0, flat.ntotal))
    faiss.write_index(other, str(path))
