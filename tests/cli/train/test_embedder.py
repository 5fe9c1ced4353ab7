import json

import pytest

from gloam.cli import main
from gloam.networks.checkpoints import load_checkpoint
from tests.training.embedders.synthetic import pattern_views

TINY = """
network_options: {width: 8}
tuples: 6
batch_places: 3
images_per_place: 2
negatives: 2
data:
  train: {kind: town, seeds: [901, 902], places: 3, views_per_place: 2, conditions: [day, night], size: [64, 48]}
  validation: {kind: town, seeds: [903], places: 3, views_per_place: 2, conditions: [day, night], size: [64, 48]}
"""


def test_trains_and_reports_beside_its_controls(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gloam.data.retrieval_sets.streets.render_training_views", pattern_views)
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    command = ["train", "embedder", "-o", str(tmp_path / "run"), "--config", str(config), "--epochs", "1", "--json"]
    assert main.main(command) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert data["best_epoch"] == 1
    assert {"validation_mAP", "untrained_mAP", "chance_mAP"} <= set(data)
    assert load_checkpoint(data["weights"]).provenance["weights_sha256"] == data["weights_sha256"]


@pytest.mark.parametrize(
    ("content", "message"), [("epoch: 2", "did you mean 'epochs'?"), ("network: gem_vgg61", "did you mean gem_vgg16?")]
)
def test_mistakes_are_one_line_and_render_nothing(tmp_path, capsys, content, message):
    config = tmp_path / "c.yaml"
    config.write_text(content)
    assert main.main(["train", "embedder", "-o", str(tmp_path / "run"), "--config", str(config)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()
