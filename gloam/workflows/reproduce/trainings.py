"""What a row of a paper's table lacks, trained below the data folder: its generator, its embedder, its whitening."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.data.published.names import find_published
from gloam.data.retrieval_sets.sfm import read_sfm
from gloam.errors import DataError
from gloam.files import replaced_when_whole, write_text
from gloam.heartbeat import Say
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.models.embedder import Embedder
from gloam.training.config_changes import merge
from gloam.training.embedders.whitening import WhiteningRequest, learn_whitening
from gloam.training.train import train
from gloam.training.translators.config import RECIPES
from gloam.training.typed_config import recipe_mapping
from gloam.workflows.reproduce.images import MAX_SIDE
from gloam.workflows.reproduce.models import open_embedder
from gloam.workflows.reproduce.rows import (
    DETECTORS,
    EXPERIMENTS,
    MAKERS,
    TRAINED,
    TRAINING_IMAGES,
    WEIGHTS,
    WHITENING_TABLE,
    WHITENINGS,
    Missing,
    detector_of,
    experiment,
    maker_of,
    product_of,
    recipe_inputs,
)

DAY_NIGHT = Path("day-night")  # of the data folder: sets that recipes name by environment variables
NATIVE = ".safetensors"
CIRTORCH = "$CIRTORCH_ROOT/data"  # in recipes: the data folder
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass
class Trainings:
    """Trains what is asked for, once; what an earlier call trained is used again, and a killed training carries on.

    Attributes:
        data: folder in the layout of cirtorch.
        say: gets one line per step.
        minutes: of each generator and each embedder, at most; None for no limit.
        embedder_changes, generator_changes: keys of every recipe replaced.
    """

    data: Path
    say: Say
    minutes: tuple[float, float] | None = None
    embedder_changes: Mapping[str, Any] = field(default_factory=dict)
    generator_changes: Mapping[str, Any] = field(default_factory=dict)

    def embedder(self, recipe: str, seed: int) -> Path:
        """Weights of a recipe of metric learning, its whitening beside them.

        Raises:
            DataError: files that the training reads are not there; the first is named with where it is from.
            GloamError: a training that cannot be done.
        """
        for file in (maker_of(recipe, self.data), detector_of(recipe, self.data)):
            if file is None or file.exists():
                continue
            if file.stem in DETECTORS:
                self.detector(file)
            else:
                self.generator(file)
        expect(recipe_inputs(recipe, self.data))
        folder = experiment(self.data, recipe, seed)
        changes: dict[str, Any] = {"seed": seed}
        if self.minutes is not None:
            changes["max_minutes"] = self.minutes[1]
        train("metric", recipe, merge(changes, self.embedder_changes), folder, data=self.data, say=self.say)
        return folder / TRAINED

    def whitening(self, weights: Path) -> Path:
        """A whitening of an embedder at the test protocol's scales, learned from the pairs made for it.

        Raises:
            DataError: these pairs are not there.
        """
        for name in WHITENINGS:
            if (weights.parent / name).is_file():
                return weights.parent / name
        table, images = self.data / WHITENING_TABLE, self.data / TRAINING_IMAGES
        published = find_published("retrieval-SfM-120k")
        command = f"gloam pull {published.name} --to {table.parent}"
        expect([Missing(path, command) for path in (table, images) if not path.exists()])
        self.say(f"{weights.parent.name}: whitening")
        found = read_sfm(table, images)
        place = weights.parent / "whitening"
        embedder = open_embedder([weights], place)
        extract(
            found.images, Embedder.load(embedder.model), place / "store", ExtractOptions(max_side=MAX_SIDE), grow=True
        )
        names = found.names
        pairs = place / "pairs.txt"
        write_text(
            pairs, "".join(f"{names[q]} {names[p]}\n" for q, p in zip(found.queries, found.positives, strict=True))
        )
        target = weights.parent / WHITENINGS[0]
        learn_whitening(WhiteningRequest(place / "store", target, pairs=pairs))
        return target

    def generator(self, maker: Path) -> None:
        """Train what makes a recipe's nights, or finds its edges, and put it where the recipe looks for it.

        Raises:
            DataError: no recipe of gloam trains it, or files that the training reads are not there.
            GloamError: a training that cannot be done.
        """
        recipe = MAKERS.get(maker.stem)
        if recipe is None:
            raise DataError(f"{maker}: no recipe of gloam trains it; import the authors' weights with gloam import")
        folder = self.data / EXPERIMENTS / recipe
        changes: dict[str, Any] = generator_data(recipe, self.data)
        if self.minutes is not None:
            changes["max_minutes"] = self.minutes[0]
        detector = recipe_mapping(RECIPES, recipe).get("options", {}).get("detector")
        if detector is not None:
            changes["options"] = {
                "detector_weights": str(self.detector(self.data / WEIGHTS / f"{detector}_bsds500{NATIVE}"))
            }
        self.say(f"{maker.name}: recipe {recipe}")
        made = train("translator", recipe, merge(changes, self.generator_changes), folder, say=self.say)
        maker.parent.mkdir(parents=True, exist_ok=True)
        with replaced_when_whole(maker) as whole:
            shutil.copyfile(made.weights[product_of(maker)], whole)

    def detector(self, native: Path) -> Path:
        """A native checkpoint of an edge detector, imported from its published weights where it is not there.

        Raises:
            DataError: these weights are not there.
        """
        if native.is_file():
            return native
        published = find_published(DETECTORS[native.stem])
        file = native.parent / published.files[0]
        expect([] if file.is_file() else [Missing(file, f"gloam pull {published.name} --to {file.parent}")])
        from gloam.networks.checkpoints import save_checkpoint
        from gloam.networks.foreign.read import import_network

        found = import_network(file, published.family)
        save_checkpoint(native, found.model, found.provenance)
        return native


def expect(missing: list[Missing]) -> None:
    """Nothing is missing.

    Raises:
        DataError: naming the first file, and how many there are.
    """
    if missing:
        more = f" ({len(missing)} files are missing)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0].path}: is not there{more}; {missing[0].where}")


def generator_data(recipe: str, data: Path) -> dict[str, Any]:
    """Changes of a generator's recipe: the data folder, and sets below it, for variables that are not set."""

    def placed(text: str) -> str:
        text = text.replace(CIRTORCH, str(data)) if "CIRTORCH_ROOT" not in os.environ else text
        return VARIABLE.sub(
            lambda found: found[0] if found[1] in os.environ else str(data / DAY_NIGHT / found[1].lower()), text
        )

    stated = recipe_mapping(RECIPES, recipe).get("data", {})
    named = {key: stated[key] for key in ("root", "day", "night") if isinstance(stated.get(key), str)}
    changed = {key: placed(text) for key, text in named.items()}
    return {"data": {key: text for key, text in changed.items() if text != named[key]}}
