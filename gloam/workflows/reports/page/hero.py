"""The first screen of a page about poses: how many queries are localized, by condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gloam.eval.localization.scores import THRESHOLDS
from gloam.workflows.reports.page.data import Bar, ErrorSet, Hero, ReportData, is_night

CLASSES = ("fine", "medium", "coarse", "worse", "lost")
ROOM = 0.09  # of a bar, that a number needs


@dataclass(frozen=True)
class Outcome:
    """How many queries of a condition fall into each class; the classes exclude each other and sum to ``total``."""

    condition: str
    total: int
    counts: tuple[int, int, int, int, int]  # within each of THRESHOLDS, worse, not localized

    def recall(self, level: int) -> float:
        """Share within ``THRESHOLDS[level]``."""
        return sum(self.counts[: level + 1]) / self.total if self.total else 0.0


def classify(errors: ErrorSet) -> Outcome:
    """Count the queries of a set by the finest threshold that they meet."""
    position, rotation = np.asarray(errors.position_m, float), np.asarray(errors.rotation_deg, float)
    lost = ~(np.isfinite(position) & np.isfinite(rotation))
    left = ~lost
    counts = []
    for metres, degrees in THRESHOLDS:
        met = left & (position <= metres) & (rotation <= degrees)
        counts.append(int(met.sum()))
        left &= ~met
    fine, medium, coarse = counts
    return Outcome(errors.condition, len(position), (fine, medium, coarse, int(left.sum()), int(lost.sum())))


def headline(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome that the first screen states: plain night, else any night, else the last condition."""
    night = [outcome for outcome in outcomes if is_night(outcome.condition)]
    plain = [outcome for outcome in night if outcome.condition.lower() == "night"]
    return next(iter([*plain, *night, *reversed(outcomes)]), None)


def pose_hero(data: ReportData) -> Hero | None:
    """The share of the night's queries that are localized, beside the control's; None without errors."""
    method = data.method or (data.errors[0].method if data.errors else None)
    outcomes = [classify(item) for item in data.errors if item.method == method]
    asked = headline(outcomes)
    if asked is None:
        return None
    control = data.control
    beside = {
        item.condition: classify(item) for item in data.errors if control is not None and item.method == control.method
    }
    figures = [(_percent(asked.recall(0)), "%", "" if control is None else control.shown)]
    legend = [(CLASSES[level], f"{metres:g} m, {degrees:g}°") for level, (metres, degrees) in enumerate(THRESHOLDS)]
    legend += [("worse", "worse"), ("lost", "not localized"), ("", "in % of queries")]
    if control is not None and asked.condition in beside:
        figures.append((_percent(beside[asked.condition].recall(0)), "%", control.label))
        legend.append(("", f"thin: {control.label}"))
    metres, degrees = THRESHOLDS[0]
    wide, turned = THRESHOLDS[2]
    coarse = f"Within {wide:g} m and {turned:g}°: {_percent(asked.recall(2))} %."
    return Hero(
        figures,
        f"of {asked.total} {asked.condition} queries are localized within {metres:g} m and {degrees:g}°.",
        " ".join([coarse, f"Method: {method}.", *([data.summary] if data.summary else [])]),
        [_bar(outcome, beside.get(outcome.condition), outcome.condition == asked.condition) for outcome in outcomes],
        legend,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _bar(outcome: Outcome, control: Outcome | None, asked: bool) -> Bar:
    return Bar(
        outcome.condition,
        f"{outcome.total} queries",
        _parts(outcome),
        _spoken(outcome),
        () if control is None else _parts(control, numbers=False),
        asked,
    )


def _parts(outcome: Outcome, numbers: bool = True) -> list[tuple[str, float, str]]:
    return [
        (style, count, _percent(count / outcome.total) if numbers and count / outcome.total >= ROOM else "")
        for style, count in zip(CLASSES, outcome.counts, strict=True)
        if count
    ]


def _spoken(outcome: Outcome) -> str:
    fine, medium, coarse, worse, lost = outcome.counts
    return (
        f"{outcome.condition}: {fine} fine, {medium} medium, {coarse} coarse, {worse} worse, {lost} not localized of "
        f"{outcome.total}"
    )
