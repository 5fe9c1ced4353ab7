"""What may stand in front of an embedder inside one graph: a reduction of the image, a translator, or both.

The images pass the reduction first, then the translator, then what the embedder itself does (CLAHE, scales). A fused
model is by definition what its two files give one behind the other: the image is continued by reflection as the
translator's card says, translated, turned into whole levels, cut out again, described.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.images import MIN_SIDE, resize_image
from gloam.errors import ModelError, UsageError
from gloam.export.embedder import SELFTEST_DYNAMIC
from gloam.export.front.compose import Stage, compose
from gloam.export.front.reflection import cropping_graph, padding_graph
from gloam.export.front.shrink import shrinking_graph
from gloam.export.front.told import telling_graph
from gloam.export.proved import BELOW, LEVELS_TOLERANCE, Shapes, larger_shapes, write_proved
from gloam.export.translator import export_translator
from gloam.export.written import flat, read_graph
from gloam.model_card import NATIVE, InputRule, ModelCard, SelfTest
from gloam.networks.checkpoints import load_generator
from gloam.padding import MULTIPLE, PaddingProfile
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest_formulas import selftest_images
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import Translator

KEPT = ("recipe", "data", "licence", "weights_sha256")  # of the translator's provenance
WEIGHTS = (".safetensors", ".pth", ".pt")


def put_in_front(
    embedder: str | Path,
    output: str | Path,
    *,
    translator: str | Path | None = None,
    max_side: int | None = None,
    domain: str | None = None,
) -> ModelCard:
    """Write an exported embedder with something in front of it as one file.

    Args:
        embedder: ``.onnx`` file of an embedder, float32.
        output: ``.onnx`` file to write, atomically; of kind ``fused`` where there is a translator.
        translator: ``.onnx`` file of a translator, float32; it pads as its own card says. Or native weights, which are
            exported on the way with the fixed profile's rule: the next multiple of 256 exactly.
        max_side: reduce larger images to this longer side by LANCZOS, pixels.
        domain: of a translator of several, the one to translate into; its own choice by default. Its code is a
            constant of the graph, and so are the zeros in place of noise.

    Returns:
        the card that the file carries.

    Raises:
        UsageError: neither, a bad side, or a reduction for a fixed profile; a domain that the translator has not.
        ModelError: a file of another kind, precision or opset; a normalisation that callers would have to do in
            between; or profiles that do not go together.
    """
    if translator is None and max_side is None:
        raise UsageError("give a translator, a longer side, or both")
    if domain is not None and translator is None:
        raise UsageError(f"domain {domain!r} is of a translator; give one")
    if max_side is not None and max_side < MIN_SIDE:
        raise UsageError(f"--resize {max_side}: {MIN_SIDE} px or more are needed")
    behind = Embedder.load(embedder, Placement(threads=1))
    card, behind = behind.card, behind.reading(NATIVE)  # what stands in front decides what it gets
    _expect_plain(card, embedder)
    if max_side is not None and card.profile.kind == "fixed":
        raise UsageError(f"{embedder}: a fixed profile has its sizes already; --resize goes with the dynamic profile")
    with tempfile.TemporaryDirectory(prefix="gloam-front-") as folder:
        before = None if translator is None else _load_translator(Path(translator), card.profile, Path(folder), domain)
        stages: list[Stage] = []
        if max_side is not None:
            stages.append(Stage("shrink", shrinking_graph(max_side)))
            card = dataclasses.replace(card, resize=max_side, input_rule=card.input_rule and NATIVE)
        if before is not None:
            file, model = before
            stages += _translating(file, model, card.profile, "shrink.resized" if stages else "images")
            card = _fused(card, model)
        last = {"shrink": "resized", "crop": "cropped"}[stages[-1].name]
        links = {"images": f"{stages[-1].name}.{last}"}
        proto = compose([*stages, Stage("embed", read_graph(embedder), links)])
        if before is not None and card.profile.kind == "dynamic":
            _take_size(proto, links["images"], "shrink.resized" if max_side is not None else "images")
        first = _shapes(card)
        tests = [
            _selftest(card, behind, None if before is None else before[1], fed) for fed in (first, _larger(card, first))
        ]
        card = dataclasses.replace(card, selftest=tests[0], selftest_larger=tests[1], selftest_formula=None).explained()
        write_proved(proto, card, output)
    return card


def _expect_plain(card: ModelCard, file: str | Path) -> None:
    card.expect_kind("embedder", str(file))
    if card.profile.kind == "square":
        raise ModelError(
            f"{file}: takes images of one size alone, which nothing in front of it inside the graph may change"
        )
    if card.profile.cell > 1:
        raise ModelError(
            f"{file}: takes images whose sides are multiples of {card.profile.cell} px, as its input rule makes them; "
            "nothing can stand in front of it inside the graph, give the translator to `gloam extract --translate`"
        )
    if card.prepares:
        raise ModelError(f"{file}: has a resizing in front already; start from the embedder exported alone")
    _expect_float32(card, file)
    if card.photometric.name != "none" and not card.photometric.baked:
        raise ModelError(
            f"{file}: {card.photometric.name} is left to callers, who cannot reach behind what stands in front; export "
            "the embedder with --bake-clahe"
        )


def _expect_float32(card: ModelCard, file: str | Path) -> None:
    if card.precision != "fp32":
        raise ModelError(f"{file}: is {card.precision}; put the float32 files together, then give --precision")


def _load_translator(path: Path, profile: PaddingProfile, folder: Path, domain: str | None) -> tuple[Path, Translator]:
    """The translator's exported file and the translator itself.

    Raises:
        ModelError: of another kind or precision, of grey images, or its rule does not fit the embedder's profile.
        UsageError: it has no such domain.
    """
    file = path
    if path.suffix in WEIGHTS:
        file = folder / "translator.onnx"
        loaded = load_generator(path)
        # As `gloam export --profile fixed` writes it with its defaults, so that both are one translator.
        rule = PaddingProfile.fixed()
        if profile.kind == "fixed":
            rule = PaddingProfile.fixed(profile.heights, profile.widths)
        batch = (1, max(rule.batch[1], profile.batch[1]))
        export_translator(loaded.model, file, dataclasses.replace(rule, batch=batch), loaded.provenance)
    model = Translator.load(file, Placement(threads=1))
    _expect_float32(model.card, path)
    rule = model.card.profile
    if model.card.inputs[0].shape[3] != 3:
        raise ModelError(f"{path}: translates grey images; only colour translators can be fused")
    if domain is not None:
        model = model.towards(domain)
    if profile.kind != "fixed":
        return file, model
    if rule.multiple % MULTIPLE:
        raise ModelError(
            f"{path}: pads images to multiples of {rule.multiple}, which are no shapes of a fixed profile; give its "
            "weights, or the file exported with --profile fixed"
        )
    wrong = [side for side in (*profile.heights, *profile.widths) if side % rule.multiple or side < rule.minimum]
    if wrong:
        raise ModelError(
            f"{path}: takes multiples of {rule.multiple} from {rule.minimum} px on, not {wrong[0]}; export the "
            "embedder with other --sides"
        )
    return file, model


def _translating(file: Path, model: Translator, profile: PaddingProfile, images: str) -> list[Stage]:
    """Padding, what the translator is told, the translator and cropping; ``images`` is the tensor to begin with."""
    fixed, card, told = profile.kind == "fixed", model.card, model.told
    own = {} if images == "images" else {"images": images}
    rule = card.profile
    padding = padding_graph(fixed, rule.multiple, rule.minimum, rule.anchor)
    translated = f"translate.{card.outputs[0].name}"
    return [
        Stage("pad", padding, own),
        *([Stage("tell", telling_graph(told), {"padded": "pad.padded"})] if told else []),
        Stage(
            "translate",
            read_graph(file),
            {card.inputs[0].name: "pad.padded", **{spec.name: f"tell.{spec.name}" for spec in told}},
        ),
        Stage("crop", cropping_graph(fixed, rule.anchor), {**own, "translated": translated}),
    ]


def _take_size(proto: Any, cropped: str, images: str) -> None:
    """Read the size of what was cut out from the images, which have the same: TensorRT cannot follow a size through a
    slice and several poolings."""
    for node in proto.graph.node:
        if node.op_type == "Shape" and node.input[0] == cropped:
            node.input[0] = images


def _fused(card: ModelCard, translator: Translator) -> ModelCard:
    """The embedder's card with the translator inside."""
    rule, profile = translator.card.profile, card.profile
    batch = (profile.batch[0], min(profile.batch[1], rule.batch[1]))
    profile = dataclasses.replace(profile, batch=batch)
    inputs = card.inputs
    if profile.kind == "fixed":
        profile = dataclasses.replace(profile, multiple=rule.multiple, minimum=rule.minimum, next_only=True)
        meaning = (
            f"RGB, straight from the decoder, top left; height and width are the next multiples of {rule.multiple} of "
            "every valid height and width, never larger"
        )
        inputs = (dataclasses.replace(inputs[0], meaning=meaning), *inputs[1:])
    known = {key: translator.card.provenance.get(key, "unknown") for key in KEPT}
    stated = {"name": translator.name, "multiple": rule.multiple, "minimum": rule.minimum, **known}
    stated |= {} if rule.anchor == "center" else {"anchor": rule.anchor}
    return dataclasses.replace(
        card,
        kind="fused",
        profile=profile,
        inputs=inputs,
        translate=translator.fingerprint,
        provenance={**card.provenance, "translator": stated},
    )


def _shapes(card: ModelCard) -> Shapes:
    """What the first self-test feeds; images that the graph reduces are larger than it leaves them."""
    if card.profile.kind == "fixed":
        height, width = card.profile.heights[0], card.profile.widths[0]
        sizes = tuple((height - rows, width - columns) for rows, columns in BELOW[:2])
        return Shapes((2, height, width), sizes).within(card.profile.batch[1])
    if card.resize is not None:
        return Shapes((1, card.resize * 3 // 4 + 1, card.resize * 5 // 4 + 1)).within(1)
    return SELFTEST_DYNAMIC.within(card.profile.batch[1])


def _larger(card: ModelCard, first: Shapes) -> Shapes:
    """What the second one feeds: upright where the first is reduced along its width."""
    if card.resize is None:
        return larger_shapes(card.profile, first)
    return Shapes((2, card.resize * 3 // 2 + 1, card.resize * 7 // 8 + 1)).within(card.profile.batch[1])


def _selftest(card: ModelCard, behind: Embedder, translator: Translator | None, fed: Shapes) -> SelfTest:
    """What the parts give one behind the other, each image alone and at native size."""
    rows = []
    for image, (height, width) in zip(selftest_images(fed.shape, fed.sizes), fed.sizes, strict=True):
        pixels = resize_image(np.ascontiguousarray(image[:height, :width]), InputRule.of(card.resize))
        rows.append(behind([pixels if translator is None else translator([pixels])[0]])[0])
    return SelfTest(fed.shape, fed.sizes, flat(np.stack(rows)), dict(LEVELS_TOLERANCE))
