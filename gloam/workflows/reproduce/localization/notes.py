"""What a reader must know of a table of localization, in sentences and as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gloam.workflows.reproduce.localization.protocol import Protocol
from gloam.workflows.reproduce.localization.runner import Group, SetRun, day_and_night, percent


def set_notes(prefix: str, run: SetRun) -> list[str]:
    """What a reader must know of one benchmark of a table."""
    benchmark, localizer = run.benchmark, run.localizer
    scored = set(benchmark.scored_queries)
    counts = ", ".join(f"{name} {len(scored & set(names))}" for name, names in benchmark.conditions.items())
    cameras = f", of the cameras {', '.join(benchmark.scored)}" if benchmark.scored else ""
    lines = [
        f"{prefix}: {benchmark.name} at {benchmark.root} ({benchmark.layout} form), {len(benchmark.mapping.records)} "
        f"map images, {len(scored)} scored queries{cameras} ({counts})."
    ]
    if any(group.method == "2b" for group in run.groups) and "world" in vars(localizer):
        lines.append(f"{prefix}: one map for all rows of 2b: {localizer.world[1]}.")
    return lines


def protocol_notes(protocol: Protocol, groups: Sequence[Group]) -> list[str]:
    """What a reader must know of the protocol."""
    methods = {group.method for group in groups}
    k = f", {protocol.top_k} images for 2a and 2b" if methods & {"2a", "2b"} else ""
    rigs = {
        "off": "",
        "fill": " A camera without a pose has it through its rig.",
        "joint": " The cameras of a rig share one pose.",
    }
    absent = (
        "is absent from the server's file and a failure"
        if protocol.unlocalized == "absent"
        else "has its first retrieved image's pose in the server's file, as in hloc"
    )
    lines = [
        f"Retrieval within the {protocol.within}{k}.{rigs[protocol.rig]} A query without a pose {absent}.",
    ]
    if "2a" in methods:
        lines.append("2a is the mini-map of the retrieved images, the paper's definition; see docs/dark_side_3.md.")
    if len({group.part for group in groups}) > 1:
        lines.append(
            "Day-All and Night-All are over all queries of their conditions, as the server has them; the mean of the "
            "conditions stands below and in the JSON."
        )
    return lines


def run_detail(run: SetRun) -> dict[str, Any]:
    """Scores by row, method and condition, with both readings of an average, JSON-ready."""
    rows: dict[str, Any] = {}
    for row, methods in run.records.items():
        rows[row] = {}
        for label, scores in methods.items():
            whole = day_and_night(run.benchmark, scores)
            rows[row][label] = {
                **{
                    name: {"queries": item.queries, "localized": item.localized, "recalls": percent(item.recalls)}
                    for name, item in scores.items()
                },
                **{
                    name.lower(): {
                        "queries": item.queries,
                        "recalls": percent(item.recalls),
                        "mean_of_conditions": percent(item.mean_of_conditions),
                    }
                    for name, item in whole.items()
                },
            }
    return {"root": str(run.benchmark.root), "scores": rows}
