import os

import pytest

from gloam.errors import UsageError
from gloam.heartbeat import Heartbeat, bars_shown, progress_bar, spelled, telling, to_stderr


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_lines_come_now_and_then_with_counts_rate_and_time_left():
    clock, lines = Clock(), []
    beat = Heartbeat(lines.append, "training", 1430, "steps", done=30, first=10, every=30, clock=clock)
    for second in range(1, 71):
        clock.now = 100.0 + second
        beat.update(2)
    assert lines == [
        "training: 50 of 1430 steps, 2 steps/s, 11 min 30 s left",
        "training: 110 of 1430 steps, 2 steps/s, 11 min 00 s left",
        "training: 170 of 1430 steps, 2 steps/s, 10 min 30 s left",
    ]


def test_a_limit_ends_the_work_sooner_and_another_line_makes_it_wait():
    clock, lines = Clock(), []
    beat = Heartbeat(lines.append, "training", 1000, "steps", first=10, every=30, clock=clock)
    clock.now += 9
    beat.postpone()
    clock.now += 29
    beat.update(1)
    assert lines == []
    clock.now += 1
    beat.update(1, limit=60)
    assert lines == ["training: 2 of 1000 steps, 0.0513 steps/s, 1 min 00 s left"]


def test_an_unknown_total_has_no_end_and_no_listener_no_lines():
    clock, lines = Clock(), []
    beats = [Heartbeat(say, "reading", None, first=0, clock=clock) for say in (lines.append, None)]
    clock.now += 4
    for beat in beats:
        beat.update(8)
    assert lines == ["reading: 8 images, 2 images/s"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min"), (273600, "3 d 04 h")],
)
def test_durations_are_spelled(seconds, text):
    assert spelled(seconds) == text


def test_a_log_gets_lines_where_nothing_is_shown_and_what_held_before_holds_after(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GLOAM_LOG_FILE", str(tmp_path / "outer.log"))
    with telling(True, tmp_path / "a.log"):
        to_stderr("one\nline")
        with progress_bar(2, "work", shown=False) as beat:
            beat._due = 0.0
            beat.update(2)
    assert capsys.readouterr().err == ""
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert lines[0].endswith(" one\\nline")
    assert " work: 2 of 2 images, " in lines[1]
    assert os.environ["GLOAM_LOG_FILE"] == str(tmp_path / "outer.log")
    assert "GLOAM_QUIET" not in os.environ
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert bars_shown()
    for quiet, bars in ((True, True), (False, False)):
        with telling(quiet, None, bars):
            assert not bars_shown()
    with pytest.raises(UsageError, match=r"--log-file .*: cannot be written"), telling(False, tmp_path):
        pass
