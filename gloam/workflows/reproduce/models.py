"""What weights of a table's row hold: a network, and the normalisation that its images need."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.errors import ModelError
from gloam.files import sha256_file
from gloam.model_card import ModelCard, Photometric
from gloam.runtime.descriptors.whitening import Whitening
from gloam.runtime.models.embedder import Embedder


def model_folder(files: Sequence[Path], place: Path) -> Path:
    """Where what is made from these files lies; made where it is missing."""
    folder = place / "models" / "-".join(sha256_file(file)[:12] for file in files)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_weights(file: Path) -> tuple[Any, dict[str, Any], dict[str, Whitening]]:
    """The network of a native or published file, its provenance, and the whitenings that it carries.

    Raises:
        ModelError: unreadable, or of a network that gloam does not know.
    """
    from gloam.networks.checkpoints import load_checkpoint
    from gloam.networks.foreign.read import import_network

    if file.suffix == ".safetensors":
        native = load_checkpoint(file)
        return native.model, native.provenance, {}
    imported = import_network(file)
    return imported.model, imported.provenance, imported.whitenings


def load_embedder(
    files: Sequence[Path], scales: Sequence[float] | None = None
) -> tuple[Any, Photometric, dict[str, Any]]:
    """Weights as a network that describes at several scales, with the whitening beside it.

    Args:
        files: the weights, native or published, and perhaps a whitening.
        scales: of the images; three where None. Weights that are a pipeline already keep their own.

    Returns:
        the network, the normalisation that its images need, the provenance.

    Raises:
        ModelError: a file of another kind or dimension.
    """
    from gloam.networks.embedders.base import EmbedderNetwork
    from gloam.networks.embedders.pipeline import MULTI_SCALE, DescriptorPipeline
    from gloam.networks.foreign.embedders import load_whitening

    main, *rest = files
    model, provenance, whitenings = open_weights(main)
    whitening = next((item for name, item in whitenings.items() if name.endswith("-ms")), None)
    if not isinstance(model, EmbedderNetwork):
        raise ModelError(f"{main}: holds no global descriptor; give the weights of an embedder")
    if rest:
        foreign = rest[0].suffix in (".pkl", ".pth")
        whitening = load_whitening(rest[0]) if foreign else Whitening.load(rest[0])
    photometric = photometric_of(provenance)
    if isinstance(model, DescriptorPipeline):
        return model, photometric, provenance
    return DescriptorPipeline(model, scales=tuple(scales or MULTI_SCALE), whitening=whitening), photometric, provenance


@dataclass(frozen=True)
class RowEmbedder:
    """An embedder ready to describe.

    Attributes:
        model: the exported file.
        facts: what a reader must know of it: files with their sha256, network, recipe or address, whether it whitens,
            and at which scales and under which normalisation it sees images.
        own_size: whether images are read at the size that the file states, as of one that was exported elsewhere.
    """

    model: Path
    facts: Mapping[str, Any]
    own_size: bool = False


def open_embedder(
    files: Sequence[Path], place: Path, origin: str = "", scales: Sequence[float] | None = None
) -> RowEmbedder:
    """An embedder of weights, exported once.

    Args:
        files: the weights, native or published or exported, and perhaps a whitening.
        place: for exported models.
        origin: where the weights are from, in words.
        scales: of the images; dark-side's three where None.

    Raises:
        ModelError: a file of another kind.
    """
    facts: dict[str, Any] = {"weights": [{"file": str(file), "sha256": sha256_file(file)} for file in files]}
    if files[0].suffix == ".onnx":
        card = Embedder.load(files[0]).card
        facts |= card_facts(card) | {"from": origin or "an exported model"}
        return RowEmbedder(files[0], facts, own_size=True)
    from gloam.export.embedder import export_embedder

    named = "model" if scales is None else "-".join(["model", *map(str, scales)])
    model = model_folder(files, place) / f"{named}.onnx"
    if not model.is_file():
        network, photometric, provenance = load_embedder(files, scales)
        export_embedder(network, model, photometric=photometric, provenance=provenance)
    return RowEmbedder(model, facts | card_facts(Embedder.load(model).card) | {"from": origin})


def card_facts(card: ModelCard) -> dict[str, Any]:
    """Of an exported embedder, what a reader of a table must know."""
    return {
        "network": card.name,
        "dimension": card.dimension,
        "recipe": card.provenance.get("recipe"),
        "whitened": card.whitening["name"] if card.whitening else False,
        "scales": list(card.scales),
        "photometric": card.photometric.name,
    }


def photometric_of(provenance: Mapping[str, Any]) -> Photometric:
    """The normalisation that a network was trained with, as its provenance states it."""
    own = provenance.get("photometric")
    if isinstance(own, Mapping) and own.get("name") == "clahe":
        return Photometric("clahe", clip=float(own["clip"]), grid=int(own["grid"]))
    transforms = str(provenance.get("runtime", ""))
    stated = re.search(r"apply_clahe:([\d.]+)", transforms)
    return Photometric("clahe", clip=float(stated[1])) if stated else Photometric()
