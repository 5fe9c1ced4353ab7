"""The generators behind the thesis's rows, judged on Retrieval-SfM: the FID column, and the figure of their curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.data.day_night.papers import read_sfm
from gloam.data.images import decode_image
from gloam.data.sources import ImageItem
from gloam.errors import DataError
from gloam.eval.translation.features import FeatureExtractor, Features
from gloam.files import read_json, sha256_file, sha256_json, write_json
from gloam.heartbeat import Say
from gloam.record import fill_dataclass
from gloam.runtime.models.image_model import Pixels
from gloam.workflows.evaluation.translation import INCEPTION, open_extractor
from gloam.workflows.reproduce.generator_scores import NightScores, describe_images, score_nights
from gloam.workflows.reproduce.images import made_of
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.result import SHEET, SHOWN
from gloam.workflows.reproduce.rows import (
    DAY_LIST,
    INCEPTION_WEIGHTS,
    MAKERS,
    NIGHT_LIST,
    TRAINING_IMAGES,
    Missing,
    maker_of,
    origin,
)
from gloam.workflows.reproduce.trainings import Trainings, expect
from gloam.workflows.translation_grid import side_by_side, write_sheet

SIDE = 256  # longer side of what is translated and judged, pixels, as the generators' training crops
NOTE = (
    f"FID: of nights made of Retrieval-SfM's images by day against its images by night, longer side {SIDE} px, "
    "features "
    "of Inception as torch-fidelity has it; the thesis does not print its sizes and counts."
)


@dataclass
class FidColumn:
    """Scores of generators on Retrieval-SfM; each is judged once and kept by what decides it.

    Attributes:
        request, say: of the table.
    """

    request: RetrievalRequest
    say: Say
    _lists: tuple[Sequence[ImageItem], Sequence[ImageItem]] | None = None
    _real: Features | None = None
    _extractor: FeatureExtractor | None = None
    _scored: dict[Path, NightScores] = field(default_factory=dict)

    def missing(self, recipe: str) -> list[Missing]:
        """What is not there of the lists, the images, Inception and the recipe's generator."""
        data = self.request.data
        wanted = [data / DAY_LIST, data / NIGHT_LIST, data / TRAINING_IMAGES]
        found = [Missing(path, origin(path)) for path in wanted if not path.exists()]
        if not (data / INCEPTION_WEIGHTS).is_file():
            from gloam.networks.inception import URL

            found.append(Missing(data / INCEPTION_WEIGHTS, URL))
        maker = maker_of(recipe, data)
        return found + ([Missing(maker, origin(maker))] if maker is not None and not maker.exists() else [])

    def of(self, recipe: str, trainings: Trainings | None) -> NightScores | None:
        """Scores of the generator of a recipe of metric learning; None where it has none.

        Raises:
            DataError: files that are not there; the first is named.
            GloamError: what cannot be used, or a training that cannot be done.
        """
        maker = maker_of(recipe, self.request.data) if recipe else None
        if maker is None:
            return None
        if not maker.exists() and trainings is not None:
            trainings.generator(maker)
        expect(self.missing(recipe))
        if maker not in self._scored:
            self._scored[maker] = self._judged(maker)
        return self._scored[maker]

    def facts(self, recipe: str) -> dict[str, Any]:
        """What a reader must know of the generator of a recipe."""
        maker = maker_of(recipe, self.request.data)
        assert maker is not None  # it has been judged
        of = MAKERS.get(maker.stem, "")
        weights = [{"file": str(maker), "sha256": sha256_file(maker)}]
        return {"weights": weights, "network": "generator", "recipe": of, "from": f"generator of recipe {of}"}

    def sheet(self) -> list[tuple[str, Path]]:
        """A picture of some images by every generator that was judged."""
        from gloam.training.embedders.nights import open_night_maker

        if not self._scored:
            return []
        items = _spread(self._images()[0], SHOWN)
        shown = list(_pixels(items))
        makers = [open_night_maker(maker) for maker in self._scored]
        path = self.request.output / SHEET
        titles = ("source", *(maker.stem for maker in self._scored))
        write_sheet(path, titles, [Path(item.name).stem for item in items], side_by_side(shown, makers))
        return [("The same images by every generator", path)]

    def _judged(self, maker: Path) -> NightScores:
        from gloam.training.embedders.nights import open_night_maker

        days, nights = self._images()
        weights = self.request.data / INCEPTION_WEIGHTS
        key = sha256_json([sha256_file(maker), sha256_file(weights), made_of(days), made_of(nights), SIDE])[:16]
        kept = self.request.output / "generators" / f"{maker.stem}-{key}.json"
        if kept.is_file():
            return fill_dataclass(NightScores, read_json(kept), str(kept))
        if self._extractor is None:
            self._extractor = open_extractor(INCEPTION, weights, "cpu")
        if self._real is None:
            self.say(f"{len(nights)} images by night: features")
            self._real = describe_images(_pixels(nights), self._extractor)
        self.say(f"{maker.name}: nights of {len(days)} images by day")
        found = score_nights(open_night_maker(maker), _pixels(days), self._real, self._extractor)
        write_json(kept, found.to_dict())
        return found

    def _images(self) -> tuple[Sequence[ImageItem], Sequence[ImageItem]]:
        if self._lists is None:
            data, limit = self.request.data, self.request.limit
            found = read_sfm(data / DAY_LIST, data / NIGHT_LIST, data / TRAINING_IMAGES)
            if not found.day or not found.night:
                raise DataError(f"{data / DAY_LIST}: no images by day, or none by night")
            self._lists = _spread(found.day, limit), _spread(found.night, limit)
        return self._lists


def _spread(items: Sequence[ImageItem], limit: int | None) -> Sequence[ImageItem]:
    """All, or so many of them, evenly apart."""
    if limit is None or len(items) <= limit:
        return items
    return [items[at * len(items) // limit] for at in range(limit)]


def _pixels(items: Sequence[ImageItem]) -> Iterator[Pixels]:
    for item in items:
        yield decode_image(item.read(), max_side=SIDE)
