import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from gloam.data.sheets import GAP, HEADING, LEFT
from gloam.errors import StoreError
from gloam.training.embedders.samples import CELL, RETRIEVED, RIGHT, WRONG
from gloam.training.translators.monitor import Monitor
from gloam.workflows.reports.page.template import three_digits
from gloam.workflows.reports.training import REPORT_FILE, write_training_report
from tests.training.embedders.test_train import CONFIG
from tests.training.embedders.test_train import run as run_embedder
from tests.training.translators.runs import small_config, train, write_images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(small_config(write_images(folder / "images")), folder / "run")
    return folder / "run"


def test_one_page_with_samples_curves_and_facts(run):
    page = write_training_report(run)
    text = page.read_text(encoding="utf-8")
    assert page == run / REPORT_FILE
    assert text.count("data:image/jpeg;base64,") == 3  # after 0, 3 and 6 steps
    assert text.index("after 6 steps") < text.index("after 0 steps")
    assert "6 of 6 steps" in text
    assert "cycle_L1" in text
    assert 'class="line s1"' in text
    assert "options.cycle_weight" in text
    assert "<script" not in text
    assert text.count("http") == 0


def test_an_unfinished_run_has_a_page_too(tmp_path):
    monitor = Monitor(tmp_path, 0, tensorboard=False)
    for step in range(1, 1000):
        monitor.losses(step, 1, step, 2e-4, {"a_<b>": -step, "a_c": 1e-9})
    text = write_training_report(tmp_path).read_text(encoding="utf-8")
    assert "Unfinished: 999 steps so far." in text
    assert "a_&lt;b&gt;" in text
    assert "<b>" not in text
    assert len(text) < 40_000  # long curves are thinned


def test_a_folder_without_a_run_is_refused(tmp_path, run):
    with pytest.raises(StoreError, match="holds no training run"):
        write_training_report(tmp_path)
    for content in ("{", "[]"):
        (tmp_path / "train.json").write_text(content)
        with pytest.raises(StoreError, match=r"train\.json"):
            write_training_report(tmp_path)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedder")
    run_embedder(folder, dataclasses.replace(CONFIG, epochs=2, query_condition="night", map_condition="day"))
    return folder


def test_an_embedder_has_the_page_that_translators_have(embedder):
    text = write_training_report(embedder).read_text(encoding="utf-8")
    record = json.loads((embedder / "train.json").read_text())
    assert "Training of custom" in text
    assert f"epoch {record['best_epoch']} is the best" in text
    assert "Queries are by night, the images searched by day." in text
    for value in (record["untrained"]["mAP"], record["validation"]["mAP"], record["validation"]["chance_mAP"]):
        assert f'<td class="n">{three_digits(value)}</td>' in text
    strips = [f"epoch-{epoch:05d}.png" for epoch in range(3)]
    assert sorted(path.name for path in (embedder / "samples").iterdir()) == strips
    assert text.count("data:image/jpeg;base64,") == 3
    assert text.index("after 2 epochs") < text.index("before training")
    assert [key for key in ("samples", "held-out", "losses", "made") if f'<h2 id="{key}">' not in text] == []
    assert re.search(r'class="line s1"[^>]*><title>chance<', text)
    assert "night.mode" in text
    assert "<script" not in text
    assert text.count("http") == 0


def test_samples_frame_what_shows_the_place(embedder):
    with Image.open(embedder / "samples" / "epoch-00002.png") as opened:
        sheet = np.asarray(opened)
    width = LEFT + (1 + RETRIEVED) * (CELL[0] + GAP)
    assert sheet.shape[1] == width
    frames = {colour: int((sheet == colour).all(axis=2).sum()) for colour in (RIGHT, WRONG)}
    assert min(frames.values()) > 500
    first = sheet[HEADING:, LEFT : LEFT + CELL[0]]
    assert not any((first == colour).all(axis=2).any() for colour in (RIGHT, WRONG))  # the queries have none


def test_an_edge_detectors_record_has_a_page(tmp_path):
    record = {
        "recipe": "town_hed",
        "device": "cpu",
        "config": {"network": "hed", "seed": 0, "epochs": 2},
        "weights_sha256": "0" * 64,
        "versions": {"gloam": "1"},
        "best_epoch": 2,
        "validation_f": {"day": {"untrained": 0.1, "sobel": 0.4, "trained": 0.7}},
        "history": [{"epoch": n, "loss": 1 / n, "learning_rate": 1e-3, "day": 0.3 * n} for n in (1, 2)],
    }
    (tmp_path / "train.json").write_text(json.dumps(record))
    text = write_training_report(tmp_path).read_text(encoding="utf-8")
    assert "2 epochs on cpu; epoch 2 is the best" in text
    assert '<td>F-score by day</td><td class="n">0.100</td><td class="n">0.400</td><td class="n">0.700</td>' in text
    (tmp_path / "train.json").write_text(json.dumps({**record, "best_epoch": 1, "history": record["history"][:1]}))
    text = write_training_report(tmp_path).read_text(encoding="utf-8")
    assert "1 epoch on cpu; epoch 1 is the best" in text
    assert re.search(r'<path class="line s0" d="M[\d. ]+m-4 0h8">', text), "one point is seen, too"
