import json

import numpy as np
import pytest

from gloam.cli import main
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import Job, Row
from gloam.runtime.descriptors.whitening import Whitening
from gloam.training.embedders.whitening import learn_lw, learn_pca
from tests.training.embedders.synthetic import pattern_views

TINY = """
network_options: {width: 8}
tuples: 8
epochs: 1
negatives: 2
data:
  train: {kind: town, seeds: [901, 902], places: 4, views_per_place: 2, conditions: [day], size: [64, 48]}
  validation: {kind: town, seeds: [903], places: 4, views_per_place: 2, conditions: [day], size: [64, 48]}
"""


def outcome(capsys, *command):
    code = main.main([str(part) for part in command])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


@pytest.mark.parametrize(
    "recipe", ["town_day", "town_clahe", "town_lab", "town_night25", "town_night50", "town_diverse"]
)
def test_every_recipe_of_the_town_runs(tmp_path, capsys, monkeypatch, recipe):
    monkeypatch.setattr("gloam.data.retrieval_sets.streets.render_training_views", pattern_views)
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ["train", "metric", "--recipe", recipe, "-o", tmp_path / "run", "--config", tmp_path / "tiny.yaml"]
    maker = ["--maker", "gamma"] if recipe in ("town_night25", "town_night50", "town_diverse") else []
    code, out, _ = outcome(capsys, *command, *maker, "--json")
    assert code == 0
    data = json.loads(out.splitlines()[-1])
    assert (data["epochs"], data["best_epoch"]) == (1, 1)
    assert data["report"] == str(tmp_path / "run" / "report.html")
    assert (tmp_path / "run" / "report.html").is_file()
    assert load_checkpoint(data["weights"]).provenance["recipe"] == recipe


def test_lists_its_recipes_and_mistakes_are_one_line(tmp_path, capsys):
    assert "vgg16_hedngan_cd" in outcome(capsys, "train", "metric", "--list")[1].split()
    for arguments, message in (
        ([], "-o FOLDER"),
        (["-o", tmp_path, "--recipe", "town_night25"], "--maker MODEL"),
        (["-o", tmp_path, "--recipe", "vgg16_clahe"], "--data DIR"),
        (["-o", tmp_path, "--set", "night.share=-0.1"], "is a probability"),
        (["-o", tmp_path, "--recipe", "town_knight"], "unknown recipe"),
    ):
        code, _, error = outcome(capsys, "train", "metric", *arguments)
        assert code == 2
        assert message in error
        assert error.count("\n") == 1


def store(folder, descriptors):
    names = [f"{row:03d}.jpg" for row in range(len(descriptors))]
    job = Job("a" * 64, "b" * 64, descriptors.shape[1], "cosine", "c" * 64, len(names), {})
    writer = ShardWriter(folder, job, 1)
    writer.write(0, [Row(name, "d" * 64, 64, 48, "48x64") for name in names], descriptors)
    writer.finish()
    return names


def test_whitening_of_a_store_is_that_of_its_descriptors(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    names = store(tmp_path / "store", x)
    first, second = np.arange(0, 40, 2), np.arange(1, 40, 2)
    lines = [f'{names[a]} "{names[b]}"' for a, b in zip(first, second, strict=True)]  # a list of pairs as any other
    (tmp_path / "pairs.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    base = ("train", "whitening", tmp_path / "store", "-o")
    code, out, _ = outcome(capsys, *base, tmp_path / "lw.npz", "--pairs", tmp_path / "pairs.txt", "--dimension", 4)
    assert code == 0
    assert "lw from 6 to 4 values, from 40 images and 20 pairs" in out
    made = Whitening.load(tmp_path / "lw.npz")
    assert made.sha256 == learn_lw(x, first, second, 4).sha256
    assert made.provenance["space"] == "a" * 64
    assert outcome(capsys, *base, tmp_path / "pca.safetensors", "--kind", "pca", "--shrinkage", 3)[0] == 0
    assert Whitening.load(tmp_path / "pca.safetensors").sha256 == learn_pca(x, shrinkage=3).sha256


def test_whitening_mistakes_are_one_line(tmp_path, capsys):
    store(tmp_path / "store", np.eye(4, dtype=np.float32))
    (tmp_path / "pairs.txt").write_text("000.jpg gone.jpg\n")
    base = ["train", "whitening", tmp_path / "store", "-o", tmp_path / "w.npz"]
    for arguments, message in (
        (base, "give --pairs FILE"),
        ([*base, "--pairs", tmp_path / "pairs.txt"], "the first is gone.jpg"),
        ([*base, "--kind", "pca", "--pairs", tmp_path / "pairs.txt"], "pca takes no pairs"),
        ([*base, "--kind", "pca", "--dimension", 9], "dimension 9 is not among 1 to 4"),
        ([*base[:4], tmp_path / "w.pkl", "--kind", "pca"], "ends in .npz"),
    ):
        code, _, error = outcome(capsys, *arguments)
        assert code == 2
        assert message in error
        assert error.count("\n") == 1
