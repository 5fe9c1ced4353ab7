"""A table's rows run from weights to numbers on a test set in cirtorch's layout, and what is missing is named."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli import reproduce as cli
from gloam.errors import DataError, StoreError, UsageError
from gloam.eval.retrieval.ground_truth import parse_ground_truth
from gloam.files import sha256_file
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.runtime.descriptors.source import DescriptorArray
from gloam.runtime.descriptors.whitening import Whitening
from gloam.training.embedders.config import RECIPES
from gloam.training.typed_config import recipes_of
from gloam.workflows.reports.retrieval_table import reproduce_retrieval
from gloam.workflows.reproduce import records
from gloam.workflows.reproduce.costs import training_parameters
from gloam.workflows.reproduce.images import crop_queries
from gloam.workflows.reproduce.models import open_embedder
from gloam.workflows.reproduce.published import RETRIEVAL, TABLES, published
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.rows import GIVEN, INCEPTION_WEIGHTS, SOURCES, row_source
from gloam.workflows.reproduce.table import joined, reproduce
from gloam.workflows.reproduce.trainings import Trainings, generator_data
from tests.eval.translation.test_domains import Colours
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_translator


def arguments(*words):
    parser = argparse.ArgumentParser()
    parser.set_defaults(leaf=parser)  # as every verb has it
    cli.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def asked(table, data, out, rows=(), paper="dark-side", **more):
    return RetrievalRequest(paper, table, data, out, tuple(rows), **more)


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
    """An exported embedder of the rows' network that tells colours apart, so that nothing has to be exported here."""
    path = tmp_path_factory.mktemp("weights") / "small.onnx"
    write_tiny_embedder(path, name="gem_vgg16")
    return path


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """The same network with weights of its own, to be exported."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("native") / "small.safetensors"
    provenance = {"recipe": "r", "data": "d", "licence": "l", "photometric": {"name": "clahe", "clip": 1.0, "grid": 8}}
    save_checkpoint(path, create_embedder("gem_vgg16", stages=[[8, 1]] * 5), provenance)
    return path


@pytest.fixture
def exported(weights, monkeypatch):
    """Every native file counts as exported already, as the tiny model."""

    def opened(files, place, origin="", scales=None):
        found = open_embedder([weights], place, origin)
        stated = [{"file": str(file), "sha256": sha256_file(file)} for file in files]
        whitened = "lw" if len(files) > 1 else False
        return dataclasses.replace(found, facts={**found.facts, "weights": stated, "whitened": whitened})

    monkeypatch.setattr("gloam.workflows.reproduce.table.open_embedder", opened)


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
    (member,) = report.data["made_by"][row]["members"]
    assert member["weights"] == [{"file": str(weights), "sha256": sha256_file(weights)}]
    stated = {name: member[name] for name in ("network", "whitened", "photometric", "scales", "from")}
    assert stated == {
        "network": "gem_vgg16",
        "whitened": False,
        "photometric": "none",
        "scales": [1.0],
        "from": "given with --weights",
    }
    assert report.data["made_by"][row]["images"]["ROxf"] == "4 queries, 8 of the map"
    assert f"{row}: gem_vgg16; small.onnx (sha256 {member['weights'][0]['sha256'][:12]})" in report.text
    assert "not whitened, scales 1, no CLAHE; images: Tokyo 18 queries, 18 of the map" in report.text
    assert report.data["reasons"][row].startswith("RPar: ")
    page = (out / "report.html").read_text()
    assert member["weights"][0]["sha256"][:12] in page
    assert json.loads((out / "table.json").read_text()) == report.data
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
    nothing = reproduce(asked("1", data, tmp_path, **given))
    assert not nothing.ours
    assert {"retrieval-SfM-120k.pkl", "ims"} <= {item.path.name for item in nothing.missing}
    training = tmp_path / "data" / "train" / "retrieval-SfM-120k"
    training.mkdir(parents=True)
    (tmp_path / "data" / "test").symlink_to(data / "test")
    shutil.copytree(data / "test" / "roxford5k" / "jpg", training / "ims")
    names = sorted(path.name for path in (training / "ims").iterdir())
    part = {"cids": names, "cluster": [0] * len(names), "qidxs": [0], "pidxs": [1]}
    (training / "retrieval-SfM-120k.pkl").write_bytes(pickle.dumps({"train": part}))
    request = asked("1", tmp_path / "data", tmp_path / "out", words=16, features_per_image=20, **given)
    found = reproduce(request)
    assert found.ours[row]["Tokyo"] > 80
    assert found.ours[row]["ROxf"] > 80
    (member,) = found.rows[0].facts["members"]
    assert (member["network"], member["whitened"]) == ("how_resnet18", "local, ASMK of 16 words")
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    assert len(again) == 3  # a codebook, two indexes
    assert reproduce(request).ours == found.ours
    assert again == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}


def test_whatever_is_wrong_with_a_row_is_one_line_of_it(data, weights, native, out, tmp_path, monkeypatch):
    monkeypatch.setattr("gloam.workflows.reproduce.table.missing_of_codebook", lambda root: [])
    other = tmp_path / "other.onnx"
    write_tiny_embedder(other, name="gem_resnet18")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no weights")
    given = {"R18 HOW": native, "VGG16 CycleGAN CD": weights, "R101 GeM": bad, "VGG16 HEDNGAN CD": other}
    found = reproduce(asked("1", data, out, [*given, "R101 CIConv"], weights=given))
    assert list(found.ours) == ["VGG16 CycleGAN CD"]
    reasons = {row.name: row.reason for row in found.rows}
    assert "holds no HOW network" in reasons["R18 HOW"]
    assert "bad.safetensors" in reasons["R101 GeM"]
    assert reasons["VGG16 HEDNGAN CD"].startswith(
        f"{other}: holds gem_resnet18, and the row VGG16 HEDNGAN CD is of gem"
    )
    assert "gloam import --as ciconv" in reasons["R101 CIConv"]
    assert not any("\n" in reason for reason in reasons.values())


def test_half_a_test_set_empties_its_column_alone(data, weights, out, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "test" / "247tokyo1k" / "jpg" / "00003.jpg").unlink()
    (root / "test" / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(b"no pickle")
    row = "CLAHE C"
    found = reproduce(asked("5", root, out, [row], weights={row: weights}))
    assert not found.ours
    for column, said in (("Tokyo", "00003"), ("ROxf", "gnd_roxford5k.pkl"), ("RPar", "is not there")):
        (line,) = [part for part in found.rows[0].reason.split("; ") if part.startswith(f"{column}: ")]
        assert said in found.rows[0].reason
        assert "\n" not in line
    shutil.copy(data / "test" / "roxford5k" / "gnd_roxford5k.pkl", root / "test" / "roxford5k")
    found = reproduce(asked("5", root, out, [row], weights={row: weights}))
    assert list(found.ours[row]) == ["ROxf"]
    assert "1 of 18 map images are not there (the first is 00003)" in found.rows[0].reason


def test_table_6_asks_from_one_lighting_for_one_other(data, weights, out):
    given = {"CLAHE C": weights}
    order = ("day", "sunset", "night")
    found = reproduce(asked("6", data, out, ["CLAHE C"], weights=given, order=order))
    assert list(found.ours["CLAHE C"]) == list(published("dark-side", "6").columns)
    assert min(found.ours["CLAHE C"].values()) > 80
    with pytest.raises(UsageError, match="--order"):
        reproduce(asked("6", data, out))
    wrong = reproduce(asked("6", data, out, ["CLAHE C"], weights=given, order=("day", "dusk")))
    assert (
        wrong.rows[0].reason
        == "Tokyo: lightings day, dusk: give day, sunset and night, in the order of a scene's names"
    )


def test_a_part_of_an_ensemble_is_given_by_its_name(data, weights, out, tmp_path):
    row = "HEDN-MAC + GeM"
    given = {"HEDN-MAC": tmp_path / "edges.onnx", "VGG16 GeM": weights}
    write_tiny_embedder(given["HEDN-MAC"], name="hedmac_vgg16")
    found = reproduce(asked("4", data, out, [row], weights=given))
    alone = reproduce(asked("1", data, out, ["VGG16 GeM"], weights={"VGG16 GeM": weights}))
    assert found.ours[row]["Tokyo"] == pytest.approx(alone.ours["VGG16 GeM"]["Tokyo"])  # twice the same descriptor
    assert len(found.rows[0].facts["members"]) == 2
    with pytest.raises(UsageError, match="no row 'R101 GeM'"):
        reproduce(asked("4", data, out, weights={"R101 GeM": weights}))


def test_queries_by_night_alone_are_translated_to_day(data, weights, out, tmp_path):
    row = "night to day, ToDayGAN"
    translators = {}
    for name, gain in (("same", 1.0), ("inverse", -1.0)):
        translators[name] = tmp_path / f"{name}.onnx"
        write_tiny_translator(translators[name], gain=gain)
    order = ("day", "sunset", "night")

    def tokyo(name):
        given = {row: translators[name], "VGG16 GeM": weights}
        found = reproduce(asked("7", data, out, [row], weights=given, order=order))
        assert len(found.rows[0].facts["members"]) == 2
        return found.ours[row]

    alone = reproduce(asked("1", data, out, ["VGG16 GeM"], weights={"VGG16 GeM": weights})).ours["VGG16 GeM"]["Tokyo"]
    assert tokyo("same") == {"Tokyo": pytest.approx(alone)}  # nothing of the sets without lightings
    third = tokyo("inverse")["Tokyo"]
    assert third < alone - 5
    assert third > 2 / 3 * alone - 1  # of the queries by day and at sunset nothing is lost
    without = reproduce(asked("7", data, out, [row], weights={row: translators["same"], "VGG16 GeM": weights}))
    assert "told by --order" in without.rows[0].reason


def test_seeds_give_mean_and_deviation(data, native, exported, out, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(data / "test", root / "test")
    for name in ("vgg16_clahe_cd", "vgg16_clahe_cd-seed1"):
        (root / "experiments" / name).mkdir(parents=True)
        shutil.copy(native, root / "experiments" / name / "embedder.safetensors")
    row = "CLAHE CD"
    found = reproduce(asked("5", root, out, [row], seeds=2))
    values = found.rows[0].values("ROxf")
    assert len(values) == 2
    assert found.rows[0].spread("ROxf") == pytest.approx(np.std(values, ddof=1))
    assert found.ours[row]["ROxf"] == pytest.approx(np.mean(values))
    assert list(found.rows[0].facts["seeds"]) == ["0", "1"]
    assert "sd" in found.to_text().splitlines()[3]
    more = reproduce(asked("5", root, out, [row], seeds=3))
    assert more.rows[0].values("ROxf") == values
    assert "seed2" in more.rows[0].reason


def test_a_rows_record_is_enough_to_run_it_again(data, weights, out, tmp_path):
    row = "VGG16 CycleGAN CD"
    first = reproduce(asked("1", data, out, [row], weights={row: weights}))
    record = out / "rows" / "VGG16_CycleGAN_CD" / "row.json"
    assert first.rows[0].record == record
    words = ["dark-side", "1", "--again", record, "-o", tmp_path / "again"]
    again = cli.run(arguments(*words))
    assert {name: cell["ours"] for name, cell in again.data["rows"][row].items() if cell["ours"]} == first.ours[row]
    with pytest.raises(UsageError, match="is of dark-side 1"):
        cli.run(arguments("dark-side", "5", *words[2:]))
    with pytest.raises(StoreError, match="is not the record of a row"):
        cli.run(arguments("dark-side", "1", "--again", weights, "-o", tmp_path / "again"))
    stated = json.loads(record.read_text())
    other = tmp_path / "row.json"
    stated["request"]["weights_sha256"] = {"R101 GeM": "0" * 64}
    other.write_text(json.dumps(stated))
    with pytest.raises(DataError, match="weights of R101 GeM, and not their file"):
        cli.run(arguments("dark-side", "1", "--again", other, "-o", tmp_path / "again"))
    stated["request"]["weights_sha256"] = {row: "0" * 64}
    other.write_text(json.dumps(stated))
    with pytest.raises(DataError, match="other weights than the record"):
        cli.run(arguments("dark-side", "1", "--again", other, "-o", tmp_path / "again"))


def test_a_budget_that_is_used_up_leaves_rows_with_that_reason(data, weights, out, tmp_path, monkeypatch):
    row, spent = "CLAHE C", records.processor_seconds
    monkeypatch.setattr(records, "processor_seconds", lambda: spent() + 60)  # the clock has steps of 10 ms
    found = reproduce(
        asked("5", data, tmp_path, [row, "CLAHE CD"], weights={row: weights, "CLAHE CD": weights}, budget=1)
    )
    assert not found.ours
    assert all("is used up" in one.reason for one in found.rows)


def test_fid_of_a_generator_stands_though_no_embedder_is_there(data, tmp_path, monkeypatch):
    root = tmp_path / "data"
    lists = root / "train" / "retrieval-SfM-120k" / "dataset"
    lists.mkdir(parents=True)
    for name in ("247tokyo1k", "roxford5k"):
        shutil.copytree(data / "test" / name / "jpg", lists.parent / "ims", dirs_exist_ok=True)
    names = sorted(path.name for path in (lists.parent / "ims").iterdir())
    (lists / "train_day.txt").write_text("\n".join(names[::2]))
    (lists / "train_night.txt").write_text("\n".join(names[1::2]))
    (root / INCEPTION_WEIGHTS).parent.mkdir(parents=True)
    (root / INCEPTION_WEIGHTS).write_bytes(b"colours")
    monkeypatch.setattr("gloam.workflows.reproduce.generators.open_extractor", lambda *given: Colours())
    torch.manual_seed(0)
    generator = create_generator("unet", levels=6, width=2)
    save_checkpoint(
        root / "networks" / "thesis_cyclegan_sfm.safetensors", generator, {"recipe": "r", "data": "d", "licence": "l"}
    )
    request = asked("5.1", root, tmp_path / "out", ["CycleGAN SfM", "CycleGAN Aachen"], paper="thesis")
    found = reproduce(request)
    assert list(found.ours["CycleGAN SfM"]) == ["FID"]
    nights = found.rows[0].facts["nights"]
    assert (nights["made"], nights["real"]) == (15, 15)
    assert "thesis_cyclegan_sfm" in found.rows[0].facts["members"][0]["weights"][0]["file"]
    assert "gloam train translator --recipe thesis_cyclegan_aachen" in found.to_text()
    assert reproduce(request).ours == found.ours  # kept
    monkeypatch.setattr("gloam.workflows.reproduce.generators.score_nights", lambda *given: pytest.fail("judged again"))
    curves = reproduce_retrieval(asked("figure5.1", root, tmp_path / "out", ["CycleGAN SfM"], paper="thesis"))
    assert curves.ours["CycleGAN SfM"]["FID"] == found.ours["CycleGAN SfM"]["FID"]
    assert all((tmp_path / "out" / name).is_file() for name in ("generators.png", "report.html"))
    curve = curves.to_dict()["curves"]["CycleGAN SfM"]
    assert {name: len(line) for name, line in curve.items()} == {"precision": 101, "recall": 101}
    assert Image.open(tmp_path / "out" / "generators.png").width > 2 * 256
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(lists.parent / "ims" / names[0])  # under its old name
    with pytest.raises(pytest.fail.Exception, match="judged again"):
        reproduce(request)


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


def test_training_is_called_for_a_recipe_without_weights(data, native, exported, out, tmp_path, monkeypatch):
    called = []

    def train(kind, recipe, changes, folder, *, data, say):
        called.append((kind, recipe, changes, data))
        folder.mkdir(parents=True)
        (folder / "embedder.safetensors").write_bytes(native.read_bytes())
        (folder / "whitening.npz").write_bytes(whitening.read_bytes())
        (folder / "train.json").write_text('{"recipe": "of_another_time", "config": {"seed": 5}}')

    root, row = tmp_path / "data", "CLAHE CD"
    shutil.copytree(data / "test", root / "test")
    found = reproduce(asked("5", root, out, [row], train=True))
    assert "imagenet-caffe-vgg16-features" in found.rows[0].reason  # the training's own weights are not there
    whitening = tmp_path / "whitening.npz"
    Whitening(np.zeros(8), np.eye(8)[:6], "lw").save(whitening)
    monkeypatch.setattr("gloam.workflows.reproduce.trainings.train", train)
    monkeypatch.setattr("gloam.workflows.reproduce.trainings.recipe_inputs", lambda recipe, data: [])
    found = reproduce(asked("5", root, out, [row], train=True, budget=60.0))
    ((kind, recipe, changes, place),) = called
    assert (kind, recipe, place) == ("metric", "vgg16_clahe_cd", root)
    assert changes["seed"] == 0
    assert 0 < changes["max_minutes"] < 60
    assert found.ours[row]["Tokyo"] > 50
    (member,) = found.rows[0].facts["members"]
    assert [Path(one["file"]).name for one in member["weights"]] == ["embedder.safetensors", "whitening.npz"]
    assert member["whitened"] == "lw"
    assert member["from"] == "trained by recipe of_another_time, seed 5"  # as its record says


def test_a_generator_is_trained_before_its_embedder_and_put_where_the_recipe_looks(data, tmp_path, monkeypatch):
    called = []

    def train(kind, recipe, changes, folder, **more):
        called.append((kind, recipe, changes))
        made = tmp_path / "made.safetensors"
        made.write_bytes(b"generator")
        return SimpleNamespace(weights={"day2night": made})

    monkeypatch.setattr("gloam.workflows.reproduce.trainings.train", train)
    monkeypatch.delenv("CIRTORCH_ROOT", raising=False)
    monkeypatch.delenv("TRANSIENT_ATTRIBUTES", raising=False)
    trainings = Trainings(tmp_path, lambda line: None, (3.0, 1.0))
    with pytest.raises(DataError, match=r"imagenet-caffe-vgg16.*gloam pull imagenet-caffe-vgg16"):
        trainings.embedder("vgg16_cyclegan_cd", 0)
    ((kind, recipe, changes),) = called
    assert (kind, recipe, changes["max_minutes"]) == ("translator", "cyclegan", 3.0)
    assert changes["data"]["root"] == str(tmp_path / "train/retrieval-SfM-120k/ims")
    assert (tmp_path / "networks" / "cyclegan_generator_X.safetensors").read_bytes() == b"generator"
    with pytest.raises(DataError, match=r"hed_sniklaus_github\.pth: is not there; gloam pull hed_sniklaus"):
        trainings.embedder("vgg16_hedngan_cd", 0)
    with pytest.raises(DataError, match=r"hed_sniklaus_github\.pth: is not there"):
        trainings.embedder("vgg16_hedmac", 0)
    with pytest.raises(DataError, match="no recipe of gloam trains it"):
        trainings.embedder("vgg16_drit_cd", 0)
    assert generator_data("thesis_cyclegan", tmp_path)["data"]["root"] == str(
        tmp_path / "day-night" / "transient_attributes"
    )


@pytest.mark.slow  # an export and a store
def test_a_whitening_is_learned_from_the_pairs_made_for_it(data, native, tmp_path):
    root = tmp_path / "data"
    folder = root / "train" / "retrieval-SfM-120k"
    folder.mkdir(parents=True)
    trained = root / "experiments" / "r" / "embedder.safetensors"
    trained.parent.mkdir(parents=True)
    trained.write_bytes(native.read_bytes())
    trainings = Trainings(root, lambda line: None)
    with pytest.raises(DataError, match=r"-whiten\.pkl: is not there"):
        trainings.whitening(trained)
    shutil.copytree(data / "test" / "247tokyo1k" / "jpg", folder / "ims")
    names = sorted(path.name for path in (folder / "ims").iterdir())
    part = {
        "cids": names,
        "cluster": [at // 3 for at in range(18)],
        "qidxs": list(range(0, 18, 3)),
        "pidxs": list(range(1, 18, 3)),
    }
    (folder / "retrieval-SfM-120k-whiten.pkl").write_bytes(pickle.dumps(part))
    file = trainings.whitening(trained)
    assert file == trained.parent / "whitening.npz"
    found = Whitening.load(file)
    assert (found.name, found.input_dimension, found.provenance["pairs"]) == ("lw", 8, 6)
    assert trainings.whitening(trained) == file


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
    beside = np.concatenate([block for _, block in joined(sources).blocks()])
    expected = np.mean([item.descriptors @ item.descriptors.T for item in sources], axis=0)
    assert np.allclose(beside @ beside.T, expected, atol=1e-6)
    with pytest.raises(DataError, match="different images"):
        joined([sources[0], DescriptorArray(list("edcba"), sources[1].descriptors)])
