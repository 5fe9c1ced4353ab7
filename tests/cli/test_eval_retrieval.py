import json
from typing import ClassVar

import numpy as np
import pytest

from gloam.cli import main
from gloam.errors import StoreError


class Store:
    """Stands in for a folder of shards."""

    stores: ClassVar[dict] = {}
    space, fingerprint = "s" * 64, "f" * 64

    def __init__(self, names, rows):
        self.names, self.rows = names, np.array(rows, np.float32)

    @classmethod
    def open(cls, folder):
        if folder.name not in cls.stores:
            raise StoreError(f"{folder}: no descriptors there")
        return cls.stores[folder.name]

    def load(self):
        return self.rows


@pytest.fixture
def truth(tmp_path, monkeypatch):
    monkeypatch.setattr("gloam.runtime.store.DescriptorStore", Store)
    Store.stores = {"q": Store(["n1", "n2"], [[1, 0], [0, 1]]), "m": Store(["d1", "d2"], [[1, 0], [0.6, 0.8]])}
    path = tmp_path / "truth.json"
    value = {"imlist": ["d1", "d2"], "qimlist": ["n1", "n2"], "gnd": [{"ok": [0]}, {"ok": [0]}]}
    path.write_text(json.dumps({"night2day": value}))
    return path


def test_prints_scores_per_condition_beside_chance(truth, tmp_path, capsys):
    lists = tmp_path / "conditions"
    lists.mkdir()
    (lists / "night.txt").write_text("n1\n")
    command = ["eval", "retrieval", "--query", "q", "--map", "m", "--ground-truth", str(truth)]
    assert main.main([*command, "--set", "night2day", "--conditions", str(lists), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["recall"]["1"] == 0.5
    assert data["mAP"] == pytest.approx((1 + 0.25) / 2)
    assert data["conditions"]["night"]["mAP"] == 1
    assert data["chance"]["recall"]["1"] == 0.5
    assert main.main(command) == 0
    assert "chance" in capsys.readouterr().out


def test_a_wrong_set_is_one_line(truth, capsys):
    command = ["eval", "retrieval", "--query", "q", "--map", "m", "--ground-truth", str(truth), "--set", "x"]
    assert main.main(command) == 2
    assert "no set 'x'; choose one of night2day" in capsys.readouterr().err
