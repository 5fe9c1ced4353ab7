"""By which rule a foreign graph is fed: what the user states, what the graph's front shows, what references prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.errors import DataError, ImageError, ModelError, UsageError
from gloam.export.adopt.feeding import BYTE, IMAGENET, NORMALISATIONS, ONE, ZERO, Channels, Feeding, Layout, Triple
from gloam.export.adopt.findings import Finding, Mistake, NotAdoptedError, refusal
from gloam.export.adopt.foreign import Foreign
from gloam.export.adopt.front import Front
from gloam.export.adopt.probe import VIEWS, Runner, contrasts, pictures
from gloam.export.adopt.sizes import TRIALS, Sizes
from gloam.model_card import LITERATURE, NATIVE, InputRule

Filter = Literal["area", "lanczos", "bilinear", "bicubic"]
REPRODUCED = 1e-3  # 1 - cosine: another decoder, filter or precision makes no more
TIED = 3.0  # times the best loss, within which two rules are not told apart
EXACT = 1e-6  # loss below which two rules are not told apart either
KEPT = 8  # rules that the references behind the first are asked of
ANOTHER_RANGE = 20.0  # ratio of deviations: no two normalisations of one range differ so
ORDERS: tuple[Channels, ...] = ("rgb", "bgr")

Reference = tuple[Path, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Stated:
    """What a user says of a file; None where nothing is said.

    Attributes:
        channels: order of the graph's channels.
        range: largest value of the graph's input before ``mean`` is taken off, 1 or 255.
        mean, std: of red, green and blue, in that range.
        stretch, max_side, filter: how callers bring images to size.

    Raises:
        UsageError: values that do not go together.
    """

    channels: Channels | None = None
    range: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    stretch: tuple[int, int] | None = None
    max_side: int | None = None
    filter: Filter | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise UsageError("--mean and --std go together")
        if (self.std is not None and not all(np.isfinite(self.std))) or (self.std is not None and min(self.std) <= 0):
            raise UsageError(f"--std {self.std} does not divide; give three positive numbers")
        if self.mean is not None and not all(np.isfinite(self.mean)):
            raise UsageError(f"--mean {self.mean} is not finite")
        if self.range == 1 and self.mean is not None and max(self.mean) > 1.5:
            raise UsageError(f"--range 1 and a --mean of {self.mean}, which is on 0..255; state --range 255")
        if self.max_side is not None and self.stretch is not None:
            raise UsageError("--stretch and --max-side exclude each other")

    @property
    def normalisation(self) -> tuple[Triple, Triple] | None:
        """Mean and deviation on [0, 1]; None where they are not stated in full."""
        mean, std = self.mean, self.std
        top = self.range
        if mean is None or std is None:
            return (ZERO, BYTE) if top == 255 else None
        if top is None:
            if max(mean) == 0:
                return None  # nothing tells whether the deviation is of [0, 1] or of bytes
            top = 255 if max(mean) > 1.5 else 1
        return _over(mean, top), _over(std, top)

    def rules(self, cell: int, free: bool = False) -> list[InputRule]:
        """How images may be brought to size: the stated rule; with ``free`` all that what is stated leaves open."""
        filters: tuple[Filter | None, ...] = (self.filter,)
        if free and self.filter is None:
            filters = (None, "bilinear", "bicubic")
        if self.stretch is not None:
            return [InputRule(None, self.stretch, name or "area", True) for name in filters]
        limits = [self.max_side or None] if self.max_side is not None or not free else [LITERATURE.max_side, None]
        if self.max_side is None and not free:
            limits = [LITERATURE.max_side]
        made: list[InputRule] = []
        for limit in limits:
            for name in filters:
                rule = (NATIVE if limit is None else InputRule(limit)).in_cells(cell)
                if name is not None and rule.filter != "none":
                    rule = replace(rule, filter=name)
                if rule not in made:
                    made.append(rule)
        return made


@dataclass(frozen=True)
class Ruled:
    """How a graph is fed.

    Attributes:
        feeding: from pixels to the graph's input.
        rule: from an image to pixels.
        because: how each was found, in words.
        loss: 1 - cosine of the worst reference; None without references.
    """

    feeding: Feeding
    rule: InputRule
    because: str
    loss: float | None = None


def read_reference(image: Path, vector: Path) -> Reference:
    """A photograph and what the file's own program made of it.

    Raises:
        DataError: the vector is no finite row of numbers.
    """
    try:
        values = np.load(vector, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{vector}: not a readable .npy of numbers ({str(error).splitlines()[0][:200]})") from error
    if (
        not isinstance(values, np.ndarray)
        or values.dtype.kind not in "fiu"
        or values.size != max(values.shape, default=0)
    ):
        raise DataError(f"{vector}: not one row of numbers")
    row = values.reshape(-1).astype(np.float64)
    if not np.isfinite(row).all() or not np.linalg.norm(row) > 0:
        raise DataError(f"{vector}: values that are not finite, or nothing but zeros")
    return image, row


def decide(
    runner: Runner,
    layout: Layout,
    sizes: Sizes,
    front: Front,
    stated: Stated,
    references: Sequence[Reference],
) -> Ruled:
    """The rule, or why there is none.

    Args:
        runner: of the graph.
        layout, sizes, front: that were found.
        stated: by the user.
        references: photographs with descriptors of the file's own program.

    Raises:
        NotAdoptedError: what is stated contradicts the graph or the references, or no rule reproduces these.
        UsageError: something is neither stated nor found; or the references do not tell two rules apart.
        DataError: a reference cannot be read.
    """
    path = runner.foreign.path
    shown = _shown(runner.foreign, front)
    wanted = stated.normalisation
    if references:
        return _referred(runner, layout, sizes, front, stated, references)
    if shown is not None and wanted is not None:
        _compare(path, Feeding(layout, "rgb", *wanted), Feeding(layout, "rgb", *shown), "the graph itself")
    normalisation = shown or wanted
    if stated.channels is not None and front.channels is not None and stated.channels != front.channels:
        raise refusal(
            path,
            "channel_order",
            f"--channels {stated.channels} is stated, but the means in the graph are those of {front.channels}",
        )
    channels = front.channels or stated.channels
    missing = [] if normalisation is not None else ["its normalisation (--mean, --std, --range)"]
    missing += [] if channels is not None else ["the order of its channels (--channels)"]
    if normalisation is None or channels is None:
        raise UsageError(
            f"{path}: the graph does not tell {' and '.join(missing)}; state them, e.g. "
            f"{Feeding(layout, 'rgb', *IMAGENET).options()}, or give "
            "--reference IMAGE VECTOR.npy, a photograph and the descriptor that its own program made of it"
        )
    because = "read off the graph" if shown is not None else "as stated"
    return Ruled(Feeding(layout, channels, *normalisation), stated.rules(sizes.cell)[0], because)


def _shown(foreign: Foreign, front: Front) -> tuple[Triple, Triple] | None:
    """The normalisation of the input, where the graph shows that it does its own."""
    if foreign.images.dtype == "uint8":
        return ZERO, BYTE
    return None if front.takes is None else (ZERO, BYTE if front.takes == 255 else ONE)


def _compare(path: Path, stated: Feeding, found: Feeding, who: str) -> None:
    """Refuse what is stated where something else was found.

    Raises:
        NotAdoptedError: with a finding for each difference.
    """
    findings = []
    if not stated.normalises_as(found):
        ratio = float(np.median(stated.std) / np.median(found.std))
        name: Mistake = "normalisation" if 1 / ANOTHER_RANGE < ratio < ANOTHER_RANGE else "range"
        findings.append(Finding(name, "refused", _instead(stated, found, who)))
    if stated.channels != found.channels:
        findings.append(Finding("channel_order", "refused", _instead(stated, found, who)))
    if findings:
        raise NotAdoptedError(path, findings)


def _instead(stated: Feeding, found: Feeding, who: str) -> str:
    return f"stated is {stated.options()}, but {who} says {found.options()}; state that, or leave it out"


def _referred(
    runner: Runner,
    layout: Layout,
    sizes: Sizes,
    front: Front,
    stated: Stated,
    references: Sequence[Reference],
) -> Ruled:
    path = runner.foreign.path
    shown, wanted = _shown(runner.foreign, front), stated.normalisation
    pairs = [pair for pair in (wanted, shown, *NORMALISATIONS.values()) if pair is not None]
    if runner.foreign.images.dtype == "uint8":
        pairs = [(ZERO, BYTE)]
    orders = sorted(ORDERS, key=lambda order: order != (stated.channels or front.channels or "rgb"))
    feedings: list[Feeding] = []
    for mean, std in pairs:
        for order in orders:
            one = Feeding(layout, order, mean, std)
            if not any(one.channels == other.channels and one.normalises_as(other) for other in feedings):
                feedings.append(one)
    rules = stated.rules(sizes.cell, free=True)
    ranked = _ranked(runner, feedings, rules, references)
    loss, best, rule = ranked[0]
    if loss > REPRODUCED:
        tail = f"; with {rule} and {best.options()} the cosine is {1 - loss:.4f} at most"
        raise refusal(
            path,
            "not_reproduced",
            "no usual normalisation, channel order and size gives the reference's descriptor" + tail + "; state the "
            "file's own --mean, --std, --range, --channels, and --stretch or --max-side, and compare the photograph",
        )
    tied = [row for row in ranked if row[0] <= max(TIED * loss, EXACT)]
    said = [
        row
        for row in tied
        if (wanted is None or row[1].normalises_as(Feeding(layout, "rgb", *wanted)))
        and (stated.channels is None or row[1].channels == stated.channels)
    ]
    if said:
        loss, best, rule = said[0]
        tied = said
    elif wanted is not None or stated.channels is not None:
        given = Feeding(layout, stated.channels or best.channels, *(wanted or (best.mean, best.std)))
        who = f"a reference ({references[0][0].name}, cosine {1 - loss:.6f})"
        _compare(path, given, best, who)
    usual = sorted((row for row in tied if row[2] == rule), key=lambda row: feedings.index(row[1]))
    best, others = usual[0][1], [row[1] for row in usual[1:]]
    others = [other for other in others if not _give_the_same(runner, sizes, best, other)]
    if others:
        raise UsageError(
            f"{path}: the references do not tell {best.options()} from {others[0].options()}; give another photograph, "
            "of strong colours, or state it"
        )
    return Ruled(best, rule, f"by {len(references)} reference{'s' if len(references) > 1 else ''}", loss)


def _ranked(
    runner: Runner,
    feedings: Sequence[Feeding],
    rules: Sequence[InputRule],
    references: Sequence[Reference],
) -> list[tuple[float, Feeding, InputRule]]:
    """Every rule by its loss on the first reference, the best of them by their worst loss on all."""
    pixels = {(at, rule): _decoded(image, rule) for at, (image, _) in enumerate(references) for rule in rules}

    def loss(at: int, feeding: Feeding, rule: InputRule) -> float:
        try:
            found = runner.describe(feeding.fed(pixels[at, rule][None], runner.foreign.images.dtype))[0]
        except ModelError:
            return float("inf")  # the graph does not take an image of that size
        wanted = references[at][1]
        if found.size != wanted.size:
            raise UsageError(
                f"{runner.foreign.path}: gives {found.size} values, the reference of {references[at][0].name} has "
                f"{wanted.size}"
            )
        values = found.astype(np.float64)
        length = np.linalg.norm(values) * np.linalg.norm(wanted)
        return float(1 - values @ wanted / length) if np.isfinite(length) and length > 0 else float("inf")

    ranked = [(max(loss(0, feeding, rule), 0.0), feeding, rule) for rule in rules for feeding in feedings]
    ranked.sort(key=lambda row: row[0])
    kept = [
        (
            max(first, *(loss(at, feeding, rule) for at in range(1, len(references))))
            if len(references) > 1
            else first,
            feeding,
            rule,
        )
        for first, feeding, rule in ranked[:KEPT]
    ]
    return sorted(kept, key=lambda row: row[0])


def _give_the_same(runner: Runner, sizes: Sizes, a: Feeding, b: Feeding) -> bool:
    """Whether two rules give one descriptor of pictures, too: a network without biases sees no range, for one."""
    height, width = sizes.near(*TRIALS[0][0])
    for image in (*pictures([(height, width)] * VIEWS), contrasts(height, width)[-1]):
        rows = [
            runner.describe(each.fed(image[None], runner.foreign.images.dtype))[0].astype(np.float64) for each in (a, b)
        ]
        length = float(np.linalg.norm(rows[0]) * np.linalg.norm(rows[1]))
        if not 1 - float(rows[0] @ rows[1]) / max(length, 1e-30) <= EXACT:
            return False
    return True


def _decoded(image: Path, rule: InputRule) -> npt.NDArray[np.uint8]:
    try:
        return decode_image(image, rule=rule)
    except (ImageError, OSError) as error:
        raise DataError(f"{image}: {error}") from error


def _over(values: Triple, top: int) -> Triple:
    return values[0] / top, values[1] / top, values[2] / top
