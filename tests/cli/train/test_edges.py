import json

import pytest

from gloam.cli import main
from gloam.networks.checkpoints import load_detector
from gloam.training.edges import train as detector
from tests.training.edges.test_train import drawn_views

TINY = """
network_options: {width: 4}
steps_per_epoch: 2
batch: 2
crop: 32
street_seeds: [901]
views: 2
validation_seed: 903
validation_views: 2
width: 48
height: 40
"""


def test_trains_and_reports_beside_its_controls(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(detector, "render_edge_views", drawn_views)
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    command = ["train", "edges", "-o", str(tmp_path / "run"), "--config", str(config), "--epochs", "1"]
    assert main.main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"trained", "untrained", "sobel", "canny"} == set(data["validation_f"]["night"])
    assert load_detector(data["weights"]).provenance["recipe"] == "town_hed"
    assert main.main(command) == 0
    assert "F-score by day on a held-out street" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"), [("epoch: 2", "did you mean 'epochs'?"), ("network: hde", "did you mean hed?")]
)
def test_mistakes_are_one_line_and_render_nothing(tmp_path, capsys, content, message):
    config = tmp_path / "c.yaml"
    config.write_text(content)
    assert main.main(["train", "edges", "-o", str(tmp_path / "run"), "--config", str(config)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()
