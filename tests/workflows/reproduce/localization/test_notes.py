"""What stands under a table of localization is what was done."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gloam.workflows.reproduce.localization.notes import protocol_notes, run_detail, set_notes
from gloam.workflows.reproduce.localization.protocol import Protocol
from gloam.workflows.reproduce.localization.runner import Group
from tests.workflows.reproduce.localization.exact_set import localizer
from tests.workflows.reproduce.localization.test_runner import ROW, row_input, run_of


@pytest.mark.parametrize(
    ("options", "methods", "said", "unsaid"),
    [
        (
            {"top_k": 20},
            ("2b",),
            ["20 images for 2a and 2b", "is absent from the server's file and a failure"],
            ["2a is"],
        ),
        ({}, ("top-1",), ["Retrieval within the map."], ["images for 2a", "Day-All", "rig"]),
        ({"within": "camera"}, ("2a",), ["within the camera", "2a is the mini-map", "dark_side_3.md"], []),
        ({"rig": "fill"}, ("2b",), ["A camera without a pose has it through its rig."], ["share one pose"]),
        ({"rig": "joint"}, ("2b",), ["The cameras of a rig share one pose."], []),
        ({"unlocalized": "top1"}, ("2b",), ["has its first retrieved image's pose"], ["is absent"]),
    ],
)
def test_the_protocol_is_said_as_it_was_run(
    options: dict[str, object], methods: tuple[str, ...], said: list[str], unsaid: list[str]
) -> None:
    groups = [Group(method, method, "night") for method in methods]
    text = " ".join(protocol_notes(Protocol(**options), groups))  # type: ignore[arg-type]  # mixed
    assert all(phrase in text for phrase in said)
    assert not any(phrase in text for phrase in unsaid)


def test_two_parts_say_how_they_are_aggregated() -> None:
    groups = [Group("Day-All", "top-1", "day"), Group("Night-All", "top-1", "night")]
    assert "over all queries of their conditions" in protocol_notes(Protocol(), groups)[-1]


def test_a_set_is_said_with_its_counts_and_its_map(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    (line,) = set_notes("Aachen", run)
    assert line.startswith(f"Aachen: aachen-v1.1 at {tmp_path} (")
    assert "4 map images, 2 scored queries (day 1, night 1)." in line
    run.row(row_input())
    assert set_notes("Aachen", run)[1].startswith("Aachen: one map for all rows of 2b: ")
    of_camera = localizer(tmp_path)
    of_camera.benchmark = dataclasses.replace(of_camera.benchmark, scored=("c",))
    assert "2 scored queries, of the cameras c (" in set_notes("", dataclasses.replace(run, localizer=of_camera))[0]


def test_scores_stand_by_row_method_and_condition(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.row(row_input())
    found = run_detail(run)
    assert found["root"] == str(tmp_path)
    whole = found["scores"][ROW]["2b top-4"]
    assert whole["night"] == {"queries": 1, "localized": 1, "recalls": (100, 100, 100)}
    assert whole["day"] == {"queries": 1, "localized": 0, "recalls": (0, 0, 0)}
    assert whole["night-all"] == {"queries": 1, "recalls": (100,) * 3, "mean_of_conditions": (100,) * 3}
