"""Trains what a row of the miniature needs, and describes the judged views by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.photometric import apply_photometric
from gloam.data.retrieval_sets.sets import RetrievalSet, read_retrieval_set
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.scores import evaluate_scores
from gloam.files import sha256_file, sha256_json
from gloam.heartbeat import Say
from gloam.model_card import Photometric
from gloam.runtime.descriptors.source import DescriptorArray, DescriptorSource
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.local_features import STRONGEST
from gloam.runtime.search.asmk import AsmkIndex, Codebook
from gloam.workflows.reproduce.begun import begun
from gloam.workflows.reproduce.models import photometric_of
from gloam.workflows.reproduce.town.rows import GENERATORS, NO_NOISE, TownRow

JUDGED = (71, 83)  # streets that nothing is trained or chosen on
SCALES = (2.0, 1.0, 0.5)  # of HOW's features; its seven would be of views far larger than these
WORDS = 256  # of HOW's codebook
DETECTOR = "town_hed"  # recipe of edge detectors
Pixels = npt.NDArray[np.uint8]


@dataclass
class TownRun:
    """Trains what a row needs, once; what an earlier run trained here within as many minutes is used again, and within
    fewer is carried on.

    Attributes:
        folder: for networks, nights and rendered streets.
        minutes: processor time for each generator, at most.
        seed: of embedders and generators.
        embedder_changes, generator_changes: keys of every recipe replaced.
        say: gets one line per stage.
        look: of the streets that everything is trained on.
        detector_changes: keys of the edge detectors' recipe replaced.
        embedder_minutes: of each embedder, at most; None for the whole recipe.
        trained_here: folders of the runs that were asked for since it was emptied.
    """

    folder: Path
    minutes: float
    seed: int
    embedder_changes: dict[str, Any]
    generator_changes: dict[str, Any]
    say: Say | None
    look: int = 1
    detector_changes: dict[str, Any] = field(default_factory=dict)
    embedder_minutes: float | None = None
    trained_here: list[Path] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """Say a line."""
        if self.say is not None:
            self.say(line)

    def detector(self, kind: str) -> Path:
        """Weights of an edge detector, trained on the town's own edges."""
        from gloam.training.config_changes import merge
        from gloam.training.train import train

        self.tell(f"{kind.upper()}: training on the town's own edges")
        own = {} if kind == "hed" else {"network": kind}
        changed = f"-{sha256_json(self.detector_changes)[:8]}" if self.detector_changes else ""
        place = self.folder / f"{kind}{changed}"
        self.trained_here.append(place)
        return train("edges", DETECTOR, merge(own, self.detector_changes), place).weights

    def generator(self, name: str) -> Any:
        """The summary of a generator's training."""
        from gloam.training.config_changes import merge
        from gloam.training.train import train

        spec = GENERATORS[name]
        data: dict[str, Any] = {"reserved_seeds": list(JUDGED)}
        changes: dict[str, Any] = {"seed": self.seed, "max_minutes": self.minutes, "tensorboard": False, "data": data}
        changes = merge(changes, spec.changes)
        if self.look != 1:
            changes = merge(changes, {"data": {"look": self.look}, "options": NO_NOISE})
        if spec.detector:
            changes = merge(changes, {"options": {"detector_weights": str(self.detector(spec.detector))}})
        self.tell(f"{name}: training, at most {self.minutes:.3g} minutes")
        label = "-".join((spec.recipe, name.replace(" ", "-"))) if spec.changes else spec.recipe
        place = begun(self.folder / f"{label}-{self.seed}{self._of_look}", self.minutes)
        self.trained_here.append(place)
        return train("translator", spec.recipe, merge(changes, self.generator_changes), place, views=self._views)

    @property
    def _views(self) -> Path:
        """Rendered streets, shared by all trainings."""
        return self.folder / "views"

    @property
    def _of_look(self) -> str:
        return "" if self.look == 1 else f"-look{self.look}"

    def _changes(self, row: TownRow) -> dict[str, Any]:
        from gloam.training.config_changes import merge
        from gloam.training.embedders.config import read_metric_recipe

        changes = merge(merge({"seed": self.seed}, row.changes), self.embedder_changes)
        if self.embedder_minutes is not None:
            changes["max_minutes"] = self.embedder_minutes
        if self.look != 1:
            data = read_metric_recipe(row.recipe or "town_day", changes).data
            look = {"look": self.look}
            sets = {"train": {**data.train, **look}, "validation": {**data.validation, **look}}
            changes = merge(changes, {"data": sets})
        return changes

    def trained(self, row: TownRow) -> Path:
        """Weights of a row's embedder; their provenance states the normalisation of its images."""
        from gloam.training.config_changes import merge
        from gloam.training.train import train

        changes = self._changes(row)
        parts = [row.recipe, row.maker, row.label or "-".join(sorted(row.changes))]
        if row.maker:
            changes = merge(changes, {"maker": str(self.generator(row.maker).weights["day2night"])})
        if row.detector:
            of_student = row.detector in GENERATORS
            file = self.generator(row.detector).weights["student"] if of_student else self.detector(row.detector)
            changes = merge(changes, {"detector_weights": str(file)})
        key = "-".join(part.replace(" ", "-") for part in parts if part)
        of_generator = f"-{self.minutes:g}" if row.maker or row.detector in GENERATORS else ""
        place = begun(self.folder / f"{key}-{self.seed}{of_generator}{self._of_look}", self.embedder_minutes)
        self.tell(f"{key}: training")
        self.trained_here.append(place)
        return train("metric", row.recipe, changes, place, nights=self.folder / "nights", views=self._views).weights

    def untrained(self, row: TownRow) -> Any:
        """A row's network with random weights."""
        import torch

        from gloam.networks.embedders import create_embedder
        from gloam.training.embedders.config import read_metric_recipe

        config = read_metric_recipe(row.recipe or "town_day", self._changes(row))
        torch.manual_seed(self.seed)
        return create_embedder(config.network, **config.network_options)

    def opened(self, row: TownRow) -> tuple[Any, Photometric, dict[str, Any]]:
        """A row's network, the normalisation of its images, and what a reader must know of it."""
        from gloam.networks.checkpoints import load_checkpoint

        if not row.recipe:
            model = self.untrained(row)
            facts: dict[str, Any] = {"weights": [], "network": model.name, "from": f"random, seed {self.seed}"}
            return model, Photometric(), facts | _setting(model, Photometric())
        file = self.trained(row)
        trained = load_checkpoint(file)
        photometric = photometric_of(trained.provenance)
        made = f", nights by {row.maker} of {self.minutes:.3g} minutes" if row.maker else ""
        origin = f"trained here by recipe {row.recipe}, seed {self.seed}{made}"
        facts = {
            "weights": [{"file": str(file), "sha256": sha256_file(file)}],
            "network": trained.model.name,
            "recipe": row.recipe,
            "from": origin,
        }
        return trained.model, photometric, facts | _setting(trained.model, photometric)

    def described(self, row: TownRow, views: RetrievalSet) -> DescriptorSource:
        """Descriptors of the judged views by a row's embedder."""
        model, photometric, _ = self.opened(row)
        return describe_views(model, views, photometric)

    def by_asmk(
        self, model: Any, photometric: Photometric, row: TownRow, views: RetrievalSet, truths: Mapping[str, GroundTruth]
    ) -> dict[str, float]:
        """mAP x 100 of a HOW network by set, its codebook learned from the training streets' strongest features."""
        import torch

        from gloam.training.embedders.asmk_validation import strongest_features
        from gloam.training.embedders.config import read_metric_recipe
        from gloam.training.embedders.image_sets import open_set

        def local(view: Pixels, scales: tuple[float, ...]) -> npt.NDArray[np.float32]:
            pixels = apply_photometric(view, photometric)
            return strongest_features(model, pixels, torch.device("cpu"), scales, STRONGEST)

        learned = open_set(read_metric_recipe(row.recipe, self._changes(row)).data.train, self._views, self.say)
        every = np.concatenate([local(learned.image(at), (1.0,)) for at in range(len(learned))])
        codebook = Codebook.learn(every, min(WORDS, max(len(every) // 8, 1)), seed=self.seed)
        found = {item.name: local(views.image(at), SCALES) for at, item in enumerate(views.images)}
        index = AsmkIndex(codebook)
        for name, rows in found.items():
            index.add(name, rows)
        asked = {name: index.search(rows) for name, rows in found.items()}
        return {
            name: 100 * evaluate_scores({one: asked[one] for one in truth.query_names}, index.names, truth).mAP
            for name, truth in truths.items()
        }


def judged_views(stated: Mapping[str, Any]) -> RetrievalSet:
    """The views that rows are judged on: of reserved streets, unless arguments say otherwise."""
    usual = {"seeds": JUDGED, "places": 24, "views_per_place": 6, "conditions": ("day", "dusk", "night")}
    return read_retrieval_set("town", **{**usual, **stated})


def describe_views(
    model: Any, views: RetrievalSet, photometric: Photometric, through: ImageOperation | None = None
) -> DescriptorArray:
    """Unit descriptors by the network itself, one view at a time: nothing is exported here.

    Args:
        model: an embedder.
        views: in memory.
        photometric: of its images.
        through: what translates every view first.
    """
    import torch

    rows = []
    with torch.inference_mode():
        for index in range(len(views)):
            view = views.image(index)
            image = apply_photometric(through([view])[0] if through is not None else view, photometric)
            rows.append(model.eval().describe_uint8(torch.from_numpy(np.ascontiguousarray(image))[None]).numpy()[0])
    return DescriptorArray([item.name for item in views.images], np.stack(rows).astype(np.float32))


def _setting(model: Any, photometric: Photometric) -> dict[str, Any]:
    return {
        "dimension": model.dimension,
        "whitened": False,
        "scales": [1.0],
        "photometric": photometric.name,
    }
