"""The benchmark of the town's weather: which models it runs, and its shape at toy size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import town_weather
from benchmarks.town_weather import FULL, OWN, SEEDS, VARIANTS, Model, Places, over_seeds, retrieved
from gloam.data.town.drives.config import DrivesConfig
from gloam.runtime.models.translator import load_translator
from gloam.training.translators.config import read_translator_recipe
from gloam.training.translators.trainers.weakly_paired import WeaklyPairedOptions

TOY = DrivesConfig(
    domains=("overcast", "snow", "night"), train=(5,), val=(6,), test=(7,), length=30, spacing=10, width=128, height=96
)


class Colours:
    """A space of coarse colours."""

    name, weights_sha256 = "colours", "0"

    def features(self, images: list[np.ndarray]) -> np.ndarray:
        small = [cv2.resize(image, (4, 3), interpolation=cv2.INTER_AREA).ravel() for image in images]
        return np.asarray(np.stack(small) / 255 + 0.01, np.float32)


def test_every_model_runs_or_says_why_not() -> None:
    models, skipped = town_weather._models(())
    assert [model for model in models if model.name == FULL] == [Model(FULL, seed) for seed in SEEDS]
    assert {model.name for model in models} | set(skipped) >= {FULL, *VARIANTS, *OWN}
    assert all(skipped.values())
    assert town_weather.GEM not in skipped
    some, rest = town_weather._models(("spade:0",))
    assert some == [Model("spade", 0)]
    assert rest[town_weather.GEM] == "GLOAM_BENCH_ONLY leaves it out"
    assert rest["weakly_paired:1"] == "GLOAM_BENCH_ONLY leaves it out"


def test_variants_are_the_town_s_recipe_with_the_paper_s_changes(tmp_path: Path) -> None:
    drives: Any = SimpleNamespace(folder=tmp_path)

    def options(name: str, minutes: float = 20.0) -> Any:
        job = town_weather.weather_job(Model(name, 0), minutes, drives)
        config = read_translator_recipe(job.recipe, dict(job.overrides))
        assert config.data.day == str(tmp_path / "pairs.json")
        assert config.max_minutes == minutes
        return config.options

    full = options(FULL)
    assert isinstance(full, WeaklyPairedOptions)
    assert options("weakly_paired_no_gen_align").generator_options == {**full.generator_options, "alignment": False}
    assert options("weakly_paired_no_mask").generator_options == {**full.generator_options, "mask": False}
    assert options("weakly_paired_stack_discr").discriminator_options == {**full.discriminator_options, "stack": True}
    assert options("weakly_paired_no_classify_loss").class_weight == 0
    spade = options("spade")
    assert (spade.generator, spade.generator_options) == ("spade", full.generator_options)
    assert spade.discriminator_options == {**full.discriminator_options, "stack": True, "marginal": False}
    assert spade.perceptual_weight == full.perceptual_weight == 0
    assert options(FULL, 5.0).epochs == round(full.epochs / 4)
    assert options("ganimation").domains == full.domains


def test_retrieval_knows_right_from_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(town_weather, "DRIVES", TOY)
    rng = np.random.default_rng(0)
    places = [cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (128, 96)) for _ in range(12)]
    paths = {domain: [tmp_path / f"{domain}{row}.png" for row in range(12)] for domain in TOY.domains}
    for domain, files in paths.items():
        for file, image in zip(files, places, strict=True):
            cv2.imwrite(str(file), image if domain == "overcast" else 255 - image)
    same = Places(paths, {domain: [np.array([row]) for row in range(12)] for domain in TOY.domains})
    space = Colours()
    database = space.features([image[..., ::-1] for image in places])
    perfect = retrieved(same, space, database, lambda images: [255 - image for image in images])  # type: ignore[arg-type, return-value]  # what it asks of an operation
    assert perfect == {"snow": pytest.approx(1), "night": pytest.approx(1), "mean": pytest.approx(1)}
    assert retrieved(same, space, database, load_translator("none"))["mean"] < 0.9


def test_seeds_have_a_mean_and_a_deviation() -> None:
    means = {"FID": 5.0, "SIFT": None, "undefined": 1.0}
    rows = {f"m:{seed}": {"mean FID over untouched": float(seed), "mean": means} for seed in (1, 3)}
    found = over_seeds(rows, [Model("m", 1), Model("m", 3)])["m"]
    assert found["mean FID over untouched"] == {"mean": 2.0, "sd": pytest.approx(np.sqrt(2)), "seeds": 2}
    assert found["SIFT"] == {"mean": None, "sd": None, "seeds": 0}


@pytest.mark.slow
def test_the_whole_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(town_weather, "DRIVES", TOY)
    monkeypatch.setattr(town_weather, "judging_space", lambda folder: Colours())
    monkeypatch.setenv("GLOAM_BENCH_RUNS", str(tmp_path))
    monkeypatch.setenv("GLOAM_BENCH_ONLY", f"weakly_paired:0,mduit:0,{town_weather.GEM}")
    monkeypatch.setenv("GLOAM_TOWN_WEATHER_MINUTES", "0.05")
    found = town_weather.run()
    detail = found.detail
    assert found.met is None  # not the whole, nor the usual minutes
    row = detail["scores"]["weakly_paired:0"]
    assert found.value == row["mean FID over untouched"]
    assert set(row["domains"]) == set(TOY.domains)
    assert detail["scores"]["untouched"]["mean FID over untouched"] == 1
    tables = detail["mAP of queries on a map of overcast"]
    models = {"weakly_paired:0", "mduit:0"}
    assert set(tables) == {"untouched", *models, "CLAHE on queries and map", "z of mduit:0", town_weather.GEM}
    assert all(set(table) == {"snow", "night", "mean"} for table in tables.values())
    assert "GLOAM_BENCH_ONLY" in detail["not run"]["spade:0"]
    monkeypatch.setattr(town_weather, "score_domains", None)  # all is kept
    again = town_weather.run()
    assert again.value == found.value
