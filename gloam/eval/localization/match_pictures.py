"""Pictures of matches: a query beside the map image that it agrees with best, and lines between what was matched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.scene import Camera, Pose
from gloam.errors import ImageError
from gloam.eval.localization.benchmark import LocalizationResult
from gloam.files import inside, write_bytes
from gloam.runtime.bulk.pictures import encode
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation, project
from gloam.runtime.localization.maps.mapping import Matches, PairMatcher
from gloam.runtime.localization.pose import mini_map, why_not
from gloam.runtime.output_folder import remove

SIDE = 800  # longer side of either image in a picture, pixels; larger ones are reduced
LINES = 150  # of a colour, evenly chosen of more, which would hide the images
GAP = 8  # pixels between the two
LINE = 20  # pixels of a line of the caption
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.4)  # and its scale
INLIER, OUTLIER, UNUSED = (0, 230, 90), (255, 60, 40), (90, 150, 255)  # RGB
FAINT = 0.4  # of the lines of what is no inlier, which are many

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class MatchedPair:
    """A query and a map image.

    Attributes:
        query, other: names of the two.
        matches: uint32 ``[m, 2]``, keypoints of the query and of the map image.
        seen: bool ``[m]``, those whose keypoint of the map image has a point of the map.
        agree: bool ``[m]``, those of them whose point the query's pose puts where the query's keypoint is.
    """

    query: str
    other: str
    matches: Matches
    seen: npt.NDArray[np.bool_]
    agree: npt.NDArray[np.bool_]


def best_pair(
    matcher: PairMatcher,
    query: str,
    retrieved: Sequence[str],
    world: Triangulation | None,
    pose: Pose | None,
    max_error: float,
) -> MatchedPair | None:
    """The map image with most matches that agree, of equal ones with most matches, of equal ones the first.

    Args:
        matcher: of the datasets.
        query: image name.
        retrieved: map images, best first.
        world: the map; None where there is none.
        pose: of the query; None where it was not localized, and nothing agrees.
        max_error: pixels between a keypoint and where the pose puts its point.
    """
    found = []
    for name in dict.fromkeys(retrieved):
        matches = matcher.matches(query, name)
        points = np.full(len(matches), -1)
        if world is not None and name in world.observed:
            points = world.observed[name][matches[:, 1]]
        agree = points >= 0
        if world is not None and pose is not None:
            pixels = project(matcher.camera(query), pose.transform(world.points[points[agree]]))
            off = np.linalg.norm(pixels - matcher.features(query).keypoints[matches[agree, 0]], axis=1)
            agree[agree] = off <= max_error
        found.append(MatchedPair(query, name, matches, points >= 0, agree & (pose is not None)))
    return max(found, key=lambda pair: (pair.agree.sum(), len(pair.matches)), default=None)


def draw_pair(matcher: PairMatcher, pair: MatchedPair, remark: str = "") -> Picture:
    """A picture of a pair, uint8 ``[h, w, 3]`` RGB: :func:`draw_lines`, with a caption.

    Args:
        matcher: of the datasets.
        pair: to be drawn.
        remark: a last line of the caption.
    """
    lines = draw_lines(matcher, pair)
    height, width = lines.shape[:2]
    canvas = np.full((height + 3 * LINE, width, 3), 255, np.uint8)
    canvas[:height] = lines
    left = 0
    for name in (pair.query, pair.other):
        side = int(reduced_size(matcher.camera(name))[0][0])
        _caption(canvas, name, (left, height), side)
        left += side + GAP
    for number, text in enumerate((counts_of(pair), remark), 1):
        _caption(canvas, text, (0, height + LINE * number), width)
    return canvas


def counts_of(pair: MatchedPair) -> str:
    """How many matches a pair has, and of which kinds."""
    outliers, unused = (pair.seen & ~pair.agree).sum(), (~pair.seen).sum()
    return f"{len(pair.matches)} matches: {pair.agree.sum()} inliers, {outliers} outliers, {unused} without a map point"


def draw_lines(matcher: PairMatcher, pair: MatchedPair) -> Picture:
    """Both images of a pair as their files store them, reduced to :data:`SIDE`, and lines; uint8 ``[h, w, 3]`` RGB.

    Inliers are green lines with dots at their ends. Behind them, faint, matches whose point the pose puts elsewhere are
    red, and those without a point of the map, which no pose uses, blue. Of a colour :data:`LINES` are drawn at most.

    Args:
        matcher: of the datasets.
        pair: to be drawn.
    """
    names = (pair.query, pair.other)
    sides, scales = zip(*(reduced_image(matcher, name) for name in names), strict=True)
    height, width = max(side.shape[0] for side in sides), sum(side.shape[1] for side in sides) + GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    ends: list[list[list[int]]] = []
    left = 0
    for column, (name, side, scale) in enumerate(zip(names, sides, scales, strict=True)):
        canvas[: side.shape[0], left : left + side.shape[1]] = side
        features = matcher.features(name)
        centred = features.keypoints[pair.matches[:, column]] - np.float32(features.origin - 0.5)
        ends.append((centred * scale - 0.5 + [left, 0]).round().astype(int).tolist())
        left += side.shape[1] + GAP
    plain, lines = canvas.copy(), list(zip(*ends, strict=True))
    for chosen, colour in ((~pair.seen, UNUSED), (pair.seen & ~pair.agree, OUTLIER)):
        for row in _some(chosen):
            cv2.line(canvas, lines[row][0], lines[row][1], colour, 1, cv2.LINE_AA)
    cv2.addWeighted(canvas, FAINT, plain, 1 - FAINT, 0, dst=canvas)
    for row in _some(pair.agree):
        cv2.line(canvas, lines[row][0], lines[row][1], INLIER, 1, cv2.LINE_AA)
    for row in np.flatnonzero(pair.agree):
        for end in lines[row]:
            cv2.circle(canvas, end, 2, INLIER, cv2.FILLED, cv2.LINE_AA)
    return canvas


def _some(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Rows of what is chosen, evenly fewer where there are more than :data:`LINES`."""
    rows = np.flatnonzero(chosen)
    some: npt.NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, min(LINES, len(rows))).round().astype(int)]
    return some


def _caption(canvas: Picture, text: str, corner: tuple[int, int], width: int) -> None:
    """A line of text below its upper left corner; of one that is too long, the end. OpenCV's letters are ASCII."""
    whole = text.encode("ascii", "replace").decode()
    cuts = (whole, *(f"...{whole[cut:]}" for cut in range(4, len(whole))))
    shown = next((cut for cut in cuts if cv2.getTextSize(cut, *FONT, 1)[0][0] <= width - 8), "")
    cv2.putText(canvas, shown, (corner[0] + 4, corner[1] + LINE - 6), *FONT, (0, 0, 0), 1, cv2.LINE_AA)


def match_of(
    method: str, result: LocalizationResult, query: str, retrieved: Sequence[str], pose: Pose | None
) -> MatchedPair | None:
    """:func:`best_pair` of a query of 2a or 2b, as it was localized; None where nothing was retrieved.

    Args:
        method: ``2a`` or ``2b``.
        result: of the run.
        query: image name.
        retrieved: map images, best first.
        pose: of the query; None where it was not localized.
    """
    matcher = result.matcher
    assert matcher is not None  # of every run
    world = result.world if method == "2b" else mini_map(matcher, retrieved)
    return best_pair(matcher, query, retrieved, world, pose, AbsolutePoseOptions().max_error)


def draw_result(
    folder: Path,
    method: str,
    result: LocalizationResult,
    poses: Mapping[str, Pose],
    retrieved: Mapping[str, Sequence[str]],
    min_inliers: int,
    *,
    count: int | None = None,
    workers: int | None = None,
) -> list[Path]:
    """:func:`write_match_pictures` of what was found by 2a or 2b.

    Args:
        folder: of the pictures.
        method: ``2a`` or ``2b``.
        result: of the run.
        poses: of the localized queries.
        retrieved: map images of every query, best first.
        min_inliers: that a pose needed.
        count, workers: see :func:`write_match_pictures`.
    """
    matcher, world = result.matcher, result.world
    assert matcher is not None  # of every run
    remarks = {
        name: f"localized: {result.inliers[method][name]} of all {found} correspondences agree"
        if name in poses
        else why_not(found, retrieved[name], min_inliers)
        for name, found in result.correspondences[method].items()
    }
    return write_match_pictures(
        folder,
        matcher,
        retrieved,
        poses,
        (lambda name: world) if method == "2b" else (lambda name: mini_map(matcher, retrieved[name])),
        AbsolutePoseOptions().max_error,
        count=count,
        remarks=remarks,
        workers=workers,
    )


def write_match_pictures(
    folder: Path,
    matcher: PairMatcher,
    retrieved: Mapping[str, Sequence[str]],
    poses: Mapping[str, Pose],
    world_of: Callable[[str], Triangulation | None],
    max_error: float,
    *,
    count: int | None = None,
    remarks: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> list[Path]:
    """Write ``QUERY.png`` for queries that map images were retrieved for; pictures of an earlier run are removed.

    Args:
        folder: of the pictures.
        matcher: of the datasets.
        retrieved: map images of every query, best first.
        poses: of the localized queries.
        world_of: the map that a query was localized on.
        max_error: of an inlier, pixels.
        count: queries to draw, evenly chosen by name; all by default.
        remarks: by query, for the caption.
        workers: threads.

    Returns:
        the files.

    Raises:
        StoreError: the folder cannot be written.
    """
    names = [name for name in sorted(retrieved) if retrieved[name]]
    if count is not None:
        evenly = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
        names = [names[row] for row in evenly]

    def one(name: str) -> Path:
        pair = best_pair(matcher, name, retrieved[name], world_of(name), poses.get(name), max_error)
        assert pair is not None  # something was retrieved
        path = inside(folder, f"{name}.png")
        write_bytes(path, encode(draw_pair(matcher, pair, (remarks or {}).get(name, "")), "png"))
        return path

    with ThreadPoolExecutor(workers) as pool:
        written = list(pool.map(one, names))
    for path in set(folder.rglob("*.png")) - set(written):
        remove(path)
    return written


def reduced_size(camera: Camera) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Width and height of an image in pictures, not longer than :data:`SIDE`, and by how much x and y shrink."""
    size = np.array([camera.width, camera.height])
    small: npt.NDArray[np.int64] = np.maximum((size * min(1.0, SIDE / size.max())).round().astype(np.int64), 1)
    return small, small / size


def reduced_image(matcher: PairMatcher, name: str) -> tuple[Picture, npt.NDArray[np.float64]]:
    """An image's stored pixels at :func:`reduced_size`, and by how much x and y shrank; grey where the image cannot be
    read, as stored features need none."""
    camera = matcher.camera(name)
    size = np.array([camera.width, camera.height])
    small, shrunk = reduced_size(camera)
    try:
        pixels = decode_image(matcher.scene_of(name).image_path(name), min_side=1, upright=False)
    except ImageError:
        return np.full((small[1], small[0], 3), 128, np.uint8), shrunk
    if (small < size).any():
        pixels = cv2.resize(pixels, (int(small[0]), int(small[1])), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return pixels, shrunk
