"""MDUIT's batches: who is in a step's company, which images are alike, and runs that are killed in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gloam.errors import DataError
from gloam.networks.checkpoints import load_checkpoint, load_generator
from gloam.training.translators.batches import NEAR_METRES
from gloam.training.translators.company import MOST_ALIKE, Alike, Beside, Company, most_alike
from gloam.training.translators.company_batches import CompanyBatches, open_company_batches
from gloam.training.translators.config import TranslatorConfig, fill_translator_config
from gloam.training.translators.data_config import DataConfig
from tests.training.translators.runs import train
from tests.training.translators.test_steps import Killed, assert_same_state, killed_after

LEVELS = {"day": 180, "night": 40, "snow": 230}
NAMES = tuple(LEVELS)
PLACES = 5


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five places in three domains; ``pairs.json`` knows positions: places are 10 m apart, the last is for tests."""
    root = tmp_path_factory.mktemp("company")
    random = np.random.default_rng(0)
    listed, pairs = [], []
    for domain, level in LEVELS.items():
        (root / domain).mkdir()
        for place in range(PLACES):
            picture = random.normal(level, 5, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / domain / f"{place}.png"), cv2.resize(picture, (36, 34)))
            part = "test" if place == PLACES - 1 else "train"
            listed.append([f"{domain}/{place}.png", domain, part, 10.0 * place, 0.0, 0.0])
            if domain == "day":
                for metres, other in ((1.0, "night"), (9.0, "snow")):
                    pairs.append([f"day/{place}.png", "day", f"{other}/{place}.png", other, metres, 2.0, part])
    content = {
        "format": "gloam weak pairs", "version": 1, "images_root": ".",
        "domains": [{"name": name} for name in NAMES], "images": listed, "pairs": pairs,
    }  # fmt: skip
    (root / "pairs.json").write_text(json.dumps(content))
    return root


def opened(images: Path, kind: str = "domain_folders", batch: int = 3, **beside: Any) -> CompanyBatches:
    where = {"root": str(images)} if kind == "domain_folders" else {"day": str(images / "pairs.json")}
    config = DataConfig(kind=kind, transform="square", size=32, held_out_share=0.2, **where)
    return open_company_batches(config, batch, 0, Beside(**{"negatives": 4, **beside}), NAMES)


def domain_of(picture: torch.Tensor) -> str:
    level = float((picture.mean() + 1) * 127.5)
    return min(LEVELS, key=lambda name: abs(LEVELS[name] - level))


def place_of(name: str) -> str:
    return Path(name).stem


@pytest.mark.parametrize("kind", ["domain_folders", "weak_pairs"])
def test_everyone_is_of_the_domain_and_the_place_that_the_role_asks_for(images: Path, kind: str) -> None:
    batches = opened(images, kind, place=True)
    for step in range(10):
        source, target, names, labels, company = batches.batch(step)  # type: ignore[misc]
        assert isinstance(company, Company)
        assert company.negatives is not None
        assert company.negatives.shape == (3, 4, 3, 32, 32)
        assert company.placed is not None
        assert len(names) == 3 * (2 + 3 + 1 + 4)
        roles = [names[3 * at : 3 * at + 3] for at in range(len(names) // 3)]
        for row in range(3):
            own, other = labels[row].tolist()
            source_name, target_name, same, different, content, place, *negatives = [role[row] for role in roles]
            assert source_name.startswith(NAMES[own])
            assert own != other
            for picture, name in (
                (source[row], source_name),
                (target[row], target_name),
                (company.same_domain[row], same),  # type: ignore[index]
                (company.other_domain[row], different),  # type: ignore[index]
                (company.negatives[row, 2], negatives[2]),
            ):
                assert domain_of(picture) == name.split("/")[0]
            assert target_name.split("/")[0] == same.split("/")[0] == NAMES[other]
            assert target_name != same
            assert different.split("/")[0] != NAMES[other]
            elsewhere = [content, *negatives]
            assert all(place_of(name) != place_of(source_name) for name in elsewhere)
            assert place_of(place) == place_of(source_name)
            assert bool(company.placed[row]) == (place != source_name)
    assert torch.equal(opened(images, kind, place=True).batch(7)[0], batches.batch(7)[0])


def test_partners_are_near_and_images_around_are_no_negatives(images: Path) -> None:
    """In the file day and snow are 9 m apart, which is no one place; positions say that they are."""
    batches = opened(images, "weak_pairs", place=True)
    names = batches._train.day.names
    rows = batches._rows.tolist()
    assert NEAR_METRES == 7.0
    assert sorted(names[row] for row in rows) == sorted(f"{d}/{p}.png" for d in NAMES for p in range(PLACES - 1))
    partners = {names[rows[a]]: [names[rows[b]] for b in found] for a, found in batches._partners.items()}
    assert partners["day/0.png"] == ["night/0.png"]
    assert "snow/0.png" not in partners
    near = {names[rows[place]] for place in batches.near([names[row] for row in rows].index("snow/0.png"))}
    assert near == {"day/0.png", "night/0.png", "snow/0.png"}


def test_only_what_is_asked_for_is_drawn(images: Path) -> None:
    *_, names, labels, company = opened(images, negatives=0, translation=False).batch(0)
    assert company == Company()
    assert len(names) == 6  # type: ignore[arg-type]
    assert labels.shape == (3, 2)  # type: ignore[union-attr]
    identities = [opened(images, **asked).identity for asked in ({}, {"negatives": 2}, {"mined": 1})]
    assert len({str(identity) for identity in identities}) == 3


def test_targets_and_mined_negatives_are_those_that_are_alike(images: Path) -> None:
    batches = opened(images, mined=2)
    count = len(batches.labels)
    others = [np.flatnonzero(batches.labels != batches.labels[row])[:1] for row in range(count)]
    targets = np.full((count, MOST_ALIKE), -1, np.int64)
    targets[:, :1] = others
    negatives = np.array([np.setdiff1d(np.arange(count), batches.near(row))[:2] for row in range(count)])
    before = batches.batch(1)
    batches.use(Alike(targets, negatives))
    names = batches._train.day.names
    drawn = set()
    for step in range(6):
        _, _, found, *_ = batches.batch(step)
        for row in range(3):
            place = [names[at] for at in batches._rows].index(found[row])
            assert found[3 + row] == names[batches._rows[others[place][0]]]
            assert [found[3 * at + row] for at in (5, 6)] == [names[batches._rows[at]] for at in negatives[place]]
            drawn.add(found[21 + row])
    assert len(drawn) > 3  # the other negatives are drawn
    batches.use(None)
    assert torch.equal(batches.batch(1)[1], before[1])


def test_a_batch_that_was_prepared_before_an_opinion_is_made_anew(images: Path) -> None:
    found = {}
    for workers in (0, 2):
        config = DataConfig(kind="domain_folders", root=str(images), transform="square", size=32, workers=workers)
        batches = open_company_batches(config, 3, 0, Beside(4), NAMES)
        batches.batch(0)  # prepares the next, where there are workers
        places = np.arange(len(batches.labels))
        targets = [places[batches.labels != label][:1] for label in batches.labels]
        batches.use(Alike(np.array(targets), np.zeros((len(places), 0), np.int64)))
        found[workers] = batches.batch(1)[2]
    assert found[0] == found[2]


def test_most_alike_are_of_other_domains_and_other_places() -> None:
    random = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(12, 4, generator=random), dim=1)
    labels = np.arange(12) % 3
    alike = most_alike(vectors, labels, lambda place: np.array([place, (place + 3) % 12]), 2)
    similarity = (vectors @ vectors.T).numpy()
    for row in range(12):
        others = [at for at in np.argsort(-similarity[row], kind="stable") if labels[at] != labels[row]]
        assert alike.targets[row].tolist() == others[:MOST_ALIKE]
        far = [at for at in np.argsort(-similarity[row], kind="stable") if at not in (row, (row + 3) % 12)]
        assert alike.negatives[row].tolist() == far[:2]
    few = most_alike(vectors[:3], np.array([0, 0, 1]), lambda place: np.arange(3), 2)
    assert few.targets[:2].tolist() == [[2, -1, -1, -1, -1]] * 2
    assert (sorted(few.targets[2, :2].tolist()), few.targets[2, 2:].tolist()) == ([0, 1], [-1, -1, -1])
    assert (few.negatives == -1).all()


def test_a_chunk_at_a_time_is_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = F.normalize(torch.randn(11, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    labels = np.arange(11) % 2
    whole = most_alike(vectors, labels, lambda place: np.array([place]), 3)
    monkeypatch.setattr("gloam.training.translators.company.CHUNK", 4)
    parts = most_alike(vectors, labels, lambda place: np.array([place]), 3)
    assert np.array_equal(whole.targets, parts.targets)
    assert np.array_equal(whole.negatives, parts.negatives)


def test_what_cannot_be_drawn_from_is_one_line(images: Path, tmp_path: Path) -> None:
    for domain, count in (("a", 3), ("b", 2)):
        (tmp_path / domain).mkdir()
        for place in range(count):
            cv2.imwrite(str(tmp_path / domain / f"{place}.png"), np.zeros((40, 40, 3), np.uint8))
    config = DataConfig(kind="domain_folders", root=str(tmp_path), transform="square", size=32, held_out_share=0.5)
    with pytest.raises(DataError, match="each domain needs at least two images to train on; 'b' has 1"):
        open_company_batches(config, 2, 0, Beside(4), ("a", "b"))


def run_config(images: Path, trainer: str, **options: Any) -> TranslatorConfig:
    value = {
        "trainer": trainer,
        "options": {
            "domains": list(NAMES),
            "epochs": 2,
            "decay_epochs": 1,
            "generator_options": {"width": 2, "blocks": 1, **({"stages": [[4, 1]] * 3} if trainer == "mduit" else {})},
            "discriminator_options": {"width": 4, "layers": 1},
            "dimension": 4,
            "negatives": 3,
            "mined_negatives": 1,
            "average_decay": 0.9,
            **options,
        },
        "data": {"kind": "domain_folders", "root": str(images), "transform": "square", "size": 32, "flip": True},
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


@pytest.mark.parametrize("trainer", ["mduit_content", pytest.param("mduit", marks=pytest.mark.slow)])
def test_a_killed_run_carries_on_bit_for_bit(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    """It dies after a save within the second epoch, whose opinion the networks of that save no longer have."""
    config = run_config(images, trainer, **({"appearance_learned": True} if trainer == "mduit" else {}))
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            train(config, tmp_path / "resumed")
    train(config, tmp_path / "resumed")
    assert_same_state(tmp_path / "whole", tmp_path / "resumed")
    made = [load_checkpoint(tmp_path / place / "embedder.safetensors") for place in ("whole", "resumed")]
    assert made[0].provenance["weights_sha256"] == made[1].provenance["weights_sha256"]
    assert made[0].model.name == "mduit_content"
    if trainer == "mduit":
        network: Any = load_generator(tmp_path / "resumed/translator.safetensors").model
        whole: Any = load_generator(tmp_path / "whole/translator.safetensors").model
        bank = network.get_buffer("bank")
        assert torch.equal(bank, whole.get_buffer("bank"))
        assert bank.abs().amax(1).min() > 0  # of every domain
        assert torch.equal(torch.tensor(network.towards("snow")[0].default), bank[2])
        state, embedder = network.content.state_dict(), made[1].model.get_submodule("content").state_dict()
        assert all(torch.equal(value, embedder[key]) for key, value in state.items())
