"""Weights to a finished file: what the weights are, what stands in front, the precision, the check."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gloam.errors import ModelError, UsageError, require_all
from gloam.export.exported import Exported
from gloam.export.precision import PRECISIONS
from gloam.files import expect_output
from gloam.padding import DEFAULT_SIDES

if TYPE_CHECKING:
    from gloam.export.precision.convert import Conversion
    from gloam.heartbeat import Say
    from gloam.model_card import InputRule, ModelCard
    from gloam.padding import PaddingProfile

PRECISION_ONLY = ("calibrate", "tolerance", "accept_loss")
DESCRIBERS_ONLY = ("photometric", "max_side", "stretch")  # of embedders and networks of local features
EMBEDDERS_ONLY = (
    "padding",
    "p",
    "mean",
    "std",
    "ensemble",
    "scales",
    "whitening",
    "bake_clahe",
    "translate",
    "resize",
    "local_features",
    *DESCRIBERS_ONLY,
)
EXTRACTORS_ONLY = ("keypoints", "threshold", "min_scale")
PACKAGES = ("torch", "onnx", "onnxscript")
FRONT = ("translate", "resize")


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how.

    Attributes:
        output: ``.onnx`` file to write; with ``triton`` a folder of the model's name.
        weights: native ``.safetensors``, the state dict of an embedder or of a public network of local features (known
            by its keys, whatever ``network`` is not), or an exported float32 ``.onnx`` for ``precision``,
            ``translate`` or ``resize``, any for ``triton``; None for random weights.
        network: its name, for weights that do not say it themselves.
        random_init: seed of random weights, a control; an embedder's are settled on a street, so that it tells images
            apart.
        options: of the network with random weights, e.g. ``{"width": 32}``.
        profile: native (``dynamic``) or padded (``fixed``) sizes.
        sides: padded heights and widths of the fixed profile, pixels; by default 256, 512, 768 and 1024, of a vision
            transformer the multiples of its patch below them.
        max_batch: largest batch the file accepts.
        padding: MobileNetV2: ``symmetric`` or ``tf``.
        p: GeM's power, for weights that do not hold one.
        mean, std: normalisation on [0, 1], one number a channel; the family's own where None.
        photometric: normalisation of the light by whoever calls the file.
        ensemble: further native embedders whose descriptors are concatenated.
        bake_clahe: CLAHE (clip 1, 8x8) inside the graph.
        scales: image scales to average; for local features, to look at.
        whitening: file of a learned whitening, applied inside the graph.
        translate: translator that every image passes first, inside the graph.
        domain: of a translator of several, exported or in front, the one that images are translated into; the network's
            own choice by default.
        appearance: ``mduit``, ``adain``: the encoder that reads an example image, instead of the translator.
        resize: longer side in pixels to which the graph reduces larger images first.
        local_features: HOW: local features and attention instead of one descriptor; DINOv2: patch tokens.
        max_side: longer side in pixels that whoever calls the file reduces larger images to; 0 for native sizes. None:
            the network's own rule, 1024 as the literature has it, or the largest side of a fixed profile that is
            smaller.
        stretch: exact (width, height) in pixels that callers bring images to instead.
        keypoints: networks of local features: of an image; 2048 by default.
        threshold: networks of local features: of a keypoint's score; the network's own by default, 0 for the strongest.
        min_scale: R2D2: least scale at which an image is looked at; a quarter by default.
        precision: of the file.
        calibrate: photographs of the kind the model will see.
        tolerance: largest loss: 1 - cosine of a descriptor, or absolute difference of a pixel in [-1, 1].
        accept_loss: write the file even where it loses more.
        triton: write a folder of a model repository of NVIDIA Triton instead of a file.
        licence: of the weights, kept in the card.

    Raises:
        UsageError: options that do not go together; nothing is loaded before that is known.
    """

    output: Path
    weights: Path | None = None
    network: str | None = None
    random_init: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    profile: Literal["dynamic", "fixed"] = "dynamic"
    sides: Sequence[int] | None = None
    max_batch: int = 64
    padding: str | None = None
    p: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    photometric: Literal["none", "clahe"] = "none"
    ensemble: Sequence[Path] | None = None
    bake_clahe: bool = False
    scales: tuple[float, ...] | None = None
    whitening: Path | None = None
    translate: Path | None = None
    domain: str | None = None
    appearance: bool = False
    resize: int | None = None
    local_features: bool = False
    max_side: int | None = None
    stretch: tuple[int, int] | None = None
    keypoints: int | None = None
    threshold: float | None = None
    min_scale: float | None = None
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    calibrate: Path | None = None
    tolerance: float | None = None
    accept_loss: bool = False
    triton: bool = False
    licence: str = "unknown"

    def __post_init__(self) -> None:
        _refuse(self)


@dataclass(frozen=True)
class _Loaded:
    """A network, what it is, and what is to be said about how it was loaded."""

    kind: str
    model: Any
    provenance: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def export_weights(request: ExportRequest, say: Say | None = None) -> Exported:
    """Weights to one self-describing ONNX file, by what the weights are.

    Args:
        request: what to export, and how.
        say: gets a line now and then where it takes long.

    Returns:
        the card of the written file, its identities (hex sha256), and the figures of the release check.

    Raises:
        ModelError: weights that cannot be read, a network that refuses its options or profile, or a converted file
            that loses more than the tolerance; nothing is written then.
        UsageError: options that are not of these weights' kind.
        DataError: the images to calibrate on cannot be read.
        MissingExtraError: torch or onnx is not installed.
    """
    if request.triton:
        return _to_triton(request, say)
    finished = request.weights is not None and request.weights.suffix == ".onnx"
    check = () if request.precision == "fp32" else ("onnxruntime",)
    require_all((*(("onnx",) if finished else PACKAGES), *check), "export a model")
    if finished and request.weights is not None:
        expect_output(request.output, ".onnx", "a model")
        return _finished(request.weights, None, request, [], say)
    from gloam.padding import PaddingProfile

    loaded = _random(request) if request.weights is None else _from_file(request)
    expect_output(request.output, ".onnx", "a model")
    if loaded.kind == "embedder" and request.ensemble:
        loaded = _ensemble(loaded, request.ensemble)
    _expect_options(loaded, request)
    if request.min_scale is not None:
        if not hasattr(loaded.model, "look_from"):
            raise UsageError(f"--min-scale is for r2d2; {loaded.model.name} looks at an image at one scale")
        loaded.model.look_from(request.min_scale)
    batch = (1, request.max_batch)
    cell = getattr(loaded.model, "cell", 1)
    sides = request.sides or [side // cell * cell for side in DEFAULT_SIDES]
    profile = (
        PaddingProfile.fixed(sides, sides, batch, cell)
        if request.profile == "fixed"
        else PaddingProfile.dynamic(batch).of_cell(cell)
    )
    with tempfile.TemporaryDirectory(prefix="gloam-export-") as folder:
        more = request.precision != "fp32" or _fronted(request)
        exact = Path(folder) / "model.onnx" if more else request.output
        return _finished(exact, _export(loaded, request, exact, profile), request, loaded.notes, say)


def _to_triton(request: ExportRequest, say: Say | None) -> Exported:
    """The model inside a folder of a repository, and its configuration; a finished file is copied as it is."""
    from gloam.export.triton import MODEL, copy_model, expect_model_folder, write_config

    expect_model_folder(request.output)
    file = request.output / MODEL
    if request.weights is not None and request.weights.suffix == ".onnx" and _unchanged(request):
        exported = Exported(file, copy_model(request.weights, request.output))
    else:
        exported = export_weights(replace(request, output=file, triton=False), say)
    write_config(request.output, exported.card)
    return exported


def _expect_options(loaded: _Loaded, request: ExportRequest) -> None:
    """Refuse options of another kind of network."""
    extracts = loaded.kind == "local_features"
    others: dict[str, tuple[str, ...]] = {"networks of local features": () if extracts else EXTRACTORS_ONLY}
    if loaded.kind != "embedder":
        others["embedders"] = tuple(name for name in EMBEDDERS_ONLY if not (extracts and name in DESCRIBERS_ONLY))
    for whom, names in others.items():
        for name in names:
            if _given(request, name):
                option = name.replace("_", "-")
                raise UsageError(f"--{option} is for {whom}, but {loaded.model.name} is of kind '{loaded.kind}'")
    if request.domain is not None and loaded.kind != "translator" and request.translate is None:
        raise UsageError(f"--domain is of a translator, but {loaded.model.name} is of kind '{loaded.kind}'")
    if request.appearance:
        if not hasattr(loaded.model, "appearance_uint8"):
            raise UsageError(f"--appearance is of a translator by example, mduit or adain, not of {loaded.model.name}")
        if request.domain is not None:
            raise UsageError("--appearance reads any example image; leave out --domain")
        if request.precision != "fp32":
            raise UsageError("--appearance stays float32, for its filters go into a translator; leave out --precision")
    if loaded.kind == "matcher" and request.precision != "fp32":
        raise UsageError(f"--precision is for models of images; {loaded.model.name} is a matcher, and stays float32")


def _given(request: ExportRequest, name: str) -> bool:
    value = getattr(request, name)
    return not (value is None or value is False or value == "none")


def _unchanged(request: ExportRequest) -> bool:
    """Whether nothing is asked of a finished file."""
    return request.precision == "fp32" and not _fronted(request)


def _fronted(request: ExportRequest) -> bool:
    return any(getattr(request, name) is not None for name in FRONT)


def _refuse(request: ExportRequest) -> None:
    """Options that do not go together, whatever the weights are."""
    if (request.weights is None) == (request.random_init is None):
        raise UsageError("give either a weights file or --random-init SEED with --network NAME")
    if request.bake_clahe and request.photometric != "none":
        raise UsageError("give --photometric clahe (callers normalise) or --bake-clahe (the graph does), not both")
    if request.precision == "fp32":
        for name in PRECISION_ONLY:
            if getattr(request, name) not in (None, False):
                raise UsageError(f"--{name.replace('_', '-')} goes with --precision {', '.join(PRECISIONS)}")
    if request.weights is not None and request.weights.suffix == ".onnx":
        if _unchanged(request) and not request.triton:
            raise UsageError(f"{request.weights}: is exported already; give --precision {', '.join(PRECISIONS)}")
        late = [name for name in (*EMBEDDERS_ONLY, *EXTRACTORS_ONLY) if name not in FRONT and _given(request, name)]
        if request.domain is not None and request.translate is None:
            late.append("domain")
        if request.appearance:
            late.append("appearance")
        if late:
            option = late[0].replace("_", "-")
            raise UsageError(f"{request.weights}: is exported already; give --{option} when its weights are exported")
    elif _fronted(request):
        if request.photometric != "none":
            raise UsageError("--translate and --resize take --bake-clahe; callers cannot normalise behind them")
        if request.local_features:
            raise UsageError("--translate and --resize are for one descriptor of an image, not for --local-features")
        if request.resize is not None and (request.max_side is not None or request.stretch is not None):
            raise UsageError("--resize reduces images inside the graph; leave out --max-side and --stretch")
        if request.resize is not None and request.profile == "fixed":
            raise UsageError("--resize goes with the dynamic profile; a fixed profile has its sizes already")
    _expect_sizes(request)
    if request.options and request.random_init is None:
        raise UsageError("--option goes with --random-init; a checkpoint states its own options")


def _finished(
    exact: Path, card: ModelCard | None, request: ExportRequest, notes: list[str], say: Say | None
) -> Exported:
    """What is still to be done to an exported float32 file: something in front, another precision, the record of it."""
    with tempfile.TemporaryDirectory(prefix="gloam-export-") as folder:
        if _fronted(request):
            from gloam.export.front.put import put_in_front

            whole = request.output if request.precision == "fp32" else Path(folder) / "whole.onnx"
            card = put_in_front(
                exact, whole, translator=request.translate, max_side=request.resize, domain=request.domain
            )
            exact = whole
        if card is None or request.precision != "fp32":
            return Exported(request.output, *_converted(exact, request, say), notes)
        return Exported(request.output, card, None, notes)


def _converted(exact: Path, request: ExportRequest, say: Say | None) -> tuple[ModelCard, Conversion]:
    from gloam.data.sources import find_images
    from gloam.export.precision.convert import convert_precision

    assert request.precision != "fp32"  # the caller has looked
    return convert_precision(
        exact,
        request.output,
        request.precision,
        items=find_images(request.calibrate) if request.calibrate is not None else (),
        tolerance=request.tolerance,
        accept=request.accept_loss,
        say=say,
    )


def _export(loaded: _Loaded, request: ExportRequest, output: Path, profile: PaddingProfile) -> ModelCard:
    from gloam.export.appearance import export_appearance
    from gloam.export.edges import export_edges
    from gloam.export.embedder import export_embedder
    from gloam.export.keypoints import export_keypoints
    from gloam.export.local_features import export_local_features
    from gloam.export.matcher import export_matcher
    from gloam.export.translator import export_translator
    from gloam.model_card import Photometric

    exporters: dict[str, Callable[..., ModelCard]] = {
        "embedder": export_embedder,
        "attended": export_local_features,
        "local_features": export_keypoints,
        "translator": export_translator,
        "appearance": export_appearance,
        "edges": export_edges,
        "matcher": export_matcher,
    }
    more: dict[str, Any] = {}
    kind, model = loaded.kind, loaded.model
    if kind == "translator" and request.appearance:
        kind = "appearance"
    elif kind == "translator":
        more["domain"] = request.domain
    if kind in ("embedder", "local_features"):
        more["photometric"] = Photometric(request.photometric)
        more["input_rule"] = _input_rule(
            request, getattr(model, "largest", None), getattr(model, "input_rule", None), profile
        )
    if kind == "embedder":
        if request.local_features:
            kind, more["scales"] = "attended", _scales_of_local(model, request)
        else:
            model = _with_pipeline(model, request)
    if kind == "local_features":
        more |= {"keypoints": request.keypoints, "threshold": request.threshold}
    if request.weights is not None:
        _expect_finite(model, request.weights)
    return exporters[kind](model, output, profile=profile, provenance=loaded.provenance, **more)


def _expect_finite(model: Any, weights: Path) -> None:
    for name, values in model.state_dict().items():
        if not values.isfinite().all():
            raise ModelError(f"{weights}: {name} holds values that are not finite; a training that diverged left them")


def _input_rule(
    request: ExportRequest, looks_at: int | None, own: InputRule | None, profile: PaddingProfile
) -> InputRule:
    """The rule that the card states.

    Args:
        request: the export.
        looks_at: longer side of the images that the network is for; None for any.
        own: the network's; None for the literature's.
        profile: of the file.

    Raises:
        UsageError: it leaves images larger than a fixed profile, or than the network is for.
    """
    from gloam.model_card import LITERATURE, NATIVE, InputRule

    own = own or LITERATURE
    if request.resize is not None:
        return NATIVE
    largest = profile.heights[-1] if profile.kind == "fixed" else None
    if request.max_side is not None or request.stretch is not None:
        rule = InputRule.of(request.max_side, request.stretch).in_cells(profile.cell)
        if rule.stretch is not None and any(side % profile.cell for side in rule.stretch):
            size = "x".join(map(str, rule.stretch))
            raise UsageError(
                f"--stretch: {size} has a side that is no multiple of {profile.cell} px, the network's patch"
            )
    else:
        looks_at, rule = None, own
        if largest is not None and own.max_side is not None:
            rule = replace(own, max_side=min(own.max_side, largest))
    _expect_held(rule, largest)
    if looks_at is not None and not 0 < max(rule.max_side or 0, *(rule.stretch or (0,))) <= looks_at:
        asked = "--max-side" if rule.stretch is None else "--stretch"
        raise UsageError(f"{asked}: the network is for images of up to {looks_at} px; leave it out, or give less")
    return rule


def _expect_sizes(request: ExportRequest) -> None:
    """Refuse sizes that are none, or larger than the fixed profile's, before anything is loaded."""
    from gloam.model_card import InputRule

    if request.max_side is not None or request.stretch is not None:
        rule = InputRule.of(request.max_side, request.stretch)
        _expect_held(rule, max(request.sides or DEFAULT_SIDES) if request.profile == "fixed" else None)


def _expect_held(rule: InputRule, largest: int | None) -> None:
    if largest is not None and max(rule.max_side or 0, *(rule.stretch or (0,))) > largest:
        asked = "--max-side" if rule.stretch is None else "--stretch"
        raise UsageError(
            f"{asked}: images of {rule} are larger than the fixed profile's largest shape {largest}x{largest}; give "
            f"--max-side {largest}, or larger --sides"
        )


def _scales_of_local(model: Any, request: ExportRequest) -> tuple[float, ...]:
    if not hasattr(model, "local_features"):
        raise UsageError(f"--local-features is for HOW networks, not for {model.name}")
    if request.whitening is not None or request.bake_clahe:
        raise UsageError(
            "--local-features takes neither --whitening nor --bake-clahe; ASMK needs the features as they are"
        )
    return request.scales or tuple(model.local_scales)


def _ensemble(first: _Loaded, files: Sequence[Path]) -> _Loaded:
    from gloam.networks.checkpoints import load_checkpoint
    from gloam.networks.embedders.ensemble import Ensemble

    others = [load_checkpoint(file) for file in files]
    members = [first.provenance, *(other.provenance for other in others)]
    model = Ensemble([first.model, *(other.model for other in others)])
    joined = {key: ", ".join(str(member.get(key, "unknown")) for member in members) for key in ("recipe", "data")}
    licences = ", ".join(dict.fromkeys(str(member.get("licence", "unknown")) for member in members))
    return _Loaded("embedder", model, {**joined, "licence": licences, "members": members}, first.notes)


def _with_pipeline(model: Any, request: ExportRequest) -> Any:
    if request.scales is None and request.whitening is None and not request.bake_clahe:
        return model
    from gloam.networks.embedders import DescriptorPipeline
    from gloam.runtime.descriptors.whitening import Whitening

    clahe = None
    if request.bake_clahe:
        from gloam.networks.clahe import ClaheLayer

        clahe = ClaheLayer()
    whitening = None if request.whitening is None else Whitening.load(request.whitening)
    return DescriptorPipeline(model, scales=request.scales or (1.0,), whitening=whitening, clahe=clahe)


def _from_file(request: ExportRequest) -> _Loaded:
    from gloam.networks.checkpoints import (
        checkpoint_kind,
        load_checkpoint,
        load_detector,
        load_extractor,
        load_generator,
        load_matcher,
    )
    from gloam.networks.edges import DETECTORS
    from gloam.networks.translators import GENERATORS

    weights = request.weights
    assert weights is not None  # the caller has looked
    kind = checkpoint_kind(weights)
    if kind is None and (public := _public(request, weights)) is not None:
        return public
    kind = kind or "embedder"
    if kind == "embedder" and request.network in {**GENERATORS, **DETECTORS}:
        raise UsageError(
            f"{request.weights}: convert it first: gloam import {request.weights} --as {request.network} "
            "-o FILE.safetensors"
        )
    if kind == "embedder":
        checkpoint: Any = load_checkpoint(weights, request.network, **_embedder_options(request))
    else:
        if request.network:
            raise UsageError(f"{request.weights}: the checkpoint says its network itself; drop --network")
        native: dict[str, Callable[..., Any]] = {
            "translator": load_generator,
            "edges": load_detector,
            "local_features": load_extractor,
            "matcher": load_matcher,
        }
        checkpoint = native.get(kind, load_generator)(weights)
    provenance = checkpoint.provenance
    if request.licence != "unknown":
        provenance = {**provenance, "licence": request.licence}
    notes = []
    if checkpoint.dropped:
        notes.append(f"left out (no part of a descriptor): {', '.join(checkpoint.dropped)}")
    if checkpoint.defaulted:
        notes.append(f"not in the file, initial value kept: {', '.join(checkpoint.defaulted)}")
    return _Loaded(kind, checkpoint.model, provenance, notes)


def _public(request: ExportRequest, weights: Path) -> _Loaded | None:
    """A public network of local features or matcher, which its keys tell; None where they tell of something else."""
    from gloam.networks.foreign.local_features import recognise_extractor
    from gloam.networks.foreign.matchers import is_matcher
    from gloam.networks.foreign.read import import_network, read_content
    from gloam.networks.local_features import EXTRACTORS
    from gloam.networks.matchers import MATCHERS

    if request.network is None:
        content = read_content(weights)
        if not is_matcher(content) and recognise_extractor(content) is None:
            return None
    elif request.network not in {**EXTRACTORS, **MATCHERS}:
        return None
    found = import_network(weights, request.network or "auto", licence=request.licence)
    kind = "matcher" if found.model.name in MATCHERS else "local_features"
    notes = [f"left out (no use): {', '.join(found.dropped)}"] if found.dropped else []
    return _Loaded(kind, found.model, found.provenance, [*found.notes, *notes])


def _random(request: ExportRequest) -> _Loaded:
    if request.network is None:
        raise UsageError("--random-init needs --network NAME")
    import torch

    from gloam.export.random_weights import settle_random_matcher, settle_random_weights
    from gloam.networks.edges import DETECTORS, create_detector
    from gloam.networks.embedders import create_embedder
    from gloam.networks.local_features import EXTRACTORS, create_extractor
    from gloam.networks.matchers import MATCHERS, create_matcher
    from gloam.networks.translators import GENERATORS, create_generator

    torch.manual_seed(request.random_init)
    options = dict(request.options)
    recipe = f"random weights, seed {request.random_init}"
    provenance = {"recipe": recipe, "data": "none", "licence": "Apache-2.0"}
    if request.network in GENERATORS:
        return _Loaded("translator", create_generator(request.network, **options), provenance)
    if request.network in DETECTORS:
        return _Loaded("edges", create_detector(request.network, **options), provenance)
    if request.network in EXTRACTORS:
        return _Loaded("local_features", create_extractor(request.network, **options), provenance)
    if request.network in MATCHERS:
        matcher = create_matcher(request.network, **options)
        settle_random_matcher(matcher)
        return _Loaded("matcher", matcher, provenance)
    embedder = create_embedder(request.network, **options, **_embedder_options(request))
    settle_random_weights(embedder)
    return _Loaded("embedder", embedder, provenance)


def _embedder_options(request: ExportRequest) -> dict[str, Any]:
    chosen = {"padding": request.padding, "p": request.p, "mean": request.mean, "std": request.std}
    return {key: value for key, value in chosen.items() if value is not None}
