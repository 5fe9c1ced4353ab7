"""Pictures of what a network retrieves for held-out queries, before training and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sheets import Pixels, draw_sheet, fitted_picture
from gloam.files import atomic_write
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.tuples.images import Described, TupleImages
from gloam.training.embedders.validation import validation_truth

SAMPLES_FOLDER = "samples"
QUERIES, RETRIEVED = 5, 4
CELL, FRAME = (192, 144), 5  # width and height of a picture, and of its frame, pixels
RIGHT, WRONG = (27, 112, 70), (181, 56, 47)  # colours of frames


def write_samples(
    folder: Path, epoch: int, config: MetricConfig, validation: RetrievalSet, images: TupleImages, described: Described
) -> Path:
    """Write ``samples/epoch-00001.png``: some queries, evenly chosen, and what is retrieved for each, best first.

    Images are as the network sees them. A green frame marks the query's place, a red one another.

    Args:
        folder: of the run.
        epoch: done; 0 before training.
        config, validation, images, described: as in :func:`gloam.training.embedders.validation.validate`.

    Raises:
        StoreError: the disk is full or not writable.
    """
    truth, queries = validation_truth(config, validation)
    asked = np.flatnonzero([len(rows) > 0 for rows in truth.positives])
    asked = asked[np.linspace(0, len(asked) - 1, min(QUERIES, len(asked))).round().astype(int)]
    night = config.night.in_validation().of_images(images.names, "anchor", config.seed, 0)[queries][asked]
    database = np.array([int(name) for name in truth.map_names], np.int64)
    as_is = np.zeros(len(database), bool)
    similar = described(queries[asked], night) @ described(database, as_is).T
    cells, labels = [], []
    for row, query in enumerate(asked):
        similar[row, truth.junk[query]] = -np.inf
        best = np.argsort(-similar[row], kind="stable")[:RETRIEVED]
        best = best[np.isfinite(similar[row, best])]
        shown = images.load(np.append(queries[query], database[best]), np.append(night[row], as_is[: len(best)]))
        right = set(truth.positives[query].tolist())
        framed = [
            _framed(image, RIGHT if place in right else WRONG) for place, image in zip(best, shown[1:], strict=True)
        ]
        cells.append([fitted_picture(shown[0], CELL), *framed, *[None] * (RETRIEVED - len(best))])
        labels.append(images.names[queries[query]] + (", made night" if night[row] else ""))
    headings = ["query", "most similar", *["next"] * (RETRIEVED - 1)]
    path = folder / SAMPLES_FOLDER / f"epoch-{epoch:05d}.png"
    with atomic_write(path) as handle:
        Image.fromarray(draw_sheet(cells, headings, labels, CELL)).save(handle, "PNG")
    return path


def _framed(image: Pixels, colour: tuple[int, int, int]) -> Pixels:
    inner = fitted_picture(image, (CELL[0] - 2 * FRAME, CELL[1] - 2 * FRAME))
    frame: Pixels = np.empty((inner.shape[0] + 2 * FRAME, inner.shape[1] + 2 * FRAME, 3), np.uint8)
    frame[:] = colour
    frame[FRAME:-FRAME, FRAME:-FRAME] = inner
    return frame
