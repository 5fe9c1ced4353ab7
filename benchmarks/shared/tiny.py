"""Small inputs of benchmarks that run many commands: narrow models of random weights, and packed pictures."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from gloam.files import write_text

# A vision transformer's, narrow and shallow, with a small table of positions.
TRANSFORMER: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "table": 5}
_SALAD: dict[str, Any] = {**TRANSFORMER, "clusters": 4, "cluster_dimension": 8, "token": 6, "hidden": 12}
_BOQ: dict[str, Any] = {"head_width": 16, "queries": 6, "rows": 3}
_VGG: dict[str, Any] = {"stages": ((8, 1), (16, 2), (16, 1))}
# Published networks on a ResNet or VGG16 with layers of their own behind it.
HEADED: dict[str, dict[str, Any]] = {
    "cosplace_vgg16": {**_VGG, "dimension": 12},
    **{f"cosplace_resnet{depth}": {"width": 8, "dimension": 12} for depth in (18, 50, 101, 152)},
    **{f"apgem_resnet{depth}": {"width": 8, "dimension": 12} for depth in (50, 101)},
    "mixvpr": {"width": 8, "side": 64, "channels": 6, "rows": 2, "mixers": 2},
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    **{f"dinov2_vit{size}14{more}": TRANSFORMER for size in "sbl" for more in ("", "_reg")},
    "salad_dinov2": _SALAD,
    "megaloc": {**_SALAD, "linear": 24},
    "boq_resnet50": {**_BOQ, "width": 8, "resize": "96x96"},
    "boq_dinov2": {**TRANSFORMER, **_BOQ, "resize": "70x84"},
    **{f"anyloc_vit{size}14": {**TRANSFORMER, "clusters": 4} for size in "sbl"},
}
# What an option makes of them that is a way of its own through the layers: name and options by what a row is called.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{name}, GeM": (name, {**TRANSFORMER, "pooling": "gem"}) for name in ("dinov2_vits14", "dinov2_vits14_reg")},
    "anyloc_vits14, soft": ("anyloc_vits14", {**TRANSFORMER, "clusters": 4, "assignment": "soft"}),
    "anyloc_vits14, tokens, registers": (
        "anyloc_vits14",
        {**TRANSFORMER, "clusters": 4, "facet": "token", "registers": 4, "position": "antialias"},
    ),
}
TRANSLATOR = """
trainer: cyclegan
options:
  epochs: 2
  decay_epochs: 1
  generator: resnet
  generator_options: {norm: instance, width: 8, blocks: 1}
  discriminator_options: {norm: instance, width: 8, layers: 2}
data: {kind: folders, root: ROOT, transform: scalecrop, size: 32, held_out_share: 0.25}
batch: 2
steps_per_epoch: 4
device: cpu
threads: 1
save_every: 1
log_every: 2
held_out: 2
strip_rows: 2
tensorboard: false
"""


def embedder_and_translator(root: Path) -> dict[str, str]:
    """Write ``embedder.onnx`` and ``translator.onnx`` into a folder; their paths by name."""
    import torch

    from gloam.export.embedder import export_embedder
    from gloam.export.translator import export_translator
    from gloam.networks.embedders import create_embedder
    from gloam.networks.translators import create_generator

    torch.manual_seed(0)
    paths = {name: root / f"{name}.onnx" for name in ("embedder", "translator")}
    export_embedder(create_embedder("gem_resnet18", width=8), paths["embedder"], provenance={})
    generator = create_generator("resnet", norm="instance", width=8, blocks=1)
    export_translator(generator, paths["translator"], provenance={})
    return {name: str(path) for name, path in paths.items()}


def translator_recipe(path: Path, domains: Path) -> Path:
    """Write the changes of a recipe that make it a training of seconds on a folder a domain."""
    write_text(path, TRANSLATOR.replace("ROOT", str(domains)))
    return path


def tar_of(folder: Path, path: Path) -> Path:
    """The files of a folder in a tar without times."""
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            member = tarfile.TarInfo(file.name)
            member.size = file.stat().st_size
            tar.addfile(member, io.BytesIO(file.read_bytes()))
    return path


def parquet_of(folder: Path, path: Path) -> Path:
    """The files of a folder in a Parquet table, names and bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(folder.iterdir())
    pq.write_table(pa.table({"name": [f.name for f in files], "image": [f.read_bytes() for f in files]}), path)
    return path
