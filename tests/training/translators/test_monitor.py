import numpy as np
import pytest
import torch
from PIL import Image

from gloam.errors import StoreError
from gloam.training.translators.monitor import (
    HEADING,
    Monitor,
    Table,
    draw_strip,
    in_units,
    read_table,
    strip_step,
    strips,
)
from gloam.training.translators.steps import sample_cycle_errors


def test_a_resumed_table_drops_the_rows_that_will_come_again(tmp_path):
    path = tmp_path / "t.csv"
    table = Table(path, 0)
    for step in (1, 2, 3):
        table.append({"step": step, "loss": 0.1 * step})
    with path.open("a") as handle:
        handle.write("4,0.")  # a kill in the middle of a row
    table = Table(path, 2)
    table.append({"step": 3, "loss": float("nan"), "late": 1e-7})
    assert read_table(path) == [
        {"step": 1.0, "loss": 0.1, "late": None},
        {"step": 2.0, "loss": 0.2, "late": None},
        {"step": 3.0, "loss": None, "late": 1e-7},
    ]
    Table(path, 0)
    assert not path.exists()
    with pytest.raises(StoreError, match=r"t\.csv: not readable"):
        read_table(path)


def test_a_strip_has_a_row_per_image_and_a_column_per_picture():
    white = torch.ones(2, 3, 8, 12)
    strip = draw_strip({"source": white, "edges": -white[:, :1], "bad": white * float("nan")})
    assert strip.shape == (HEADING + 2 * 8 + 4, 3 * 12 + 8, 3)
    assert strip.dtype == np.uint8
    assert (strip[HEADING : HEADING + 8, :12] == 255).all()
    assert (strip[HEADING : HEADING + 8, 16:28] == 0).all()
    assert (strip[HEADING : HEADING + 8, 32:] == 0).all()
    assert (strip[HEADING + 8 : HEADING + 12] == 255).all()


def test_a_monitor_writes_curves_strips_and_events(tmp_path):
    monitor = Monitor(tmp_path, 0)
    monitor.losses(10, 1, 1.234, 2e-4, {"cycle": 0.5})
    pictures = {"source": torch.zeros(1, 3, 4, 4)}
    for step in (10, 20):
        monitor.held_out(step, 1, {"cycle_L1": 0.25}, pictures)
    monitor.close()
    assert [strip_step(path) for path in strips(tmp_path)] == [10, 20]
    with Image.open(strips(tmp_path)[0]) as picture:
        assert picture.size == (4, HEADING + 4)
    assert list((tmp_path / "tensorboard").glob("events.*"))
    Monitor(tmp_path, 10, tensorboard=False)  # resumed after step 10
    assert [strip_step(path) for path in strips(tmp_path)] == [10]
    assert [row["step"] for row in read_table(tmp_path / "held_out.csv")] == [10]
    Monitor(tmp_path, -1, tensorboard=False)  # begun again: a run that was killed before its first state
    assert not strips(tmp_path)
    assert not (tmp_path / "held_out.csv").exists()


def test_cycle_error_is_of_the_pictures_that_are_there():
    one = torch.ones(1, 3, 2, 2)
    assert sample_cycle_errors({"source": one, "cycle": one * 0.5, "night": one}) == {"cycle_L1": 0.5}
    assert sample_cycle_errors({"source": one, "fake": one}) == {}


def test_errors_of_cycles_are_told_with_their_unit_and_in_that_of_pictures():
    assert in_units({"night_cycle_L1": 0.3, "KID": 0.5}) == {
        "night_cycle_L1 in [-1, 1]": 0.3,
        "night_cycle_L1 in [0, 1]": 0.15,
        "KID": 0.5,
    }
