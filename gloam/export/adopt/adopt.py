"""Anyone's exported embedder to one of gloam's: read, probed, decided, and written with a card and self-tests.

What can be found by running the file is found; what cannot, its normalisation and the order of its channels for one, is
stated by the user or proven by references: photographs with the descriptors that the file's own program made of them. A
statement that contradicts the graph or a reference is refused, and so is a file whose descriptors would not be an
image's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from gloam.errors import UsageError, require_all
from gloam.export.adopt.behaviour import expect_finite, expect_repeats, observe
from gloam.export.adopt.feeding import BYTE, IMAGENET, ZERO, Channels, Feeding, Layout, Triple
from gloam.export.adopt.findings import Finding, refusal
from gloam.export.adopt.foreign import Foreign, read_foreign
from gloam.export.adopt.front import Front, find_front
from gloam.export.adopt.probe import Runner, pictures
from gloam.export.adopt.rule import Filter, Ruled, Stated, decide, read_reference
from gloam.export.adopt.sizes import TRIALS, Sizes, find_layout, find_sizes
from gloam.export.adopt.written_graph import written_graph
from gloam.export.proved import Shapes, larger_shapes, write_proved
from gloam.export.written import flat
from gloam.files import expect_output, sha256_file
from gloam.heartbeat import Heartbeat, Say
from gloam.model_card import LITERATURE, TOLERANCE, ModelCard, SelfTest, TensorSpec
from gloam.record import to_json
from gloam.runtime.backends.selftest_formulas import selftest_images

FIRST = (97, 131)  # height and width of the first self-test, as of gloam's own exports
INT8_TOLERANCE = 2e-2  # of a self-test's values


@dataclass(frozen=True)
class AdoptRequest:
    """What to adopt, and what is known of it; None where nothing is.

    Attributes:
        model: ``.onnx`` file of another program.
        output: ``.onnx`` file to write, atomically.
        name: of the model; the file's stem by default.
        vector: name of the graph's output that is the descriptor, where there are several.
        layout: ``nchw`` or ``nhwc``.
        channels: ``rgb`` or ``bgr``, the order of the graph's channels.
        range: 1 or 255, the largest value of the graph's input before ``mean`` is taken off.
        mean, std: of red, green and blue, in that range.
        max_side, stretch, filter: how callers bring images to size: a longer side (0 for native sizes) or an exact
            (width, height), and by which filter.
        reference: (image, .npy of its descriptor) each.
        licence: of the weights, kept in the card.
    """

    model: Path
    output: Path
    name: str | None = None
    vector: str | None = None
    layout: Layout | None = None
    channels: Channels | None = None
    range: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    max_side: int | None = None
    stretch: tuple[int, int] | None = None
    filter: Filter | None = None
    reference: tuple[tuple[Path, Path], ...] = ()
    licence: str = "unknown"

    @property
    def stated(self) -> Stated:
        """What is said of its input."""
        return Stated(self.channels, self.range, self.mean, self.std, self.stretch, self.max_side, self.filter)


@dataclass(frozen=True)
class Adopted:
    """A written file.

    Attributes:
        output: the ``.onnx`` file.
        card: that it carries.
        ruled: how it is fed, and how that was found.
        findings: what was repaired or noted.
    """

    output: Path
    card: ModelCard
    ruled: Ruled
    findings: tuple[Finding, ...]

    @property
    def fingerprint(self) -> str:
        """Of the written file, hex sha256."""
        return self.card.fingerprint(sha256_file(self.output))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        card, feeding = self.card, self.ruled.feeding
        return {
            "model": str(self.output),
            "kind": card.kind,
            "name": card.name,
            "dimension": card.dimension,
            "profile": to_json(card.profile),
            "input_rule": to_json(card.reads),
            "precision": card.precision,
            "space": card.space(),
            "fingerprint": self.fingerprint,
            "feeding": {**to_json(feeding), "because": self.ruled.because, "reference_loss": self.ruled.loss},
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_text(self) -> str:
        """What was found, identities, and what to do next."""
        card, feeding = self.card, self.ruled.feeding
        loss = "" if self.ruled.loss is None else f" (1 - cosine {self.ruled.loss:.1e})"
        return "\n".join(
            [
                f"{self.output}: {card.name}, {card.dimension}-D, {card.profile.kind} profile, {card.precision}",
                f"input       {feeding.layout}, {feeding.options()}: {self.ruled.because}{loss}",
                f"images      {card.described_input()}",
                f"sizes       {_sizes(card)}",
                f"space       {card.space()}",
                f"fingerprint {self.fingerprint}",
                *(f"{finding.outcome:11s} {finding}" for finding in self.findings),
                f"next: gloam check {self.output}",
            ]
        )


def adopt(request: AdoptRequest, say: Say | None = None) -> Adopted:
    """Give a file of another program a card.

    Args:
        request: the file, and what is known of it.
        say: gets a line now and then where it takes long.

    Returns:
        what was written and what was found.

    Raises:
        NotAdoptedError: the file has a mistake, or what is stated of it does.
        UsageError: something must be stated, or is stated wrongly.
        ModelError: the file cannot be read or run.
        DataError: a reference cannot be read.
        MissingExtraError: onnx or onnxruntime is absent.
    """
    stated = request.stated
    expect_output(request.output, ".onnx", "the model")
    if request.output.exists() and request.model.exists() and request.output.samefile(request.model):
        raise UsageError(f"{request.output}: is the file itself; name another one with -o")
    require_all(("onnx", "onnxruntime"), "adopt a model")
    references = [read_reference(image, vector) for image, vector in request.reference]
    with Heartbeat(say, f"adopting {request.model.name}", None, "probes") as beat:
        foreign = read_foreign(request.model, request.vector)
        runner = Runner(foreign, beat.update)
        layout = find_layout(runner, request.layout)
        sizes = find_sizes(runner, layout, request.stretch)
        front = find_front(runner, layout, sizes)
        _expect_straight(foreign, front, sizes, stated)
        image = next(pictures([sizes.near(*TRIALS[0][0])]))
        expect_repeats(runner, Feeding(layout, "rgb", *_any_range(foreign)).fed(image[None], foreign.images.dtype))
        ruled = decide(runner, layout, sizes, front, stated, references)
        seen = observe(runner, ruled.feeding, sizes)
        proto = written_graph(foreign, ruled.feeding, sizes, seen.dimension, not seen.normalised)
        expect_finite(runner, ruled.feeding, sizes, proto)
        card = _card(request, foreign, runner, front, ruled, sizes, seen.dimension)
        write_proved(proto, card, request.output)
    return Adopted(request.output, card, ruled, seen.findings)


def _any_range(foreign: Foreign) -> tuple[Triple, Triple]:
    return (ZERO, BYTE) if foreign.images.dtype == "uint8" else IMAGENET


def _expect_straight(foreign: Foreign, front: Front, sizes: Sizes, stated: Stated) -> None:
    """Refuse pixels at other places, and a size that nobody stated."""
    if front.scrambled:
        raise refusal(
            foreign.path,
            "layout",
            "the network sees the pixels at other places: the graph reshapes an image where it must transpose it; "
            "export it with a transpose",
        )
    if front.fixed_to is not None and sizes.only is None:  # one size has one aspect
        height, width = front.fixed_to
        if stated.stretch != (width, height):
            raise refusal(
                foreign.path,
                "silent_stretch",
                f"the graph itself brings every image to {width}x{height} px, whatever its aspect; state --stretch "
                f"{width}x{height}, so that the card says so and all callers do it alike, or export it without",
            )


def _card(
    request: AdoptRequest, foreign: Foreign, runner: Runner, front: Front, ruled: Ruled, sizes: Sizes, dimension: int
) -> ModelCard:
    name, profile = request.name or request.model.stem, sizes.profile
    first = Shapes((2, *sizes.near(*FIRST))).within(profile.batch[1])
    if sizes.only is None:
        second = larger_shapes(profile, first, sizes.cell)
    else:
        second = Shapes((3, *sizes.only)).within(profile.batch[1])
    tolerance = {**TOLERANCE, **({"int8": INT8_TOLERANCE} if foreign.precision == "int8" else {})}
    mean, std = _seen(front, ruled.feeding)
    tests = [_selftest(runner, ruled.feeding, shapes, tolerance) for shapes in (first, second)]
    card = ModelCard(
        kind="embedder",
        name=name,
        inputs=(TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB, straight from the decoder"),),
        outputs=(TensorSpec("descriptors", "float32", ("batch", dimension), "unit vectors"),),
        profile=profile,
        network={
            "name": name,
            "adopted": foreign.output.name,
            "fed": {
                "channels": ruled.feeding.channels,
                "mean": list(ruled.feeding.mean),
                "std": list(ruled.feeding.std),
            },
        },
        mean=mean,
        std=std,
        provenance={
            "recipe": "adopted",
            "data": "unknown",
            "licence": request.licence,
            "weights_sha256": foreign.weights_sha256,
            "file": request.model.name,
            "file_sha256": foreign.sha256,
            "producer": f"{foreign.proto.producer_name} {foreign.proto.producer_version}".strip()[:200],
            "because": ruled.because,
        },
        dimension=dimension,
        precision=foreign.precision,
        input_rule=None if ruled.rule == LITERATURE else ruled.rule,
        selftest=tests[0],
        selftest_larger=tests[1],
    )
    return card.explained()


def _seen(front: Front, feeding: Feeding) -> tuple[Triple, Triple]:
    """Mean and deviation on [0, 1] of what the network sees: of the feeding and of what the graph does itself."""
    if front.scale is None or min(front.scale) <= 0:
        return feeding.mean, feeding.std
    turn = 1 if feeding.channels == "rgb" else -1
    rows = list(zip(feeding.mean, feeding.std, front.scale[::turn], front.shift[::turn], strict=True))
    mean = tuple(mean - shift * std / scale + 0.0 for mean, std, scale, shift in rows)
    return cast("Triple", mean), cast("Triple", tuple(std / scale for _, std, scale, _ in rows))


def _selftest(runner: Runner, feeding: Feeding, shapes: Shapes, tolerance: Mapping[str, float]) -> SelfTest:
    """What the foreign graph itself gives, each image alone, fed by numpy."""
    rows = []
    for image in selftest_images(shapes.shape, shapes.sizes):
        row = runner.describe(feeding.fed(image[None], runner.foreign.images.dtype)).astype(np.float64)
        rows.append(row / max(float(np.linalg.norm(row)), 1e-12))
    return SelfTest(shapes.shape, shapes.sizes, flat(np.concatenate(rows)), dict(tolerance))


def _sizes(card: ModelCard) -> str:
    profile = card.profile
    batch = "any batch" if profile.batch[1] > 1 else "one image a run"
    if profile.heights:
        return f"{profile.widths[0]}x{profile.heights[0]} px alone, {batch}"
    parts = [f"multiples of {profile.cell} px" if profile.cell > 1 else "any"]
    if profile.minimum > 1:
        parts.append(f"from {profile.minimum} px a side")
    return f"{' '.join(parts)}, {batch}"
