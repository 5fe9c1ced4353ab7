"""Runs in processes of their own: two that share a batch, and one that is killed. Each start of torch takes seconds."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from gloam.errors import DivergenceError
from gloam.networks.checkpoints import load_generator
from gloam.training.translators.monitor import read_table
from tests.training.translators.runs import newest_state, small_config, tensors_of, train, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def relative(one, two):
    """Norm of the difference over the norm, of dicts of tensors taken as one vector."""
    left, right = (torch.cat([tensor.double().flatten() for tensor in side.values()]) for side in (one, two))
    return float((left - right).norm() / left.norm())


@pytest.fixture(scope="module")
def in_one_and_in_two(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for count in (1, 2):
        train(small_config(images, processes=count, options={"pool_size": 0}), folder / str(count))
    return folder


def test_two_processes_equal_one(in_one_and_in_two):
    one, two = (newest_state(in_one_and_in_two / name, 6)["trainer"]["networks"] for name in ("1", "2"))
    other = newest_state(in_one_and_in_two / "2", 6, rank=1)["trainer"]["networks"]
    assert all(torch.equal(two[name], other[name]) for name in two)
    # A bias in front of instance norm changes nothing, so its gradient is rounding noise, which Adam scales up.
    for network in ("day2night", "night2day", "night_judge", "day_judge"):
        weights = [name for name in one if name.startswith(network) and name.endswith("weight")]
        assert relative(*({name: side[name] for name in weights} for side in (one, two))) < 1e-5
    torch.manual_seed(0)
    probe = torch.rand(2, 3, 64, 64) * 2 - 1
    for network in ("day2night", "night2day"):
        with torch.no_grad():
            outputs = [
                {"y": load_generator(in_one_and_in_two / name / f"{network}.safetensors").model(probe)}
                for name in ("1", "2")
            ]
        assert relative(*outputs) < 1e-5
    rows = [read_table(in_one_and_in_two / name / "losses.csv") for name in ("1", "2")]
    for first, second in zip(*rows, strict=True):
        names = set(first) - {"seconds"}
        assert {name: second[name] for name in names} == pytest.approx({name: first[name] for name in names}, rel=1e-5)


def test_two_processes_equal_one_in_every_parameter_in_double_precision(images, tmp_path):
    changes = {"precision": "64", "options": {"pool_size": 0, "epochs": 1, "decay_epochs": 0}}
    for count in (1, 2):
        train(small_config(images, processes=count, **changes), tmp_path / str(count))
    one, two = (tensors_of(newest_state(tmp_path / name, 3)["trainer"]["networks"]) for name in ("1", "2"))
    assert relative(one, two) < 1e-9


def test_a_loss_that_is_not_finite_stops_both_processes(images, tmp_path):
    config = small_config(images, processes=2, options={"learning_rate": 1e30})
    with pytest.raises(DivergenceError, match=r"at step \d of 6 \(images .*\.png") as caught:
        train(config, tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "diverged-rank1.pt").is_file()


def test_killed_at_any_moment_the_same_command_ends_as_if_it_had_not_been(images, tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.training.translators.runs import small_config, train;"
        "train(small_config(Path(sys.argv[1]), steps_per_epoch=40), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = tmp_path / "killed"
    newest = run / "state" / "newest.json"
    for wanted in (10, 50):
        process = subprocess.Popen([sys.executable, "-c", code, str(images), str(run)], env=environment)
        deadline = time.monotonic() + 60
        while not (newest.is_file() and json.loads(newest.read_text())["step"] >= wanted):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved = json.loads(newest.read_text())["step"]
        assert newest_state(run, saved)["step"] == saved
    train(small_config(images, steps_per_epoch=40), run)
    train(small_config(images, steps_per_epoch=40), tmp_path / "whole")
    one, two = (tensors_of(newest_state(place, 80)["trainer"]) for place in (run, tmp_path / "whole"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (run / "held_out.csv").read_text() == (tmp_path / "whole/held_out.csv").read_text()
