"""Public embedders to native ones: which file it is, what it says of itself, and the whitenings that it brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gloam.data.pickles import load_pickle, plain, stand_ins
from gloam.errors import DataError, ModelError, require
from gloam.networks.checkpoints import load_plain
from gloam.networks.foreign import aggregator_key_maps as aggregators
from gloam.networks.foreign import embedder_key_maps as maps
from gloam.networks.foreign import transformer_key_maps as transformers
from gloam.networks.foreign.key_maps import Recognised, tensors
from gloam.padding import next_multiple
from gloam.runtime.descriptors.whitening import Whitening

FAMILIES = ("cirtorch", "how", "netvlad", "ciconv", *transformers.FAMILIES, *aggregators.FAMILIES, aggregators.APGEM)
POWERS = (0.5, 0.25)  # of AP-GeM's whitenings; the last is its authors'
EXPECTS_CLAHE = "expects CLAHE"
CLAHE = "apply_clahe"


@dataclass(frozen=True)
class RecognisedEmbedder:
    """An embedder in a foreign file.

    Attributes:
        found: network, options and tensors.
        whitenings: learned from its descriptors, by a word for a file name: ``retrieval-SfM-120k-ms``.
        provenance: what else the file says, JSON-ready.
        local: of local features, not of global descriptors.
    """

    found: Recognised
    whitenings: dict[str, Whitening] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    local: bool = False


def recognise_embedder(content: Any, family: str) -> RecognisedEmbedder | None:
    """The embedder in the content of a file, or None where it is something else.

    Args:
        content: of a ``.pth``, by :func:`load_content`, or of a ``.mat``, by :func:`load_matlab`.
        family: one of :data:`FAMILIES`, or ``auto``.

    Raises:
        ModelError: of the family, but of an architecture that gloam does not have; or not of the family at all.
    """
    kind = _kind(content) if family == "auto" else family
    if family != "auto" and isinstance(content, MatlabNet) != (kind == "netvlad" and isinstance(content, MatlabNet)):
        raise ModelError(f"a .mat file is NetVLAD's; import it --as netvlad, not --as {family}")
    if kind == "gandtr":
        return _gandtr(content)
    if kind == "cirtorch":
        if not isinstance(content, dict) or not isinstance(content.get("meta"), dict):
            raise ModelError("has no meta, which cirtorch's files hold; a bare state dict needs no import: "
                             "gloam export FILE --network gem_vgg16")  # fmt: skip
        meta = content["meta"]
        found = maps.cirtorch(meta, tensors(content.get("state_dict")))
        return RecognisedEmbedder(found, _whitenings(meta.get("Lw")))
    if kind == "how":
        if not isinstance(content, dict):
            raise ModelError("holds no dictionary, so this is not HOW")
        said = {"version": str(content.get("_version", "")), "scores": plain_json(content.get("scores"))}
        return RecognisedEmbedder(maps.how(content), provenance=said, local=True)
    if kind == "netvlad":
        if isinstance(content, MatlabNet):
            return RecognisedEmbedder(maps.netvlad_matlab(content.layers, content.mean))
        return RecognisedEmbedder(maps.netvlad(tensors(_state_in(content))))
    if kind == "ciconv":
        meta = content.get("meta") if isinstance(content, dict) else None
        return RecognisedEmbedder(maps.ciconv(meta if isinstance(meta, dict) else {}, tensors(_state_in(content))))
    if kind == aggregators.APGEM:
        if not isinstance(content, dict):
            raise ModelError("holds no dictionary, so this is not AP-GeM")
        return RecognisedEmbedder(aggregators.apgem(content), _half_whitenings(content.get("pca")))
    by_keys = {**transformers.FAMILIES, **aggregators.FAMILIES}
    if kind in by_keys:
        return RecognisedEmbedder(by_keys[kind](tensors(_state_in(content))))
    return None


@dataclass(frozen=True)
class MatlabNet:
    """What :func:`load_matlab` reads: weights of each layer, and the mean image's colour."""

    layers: list[list[Any]]
    mean: np.ndarray[Any, Any]


def load_matlab(path: str | Path) -> MatlabNet:
    """Read a MatConvNet ``*_struct.mat``; such a file holds data alone.

    Raises:
        MissingExtraError: no scipy. ModelError: absent or of another structure.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file")
    scipy_io = require("scipy.io", "matlab", "read .mat files")
    try:
        net = scipy_io.loadmat(str(file), struct_as_record=False, squeeze_me=True)["net"]
        layers = []
        for layer in np.atleast_1d(net.layers):
            weights = getattr(layer, "weights", None)
            found = [] if weights is None else list(weights)
            layers.append([np.asarray(value) for value in found] if len(found) >= 2 else [])
        image = np.asarray(net.meta.normalization.averageImage, np.float64)
        return MatlabNet(layers, image.reshape(-1, 3)[0])
    except Exception as error:  # scipy raises ValueError, TypeError, KeyError, zlib and struct errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{file}: not a NetVLAD structure of MATLAB ({reason[:120]})") from error


def load_content(path: str | Path) -> Any:
    """As ``load_plain``, with numpy arrays: cirtorch keeps whitenings in its files.

    Raises:
        ModelError: absent, not a torch file, or with other objects.
    """
    with torch.serialization.safe_globals([(what, name) for name, what in stand_ins().items()]):
        content = load_plain(path)
    try:
        return plain(content)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error


def load_whitening(path: str | Path, name: str = "lw") -> Whitening:
    """Read a foreign whitening: ``*_lw.pkl`` of gandtr, or cirtorch's ``*_whiten_ms.pth``, both ``{"m", "P"}``.

    Raises:
        ModelError: unreadable, with a class reference, or without m and P.
    """
    file = Path(path)
    try:
        content = load_pickle(file) if file.suffix == ".pkl" else load_content(file)
    except DataError as error:
        raise ModelError(str(error)) from error
    try:
        return _whitening(content, name, {"data": file.name})
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error


def fill_embedder(found: RecognisedEmbedder, chosen: Mapping[str, Any], file: Path) -> nn.Module:
    """The network of gloam with the file's tensors, in eval mode.

    Args:
        found: recognised.
        chosen: options in place of what the file shows.
        file: for messages.

    Raises:
        ModelError: keys missing, unexpected or of another shape; unknown options.
    """
    from gloam.networks.checkpoints import fill_network
    from gloam.networks.embedders import create_embedder

    name, options = found.found.network, {**found.found.options, **chosen}
    model = create_embedder(name, **options)
    fill_network(model, found.found.state, file, optional={"pool.p"})
    return model


def probe(model: Any, file: Path) -> None:
    """Describe two images: the descriptors must be finite and unit.

    Raises:
        ModelError: they are not.
    """
    side = next_multiple(max(64, model.smallest_side), model.cell)
    ramp = torch.arange(2 * side * side * 3, dtype=torch.int64).reshape(2, side, side, 3)
    with torch.no_grad():
        found = model.describe_uint8(((ramp * 2654435761) % 251).to(torch.uint8))
    norms = torch.linalg.vector_norm(found, dim=1)
    if not bool(torch.isfinite(found).all()) or float((norms - 1).abs().max()) > 1e-3:
        raise ModelError(
            f"{file}: the network gives descriptors that are not finite or not unit; are the weights whole?"
        )


def plain_json(value: Any) -> Any:
    """``value`` where it is JSON, else its text."""
    import json

    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return str(value)


def _kind(content: Any) -> str | None:
    if isinstance(content, MatlabNet):
        return "netvlad"
    if not isinstance(content, dict):
        return None
    model = content.get("network_params", {}).get("model") if isinstance(content.get("network_params"), dict) else None
    if isinstance(model, dict) and model.get("architecture") == "cirnet":
        return "gandtr"
    keys = [str(key).replace(".module.", ".").removeprefix("module.") for key in _state_in(content)]
    if (told := transformers.family_of(keys) or aggregators.family_of(keys)) is not None:
        return told
    if "ciconv.scale" in keys:
        return "ciconv"
    if "pool.centroids" in keys:
        return "netvlad"
    if str(content.get("_version", "")).startswith("how/") or "dim_reduction.weight" in keys:
        return "how"
    meta = content.get("meta")
    if isinstance(meta, dict) and "architecture" in meta:
        return "how" if "backbone_dim" in meta else "cirtorch"
    return None


def _state_in(content: Any) -> dict[str, Any]:
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]  # type: ignore[no-any-return]  # a dict
    return content if isinstance(content, dict) else {}


def _gandtr(content: Mapping[str, Any]) -> RecognisedEmbedder:
    """gandtr's container of a "cirnet", with the image pipeline that its runtime states."""
    parameters = content["network_params"]
    runtime = _dictionary(parameters.get("runtime"))
    data = _dictionary(runtime.get("data"))
    meta = dict(parameters["model"])
    meta["architecture"] = meta.get("cir_architecture", "vgg16")
    stated = data.get("mean_std")
    if isinstance(stated, list | tuple) and len(stated) == 2:
        meta |= {"mean": stated[0], "std": stated[1]}
    found = maps.cirtorch(meta, tensors(content.get("model_state")))
    provenance: dict[str, Any] = {"runtime": plain_json(runtime)}
    for step in (part.strip() for part in str(data.get("transforms", "")).split("|")):
        name, *arguments = step.split(":")
        if name == CLAHE:
            try:
                numbers = [float(argument) for argument in arguments]
            except ValueError:
                raise ModelError(f"its transform {step!r} is not {CLAHE}:CLIP[:GRID]") from None
            # Defaults of the code that wrote the file.
            clip, grid = (numbers + [4.0, 8.0][len(numbers) :])[:2]
            provenance["photometric"] = {"name": "clahe", "clip": clip, "grid": int(grid)}
            found.notes.append(
                f"{EXPECTS_CLAHE}, clip {clip:g}, {grid:g}x{grid:g} tiles: export it with --photometric clahe"
            )
    return RecognisedEmbedder(found, provenance=provenance)


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whitenings(learned: Any) -> dict[str, Whitening]:
    """``{set: {"ss" | "ms": {"m", "P"}}}`` of cirtorch's meta."""
    found = {}
    for data, scales in learned.items() if isinstance(learned, dict) else ():
        for scale, content in scales.items() if isinstance(scales, dict) else ():
            found[_word(f"{data}-{scale}")] = _whitening(content, "lw", {"data": str(data), "scales": str(scale)})
    return found


def _word(text: str) -> str:
    """For a file name."""
    return "".join(character for character in text if character.isalnum() or character in "-_.")


def _half_whitenings(learned: Any) -> dict[str, Whitening]:
    """scikit-learn's PCAs in AP-GeM's file, as its authors apply them: over the variance to a power, usually 1/4."""
    found = {}
    for data, pca in learned.items() if isinstance(learned, dict) else ():
        if not isinstance(pca, dict) or not {"mean_", "components_", "explained_variance_"} <= set(pca):
            raise ModelError(f"its whitening {data} is no PCA of mean_, components_ and explained_variance_")
        mean, rows, variance = (
            np.asarray(pca[f"{key}_"], np.float64) for key in ("mean", "components", "explained_variance")
        )
        if rows.ndim != 2 or variance.shape != rows.shape[:1] or not (variance > 0).all():
            raise ModelError(
                f"its whitening {data} has components {list(rows.shape)} and variances {list(variance.shape)}"
            )
        for power in POWERS:
            scaled = rows / variance[:, None] ** power
            found[_word(f"{data}-{power:g}")] = Whitening(mean, scaled, "pca", {"data": str(data), "power": power})
    return found


def _whitening(content: Any, name: str, provenance: dict[str, Any]) -> Whitening:
    if not isinstance(content, dict) or not {"m", "P"} <= set(content):
        raise ModelError("holds no whitening; a dictionary of m [D, 1] and P [d, D] is expected")
    try:
        mean, projection = (np.asarray(content[key], np.float64) for key in ("m", "P"))
    except (TypeError, ValueError) as error:
        raise ModelError(f"m and P are not arrays of numbers ({error})") from error
    if projection.ndim != 2:
        raise ModelError(f"P is of shape {list(projection.shape)}; [d, D] is expected")
    return Whitening(mean.reshape(-1), projection, name, provenance)
