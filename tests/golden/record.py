"""What must stay as it is, written down: identities, cards, keys, bytes and draws, as plain JSON values.

``python -m tests.golden.record`` writes the files that the tests compare with. A file is written anew only where a
change of identity is meant, and the change log says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import nn

from gloam.cli.main import main
from gloam.export.edges import export_edges
from gloam.export.embedder import export_embedder
from gloam.export.local_features import export_local_features
from gloam.export.translator import export_translator
from gloam.files import split_seal
from gloam.model_card import ModelCard, Photometric
from gloam.networks.checkpoints import save_checkpoint, weights_sha256
from gloam.networks.edges import DETECTORS, create_detector
from gloam.networks.embedders import EMBEDDERS, create_embedder
from gloam.networks.embedders.anyloc import NETWORKS as ANYLOC
from gloam.networks.embedders.boq import NETWORKS as BOQ
from gloam.networks.embedders.dinov2 import NETWORKS as DINOV2
from gloam.networks.embedders.gem_linear import NETWORKS as GEM_LINEAR
from gloam.networks.embedders.salad import NETWORKS as SALAD
from gloam.networks.translators import GENERATORS, create_generator
from gloam.padding import PaddingProfile
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from gloam.runtime.search.index import build_index
from gloam.training.edges.train import DRAW as DETECTOR_DRAW
from gloam.training.embedders.tuples.diverse_anchors import diverse_anchors
from gloam.training.embedders.tuples.hard_negatives import mine_negatives
from gloam.training.translators.batches import DRAW as DOMAINS_DRAW
from tests.golden.bad_invocations import BAD, prepare
from tests.tiny_models import write_tiny_embedder

HERE = Path(__file__).parent
VGG: dict[str, Any] = {"stages": ((8, 1), (16, 2), (16, 1))}
INSIDE = {"name": "gem_vgg16", "options": VGG}
SMALL: dict[str, dict[str, Any]] = {
    "gem_vgg16": VGG,
    "gem_resnet18": {"width": 8},
    "gem_resnet50": {"width": 8},
    "gem_resnet101": {"width": 8},
    "mac_vgg16": VGG,
    "netvlad_vgg16": {**VGG, "clusters": 8},
    "ciconv_resnet18": {"width": 8},
    "ciconv_resnet50": {"width": 8},
    "ciconv_resnet101": {"width": 8},
    "edgemac_vgg16": VGG,
    "hedmac_vgg16": {**VGG, "detector_options": {"width": 4}},
    "rcfmac_vgg16": {**VGG, "detector_options": {"width": 4}},
    "how_resnet18": {"width": 8},
    "how_resnet50_minus": {"width": 8},
    "photometric_unet": {"embedder": INSIDE, "levels": 3, "width": 8},
    "mduit_content": {"width": 8, "blocks": 1},
    "ensemble": {"members": [INSIDE, {"name": "gem_resnet18", "options": {"width": 8}, "mean": (0.5,) * 3}]},
}
PROVENANCE = {"recipe": "golden", "data": "none", "licence": "none"}
# Than the record.
LATER = (
    "weakly_paired",
    "spade",
    "ganimation",
    "mduit",
    "mduit_content",
    "adain",
    *DINOV2,
    *SALAD,
    *BOQ,
    *GEM_LINEAR,
    *ANYLOC,
    "mixvpr",
    "spoc_vgg16",
    "rmac_vgg16",
    "mac_resnet101",
    "spoc_resnet101",
    "rmac_resnet101",
)
QUICK = ("gem_vgg16", "how_resnet18", "ensemble")


def ruled(model: nn.Module) -> nn.Module:
    """The network with weights from whole numbers, which every processor rounds alike."""
    with torch.no_grad():
        for index, (_, value) in enumerate(sorted(model.state_dict().items())):
            count = np.arange(value.numel(), dtype=np.int64) * 7919 + 104729 * index
            scale = np.float32(1 / 64 if value.dim() > 1 else 1 / 256)
            numbers = (count % 13 - 6).astype(np.float32) * scale if value.dim() > 1 else 1 + (count % 5) * scale
            value.copy_(torch.from_numpy(np.asarray(numbers, np.float32)).reshape(value.shape).to(value.dtype))
    return model.eval()


def digest(data: bytes) -> str:
    """First 32 hex digits of the sha256."""
    return hashlib.sha256(data).hexdigest()[:32]


def networks() -> dict[str, Any]:
    """Keys, weights and description of every family, as a checkpoint has them."""
    made: dict[str, nn.Module] = {name: create_embedder(name, **SMALL.get(name, {})) for name in _recorded_embedders()}
    made |= {f"translator {name}": create_generator(name) for name in _recorded_generators()}
    made |= {f"edges {name}": create_detector(name, width=4) for name in DETECTORS}
    return {name: _checkpoint(ruled(model)) for name, model in made.items()}


def _checkpoint(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_checkpoint(path, model, PROVENANCE)
        content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = {key: split_seal(text)[0] for key, text in header["__metadata__"].items()}  # the seal came later
    return {
        "keys": digest("\n".join(sorted(model.state_dict())).encode()),
        "weights": weights_sha256(model.state_dict())[:32],
        "metadata": metadata,
        "bytes": digest(save(load(content), metadata=metadata)),
    }


def card(made: ModelCard) -> dict[str, Any]:
    """A card as it stands in the file, and its space; the self-test's figures apart, which processors round."""
    value = json.loads(made.to_json())
    for later in ("selftest_larger", "gloam", "decoding", "selftest_formula", "input_rule"):
        value.pop(later, None)  # of how the file is tested and fed, no part of what it is
    value["selftest"]["output"] = len(value["selftest"]["output"])
    return {"space": made.space(), "fingerprint of nothing": made.fingerprint(""), "card": value}


def exported(name: str) -> dict[str, Any]:
    """The card of a family's exported file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        if name.startswith("translator "):
            model: Any = ruled(create_generator(name.split()[1]))
            rule = PaddingProfile.dynamic().reflecting(model.multiple, model.minimum)  # half each side, as all had it
            return card(export_translator(model, path, rule, PROVENANCE))
        if name.startswith("edges "):
            return card(export_edges(ruled(create_detector(name.split()[1], width=4)), path, provenance=PROVENANCE))  # type: ignore[arg-type]
        model = ruled(create_embedder(name, **SMALL.get(name, {})))
        found = card(export_embedder(model, path, photometric=Photometric("clahe"), provenance=PROVENANCE))
        if name.startswith("how_"):
            scales = (1.0, 0.5)
            local = export_local_features(
                model, path, profile=PaddingProfile.dynamic((1, 4)), scales=scales, provenance=PROVENANCE
            )
            found["local"] = card(local)
        elif model.padding_exact and name in QUICK:
            fixed = PaddingProfile.fixed((256,), (256, 512), (1, 4))
            found["fixed"] = card(export_embedder(model, path, profile=fixed, provenance=PROVENANCE))
        return found


def families() -> list[str]:
    """Every name that :func:`exported` takes."""
    translators = [f"translator {name}" for name in _recorded_generators()]
    return [*_recorded_embedders(), *translators, *(f"edges {name}" for name in DETECTORS)]


def _recorded_embedders() -> list[str]:
    return [name for name in EMBEDDERS if name not in LATER]


def _recorded_generators() -> list[str]:
    return [name for name in GENERATORS if name not in LATER]


def store(folder: Path) -> DescriptorStore:
    """A store of 20 rows in 3 shards, one of them a failure."""
    job = Job("5" * 64, "f" * 64, 4, "cosine", "a" * 64, 20, {"max_side": 1024, "dtype": "float32", "shard_size": 8})
    writer = ShardWriter.begin(folder, job, 3)
    for shard in range(3):
        names = range(shard * 8, min(20, shard * 8 + 8))
        rows = [Row(f"a/{name:03d}.jpg", f"{name:064x}", 640, 480, "480x640") for name in names]
        if shard == 1:
            rows[2] = Row(rows[2].image, status="cannot be read")
        values = np.float32(
            [[name % 3, name % 5, 1, name % 2] for name, row in zip(names, rows, strict=True) if row.status == "ok"]
        )
        writer.write(shard, rows, values / np.linalg.norm(values, axis=1, keepdims=True).astype(np.float32))
    writer.finish()
    return DescriptorStore.open(folder)


def stored() -> dict[str, Any]:
    """A store's and an index's files; of Parquet the rows and the metadata, whose bytes are pyarrow's affair."""
    with tempfile.TemporaryDirectory() as folder:
        made = store(Path(folder) / "store")
        build_index(made, Path(folder) / "index")
        found: dict[str, Any] = {}
        for path in sorted(Path(folder).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                meta = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
                found[name] = {"rows": digest(json.dumps(table.to_pydict()).encode()), "metadata": meta}
            elif path.suffix == ".json":
                value = json.loads(path.read_text())
                for key in ("versions", "sha256", "files", "sizes", "checksums"):
                    if key in value:
                        value[key] = sorted(value[key])
                found[name] = value
            elif path.is_file():
                found[name] = digest(path.read_bytes())
        return found


def job_of_extraction() -> dict[str, Any]:
    """What the manifest of a real extraction states."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for index in range(3):
            Image.fromarray(np.full((40, 50, 3), 40 * index + 20, np.uint8)).save(folder / f"images/{index}.png")
        write_tiny_embedder(folder / "tiny.onnx")
        words = ["extract", str(folder / "images"), "-o", str(folder / "store"), "--model", str(folder / "tiny.onnx")]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert main(words) == 0
        job: dict[str, Any] = json.loads((folder / "store/manifest.json").read_text())["job"]
        del job["fingerprint"]  # of bytes that the onnx package writes
        return job


def draws() -> dict[str, Any]:
    """What the seeds draw."""
    values = np.random.default_rng(11).integers(-8, 9, (60, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    places = np.arange(60) // 4
    return {
        "DRAW": {"domains": DOMAINS_DRAW, "detector": DETECTOR_DRAW},
        "diverse anchors": diverse_anchors(values, 12, np.random.default_rng(5)).tolist(),
        "hard negatives": mine_negatives(np.arange(0, 60, 7), values, places, 3).tolist(),
    }


def messages() -> dict[str, Any]:
    """Exit code and last line of stderr of every bad invocation; folders and versions left out."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        prepare(folder)
        here = os.getcwd()
        os.chdir(folder)
        try:
            for words in BAD:
                errors = io.StringIO()
                with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                    try:
                        code: Any = main(words.split())
                    except SystemExit as end:
                        code = end.code
                lines = errors.getvalue().strip().splitlines()
                found[words] = [code, (lines or [""])[-1].replace(str(folder), "DIR")]
        finally:
            os.chdir(here)
    return found


PARTS: dict[str, Callable[[], Any]] = {
    "networks": networks,
    "exported": lambda: {name: exported(name) for name in families()},
    "stored": stored,
    "job": job_of_extraction,
    "draws": draws,
    "messages": messages,
}


def read(part: str) -> Any:
    """What was written down."""
    return json.loads((HERE / f"{part}.json").read_text())


if __name__ == "__main__":
    import sys

    for chosen in sys.argv[1:] or list(PARTS):
        text = json.dumps(PARTS[chosen](), indent=1, sort_keys=True)
        (HERE / f"{chosen}.json").write_text(text + "\n")
