"""What no reader may believe: cards that lie, numbers that are none, two records of one name, a truth that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.faults.inputs import MAP, QUERY, _lines, _write
from benchmarks.shared.faults.scenarios import PROTOCOLS
from benchmarks.shared.faults.stored import Fault, Plant
from gloam.files import sealed_json, sha256_bytes
from gloam.model_card import METADATA_KEY
from gloam.runtime.backends.onnx_file import CHECKSUM_KEY, with_checksum

NAN, INFINITE = float("nan"), float("inf")


def record_faults() -> Iterator[Fault]:
    """Every one."""
    for what, change in CARDS.items():
        for scenario in ("extract anew", "check"):
            yield Fault("lying card", what, scenario, _card("embedder.onnx", change), "named")
    yield Fault(
        "lying card", "self-test of other values", "translate anew", _card("translator.onnx", _other_test), "named"
    )
    for name, scenario in (("embedder", "extract anew"), ("translator", "translate anew"), ("local", "asmk search")):
        for value in (NAN, INFINITE):
            yield Fault("not finite", f"weights of {value}", scenario, _weights(f"{name}.onnx", value), "named")
    for value in (NAN, INFINITE):
        yield Fault("not finite", f"weights of {value}", "export", _tensors(value), "named")
        for scenario in ("index", "pairs", "eval retrieval", "whitening"):
            yield Fault("not finite", f"a descriptor of {value}", scenario, _descriptor(value), "named")
        for name, scenario in (("codebook", "asmk build"), ("asmk", "asmk search")):
            yield Fault("not finite", f"{name} of {value}", scenario, _packed(f"{name}.npz", value), "named")
        yield Fault("not finite", f"a whitening of {value}", "export", _packed("whitening.npz", value), "named")
        for column in (2, 6):
            yield Fault(
                "not finite",
                f"a map pose of {value}",
                "localize",
                _cell(f"{MAP}/trajectories.txt", column, value),
                "named",
            )
        yield Fault(
            "not finite", f"a focal length of {value}", "localize", _cell(f"{QUERY}/sensors.txt", 6, value), "named"
        )
        yield Fault("not finite", f"a score of {value}", "localize", _cell("places.txt", 2, value), "named")
        yield Fault(
            "not finite",
            f"a pose of {value}",
            "eval localization",
            _cell("poses/2b/sensors/trajectories.txt", 6, value),
            "named",
        )
    yield Fault("no rotation", "a quaternion of zeros", "localize", _zeros, "named")
    for path in (f"{MAP}/records_camera.txt", f"{QUERY}/records_camera.txt", f"{MAP}/trajectories.txt"):
        yield Fault(
            "two of one", f"records of one timestamp and camera, {Path(path).name}", "localize", _twice(path), "named"
        )
    for protocol in PROTOCOLS:
        for source, folder, name, key, count in (
            ("queries", "queries", "q0.png", "failed", 1),
            ("map", "images", "p1.png", "failed_map", 2),  # another one has never decoded
        ):
            plant = _failed(folder, name, key, count)
            yield Fault("counts as missed", f"an image of the {source}", f"score {source}, {protocol}", plant, "named")
    for value in (NAN, INFINITE):
        yield Fault("not finite", f"a global feature of {value}", "localize by features", _gfeat(value), "named")
    yield Fault(
        "two of one",
        "two models under one type of features",
        "features",
        _card("embedder.onnx", _other_model, "global_features"),
        "named",
    )
    for what, change in TRUTHS.items():
        yield Fault("wrong truth", what, "eval retrieval", _truth(change), "named")


def _failed(folder: str, name: str, key: str, count: int) -> Plant:
    """An image does not decode any more: a score that is right says how many are counted as missed."""

    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        path = work / folder / name
        path.write_bytes(path.read_bytes()[:500])
        return (f'"{key}": {count},',)

    return plant


def _gfeat(value: float) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        path = sorted((work / "features").rglob("*.gfeat"))[0]
        array = np.fromfile(path, np.float32)
        array[0] = value
        array.tofile(path)
        return (path.name, path.stem)

    return plant


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(card: dict[str, Any]) -> None:
        place = card
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


def _other_test(card: dict[str, Any]) -> None:
    card["selftest"]["output"] = [value + 0.1 for value in card["selftest"]["output"]]


def _nan_test(card: dict[str, Any]) -> None:
    card["selftest"]["output"][0] = NAN


def _other_model(card: dict[str, Any]) -> None:
    card["provenance"]["weights_sha256"] = "0" * 64


CARDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "another dimension": _set("dimension", to=7),
    "a vast tolerance": _set("selftest", "tolerance", to={"fp32": 1e9}),
    "self-test of other values": _other_test,
    "self-test of NaN": _nan_test,
    "no deviation": _set("std", to=[0.0, 0.0, 0.0]),
    "an infinite mean": _set("mean", to=[INFINITE, 0.0, 0.0]),
    "tiles of CLAHE": _set("photometric", to={"name": "clahe", "clip": 1.0, "grid": 0, "baked": False}),
    "sides of a multiple of 0": _set("profile", "multiple", to=0),
    "no such kind": _set("kind", to="oracle"),
    "an output of another name": lambda card: card["outputs"][0].update(name="other"),
    "an input of another shape": lambda card: card["inputs"][0].update(shape=["batch", 3, "height", "width"]),
    "two cards": lambda card: card.update({"two": True}),
}


def _graph(path: Path, change: Callable[[Any], None]) -> None:
    """A model file changed on purpose, with the checksum of what it became."""
    import onnx

    proto = onnx.load(path)
    for entry in [entry for entry in proto.metadata_props if entry.key == CHECKSUM_KEY]:
        proto.metadata_props.remove(entry)
    change(proto)
    path.write_bytes(with_checksum(proto.SerializeToString(deterministic=True)))


def _card(name: str, change: Callable[[dict[str, Any]], None], *marks: str) -> Plant:
    def edit(proto: Any) -> None:
        entry = next(entry for entry in proto.metadata_props if entry.key == METADATA_KEY)
        card = json.loads(entry.value)
        change(card)
        if card.pop("two", False):
            entry = proto.metadata_props.add()
            entry.key = METADATA_KEY
            card["dimension"] = 7
        entry.value = json.dumps(card)

    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        _graph(work / name, edit)
        return (name, *marks)

    return plant


def _weights(name: str, value: float) -> Plant:
    def edit(proto: Any) -> None:
        from onnx import numpy_helper

        largest = max(proto.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims, dtype=np.int64)))
        array = numpy_helper.to_array(largest).copy()
        array.flat[0] = value
        largest.CopyFrom(numpy_helper.from_array(array, largest.name))

    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        _graph(work / name, edit)
        return (name, name.removesuffix(".onnx"), "q0.png")

    return plant


def _tensors(value: float) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        import torch

        from gloam.networks.checkpoints import load_checkpoint, save_checkpoint

        path = work / "weights.safetensors"
        model = load_checkpoint(path).model
        with torch.no_grad():
            next(model.parameters()).view(-1)[0] = value
        save_checkpoint(path, model, {})
        return (path.name,)

    return plant


def _descriptor(value: float) -> Plant:
    """A store whose checksums are of what it holds, as a program that computes nonsense would write it."""

    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        path = work / "store" / "shards" / "part-000001.npy"
        array = np.load(path)
        array[0, 0] = value
        np.save(path, array)
        manifest = work / "store" / "manifest.json"
        content = json.loads(manifest.read_bytes())
        content["sha256"][path.name] = sha256_bytes(path.read_bytes())
        manifest.write_bytes(sealed_json(content))
        return ("store", path.name, "p3.jpg")

    return plant


def _packed(name: str, value: float) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        with np.load(work / name) as packed:
            arrays = {key: packed[key].copy() for key in packed.files}
        real = next(array for array in arrays.values() if array.dtype.kind == "f" and array.ndim)
        real.flat[0] = value
        np.savez(work / name, **arrays)
        return (name,)

    return plant


def _cell(path: str, column: int, value: float) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        head, rows = _lines(work / path)
        row = rows[0].split(", ")
        row[column] = str(value)
        _write(work / path, head, [", ".join(row), *rows[1:]])
        return (Path(path).name,)

    return plant


def _zeros(work: Path, rng: np.random.Generator) -> Sequence[str]:
    path = work / MAP / "trajectories.txt"
    head, rows = _lines(path)
    row = rows[0].split(", ")
    _write(path, head, [", ".join([*row[:2], "0", "0", "0", "0", *row[6:]]), *rows[1:]])
    return (path.name,)


def _twice(path: str) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        head, rows = _lines(work / path)
        first, second = rows[0].split(", "), rows[1].split(", ")
        _write(work / path, head, [*rows, ", ".join([*first[:2], *second[2:]])])
        return (Path(path).name,)

    return plant


TRUTHS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a number beyond the list": lambda truth: truth["gnd"][0].update(ok=[99]),
    "a negative number": lambda truth: truth["gnd"][0].update(ok=[-1]),
    "a number of NaN": lambda truth: truth["gnd"][0].update(ok=[NAN]),
    "half a number": lambda truth: truth["gnd"][0].update(ok=[0.5]),
    "an image twice": lambda truth: truth["imlist"].__setitem__(1, truth["imlist"][0]),
    "a query twice": lambda truth: truth["qimlist"].__setitem__(1, truth["qimlist"][0]),
    "an image that nobody described": lambda truth: truth["imlist"].__setitem__(1, "nobody.png"),
    "an answer too few": lambda truth: truth["gnd"].pop(),
    "an image both right and junk": lambda truth: truth["gnd"][0].update(junk=[0]),
}


def _truth(change: Callable[[dict[str, Any]], None]) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        path = work / "truth.json"
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))
        return (path.name, "nobody.png")

    return plant
