"""Images of many domains: from folders, from a file of weak pairs, through batches into a run that is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gloam.errors import DataError, UsageError
from gloam.networks.checkpoints import load_generator
from gloam.training.translators.batches import DomainBatches, open_batches
from gloam.training.translators.config import TranslatorConfig, fill_translator_config
from gloam.training.translators.data_config import DataConfig
from tests.training.translators.runs import train
from tests.training.translators.test_steps import Killed, assert_same_state, killed_after

LEVELS = {"day": 180, "night": 40, "snow": 230}
NAMES = tuple(LEVELS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four places in three domains, of which the last is missing by night; ``pairs.csv`` pairs day and snow."""
    root = tmp_path_factory.mktemp("domains")
    random = np.random.default_rng(0)
    for domain, level in LEVELS.items():
        (root / domain).mkdir()
        for place in range(3 if domain == "night" else 4):
            picture = random.normal(level, 5, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / domain / f"{place}.png"), cv2.resize(picture, (70, 68)))
    rows = [f"day/{at}.png,day,snow/{at}.png,snow,{'test' if at == 3 else 'train'}" for at in range(4)]
    (root / "pairs.csv").write_text("\n".join(["path_a,domain_a,path_b,domain_b,part", *rows]))
    return root


def config(images: Path, **changes: Any) -> DataConfig:
    values = {"kind": "domain_folders", "root": str(images), "transform": "square", "size": 64, "flip": True}
    return DataConfig(**{**values, "held_out_share": 0.25, **changes})


def opened(images: Path, **changes: Any) -> DomainBatches:
    return open_batches(config(images, **changes), 4, 0, domains=NAMES)


def test_both_images_of_a_row_show_one_place_in_the_domains_that_it_states(images: Path) -> None:
    batches = opened(images)
    seen = set()
    for step in range(12):
        source, target, names, domains = batches.batch(step)  # type: ignore[misc]
        assert domains.shape == (4, 2)
        assert domains.dtype == torch.int64
        for row, (first, second) in enumerate(domains.tolist()):
            assert first != second
            assert names[row] == f"{NAMES[first]}/{Path(names[4 + row]).name}"
            assert names[4 + row].startswith(f"{NAMES[second]}/")
            for picture, label in ((source[row], first), (target[row], second)):
                assert abs(float(picture.mean()) - (LEVELS[NAMES[label]] / 127.5 - 1)) < 0.1
            seen.add((first, second))
    assert len(seen) == 6  # every direction
    again = opened(images).batch(5)
    assert all(torch.equal(a, b) for a, b in zip(again[:2], batches.batch(5)[:2], strict=True))
    _, _, domains = batches.held_out(9)  # type: ignore[misc]
    assert set(map(tuple, domains.tolist())) <= {(0, 1), (0, 2), (1, 2)}


def test_a_file_of_weak_pairs_holds_out_its_test_part(images: Path) -> None:
    listed = config(images, kind="weak_pairs", day=str(images / "pairs.csv"), root=None)
    batches = open_batches(listed, 4, 0, domains=("day", "snow"))
    names = {name for step in range(8) for name in batches.batch(step)[2]}
    assert names == {f"{domain}/{place}.png" for domain in ("day", "snow") for place in range(3)}
    assert len(batches.held_out(8)[0]) == 1


def test_what_cannot_be_read_is_one_line(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder of domain 'rain'; its folders are day, night, snow"):
        open_batches(config(images), 4, 0, domains=("day", "rain"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="no image name is in two of the domains a, b"):
        open_batches(config(tmp_path), 4, 0, domains=("a", "b"))
    table = tmp_path / "pairs.csv"
    table.write_text("path_a,domain_a,path_b,domain_b\nday/0.png,day,snow/0.png,snow\n")
    with pytest.raises(DataError, match="no pairs of part 'test'"):
        open_batches(config(images, kind="weak_pairs", day=str(table)), 4, 0, domains=("day", "snow"))
    with pytest.raises(UsageError, match="rain"):
        open_batches(config(images, kind="weak_pairs", day=str(table)), 4, 0, domains=("day", "rain"))


def run_config(images: Path, trainer: str) -> TranslatorConfig:
    narrow: dict[str, Any] = {
        "weakly_paired": {
            "generator_options": {"width": 2, "base": [2, 2], "latent": 3},
            "discriminator_options": {"width": 4},
            "perceptual_weight": 0.0,
            "average_decay": 0.9,
        },
        "ganimation": {
            "generator_options": {"width": 4, "blocks": 1},
            "discriminator_options": {"width": 4, "layers": 3},
            "judge_steps": 2,
        },
    }
    value = {
        "trainer": trainer,
        "options": {"domains": list(NAMES), "epochs": 2, "decay_epochs": 1, **narrow[trainer]},
        "data": {"kind": "domain_folders", "root": str(images), "transform": "square", "size": 64, "flip": True},
        "batch": 2,
        "steps_per_epoch": 3,
        "device": "cpu",
        "log_every": 2,
        "save_every": 2,
        "held_out": 2,
        "strip_rows": 2,
        "threads": 1,
        "tensorboard": False,
    }
    return fill_translator_config(value, "test")


@pytest.mark.parametrize("trainer", ["weakly_paired", "ganimation"])
def test_a_killed_run_carries_on_bit_for_bit(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    train(run_config(images, trainer), tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            train(run_config(images, trainer), tmp_path / "resumed")
    train(run_config(images, trainer), tmp_path / "resumed")
    assert_same_state(tmp_path / "whole", tmp_path / "resumed")
    made = [load_generator(tmp_path / place / "translator.safetensors") for place in ("whole", "resumed")]
    assert made[0].provenance["weights_sha256"] == made[1].provenance["weights_sha256"]
    assert made[0].model.options["domains"] == list(NAMES)
    record = json.loads((tmp_path / "whole/train.json").read_text())
    assert record["config"]["options"]["domains"] == list(NAMES)
