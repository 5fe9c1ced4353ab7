"""The images of a benchmark of a paper's table: its map, and its queries cut to their boxes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gloam.data.images import open_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError
from gloam.eval.retrieval.ground_truth import GroundTruth, read_ground_truth
from gloam.eval.retrieval.tokyo import read_tokyo
from gloam.files import open_file, sha256_json, write_where_changed
from gloam.workflows.evaluation.retrieval import fit_names, fitted_lists
from gloam.workflows.reproduce.rows import Benchmark

MAX_SIDE = 1024  # of the test protocol, pixels


@dataclass(frozen=True)
class OpenBenchmark:
    """A test set that is there and whole.

    Attributes:
        benchmark: which.
        truth: of Tokyo, or the medium setup of the others.
        queries: cut to their boxes; Tokyo's are its map.
        items: of the map.
    """

    benchmark: Benchmark
    truth: GroundTruth
    queries: Sequence[ImageItem]
    items: Sequence[ImageItem]


def open_benchmark(benchmark: Benchmark, root: Path, place: Path) -> OpenBenchmark:
    """Read a test set, and see that every image of its ground truth is there, before any of them is described.

    Args:
        benchmark: which.
        root: the data folder.
        place: for the cut queries.

    Raises:
        DataError: a ground truth that cannot be read, or images that are not there.
    """
    truth = read_truth(benchmark, root)
    queries, items = read_images(benchmark, root, place)
    names = [item.name for item in items]
    wanted = fit_names(truth, [item.name for item in queries], names).map_names
    _expect_there(sorted(set(wanted) - set(names)), wanted, "map", benchmark, root)
    return OpenBenchmark(benchmark, truth, queries, items)


def read_truth(benchmark: Benchmark, root: Path) -> GroundTruth:
    """Of Tokyo, or the medium setup of the others."""
    path = root / benchmark.ground_truth
    return read_tokyo(path) if benchmark.queries_are_the_map else read_ground_truth(path, "medium")


def read_images(benchmark: Benchmark, root: Path, place: Path) -> tuple[Sequence[ImageItem], Sequence[ImageItem]]:
    """The queries, cropped to ``place/queries/NAME`` where they have boxes, and the map.

    Raises:
        DataError: query images are not there, or do not fit their boxes.
    """
    items = find_images(root / benchmark.folder)
    if benchmark.queries_are_the_map:
        return items, items
    truth = read_truth(benchmark, root)
    path_of = {item.name: item.path for item in items}
    fitted = dict(zip(truth.query_names, fitted_lists({"": truth.query_names}, list(path_of))[""], strict=True))
    absent = [name for name in truth.query_names if fitted[name] not in path_of]
    _expect_there(absent, truth.query_names, "query", benchmark, root)
    crops = place / "queries" / benchmark.name
    crop_queries(truth, {name: path_of[fitted[name]] for name in truth.query_names}, crops)
    return find_images(crops), items


def _expect_there(absent: Sequence[str], wanted: Sequence[str], role: str, benchmark: Benchmark, root: Path) -> None:
    if absent:
        raise DataError(
            f"{root / benchmark.folder}: {len(absent)} of {len(wanted)} {role} images are not there (the first is "
            f"{absent[0]}); unpack all of {benchmark.images}"
        )


def made_of(items: Sequence[ImageItem]) -> str:
    """For the name of what was made of images: another where one of their files is another."""
    stamps = [item.stamp() for item in items]
    named = [[item.name, stamp and stamp.text] for item, stamp in zip(items, stamps, strict=True)]
    return sha256_json(named)[:16]


def crop_queries(truth: GroundTruth, images: Mapping[str, Path], folder: Path, max_side: int = MAX_SIDE) -> None:
    """Write each query's box as a PNG, reduced as its whole image would be: longer side ``max_side``, LANCZOS.

    Args:
        truth: its boxes are in pixels of the full image; queries without one are written whole.
        images: path of each query's image.
        folder: for ``NAME.png``; what is there and the same is not touched, what is no query's goes.

    Raises:
        DataError: an image cannot be read, or a box lies outside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, box in zip(truth.query_names, truth.boxes or (None,) * len(truth.query_names), strict=True):
        target = folder / f"{name}.png"
        try:
            with open_file(images[name]) as file, open_image(file) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise DataError(f"{images[name]}: the query image cannot be read ({error})") from error
        full = max(image.size)
        if box is not None:
            image = image.crop(tuple(round(value) for value in box))  # type: ignore[arg-type]  # four numbers
            if not (0 <= box[0] < box[2] <= full + 1 and 0 <= box[1] < box[3] <= full + 1):
                raise DataError(f"{images[name]}: the query's box {box} lies outside its image; check the ground truth")
        side = max_side * max(image.size) / full
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        image.save(content, "PNG")
        write_where_changed(target, content.getvalue())
    for path in set(folder.glob("*.png")).difference(folder / f"{name}.png" for name in truth.query_names):
        path.unlink()
