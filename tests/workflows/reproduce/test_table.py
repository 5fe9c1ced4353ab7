"""A table's rows run from weights to numbers on a test set in cirtorch's layout, and what is missing is named."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli import reproduce as cli
from gloam.errors import DataError, ModelError, UsageError
from gloam.eval.retrieval.ground_truth import parse_ground_truth
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.runtime.descriptors.source import DescriptorArray
from gloam.training.embedders.config import RECIPES
from gloam.training.typed_config import recipes_of
from gloam.workflows.reproduce.costs import training_parameters
from gloam.workflows.reproduce.images import crop_queries
from gloam.workflows.reproduce.published import RETRIEVAL, TABLES, published
from gloam.workflows.reproduce.rows import GIVEN, SOURCES, row_source
from gloam.workflows.reproduce.table import reproduce, side_by_side


def arguments(*words):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Shared, so that the one network of these tests is exported once."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two spots of Tokyo and a revisited Oxford of four places, in colours that any network tells apart."""
    rng = np.random.default_rng(0)

    def photograph(path, seed):
        path.parent.mkdir(parents=True, exist_ok=True)
        pattern = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        noise = rng.integers(-4, 5, (64, 96, 3))
        image = np.asarray(Image.fromarray(pattern).resize((96, 64)), np.int64) + noise
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)

    root = tmp_path_factory.mktemp("data")
    tokyo, oxford = root / "test" / "247tokyo1k", root / "test" / "roxford5k"
    names = [f"{n:05d}" for n in range(18)]
    for n, name in enumerate(names):
        photograph(tokyo / "jpg" / f"{name}.jpg", n // 3)
    gnd = []
    for n in range(18):
        ok = [other for other in range(n // 3 * 3, n // 3 * 3 + 3) if other != n]
        gnd.append({"bbx": None, "ok": ok, "junk": [m for m in range(n // 9 * 9, n // 9 * 9 + 9) if m not in ok]})
    (tokyo / "gnd_247tokyo1k.pkl").write_bytes(pickle.dumps({"imlist": names, "qimlist": names, "gnd": gnd}))
    images = [f"ox_{n}" for n in range(8)]
    for n, name in enumerate(images):
        photograph(oxford / "jpg" / f"{name}.jpg", 50 + n // 2)
    queries = [f"query_{n}" for n in range(4)]
    for n, name in enumerate(queries):
        photograph(oxford / "jpg" / f"{name}.jpg", 50 + n)
    entries = [{"bbx": [0, 0, 96, 64], "easy": [2 * n], "hard": [2 * n + 1], "junk": []} for n in range(4)]
    value = {"imlist": images, "qimlist": queries, "gnd": entries}
    (oxford / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(value))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    provenance = {"recipe": "r", "data": "d", "licence": "l", "photometric": {"name": "clahe", "clip": 1.0, "grid": 8}}
    save_checkpoint(path, create_embedder("gem_vgg16", stages=[[8, 1]] * 5), provenance)
    return path


def test_a_row_is_described_and_scored_beside_the_papers(data, weights, out):
    row = "VGG16 CycleGAN CD"
    words = ["dark-side", "1", "--data", data, "-o", out, "--weights", f"{row}={weights}", "--rows", row]
    report = cli.run(arguments(*words))
    assert report.exit_code == 0
    cells = report.data["rows"][row]
    assert cells["Tokyo"]["published"] == 90.2
    assert cells["Tokyo"]["ours"] > 80
    assert cells["ROxf"]["ours"] > 80
    assert cells["ROxf"]["difference"] == pytest.approx(cells["ROxf"]["ours"] - 60.7)
    assert cells["RPar"]["ours"] is None
    assert cells["Avg"]["ours"] is None  # not of all three
    missing = [item["path"] for item in report.data["missing"]]
    assert [path.rsplit("/", 2)[1:] for path in missing] == [["rparis6k", "gnd_rparis6k.pkl"], ["rparis6k", "jpg"]]
    assert "no whitening" in report.data["notes"][0]
    assert "paris_1-v1.tgz" in report.text
    json.dumps(report.data, allow_nan=False)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    assert cli.run(arguments(*words)).data == report.data
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")} == before  # used again


@pytest.mark.slow  # HOW is traced twice
def test_a_row_of_local_features_is_searched_by_asmk(data, tmp_path, monkeypatch):
    monkeypatch.setattr("gloam.networks.embedders.how.SCALES", (1.0, 0.5))  # seven take a minute to trace
    torch.manual_seed(0)
    network = create_embedder("how_resnet18", width=8, dimension=32)
    with torch.no_grad():  # a whitening that keeps the colours apart
        torch.nn.init.orthogonal_(network.dim_reduction.weight.flatten(1))
    how = tmp_path / "how.safetensors"
    save_checkpoint(how, network, {"recipe": "r", "data": "d", "licence": "l"})
    row = "R18 HOW N/D"
    given = {"weights": {row: how}, "rows": [row]}
    nothing = reproduce("dark-side", "1", data, tmp_path, **given)
    assert not nothing.ours
    assert {"retrieval-SfM-120k.pkl", "ims"} <= {item.path.name for item in nothing.missing}
    training = tmp_path / "data" / "train" / "retrieval-SfM-120k"
    training.mkdir(parents=True)
    (tmp_path / "data" / "test").symlink_to(data / "test")
    shutil.copytree(data / "test" / "roxford5k" / "jpg", training / "ims")
    names = sorted(path.name for path in (training / "ims").iterdir())
    part = {"cids": names, "cluster": [0] * len(names), "qidxs": [0], "pidxs": [1]}
    (training / "retrieval-SfM-120k.pkl").write_bytes(pickle.dumps({"train": part}))
    found = reproduce("dark-side", "1", tmp_path / "data", tmp_path / "out", words=16, **given)
    assert found.ours[row]["Tokyo"] > 80
    assert found.ours[row]["ROxf"] > 80
    assert not found.notes  # a whitening is no matter of local features
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    assert len(again) == 3  # a codebook, two indexes
    assert reproduce("dark-side", "1", tmp_path / "data", tmp_path / "out", words=16, **given).ours == found.ours
    assert again == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}


def test_a_row_of_local_features_refuses_one_descriptor(data, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("gloam.workflows.reproduce.table.missing_of_codebook", lambda root: [])
    with pytest.raises(ModelError, match="holds no HOW network"):
        reproduce("dark-side", "1", data, tmp_path, rows=["R18 HOW"], weights={"R18 HOW": weights})


def test_table_6_asks_from_one_lighting_for_one_other(data, weights, out):
    given = {"CLAHE C": weights}
    found = reproduce("dark-side", "6", data, out, rows=["CLAHE C"], weights=given,
                      order=("day", "sunset", "night"))  # fmt: skip
    assert list(found.ours["CLAHE C"]) == list(published("dark-side", "6").columns)
    assert min(found.ours["CLAHE C"].values()) > 80
    with pytest.raises(UsageError, match="--order"):
        reproduce("dark-side", "6", data, out)


def test_everything_missing_is_named_with_its_place(tmp_path):
    report = cli.run(arguments("dark-side", "7", "--data", tmp_path / "nothing", "-o", tmp_path / "out"))
    assert report.exit_code == 1
    where = {item["path"].removeprefix(str(tmp_path / "nothing")): item["where"] for item in report.data["missing"]}
    assert "gloam pull gem_vgg16_hedngan" in where["/networks/hedngan_embed_vgg16.pth"]
    assert "gloam train metric --recipe vgg16_cut_cd" in where["/experiments/vgg16_cut_cd/embedder.safetensors"]
    assert "ims.tar.gz" in where["/train/retrieval-SfM-120k/ims"]
    assert "gnd_roxford5k.pkl" in where["/test/roxford5k/gnd_roxford5k.pkl"]
    assert len(where) == len(report.data["missing"])  # each once


def test_refusals_are_one_line(tmp_path):
    for words, message in (
        (("dark-side", "9"), "no table '9' to reproduce; choose one of 1, 2, 3, 4, 5, 6, 7, 8"),
        (("dark-sid", "1"), "did you mean dark-side"),
        (("dark-side", "1", "--rows", "VGG"), "no row 'VGG'"),
        (("dark-side", "1", "--weights", "file.pth"), "give ROW=FILE"),
        (("dark-side", "2", "--town"), "networks of others"),
        (("dark-side", "1", "--town", "--rows", "x"), "has no row 'x'"),
    ):
        with pytest.raises(UsageError, match=message):
            cli.run(arguments(*words, "--data", tmp_path, "-o", tmp_path / "out"))


def test_training_is_called_for_a_recipe_without_weights(data, weights, out, monkeypatch):
    called = []

    def train(kind, recipe, changes, folder, *, data, say):
        called.append((kind, recipe, changes, data))
        folder.mkdir(parents=True)
        (folder / "embedder.safetensors").write_bytes(weights.read_bytes())

    monkeypatch.setattr("gloam.workflows.reproduce.table.run_training", train)
    found = reproduce("dark-side", "5", data, out, rows=["CLAHE CD"], train=True)
    assert called == [("metric", "vgg16_clahe_cd", None, data)]
    assert found.ours["CLAHE CD"]["Tokyo"] > 80


def test_every_recipe_of_a_row_comes_with_gloam_and_every_row_is_the_papers():
    recipes = set(recipes_of(RECIPES["metric"]))
    for (paper, table), rows in SOURCES.items():
        assert set(rows) <= set(published(paper, table).rows)
        assert {source.recipe for source in rows.values() if source.recipe} <= recipes
    assert row_source("dark-side", "2", "DOLG").how == GIVEN.format(row="DOLG")


def test_published_averages_are_means_of_their_three():
    for key, table in TABLES.items():
        for row, values in table.rows.items():
            assert len(values) == len(table.columns), (key, row)
            if table.columns == RETRIEVAL and None not in values and row != "DOLG":  # see the table's note
                assert values[0] == pytest.approx(np.mean(values[1:]), abs=0.151), (key, row)


def test_parameters_of_table_8_are_half_of_what_the_paper_counts_twice():
    counts = training_parameters()
    assert {name: round(count / 1e6, 2) for name, count in counts.items()} == {
        "CycleGAN": 28.29, "CUT": 14.64, "HEDGAN": 14.15, "HEDNGAN": 28.87, "RCFNGAN": 28.95, "CyEDA": 39.58,
    }  # fmt: skip
    generator = 11.378
    for name, generators in (("CycleGAN", 2), ("CUT", 1), ("HEDGAN", 1)):
        printed = published("dark-side", "8").rows[name][-1]
        assert counts[name] / 1e6 + generators * generator == pytest.approx(printed, abs=0.06)
    rows = published("dark-side", "8").rows  # neither is counted twice
    assert (rows["CyEDA"][-1], rows["DRIT"][-1]) == (round(counts["CyEDA"] / 1e6, 1), 75.5)


def test_query_boxes_are_cut_at_full_size_and_reduced_with_their_image(tmp_path):
    pixels = np.zeros((200, 400, 3), np.uint8)
    pixels[50:150, 100:300, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    value = {"imlist": ["m"], "qimlist": ["a"], "gnd": [{"ok": [0], "bbx": [100, 50, 300, 150]}]}
    crop_queries(parse_ground_truth(value), {"a": tmp_path / "a.png"}, tmp_path / "crops", max_side=100)
    crop = np.asarray(Image.open(tmp_path / "crops" / "a.png"))
    assert crop.shape == (25, 50, 3)  # a quarter, as 400 becomes 100
    assert (crop == [255, 0, 0]).all()
    Image.fromarray(pixels[..., ::-1]).save(tmp_path / "a.png")  # another image of that name
    (tmp_path / "crops" / "of-another-truth.png").write_bytes(b"")
    crop_queries(parse_ground_truth(value), {"a": tmp_path / "a.png"}, tmp_path / "crops", max_side=100)
    assert (np.asarray(Image.open(tmp_path / "crops" / "a.png")) == [0, 0, 255]).all()
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["a.png"]
    outside = parse_ground_truth(value | {"gnd": [{"ok": [0], "bbx": [100, 50, 900, 150]}]})
    with pytest.raises(DataError, match="lies outside its image"):
        crop_queries(outside, {"a": tmp_path / "a.png"}, tmp_path / "other")


def test_descriptors_side_by_side_average_their_cosines():
    rng = np.random.default_rng(0)
    sources = []
    for dimension in (4, 6):
        rows = rng.normal(size=(5, dimension)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        sources.append(DescriptorArray(list("abcde"), rows))
    joined = np.concatenate([block for _, block in side_by_side(sources).blocks()])
    expected = np.mean([item.descriptors @ item.descriptors.T for item in sources], axis=0)
    assert np.allclose(joined @ joined.T, expected, atol=1e-6)
    with pytest.raises(DataError, match="different images"):
        side_by_side([sources[0], DescriptorArray(list("edcba"), sources[1].descriptors)])
