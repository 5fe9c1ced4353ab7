"""The study's experiments: rows are runs, their test images those of the set, what is missing is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.errors import UsageError
from gloam.workflows.reproduce.cyclegan_study.table import reproduce_study
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.request import RetrievalRequest

TINY = {
    "steps_per_epoch": 1,
    "batch": 2,
    "tensorboard": False,
    "options": {"epochs": 2, "generator_options": {"width": 4}, "discriminator_options": {"width": 4}},
}
ONE, FOUR = "1 emoji, residual, plain", "4 emoji, U-Net, no cycle"


def asked(data, output, rows=(), **more):
    return RetrievalRequest("cyclegan-study", "1", data, output, tuple(rows), **{"generator_changes": TINY} | more)


def test_the_papers_values_stand_beside_what_is_missing(tmp_path, monkeypatch, capsys):
    for variable in ("EMOJI", "MNIST", "FASHION_MNIST"):
        monkeypatch.delenv(variable, raising=False)
    words = ["reproduce", "cyclegan-study", "1", "--data", str(tmp_path), "-o", str(tmp_path / "out"), "--json"]
    assert main(words) == 1
    found = json.loads(capsys.readouterr().out)
    rows = {name[0]: {column: cell["published"] for column, cell in row.items()} for name, row in found["rows"].items()}
    assert rows["1"]["end"] == 0.15
    assert rows["2"]["start"] == 0.36
    assert rows["3"]["end"] == 0.11
    assert (rows["4"]["end A-B-A"], rows["4"]["end B-A-B"]) == (0.15, 0.27)
    assert (rows["5"]["end B-A-B"], rows["5"]["end A-B-A"]) == (0.22, 0.12)
    missing = {item["path"].removeprefix(str(tmp_path)): item["where"] for item in found["missing"]}
    assert "unicodey" in missing["/cyclegan-study/emoji/trainA"]
    assert "/cyclegan-study/fashion-mnist/train-images-idx3-ubyte.gz" in missing
    assert main([*words[:-1], "--rows", "6"]) == 2
    assert "no row '6'; choose one of 1 emoji" in capsys.readouterr().err
    with pytest.raises(UsageError, match="leave out --weights"):
        reproduce_study(asked(tmp_path, tmp_path, weights={ONE: tmp_path}))


@pytest.mark.slow
def test_runs_on_emoji_are_judged_on_the_test_set(tmp_path, monkeypatch):
    monkeypatch.delenv("EMOJI", raising=False)
    random = np.random.default_rng(0)
    emoji = tmp_path / "cyclegan-study" / "emoji"
    for name, count in (("trainA", 4), ("trainB", 4), ("testA", 3), ("testB", 2)):
        (emoji / name).mkdir(parents=True)
        for at in range(count):
            Image.fromarray(random.integers(0, 256, (64, 64, 4), np.uint8)).save(emoji / name / f"{at}.png")
    first = reproduce_study(asked(tmp_path, tmp_path / "out", [ONE]))
    assert "--train trains it" in first.rows[0].reason
    found = reproduce_study(asked(tmp_path, tmp_path / "out", [ONE, FOUR], train=True))
    assert {row.name: row.reason for row in found.rows} == {ONE: "", FOUR: ""}
    values = found.ours[ONE]
    assert set(values) == set(published("cyclegan-study", "1").columns)
    assert values["end"] == pytest.approx((values["end A-B-A"] + values["end B-A-B"]) / 2)
    assert found.pictures
    record = json.loads((tmp_path / "experiments" / "cyclegan_study_1" / "train.json").read_text())
    assert record["data"]["held_out"]["items"] == 3
    assert found.rows[0].facts["images"] == {"L1": "all of the test set"}
    assert reproduce_study(asked(tmp_path, tmp_path / "out", [ONE])).ours[ONE] == values  # the run is only read


@pytest.mark.slow
def test_the_town_stands_for_two_sets(tmp_path):
    town = {"seeds": [101], "views": 3, "held_out_views": 2}
    request = asked(tmp_path, tmp_path, town=True, generator_changes={**TINY, "held_out": 2, "data": town})
    found = reproduce_study(request)
    assert [row.reason for row in found.rows] == [""] * 5
    assert all(0 < values["end"] < 2 for values in found.ours.values())
    assert reproduce_study(request).ours == found.ours
