import json

import torch

from gloam.training.run_record import RunRecord, installed


def test_a_record_is_the_common_part_beside_what_a_kind_adds(tmp_path):
    record = RunRecord("town", {"epochs": 2}, "ab" * 32, "cpu", [{"epoch": 0}], {"best_epoch": 2})
    record.write(tmp_path)
    found = json.loads((tmp_path / "train.json").read_text())
    assert found == record.to_dict()
    assert set(found) == {
        "recipe",
        "config",
        "weights_sha256",
        "device",
        "history",
        "threads",
        "versions",
        "best_epoch",
    }
    assert found["threads"] == torch.get_num_threads()
    assert found["versions"] == installed()
    assert {"gloam", "python", "torch", "numpy"} <= set(found["versions"])


def test_what_a_kind_adds_never_hides_the_common_part():
    assert RunRecord("town", {}, "ab", "cpu", more={"recipe": "other", "step": 3}).to_dict()["recipe"] == "town"
