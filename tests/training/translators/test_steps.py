import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest
import torch

from gloam.errors import DivergenceError, StoreError, UsageError
from gloam.networks.checkpoints import load_generator, save_checkpoint
from gloam.networks.edges import create_detector
from gloam.training.run_state import NEWEST_FILE, RunState
from gloam.training.translators import steps as loop_module
from gloam.training.translators.batches import open_batches
from gloam.training.translators.monitor import read_table
from gloam.training.translators.steps import Clock, Loop
from gloam.training.translators.train import train_translator
from gloam.training.translators.trainers import TRAINERS
from tests.training.translators.runs import curve, newest_state, small_config, tensors_of, train, write_images

STEPS = 6


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """The file of a narrow HED with random weights."""
    file = tmp_path_factory.mktemp("detector") / "hed.safetensors"
    torch.manual_seed(0)
    save_checkpoint(file, create_detector("hed", width=4), {"recipe": "random"})
    return str(file)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """An uninterrupted run, and its summary."""
    run = tmp_path_factory.mktemp("whole")
    return run, train(small_config(images), run)


class Killed(BaseException):
    """What no one catches."""


def killed_after(monkeypatch, steps):
    """The process dies when it starts its step after this many."""
    done = [0]
    step = Loop._one_step

    def dying(self, *batch):
        if done[0] == steps:
            raise Killed
        done[0] += 1
        step(self, *batch)

    monkeypatch.setattr(Loop, "_one_step", dying)


def assert_same_state(run, other, step=STEPS):
    one, two = (tensors_of(newest_state(place, step)["trainer"]) for place in (run, other))
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


# image pool; the same with averages; positions and flips; dropout and batch norm; a student and two rates
@pytest.mark.parametrize(
    ("trainer", "decay"), [("cyclegan", 0.0), ("cyclegan", 0.9), ("cut", 0.0), ("pix2pix", 0.0), ("hedgan", 0.9)]
)
def test_a_resumed_run_is_bit_identical(images, detector, tmp_path, monkeypatch, trainer, decay):
    given = {"average_decay": decay} | ({"detector_weights": detector} if trainer == "hedgan" else {})
    config = small_config(images, trainer, options=given)
    train(config, tmp_path / "whole")
    for steps in (3, 2):  # killed at step 3, then at 5; what was done since the last save is done again
        with monkeypatch.context() as patch:
            killed_after(patch, steps)
            with pytest.raises(Killed):
                train(config, tmp_path / "resumed")
    assert json.loads((tmp_path / "resumed/state" / NEWEST_FILE).read_text())["step"] == 4
    train(config, tmp_path / "resumed")
    assert_same_state(tmp_path / "whole", tmp_path / "resumed")
    for name in ("losses.csv", "held_out.csv")[: 2 if trainer == "cyclegan" else 1]:  # the others have no cycle
        assert curve(tmp_path / "whole", name) == curve(tmp_path / "resumed", name)
    one, two = (load_generator(tmp_path / place / "day2night.safetensors") for place in ("whole", "resumed"))
    assert one.provenance["weights_sha256"] == two.provenance["weights_sha256"]


def test_looking_at_a_run_does_not_change_it(images, whole, tmp_path):
    train(small_config(images, held_out=0, log_every=1, save_every=1, sample_every=2), tmp_path)
    assert_same_state(whole[0], tmp_path)


def test_held_out_images_are_judged(images, tmp_path, monkeypatch):
    def judge_of(path):
        assert path == "embedder.onnx"
        return lambda pictures, night: {"KID": float((pictures["fake"] - night).abs().mean())}

    monkeypatch.setattr("gloam.training.translators.train.embedder_judge", judge_of)
    summary = train(small_config(images, judge="embedder.onnx"), tmp_path)
    assert 0 < summary.held_out["KID"] < 2
    assert curve(tmp_path, "held_out.csv")[0] == ["step", "epoch", "cycle_L1", "night_cycle_L1", "KID"]


def test_cycles_are_scored_over_the_whole_test_set(images, tmp_path):
    config = small_config(images, score_all=True, sample_every=2, data={"held_out_share": 0.5})
    summary = train(config, tmp_path)
    batches = open_batches(config.data, config.batch, config.seed)
    generators = [load_generator(summary.weights[name]).model for name in ("day2night", "night2day")]
    wanted = []
    for side in (0, 1):
        there, back = generators if side == 0 else generators[::-1]
        errors = []
        for parts in batches.whole_test(1):
            if parts[2 + side]:
                with torch.no_grad():
                    errors.append(float((back(there(parts[side])) - parts[side]).abs().mean()))
        wanted.append(np.mean(errors))
    assert len(errors) > config.held_out  # more than the strips show
    found = [summary.held_out[name] for name in ("cycle_L1", "night_cycle_L1")]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert f"cycle_L1 in [0, 1] {wanted[0] / 2:.4f}" in str(summary)
    assert summary.to_dict()["held_out_in_units"]["night_cycle_L1 in [-1, 1]"] == found[1]


def test_what_a_run_leaves(whole):
    run, summary = whole
    assert (summary.step, summary.steps, summary.limited) == (STEPS, STEPS, False)
    assert set(summary.weights) == {"day2night", "night2day"}
    for name, path in summary.weights.items():
        loaded = load_generator(path)
        assert loaded.provenance["weights_sha256"] == summary.weights_sha256[name]
        assert loaded.provenance["steps"] == STEPS
    assert {"cycle_L1", "night_cycle_L1"} == set(summary.held_out)
    assert [row[0] for row in curve(run)] == ["step", "2", "3", "4", "6"]
    assert [row[0] for row in curve(run, "held_out.csv")] == ["step", "0", "3", "6"]
    record = json.loads((run / "train.json").read_text())
    assert record["data"]["train"]
    assert {"gloam", "torch", "lightning-fabric"} <= set(record["versions"])
    assert record["weights_sha256"] == summary.weights_sha256
    assert record["config"]["options"]["cycle_weight"] == 10.0
    assert len(list((run / "state").glob("*.pt"))) == 2  # older saves are removed


def test_a_finished_run_is_only_read(images, whole, monkeypatch):
    killed_after(monkeypatch, 0)
    assert train(small_config(images), whole[0]).weights_sha256 == whole[1].weights_sha256


@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_a_time_limit_ends_whole_and_carries_on_exactly(images, whole, tmp_path, monkeypatch, clock):
    ticks = iter(range(10**6))
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "_now", lambda self: float(next(ticks)))  # a second passes at every look
        limited = train(small_config(images, clock=clock, max_minutes=5 / 60), tmp_path)
        assert limited.limited
        assert 0 < limited.step < STEPS
        assert limited.weights["day2night"].is_file()
        again = train(small_config(images, clock=clock, max_minutes=5 / 60), tmp_path)
        assert (again.step, again.weights_sha256) == (limited.step, limited.weights_sha256)
    assert not train(small_config(images, clock=clock, max_minutes=5), tmp_path).limited
    assert_same_state(whole[0], tmp_path)


def test_a_long_first_epoch_keeps_a_state_within_a_minute(images, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "FIRST_SAVE", 0)
        killed_after(patch, 2)
        with pytest.raises(Killed):
            train(small_config(images, save_every=100), tmp_path)
    assert json.loads((tmp_path / "state" / NEWEST_FILE).read_text())["step"] == 1
    train(small_config(images, save_every=100), tmp_path)
    assert_same_state(whole[0], tmp_path)


def test_a_run_whose_time_ended_while_it_was_away_is_judged_at_its_end(images, tmp_path, monkeypatch):
    config = small_config(images, sample_every=100)
    with monkeypatch.context() as patch:
        killed_after(patch, 4)
        with pytest.raises(Killed):
            train(config, tmp_path)
    assert [row["step"] for row in read_table(tmp_path / "held_out.csv")] == [0]
    train(dataclasses.replace(config, max_minutes=1e-9), tmp_path)  # no step more
    steps = [row["step"] for row in read_table(tmp_path / "held_out.csv")]
    assert steps[0] == 0 < steps[1] <= 4
    assert len(steps) == 2


def test_a_loss_of_some_steps_is_averaged_over_those(images, tmp_path, monkeypatch):
    trainer, at = TRAINERS["cyclegan"][0], [0]
    step, check = trainer.step, Loop._check
    losses = lambda: {"rare": torch.tensor(float(at[0]))} if at[0] % 2 == 0 else {}  # noqa: E731
    monkeypatch.setattr(trainer, "step", lambda self, day, night: step(self, day, night) | losses())
    monkeypatch.setattr(Loop, "_check", lambda self, *both: check(self, *both) or at.__setitem__(0, self.step + 1))
    monkeypatch.setattr(trainer, "remarks", lambda self, means: [f"it is {means['rare']:.1f}"])
    config, said = small_config(images, log_every=STEPS, held_out=0), []
    with monkeypatch.context() as patch:  # steps 5 and 6 are done by another process, in one row with step 4
        killed_after(patch, 4)
        with pytest.raises(Killed):
            train_translator(config, tmp_path, say=said.append)
    train_translator(config, tmp_path, say=said.append)
    assert [float(row["rare"]) for row in read_table(tmp_path / "losses.csv")] == [2.0, 5.0]
    assert [line for line in said if line.startswith("it is")] == ["it is 2.0", "it is 5.0"]


def test_an_older_state_with_one_count_is_carried_on_from(images, tmp_path, monkeypatch):
    config, load = small_config(images, log_every=STEPS), RunState.load
    train(config, tmp_path / "whole")

    def older(self, say):
        state = load(self, say)
        (count,) = set(state["counts"].values())
        return {name: value for name, value in state.items() if name != "counts"} | {"counted": count}

    with monkeypatch.context() as patch:
        killed_after(patch, 4)
        with pytest.raises(Killed):
            train(config, tmp_path / "resumed")
    monkeypatch.setattr(RunState, "load", older)
    train(config, tmp_path / "resumed")
    assert curve(tmp_path / "whole", "losses.csv") == curve(tmp_path / "resumed", "losses.csv")


def test_a_loss_that_is_not_finite_stops(images, tmp_path):
    config = small_config(images, options={"learning_rate": 1e30})
    with pytest.raises(DivergenceError) as caught:
        train(config, tmp_path)
    text = str(caught.value)
    kept = torch.load(tmp_path / "diverged-rank0.pt", weights_only=True)
    assert f"at step {kept['step']} of {STEPS}" in text
    assert all(name in text for name in kept["names"])
    assert len(kept["names"]) == 4
    assert "\n" not in text
    assert str(tmp_path / "diverged-rank0.pt") in text
    assert kept["day"].shape == (2, 3, 32, 32)
    assert {"networks", "optimizers"} <= set(kept["trainer"])
    with pytest.raises(DivergenceError, match=f"at step {kept['step']} "):
        train(config, tmp_path)  # what is saved is the state before, so the same step fails again


def test_a_full_disk_leaves_the_newest_save_whole(images, whole, tmp_path, monkeypatch):
    config = small_config(images)
    with monkeypatch.context() as patch:
        write = loop_module.RunState.save

        def full(self, step, state):
            if step >= 4:

                def no_space(descriptor):
                    raise OSError(errno.ENOSPC, "No space left on device")

                patch.setattr("os.fsync", no_space)
            write(self, step, state)

        patch.setattr(loop_module.RunState, "save", full)
        with pytest.raises(StoreError, match="the disk is full"):
            train(config, tmp_path)
    assert json.loads((tmp_path / "state" / NEWEST_FILE).read_text())["step"] == 3
    (tmp_path / "state/step-00000004-rank0.pt").write_bytes(b"half")  # as a kill between file and name would leave it
    train(config, tmp_path)
    assert_same_state(whole[0], tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "another content.seed"),
        ({"options": {"cycle_weight": 3.0}}, "another options.cycle_weight (10.0, now 3.0)"),
        ({"steps_per_epoch": 4}, "another steps_per_epoch (3, now 4)"),
    ],
)
def test_another_run_in_the_folder_is_refused(images, whole, changes, message):
    with pytest.raises(StoreError) as caught:
        train(small_config(images, **changes), whole[0])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_image_under_a_name_is_no_part_of_the_run(images, whole, tmp_path):
    mine, run = shutil.copytree(images, tmp_path / "images"), shutil.copytree(whole[0], tmp_path / "run")
    assert train(small_config(mine), run).step == STEPS  # the same images at another place
    path = mine / "day" / "3.png"
    content = bytearray(path.read_bytes())
    path.write_bytes(content + b" ")
    with pytest.raises(StoreError, match=r"day/3\.png: changed since the run in"):
        train(small_config(mine), run)
    (run / "images.json").unlink()  # the state alone knows as well
    with pytest.raises(StoreError, match=r"belongs to a run with another content\.(train|held_out)\.day\.sha256"):
        train(small_config(mine), run)


def test_a_damaged_state_is_named_and_the_one_before_is_carried_on_from(images, whole, tmp_path):
    train(small_config(images), tmp_path)
    states = sorted((tmp_path / "state").glob("step-*.pt"))
    assert states[-1].name == f"step-{STEPS:08d}-rank0.pt"
    flip(states[-1])
    said = []
    train_translator(small_config(images), tmp_path, say=said.append)
    assert f"{states[-1]}: the state is damaged; looking for the save before it" in said
    assert_same_state(whole[0], tmp_path)
    for state in states:
        state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"rank0\.pt: the state is not readable; remove .*newest\.json"):
        train(small_config(images), tmp_path)
    flip(tmp_path / "state" / NEWEST_FILE)
    with pytest.raises(StoreError, match=r"newest\.json: the run's state is not readable"):
        train(small_config(images), tmp_path)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_precision_and_memory_layout(images, whole, tmp_path):
    exact = next(row for row in read_table(whole[0] / "losses.csv") if row["step"] == 3)
    for name, changes, tolerance in (
        ("last", {"channels_last": True}, 1e-4),
        ("bf16", {"precision": "bf16"}, 0.05),
        ("64", {"precision": "64"}, 1e-4),
    ):
        train(small_config(images, **changes, options={"epochs": 1, "decay_epochs": 0}, held_out=0), tmp_path / name)
        found = read_table(tmp_path / name / "losses.csv")[-1]
        off = {key for key in exact if key != "seconds" and abs(found[key] - exact[key]) > tolerance}
        assert not off, name
        networks = tensors_of(newest_state(tmp_path / name, 3)["trainer"]["networks"])
        assert {tensor.dtype for tensor in networks.values()} == {torch.float64 if name == "64" else torch.float32}
    with pytest.raises(UsageError, match="fp16 needs a CUDA device"):
        train(small_config(images, precision="fp16"), tmp_path / "fp16")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"size": 30}}, "images of 30x30 px: the networks need sides that are multiples of 4"),
        ({"options": {"generator": "resnett"}}, "did you mean"),
    ],
)
def test_what_cannot_be_trained_is_one_line(images, tmp_path, changes, message):
    with pytest.raises(Exception, match=message) as caught:
        train(small_config(images, **changes), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_there_is_refused(images, tmp_path):
    with pytest.raises(UsageError, match="device cuda: 1 wanted, 0 found"):
        train(dataclasses.replace(small_config(images), device="cuda"), tmp_path)
