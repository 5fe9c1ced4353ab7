"""Which backend, threads and precision run a model fastest here, and how far each is from ONNX Runtime's answers.

Sessions are timed in interleaved rounds, so that whatever else the machine does falls on all of them alike. They are
all held in memory meanwhile. Images are decoded beforehand: the rates are the model's alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gloam.errors import GloamError, ModelError, UsageError
from gloam.files import sha256_file
from gloam.model_card import NATIVE
from gloam.runtime.backends.open import open_choice
from gloam.runtime.backends.openvino import capabilities
from gloam.runtime.backends.placement import BACKENDS, Placement
from gloam.runtime.backends.processor import Processor, find_processor
from gloam.runtime.backends.session import Session
from gloam.runtime.backends.tuning import Choice, TuneProfile, backend_versions
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import ImageModel

Images = Sequence[npt.NDArray[np.uint8]]
Answers = list[npt.NDArray[np.float32]]
ROUNDS = 5
MARGIN = 1.03  # a choice must be faster than the default by more than its noise
# (height, width) of the images that are made where none are given: as photographs lie in a folder
GENERATED = ((384, 512), (512, 384), (341, 512), (480, 360))
# Largest loss of a choice: 1 - cosine of a descriptor, or absolute difference in [-1, 1] or [0, 1]
EXACT = {"embedder": 1e-5, "images": 1e-3}  # the order of sums differs, no more
REDUCED = {"embedder": 1e-3, "images": 1e-1}  # bf16, as the release check allows an int8 or fp16 file
TWICE = {"embedder": 4e-3, "images": 2e-1}  # of such a file on two backends, each so far from float32: twice the angle


@dataclass(frozen=True)
class Row:
    """One way to run the model.

    Attributes:
        choice: which.
        rates: images per second, a round each.
        loss: largest difference from ONNX Runtime's answers to the same file, see :data:`EXACT`.
        agrees: whether the loss is within its bound.
        convolutions: by the element type they really run in, where the backend says it.
        problem: why it cannot be run; rates are then empty.
    """

    choice: Choice
    rates: list[float] = field(default_factory=list)
    loss: float = float("inf")
    agrees: bool = False
    convolutions: Mapping[str, int] | None = None
    problem: str | None = None

    @property
    def rate(self) -> float:
        """The median round."""
        return statistics.median(self.rates) if self.rates else 0.0


@dataclass(frozen=True)
class Comparison:
    """All that :func:`compare_choices` measured.

    Attributes:
        rows: the default (ONNX Runtime, all cores) first.
        unit: of their losses.
        fingerprint, precision: of the model as its file has it.
        notes: what was not measured, and why.
    """

    rows: list[Row]
    unit: str
    fingerprint: str
    precision: str
    notes: list[str]

    @property
    def default(self) -> Row:
        """What runs where nobody chooses."""
        return self.rows[0]


def interleave(
    works: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds of each work in each round; every round begins with another one, so that none is always the first.

    Args:
        works: to time; they should have run once before.
        rounds: how often each.
        clock: seconds.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        for step in range(len(works)):
            at = (number + step) % len(works)
            start = clock()
            works[at]()
            seconds[at].append(clock() - start)
    return seconds


def candidates(cores: int, backends: Collection[str], bf16: bool, threads: int | None = None) -> list[Choice]:
    """What is worth measuring: all cores and half of them, for one image at a time and for several.

    Args:
        cores: of this process.
        backends: to measure beside ONNX Runtime with all cores, which is always the first.
        bf16: whether OpenVINO is measured in it, too.
        threads: only so many.
    """
    wanted = [threads] if threads else sorted({cores, max(1, cores // 2)}, reverse=True)
    found = [Choice("onnxruntime", cores, 1)]
    for backend in BACKENDS:
        if backend not in backends:
            continue
        for precision in ("f32", "bf16") if bf16 and backend == "openvino" else ("f32",):
            for count in wanted:
                found += [Choice(backend, count, requests, precision) for requests in (1, 2, 4) if requests <= count]
    return list(dict.fromkeys(found))


def best(rows: Sequence[Row], allowed: Collection[str] = ()) -> Row:
    """The fastest row whose answers agree; the default (the first) where none is faster by more than the noise.

    Args:
        rows: the default first.
        allowed: reduced precisions that may be chosen.
    """
    may = [row for row in rows[1:] if row.agrees and (row.choice.cpu_precision in ("f32", *allowed))]
    fastest = max(may, key=lambda row: row.rate, default=rows[0])
    return fastest if fastest.rate > MARGIN * rows[0].rate else rows[0]


def compare_choices(
    path: str | Path,
    images: Images,
    choices: Sequence[Choice],
    rounds: int = ROUNDS,
    *,
    open_session: Callable[[str | Path, Choice], Session] = open_choice,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Measure the choices on the same images.

    Args:
        path: ``.onnx`` file of an embedder, translator or edge detector.
        images: uint8 ``[H, W, 3]`` each, at the sizes that matter.
        choices: the first is the default, whose answers are the reference.
        rounds: timed ones; one more warms up and gives the answers.
        open_session, clock: how a choice is loaded, and seconds.

    Raises:
        UsageError: no images, no rounds, or a model of another kind.
        ModelError: the default cannot run; another choice that cannot is a row with its problem.
    """
    if not images or rounds < 1:
        raise UsageError("a rate needs an image and a round at least")
    truth: Answers = []
    works: list[Callable[[], Answers]] = []
    rows: list[Row] = []
    unit = fingerprint = precision = ""
    notes: list[str] = []
    for choice in choices:
        try:
            session = open_session(path, choice)
            work = _work(session, images)
            answers = work()
        except GloamError as error:
            if not works:
                raise
            rows.append(Row(choice, problem=str(error)))
            continue
        if not works:
            truth, fingerprint, precision = answers, session.fingerprint, session.card.precision
            unit = "1 - cosine" if session.card.kind == "embedder" else "absolute difference"
        elif (session.backend.threads, session.backend.runs_at_once) != (choice.threads, choice.requests):
            notes.append(f"{choice}: left out, the backend gives {session.backend.threads} threads")
            continue
        loss = _loss(answers, truth, session.card.kind)
        bounds = {"fp32": EXACT, "bf16": REDUCED}.get(session.card.precision, TWICE)
        bound = bounds["embedder" if session.card.kind == "embedder" else "images"]
        rows.append(Row(choice, [], loss, loss <= bound, session.backend.convolutions))
        works.append(work)
    running = [row for row in rows if row.problem is None]
    for row, seconds in zip(running, interleave(works, rounds, clock), strict=True):
        row.rates.extend(len(images) / max(value, 1e-9) for value in seconds)
    return Comparison(rows, unit, fingerprint, precision, notes)


def here(only: Placement | None = None) -> tuple[list[Choice], list[str]]:
    """The choices that can be measured with what is installed here, and notes on what cannot.

    Args:
        only: measure this backend, precision and number of threads alone, where it names them, beside the default.

    Raises:
        ModelError: bf16 was asked for by name and cannot be had.
    """
    only = only or Placement()
    processor, notes = find_processor(), []
    installed = [name for name in BACKENDS if util.find_spec(name) is not None and only.backend in (None, name)]
    bf16 = only.cpu_precision != "f32" and "openvino" in installed and "BF16" in capabilities()
    if only.cpu_precision == "bf16" and not bf16:
        raise ModelError(
            "bf16 cannot be measured here: it needs OpenVINO and a processor that has it; see `gloam doctor`"
        )
    if util.find_spec("openvino") is None:
        notes.append("OpenVINO is not installed; pip install 'gloam[openvino]'")
    elif not bf16 and "openvino" in installed and only.cpu_precision is None:
        notes.append("bf16 is not measured: this processor does not compute in it")
    return candidates(processor.cores, installed, bf16, only.threads), notes


def tune(
    path: str | Path, found: Comparison, allowed: Sequence[str], processor: Processor | None = None
) -> TuneProfile:
    """The profile of the fastest allowed choice; the caller saves it."""
    chosen, machine = best(found.rows, allowed), processor or find_processor()
    return TuneProfile(
        found.fingerprint,
        sha256_file(path),
        machine.model,
        machine.cores,
        backend_versions(),
        chosen.choice,
        chosen.rate,
        found.default.rate,
        tuple(allowed),
    )


def generated_images(largest: tuple[int, int] | None = None) -> list[npt.NDArray[np.uint8]]:
    """Images with detail at several scales, where none are given; cut to the largest (height, width) of a model."""
    rng = np.random.default_rng(0)
    made = []
    for height, width in GENERATED:
        image = np.zeros((height, width, 3), np.float32)
        for cells in (4, 16, 64):
            coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
            image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 3
        whole = image.clip(0, 255).astype(np.uint8)
        made.append(whole if largest is None else np.ascontiguousarray(whole[: largest[0], : largest[1]]))
    return made


def _work(session: Session, images: Images) -> Callable[[], Answers]:
    """A run over all images, as bulk runs make it: as many at once as the session takes."""
    kind = session.card.kind
    if kind == "embedder":
        embedder = Embedder(session).reading(NATIVE)  # whoever measures has chosen the sizes
        return lambda: list(embedder(images))
    if kind in ("translator", "edges"):
        model = ImageModel(session)
        return lambda: model.maps(images)
    raise UsageError(f"{session.card.name}: models of kind '{kind}' cannot be measured yet")


def _loss(found: Answers, truth: Answers, kind: str) -> float:
    """Largest 1 - cosine of a row, or largest absolute difference; infinite where a value is not finite."""
    pairs: list[tuple[Any, Any]] = [
        (a.astype(np.float64), b.astype(np.float64)) for a, b in zip(found, truth, strict=True)
    ]
    if not all(np.isfinite(a).all() for a, _ in pairs):
        return float("inf")
    if kind == "embedder":
        return max(float(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) for a, b in pairs)
    return max(float(np.abs(a - b).max()) for a, b in pairs)
