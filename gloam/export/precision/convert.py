"""An exported float32 file in another precision, and the release check that decides whether it may be written.

It runs on ONNX Runtime's CPU, which computes fp16 in float32 and has no bf16. A file in half precision is judged by a
float32 twin that rounds as a GPU would: an activation beyond fp16's range fails here and not only there. The check is
numeric (descriptors: cosine; images: absolute difference) and, for embedders, of the task too: retrieval among the
check's own images, mAP where their folders say which show one place. Calibration and check never share an image.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem
from gloam.errors import DataError, ImageError, IncompatibleError, ModelError, UsageError, require
from gloam.eval.retrieval.places import ground_truth_of_places, places_by_folder
from gloam.eval.retrieval.scores import evaluate
from gloam.export.precision.half import rounding_twin, to_half
from gloam.export.precision.int8 import to_int8, worst_loss
from gloam.export.precision.release_check import COSINE_LOSS, textured_image
from gloam.export.precision.strain import strained
from gloam.export.proved import expect_proved
from gloam.export.written import read_graph, write_model
from gloam.heartbeat import Heartbeat, Say
from gloam.model_card import METADATA_KEY, ModelCard, SelfTest
from gloam.padding import reflect_to
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import ImageModel

Precision = Literal["fp16", "bf16", "int8"]
Images = Sequence[npt.NDArray[np.uint8]]
PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16", "int8")
MAP_DIFFERENCE = {"fp16": 1e-2, "bf16": 1e-1, "int8": 1e-1}  # largest difference of a pixel, in [-1, 1] or [0, 1]
KINDS = ("embedder", "fused", "translator", "edges")
SELFTEST_ROOM = 2.0  # an int8 self-test may differ from torch by so many times what it does where it was made
MAX_SIDE = 512  # pixels, of calibration and check images
MOST_IMAGES = 400  # that are held in memory, half to calibrate and half to check; evenly from all that are given
RANKING = 32  # of the check's images, by which single convolutions are ordered
GENERATED = ((256, 256), (255, 257), (200, 131), (240, 320), (131, 163), (320, 240))  # where no images are given


@dataclass(frozen=True)
class Conversion:
    """What a conversion did, and what it costs.

    Attributes:
        precision: of the written file.
        passed: the loss is within the tolerance.
        loss, tolerance: worst 1 - cosine of a descriptor, or largest absolute difference of a pixel.
        unit: which of both.
        task: agreement of retrieval: ``same_nearest`` (share of images whose nearest neighbour is the same), and
            ``mAP`` of both where folders say the places; empty for other models and fewer than 3 images.
        details: nodes in half precision and casts, or convolutions in int8 and kept in float32.
        images: that the check looked at; calibration had others.
        calibrated: images that int8 was calibrated on: of those that can be read, in the order of their names, the
            first, the third and so on; the check looks at the others.
    """

    precision: Precision
    passed: bool
    loss: float
    tolerance: float
    unit: str
    task: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    calibrated: int = 0


def convert_precision(
    source: str | Path,
    output: str | Path,
    precision: Precision,
    *,
    items: Sequence[ImageItem] = (),
    tolerance: float | None = None,
    accept: bool = False,
    say: Say | None = None,
) -> tuple[ModelCard, Conversion]:
    """Convert an exported float32 file and write it, if the release check allows.

    Args:
        source: ``.onnx`` file of gloam's, float32.
        output: ``.onnx`` file to write, atomically.
        precision: ``fp16``, ``bf16`` or ``int8``.
        items: photographs; every second calibrates (int8), the others are what the check looks at. fp16 and bf16 may go
            without, and are then checked on generated textures.
        tolerance: largest loss; by precision where it is left out.
        accept: write the file even where the check fails.
        say: gets a line now and then where it takes long.

    Returns:
        the card that the file carries, and the conversion's report.

    Raises:
        IncompatibleError: the check fails and ``accept`` is not set, or no self-test could tell the int8 file from any
            other; nothing is written.
        ModelError: not a float32 model of gloam's, or nothing in it can be converted.
        UsageError: int8 without calibration images.
        DataError: none of the images can be read.
    """
    require("onnx", "train", "convert a model's precision")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose fp32, {', '.join(PRECISIONS)}")
    if precision == "int8" and not items:
        raise UsageError("int8 needs photographs to measure ranges on; name them with --calibrate")
    card = read_card(source)
    if card.precision != "fp32":
        raise ModelError(f"{source}: is {card.precision} already; convert the float32 file")
    if card.kind not in KINDS:
        raise ModelError(f"{source}: models of kind '{card.kind}' stay in float32")
    checker = _Checker(Path(source), items)
    limits = COSINE_LOSS if card.embeds else MAP_DIFFERENCE
    allowed = limits[precision] if tolerance is None else tolerance
    proto = read_graph(source)
    with tempfile.TemporaryDirectory(prefix="gloam-precision-") as temporary:
        folder = Path(temporary)
        carried = dataclasses.replace(card, precision=precision).explained()
        details: dict[str, Any]
        if precision != "int8":
            made, half = to_half(proto, precision, strained(proto, precision, checker.calibration(), folder))
            details = asdict(half)
        else:
            beat = Heartbeat(say, "measuring what int8 costs", None, "trials")
            if say is not None:
                say(f"ranges of {len(checker.given)} photographs, judged on {len(checker.images)} others")

            def measured(model: Any, most: int | None = None) -> float:
                beat.update()
                return checker.loss(_written(model, carried, folder), most)

            made, report = to_int8(
                proto, checker.calibration(), measured, allowed, lambda model: measured(model, RANKING)
            )
            details = asdict(report)
        file = _written(made if precision == "int8" else rounding_twin(made), carried, folder)
        if precision == "int8":
            carried = _with_selftest(carried, file, output)
        loss = checker.loss(file)
        conversion = Conversion(
            precision,
            loss <= allowed,
            loss,
            allowed,
            checker.unit,
            checker.task(file) if card.embeds else {},
            details,
            len(checker.images),
            len(checker.given) if precision == "int8" else 0,
        )
        if not conversion.passed and not accept:
            cure = "calibrate with more images" if precision == "int8" else "choose another precision"
            raise IncompatibleError(
                f"{output}: not written, because {precision} misses the release check: {checker.unit} {loss:.1e}, "
                f"allowed {allowed:.0e}; {cure}, allow it with --tolerance, or --accept-loss"
            )
        if precision != "int8" and not accept:
            expect_proved(OrtSession(file), output)
        _written(made, carried, Path(output).parent, Path(output).name)
    return carried, conversion


def _with_selftest(card: ModelCard, file: Path, output: str | Path) -> ModelCard:
    """The card with a tolerance of its own for int8, whose loss depends on the model and its calibration.

    Raises:
        IncompatibleError: it would pass for whatever the file gives.
    """
    if not card.selftests:
        return card
    difference, _ = run_selftest(OrtSession(file))

    def roomy(test: SelfTest | None) -> SelfTest | None:
        tolerance = {} if test is None else {**test.tolerance, "int8": SELFTEST_ROOM * difference}
        return None if test is None else dataclasses.replace(test, tolerance=tolerance)

    try:
        return dataclasses.replace(card, selftest=roomy(card.selftest), selftest_larger=roomy(card.selftest_larger))
    except ModelError as error:
        raise IncompatibleError(
            f"{output}: not written, --accept-loss or not, because int8 moves the answers to the self-test by "
            f"{difference:.2g}, and a test as loose as that would tell nothing; calibrate with more images, or choose "
            "another precision"
        ) from error


def _written(proto: Any, card: ModelCard, folder: Path, name: str = "converted.onnx") -> Path:
    """The model with its new card in a file."""
    kept = [entry for entry in proto.metadata_props if entry.key != METADATA_KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    write_model(proto, card, folder / name)
    return folder / name


class _Checker:
    """The float32 file's answers on some photographs, and how far another file is from them."""

    def __init__(self, source: Path, items: Sequence[ImageItem]) -> None:
        self.card = read_card(source)
        self.embeds = self.card.embeds
        self.unit = "1 - cosine" if self.embeds else "absolute difference"
        self.source = source
        self.original: Any = self._open(source)
        profile = self.card.profile
        sides = (*profile.heights[-1:], *profile.widths[-1:])  # a fixed profile takes no larger
        self._side = min((MAX_SIDE, self.card.reads.max_side or MAX_SIDE, *sides))
        items = [items[at] for at in np.linspace(0, len(items) - 1, min(len(items), MOST_IMAGES)).astype(int)]
        read = [(item.name, image) for item in items if (image := _decoded(item, self._side)) is not None]
        if items and len(read) < 2:
            raise DataError(f"{len(read)} of {len(items)} images can be read; calibration and check need one each")
        if not read:
            rng = np.random.default_rng(0)
            sizes = dict.fromkeys((min(h, self._side), min(w, self._side)) for h, w in GENERATED)
            read = [(f"generated {h}x{w}", textured_image(rng, h, w)) for h, w in sizes]
            read = [pair for pair in read for _ in range(2)]  # nothing is calibrated on these
        self.given = [image for _, image in read[::2]]
        self.names, self.images = [name for name, _ in read[1::2]], [image for _, image in read[1::2]]
        self.truth = self._answers(self.original)

    def _open(self, file: Path) -> Any:
        session = open_session(file, Placement(backend="onnxruntime"))  # as it is: what it gives is judged here
        return Embedder(session) if self.embeds else ImageModel(session)

    def _answers(self, model: Any, most: int | None = None) -> list[npt.NDArray[np.float32]]:
        images = self.images[:most]
        return list(model(images)) if self.embeds else model.maps(images)

    def calibration(self) -> list[dict[str, npt.NDArray[Any]]]:
        """Inputs of the graph, an image each."""
        feeds: list[dict[str, npt.NDArray[Any]]] = []
        profile = self.card.profile
        for image in self.given:
            if not self.embeds:
                shape = profile.shape_for(image.shape[0], image.shape[1])
                conditions = {spec.name: spec.filled(1, *shape) for spec in self.card.inputs[1:]}
                padded, _ = reflect_to(image[..., : self.original.channels], shape, profile.anchor)
                feeds.append({"images": padded[None], **conditions})
                continue
            prepared = self.original.prepare(image)
            if profile.kind != "fixed":
                feeds.append({"images": prepared[None]})
            else:
                batch, sizes = profile.pad([prepared], self.original.shape_for(prepared))
                feeds.append({"images": batch, "sizes": sizes})
        return feeds

    def loss(self, file: Path, most: int | None = None) -> float:
        """Worst difference over the check's images, or over the first of them."""
        found, truth = self._answers(self._open(file), most), self.truth[:most]
        if self.embeds:
            return worst_loss(np.stack(found), np.stack(truth))
        worst = max(float(np.abs(a - b).max()) for a, b in zip(found, truth, strict=True))
        return worst if np.isfinite(worst) else float("inf")

    def task(self, file: Path) -> dict[str, float]:
        """Retrieval among the check's images, by both."""
        if len(self.images) < 3 or len(set(self.names)) < len(self.names):
            return {}
        truth, found = np.stack(self.truth), np.stack(self._answers(self._open(file)))
        nearest = []
        for rows in (truth, found):
            scores = rows @ rows.T
            np.fill_diagonal(scores, -np.inf)
            nearest.append(scores.argmax(1))
        agreement = {"same_nearest": float((nearest[0] == nearest[1]).mean())}
        try:
            places = ground_truth_of_places(self.names, self.names, places_by_folder(self.names))
        except DataError:  # folders do not say places
            return agreement
        scores_of = [evaluate(self.names, rows, self.names, rows, places).mAP for rows in (truth, found)]
        return agreement | {"mAP_fp32": scores_of[0], "mAP": scores_of[1]}


def _decoded(item: ImageItem, side: int) -> npt.NDArray[np.uint8] | None:
    try:
        return None if item.problem is not None else decode_image(item.read(), max_side=side)
    except ImageError:
        return None
