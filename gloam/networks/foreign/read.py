"""Foreign checkpoints to native ones, by explicit key maps. No pickle is trusted.

``.pth`` files of gandtr, cirtorch and HOW say their own architecture, NetVLAD's and CIConv's are known by their keys;
networks of local features by theirs, and matchers, of which some must name their features;
bare state dicts of CycleGAN, pix2pix, CUT, CyEDA, HED, RCF, ToDayGAN, DRIT and AdaIN need the name of their family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import ModelError, UsageError
from gloam.files import sha256_file
from gloam.networks.checkpoints import read_state, weights_sha256
from gloam.networks.edges import DETECTORS, EdgeDetectorNetwork, create_detector
from gloam.networks.foreign import embedders as embedder_imports
from gloam.networks.foreign import keras, key_maps
from gloam.networks.foreign import local_features as extractor_imports
from gloam.networks.foreign.key_maps import FAMILIES, Recognised, tensors, truth
from gloam.networks.foreign.matchers import is_matcher, recognise_matcher
from gloam.networks.local_features import EXTRACTORS
from gloam.networks.matchers import MATCHERS, MatcherNetwork, create_matcher
from gloam.networks.translators import TranslatorNetwork, create_generator
from gloam.runtime.descriptors.whitening import Whitening

GANDTR_KEYS = {"type", "network_params", "model_state"}
GANDTR_ARCHITECTURES = {
    "official_resnet_generator": "resnet",
    "official_p2p_unet_generator": "unet",
    "hed_interpolation": "hed",
    "rcf": "rcf",
}
GANDTR_SCALES = {"hed": 1.0, "rcf": 255.0}  # of what its detectors' first convolutions see, by its input pipelines
# gandtr's options to gloam's; the two flags of antialiasing are negated.
GANDTR_OPTIONS = {
    "input_nc": "channels",
    "ngf": "width",
    "n_blocks": "blocks",
    "norm_layer": "norm",
    "use_dropout": "dropout",
    "padding_type": "padding",
    "num_downs": "levels",
    "track_running_stats": "track_running_stats",
    "no_antialias": "antialias",
    "no_antialias_up": "antialias_up",
}
FORMATS = ("auto", *FAMILIES, "todaygan", "drit", "adain", *embedder_imports.FAMILIES, *EXTRACTORS, *MATCHERS)
DECODERS = {  # families of two files, and what is missing where there is one
    "todaygan": "ToDayGAN needs --decoder FILE, the decoder of the target domain, beside the encoder",
    "adain": "AdaIN needs --decoder FILE, beside the encoder vgg_normalised.pth",
}
LISTED = 8  # keys in an error line


@dataclass(frozen=True)
class Imported:
    """A foreign network as gloam's own.

    Attributes:
        model: filled, in eval mode.
        provenance: file name and sha256 of each source, family, licence, dropped keys; JSON-ready.
        dropped: keys of the file without a use.
        notes: decisions that the owner should read.
        whitenings: that the file holds for its descriptors, by a word for a file name.
    """

    model: Any  # TranslatorNetwork, EdgeDetectorNetwork, EmbedderNetwork, LocalFeatureNetwork or MatcherNetwork
    provenance: dict[str, Any]
    dropped: list[str]
    notes: list[str]
    whitenings: dict[str, Whitening] = field(default_factory=dict)


def import_network(
    path: str | Path,
    family: str = "auto",
    *,
    decoder: str | Path | None = None,
    direction: str = "a2b",
    options: Mapping[str, Any] | None = None,
    licence: str = "unknown",
) -> Imported:
    """Read a foreign checkpoint.

    Args:
        path: ``.pth``, ``.pt``, ``.pytorch``, ``.safetensors``, ``.tar``, ``.mat`` (NetVLAD) or ``.h5`` (HED).
        family: one of :data:`FORMATS`; ``auto`` for files that say their architecture, or show it by their keys.
        decoder: ToDayGAN: the file of the target domain's decoder; ``path`` is the source domain's encoder. AdaIN: the
            file of the decoder beside the encoder.
        direction: DRIT: ``a2b`` or ``b2a``.
        options: of the network, in place of what the file shows, e.g. ``{"padding": "replicate"}``.
        licence: of the weights.

    Raises:
        ModelError: unreadable, of another architecture, or keys missing or unexpected; they are listed.
        UsageError: an option that does not belong to the family.
    """
    file = Path(path)
    if family not in FORMATS:
        raise UsageError(f"unknown family {family!r}; choose one of {', '.join(FORMATS)}")
    if (decoder is None) == (family in DECODERS):
        raise UsageError(DECODERS[family] if decoder is None else f"--decoder belongs to --as {' and '.join(DECODERS)}")
    content = read_content(file)
    provenance: dict[str, Any] = {
        "recipe": "imported",
        "data": file.name,
        "licence": licence,
        "source_sha256": sha256_file(file),
    }
    try:
        if family == "auto" or family in embedder_imports.FAMILIES:
            embedder = embedder_imports.recognise_embedder(content, family)
            if embedder is not None:
                return _embedder(embedder, file, provenance, dict(options or {}))
        if family == "auto" or family in EXTRACTORS:
            extractor = extractor_imports.recognise_extractor(content)
            if family != "auto" and (extractor is None or extractor.network != family):
                raise ModelError(
                    f"not the weights of {family}" + (f", but of {extractor.network}" if extractor else "")
                )
            if extractor is not None:
                return _extractor(extractor, file, provenance, dict(options or {}))
        if decoder is not None:
            other = Path(decoder)
            provenance |= {"decoder": other.name, "decoder_sha256": sha256_file(other) if other.is_file() else ""}
            pair = key_maps.adain if family == "adain" else key_maps.todaygan
            found = pair(_state(content), _state(read_content(other)))
        elif family == "drit":
            found = key_maps.drit(_parts(content), direction)
            provenance["direction"] = direction
        elif family in MATCHERS or (family == "auto" and is_matcher(content)):
            found = recognise_matcher(_state(content), None if family == "auto" else family)
        elif isinstance(content, dict) and set(content) >= GANDTR_KEYS:
            found = _gandtr(content, family)
            provenance["runtime"] = embedder_imports.plain_json(content["network_params"].get("runtime"))
        elif family == "auto":
            raise ModelError(f"the file does not say its architecture; name it with --as {'|'.join(FORMATS[1:])}")
        else:
            found = FAMILIES[family](_state(content))
        model = _filled(found, dict(options or {}))
    except ModelError as error:
        raise ModelError(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from error
    notes = [*found.notes, *(() if isinstance(model, MatcherNetwork) else _probe(model, file))]
    provenance |= {"family": found.network, "dropped": found.dropped, "notes": notes}
    provenance["weights_sha256"] = weights_sha256(model.state_dict())
    return Imported(model, provenance, found.dropped, notes)


def _embedder(
    embedder: embedder_imports.RecognisedEmbedder, file: Path, provenance: dict[str, Any], options: dict[str, Any]
) -> Imported:
    found = embedder.found
    model: nn.Module = embedder_imports.fill_embedder(embedder, options, file)
    embedder_imports.probe(model, file)
    provenance |= {**embedder.provenance, "family": found.network, "dropped": found.dropped, "notes": found.notes}
    provenance["weights_sha256"] = weights_sha256(model.state_dict())
    return Imported(model, provenance, found.dropped, found.notes, embedder.whitenings)


def _extractor(found: Recognised, file: Path, provenance: dict[str, Any], options: dict[str, Any]) -> Imported:
    model = extractor_imports.fill_extractor(found, options, file)
    extractor_imports.probe(model, file)
    if provenance["licence"] == "unknown":
        provenance["licence"] = model.licence
    provenance |= {"family": found.network, "dropped": found.dropped, "notes": found.notes}
    provenance["weights_sha256"] = weights_sha256(model.state_dict())
    return Imported(model, provenance, found.dropped, found.notes)


def read_content(file: Path) -> Any:
    """What a foreign file holds, of plain containers, numbers and tensors.

    Raises:
        ModelError: absent, unreadable, with other objects, or a checkpoint of gloam.
    """
    if file.suffix == ".mat":
        return embedder_imports.load_matlab(file)
    if file.suffix == keras.SUFFIX:
        return keras.load_keras(file)
    if file.suffix != ".safetensors":
        return embedder_imports.load_content(file)
    state, description = read_state(file)
    if description is not None:
        raise ModelError(f"{file}: already a checkpoint of gloam ({description['network']}); use it as it is")
    return state


def _state(content: Any) -> dict[str, Tensor]:
    """The state dict inside a file: bare, or under one of the usual names; ``module.`` stripped, float32."""
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        keys = ", ".join(str(key) for key in list(content)[:LISTED]) if isinstance(content, dict) else "no dictionary"
        raise ModelError(f"holds no state dict of tensors (found {keys or 'an empty dictionary'})")
    return tensors(content)


def _parts(content: Any) -> dict[str, dict[str, Tensor]]:
    if not isinstance(content, dict):
        raise ModelError("holds no dictionary of networks")
    return {
        str(name): dict(part)
        for name, part in content.items()
        if isinstance(part, dict) and part and all(isinstance(value, Tensor) for value in part.values())
    }


def _gandtr(content: Mapping[str, Any], family: str) -> Recognised:
    """gandtr's container: what it says of itself must agree with its tensors."""
    model = content["network_params"].get("model", {}) if isinstance(content["network_params"], dict) else {}
    architecture = model.get("architecture")
    if architecture == "cirnet":
        raise ModelError(f"the file says it is an embedder; leave out --as {family}")
    if architecture not in GANDTR_ARCHITECTURES:
        known = ", ".join(GANDTR_ARCHITECTURES)
        raise ModelError(f"holds a {architecture!r}, which gloam does not import; it imports {known}")
    network = GANDTR_ARCHITECTURES[architecture]
    if family not in ("auto", network):
        raise ModelError(f"the file says it is {architecture}, so --as {network}, not --as {family}")
    found = FAMILIES[network](_state(content["model_state"]))
    said: dict[str, Any] = {}
    for key, value in model.items():
        if key in GANDTR_OPTIONS and value is not None:
            said[GANDTR_OPTIONS[key]] = not truth(value) if key.startswith("no_antialias") else value
    differing = [
        f"{key} {value} against {found.options[key]}"
        for key, value in said.items()
        if key in found.options and key != "padding" and found.options[key] != value
        and not (key == "track_running_stats" and found.options.get("norm") != "batch")
    ]  # fmt: skip
    if differing:
        raise ModelError(f"the file's description and its tensors disagree: {'; '.join(differing)}")
    notes = found.notes
    if network in GANDTR_SCALES:
        scale = GANDTR_SCALES[network]
        notes = key_maps.scale_notes(next(iter(found.state.values())), scale)
        said["input_scale"] = scale
    return Recognised(network, found.options | said, found.state, found.dropped, notes)


def _filled(found: Recognised, chosen: dict[str, Any]) -> TranslatorNetwork | EdgeDetectorNetwork | MatcherNetwork:
    create: Callable[..., TranslatorNetwork | EdgeDetectorNetwork | MatcherNetwork] = create_generator
    if found.network in DETECTORS:
        create = create_detector
    elif found.network in MATCHERS:
        create = create_matcher
    options = found.options | chosen
    if found.network in DETECTORS and "input_scale" not in options:
        raise ModelError(
            "its keys do not say what range the first convolution sees; give --option input_scale=255 (weights for "
            "0..255, as the public ones) or --option input_scale=1 (255 folded into the first weights)"
        )
    model = create(found.network, **options)
    own = model.state_dict()
    missing = [key for key in own if key not in found.state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in found.state if key not in own]
    reshaped = [
        f"{key} {tuple(value.shape)}, needed {tuple(own[key].shape)}"
        for key, value in found.state.items()
        if key in own and value.shape != own[key].shape
    ]
    if missing or unexpected or reshaped:
        parts = [
            f"{len(keys)} {what} ({', '.join(keys[:LISTED])}{', ...' if len(keys) > LISTED else ''})"
            for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
            if keys
        ]
        raise ModelError(f"not the weights of {found.network}; keys: {'; '.join(parts)}")
    model.load_state_dict(found.state, strict=False)
    return model.eval()


def _probe(model: TranslatorNetwork | EdgeDetectorNetwork, file: Path) -> list[str]:
    """Run the network once: what it gives must be an image of the right shape, finite and in range."""
    side = max(64, model.minimum)
    channels = model.channels if isinstance(model, TranslatorNetwork) else 3
    ramp = torch.linspace(-1.0, 1.0, side)
    x = (ramp[:, None] * ramp[None, :] * torch.tensor((1.0, -1.0))[:, None, None]).expand(channels, 2, side, side)
    x = x.transpose(0, 1).contiguous()
    with torch.no_grad():
        y = model(x)
        alone = model(x[1:])
    expected = (2, channels if isinstance(model, TranslatorNetwork) else 1, side, side)
    low = -1.0 if isinstance(model, TranslatorNetwork) else 0.0
    if tuple(y.shape) != expected:
        raise ModelError(f"{file}: the network gives {tuple(y.shape)} for {tuple(x.shape)}")
    if not bool(torch.isfinite(y).all()) or float(y.min()) < low - 1e-5 or float(y.max()) > 1.0 + 1e-5:
        raise ModelError(f"{file}: the network gives values beyond [{low:g}, 1] or not finite; are the weights whole?")
    notes = []
    if float((y[1:] - alone).abs().max()) > 1e-4:
        notes.append("an image's result depends on its batch: the norm has no running statistics; use batch size 1")
    if isinstance(model, TranslatorNetwork) and float((y - x).abs().mean()) < 0.005:
        notes.append("on a test image the network changes almost nothing")
    return notes
