import json

import pytest
import yaml

from gloam.cli import main
from gloam.networks.checkpoints import load_generator
from tests.training.translators.runs import SMALL, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def recipe(images, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "data": {**SMALL["data"], "root": str(images)}}))
    return file


def command(recipe, run, *more):
    return ["train", "translator", "-o", str(run), "--config", str(recipe), *more]


def test_trains_reports_and_carries_on(recipe, tmp_path, capsys):
    call = command(recipe, tmp_path / "run", "--epochs", "1", "--json")
    assert main.main(call) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out.splitlines()[-1])
    assert (data["step"], data["steps"], data["limited"], data["clock"]) == (3, 3, False, "cpu")
    assert load_generator(data["weights"]["day2night"]).provenance["recipe"] == "town_cyclegan"
    assert set(data["held_out"]) == {"cycle_L1", "night_cycle_L1"}
    assert (tmp_path / "run" / "report.html").is_file()
    assert "epoch 1/1" in captured.err
    assert main.main(call) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["weights_sha256"] == data["weights_sha256"]
    assert main.main([*call, "--seed", "4"]) == 2
    assert "belongs to a run with another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "options.cycle_wieght=1"], "did you mean 'cycle_weight'?"),
        (["--set", "batch"], "expected NAME=VALUE"),
        (["--set", "data.root=$NOWHERE_SET"], "environment variable NOWHERE_SET is not set"),
        (["--set", "data.root=/nowhere"], "/nowhere"),
        (["--recipe", "town_cut2"], "unknown recipe 'town_cut2'; choose one of"),
        (["--max-minutes", "-1"], "max_minutes -1.0: must be positive, or left out (--max-minutes)"),
        (["--set", "data.scale=[1]"], "(--set data.scale=VALUE)"),
        (["--epochs", "0"], "epochs 0: must be at least 1"),
        (["--judge", "/nowhere.onnx"], "/nowhere.onnx"),
    ],
)
def test_mistakes_are_one_line(recipe, tmp_path, capsys, more, message):
    assert main.main(command(recipe, tmp_path / "run", *more)) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_key_that_is_missing_names_its_option(tmp_path, capsys):
    assert main.main(["train", "translator", "--recipe", "town_hedngan", "-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.endswith(" (--detector)\n")


def test_lists_its_recipes_and_needs_a_folder(capsys):
    assert main.main(["train", "translator", "--list"]) == 0
    assert "town_hedngan" in capsys.readouterr().out.split()
    assert main.main(["train", "translator"]) == 2
    assert "-o" in capsys.readouterr().err
