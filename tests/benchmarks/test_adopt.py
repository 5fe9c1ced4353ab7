"""The benchmark counts a mistake that is named, and takes an alarm on a right file off."""

from __future__ import annotations

import pytest

from benchmarks import adopt
from benchmarks.adopt import PLANTED, RIGHT, Case


def test_twelve_mistakes_are_planted_each_once_and_right_files_are_of_several_families() -> None:
    mistakes = [case.mistake for case in PLANTED]
    assert len(mistakes) == len(set(mistakes)) == 12
    assert None not in mistakes
    assert len(RIGHT) >= 6
    assert all(case.mistake is None for case in RIGHT)
    assert len({case.name for case in (*PLANTED, *RIGHT)}) == len(PLANTED) + len(RIGHT)


@pytest.mark.parametrize(
    ("missed", "alarmed", "other", "value"), [(0, 0, 0, 12), (2, 0, 0, 10), (0, 3, 0, 9), (1, 1, 0, 10), (0, 0, 1, 11)]
)
def test_what_it_counts(monkeypatch: pytest.MonkeyPatch, missed: int, alarmed: int, other: int, value: int) -> None:
    silent = {case.name for case in PLANTED[:missed]} | {case.name for case in RIGHT[alarmed:]}
    wrongly = {case.name for case in PLANTED[missed : missed + other]}

    def named(case: Case) -> tuple[list[str], str]:
        if case.name in silent:
            return [], "as stated"
        return ["not_finite" if case.name in wrongly or case.mistake is None else case.mistake], "refused"

    monkeypatch.setattr(adopt, "named", named)
    monkeypatch.setattr(adopt, "found_by_a_careful_user", lambda case: case is PLANTED[0])
    result = adopt.run()
    assert result.value == value
    assert result.met is (value == 12)
    assert result.detail["false_alarms"] == alarmed
    assert result.detail["control_checker_and_one_run"] == 1
