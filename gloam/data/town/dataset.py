"""A town on disk: a kapture dataset for mapping, one for queries, image lists by condition, retrieval ground truth."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.kapture_io import write_scene
from gloam.data.scene import Camera, Pose, Record, Scene
from gloam.data.town.config import REVISIONS, TownConfig
from gloam.data.town.covisibility import covisible_share, grade
from gloam.data.town.look2.queries import changing_query_poses
from gloam.data.town.looks import open_street
from gloam.data.town.processes import in_processes, watching
from gloam.data.town.sampling import mapping_poses, query_poses
from gloam.data.town.street import Street, pinhole
from gloam.errors import StoreError
from gloam.files import (
    read_json,
    read_sealed,
    sealed_json,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
    write_where_changed,
)
from gloam.heartbeat import progress_bar

CAMERA = "cam0"
CHECKSUMS = "checksums.json"  # of what was rendered, so that a later run keeps no picture that was harmed


@dataclass(frozen=True)
class Shot:
    """One photograph to take.

    Attributes:
        split: ``mapping`` or ``query``; name: image name within it.
        condition, pose: of the photograph; timestamp: kapture's, also the seed of its noise.

    The map is one visit, and the queries of each condition are another.
    """

    split: str
    name: str
    condition: str
    pose: Pose
    timestamp: int

    @property
    def visit(self) -> str:
        """Of the street, when the photograph was taken."""
        return self.split


@dataclass(frozen=True)
class TownDataset:
    """What :func:`write_town` wrote or found.

    Attributes:
        folder: holds ``mapping/``, ``query/``, ``ground_truth.json`` and ``town.json``.
        mapping, query: the two kapture datasets; both with poses and intrinsics.
        conditions: query names by condition.
        rendered, reused: images that were rendered now, and that were there already.
        damaged: names of images that were there, but not as they were rendered; they were rendered again.
    """

    folder: Path
    config: TownConfig
    mapping: Scene
    query: Scene
    conditions: dict[str, list[str]]
    rendered: int
    reused: int
    damaged: tuple[str, ...] = ()

    @property
    def ground_truth(self) -> Path:
        """The retrieval ground truth."""
        return self.folder / "ground_truth.json"


def camera_of(config: TownConfig) -> Camera:
    """The town's camera."""
    return pinhole(config.width, config.height, config.focal)


def plan_shots(config: TownConfig) -> list[Shot]:
    """Every photograph of a town: mapping by day, then the query poses once for each condition."""
    mapping = mapping_poses(config.seed, config.length, config.spacing)
    place = query_poses if config.look == 1 else changing_query_poses
    queries = place(config.seed, config.length, config.queries, mapping)
    shots = [
        Shot("mapping", f"mapping/{CAMERA}/{index:06d}.jpg", "day", pose, index) for index, pose in enumerate(mapping)
    ]
    for block, condition in enumerate(config.conditions, start=1):
        for index, pose in enumerate(queries):
            timestamp = 100_000 * block + index
            shots.append(Shot("query", f"{condition}/{CAMERA}/{timestamp:06d}.jpg", condition, pose, timestamp))
    return shots


def write_town(
    folder: str | Path, config: TownConfig | None = None, workers: int = 1, *, progress: bool = False
) -> TownDataset:
    """Render a town into ``folder``, or finish one that was begun there.

    Args:
        folder: created where absent. Images of the same config that are there as they were rendered are kept; what a
            killed run, or an earlier gloam, has rendered has no checksums yet and is kept as it is.
        config: the town; the defaults where None.
        workers: processes that render; 1 renders in this one.
        progress: say how far it is, on stderr.

    Raises:
        StoreError: the folder holds another town, or cannot be written.
        UsageError, DataError: the config gives no town.
    """
    config = config or TownConfig()
    root = Path(folder)
    shots = plan_shots(config)
    claim(root, config)
    sums = read_sums(root)
    missing = [shot for shot in shots if not is_done(root, shot, config, sums)]
    damaged = tuple(shot.name for shot in missing if image_path(root, shot).is_file())
    render_shots(root, config, missing, workers, progress)
    scenes = {split: scene_of(root, split, shots, config) for split in ("mapping", "query")}
    conditions = {
        c: [shot.name for shot in shots if shot.split == "query" and shot.condition == c] for c in config.conditions
    }
    for scene in scenes.values():
        write_scene(scene)
    for condition, names in conditions.items():
        write_text(root / "query" / "conditions" / f"{condition}.txt", "\n".join(names) + "\n")
    truth = root / "ground_truth.json"
    if missing or not is_whole(root, truth, sums):
        write_json(truth, retrieval_ground_truth(config, shots))
    files = [truth, *(path for shot in shots for path in files_of(root, shot, config))]
    stated = {path.relative_to(root).as_posix(): sha256_file(path) for path in files}
    write_where_changed(root / CHECKSUMS, sealed_json(stated))
    reused = len(shots) - len(missing)
    return TownDataset(root, config, scenes["mapping"], scenes["query"], conditions, len(missing), reused, damaged)


def claim(root: Path, config: TownConfig) -> None:
    """Write ``town.json``, or make sure that the one that is there describes the same town.

    Raises:
        StoreError: it describes another one.
    """
    card = {"config": config.as_json(), "revision": REVISIONS[config.look], "content_hash": config.content_hash()}
    claim_folder(root, card, config.look)


def claim_folder(root: Path, card: Mapping[str, Any], of_look: int) -> None:
    """Write ``town.json``, or make sure that the one that is there has the same ``content_hash``.

    Raises:
        StoreError: it describes another town.
    """
    path = root / "town.json"
    if path.is_file():
        try:
            found = read_json(path)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); delete the folder to render the town again") from error
        look = _look_of(found)
        if look is not None and look != of_look:
            raise StoreError(
                f"{root}: holds a town of look {look}, not {of_look}; choose another folder or give --look {look}"
            )
        if not isinstance(found, dict) or found.get("content_hash") != card["content_hash"]:
            raise StoreError(
                f"{root}: holds a town of another config; choose another folder or delete it ({path} says which)"
            )
        return
    write_json(path, dict(card))


def _look_of(card: Any) -> Any:
    """The look that a ``town.json`` states; 1 where it was written before looks had numbers, None where it is none."""
    config = card.get("config") if isinstance(card, dict) else None
    return card.get("look", config.get("look", 1)) if isinstance(config, dict) else None


def image_path(root: Path, shot: Shot) -> Path:
    """Where a photograph lies."""
    return root / shot.split / "sensors" / "records_data" / shot.name


def depth_path(root: Path, shot: Shot) -> Path:
    """Where its depth map lies: float32 ``[h, w]`` metres as ``.npy``, 0 for sky."""
    return (root / shot.split / "depth" / shot.name).with_suffix(".npy")


def files_of(root: Path, shot: Shot, config: TownConfig) -> list[Path]:
    """A photograph, and its depth where asked for."""
    return [image_path(root, shot), *([depth_path(root, shot)] if config.depth else [])]


def read_sums(root: Path) -> dict[str, str] | None:
    """Checksums of what was rendered, by the path below the town; None where there are none yet. Those that are
    damaged are none's, so that all is rendered again."""
    try:
        found = read_sealed(root / CHECKSUMS)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_whole(root: Path, path: Path, sums: Mapping[str, str] | None) -> bool:
    """Whether a file of a town is there, and as it was written where that is known."""
    if not path.is_file():
        return False
    return sums is None or sums.get(path.relative_to(root).as_posix()) == sha256_file(path)


def is_done(root: Path, shot: Shot, config: TownConfig, sums: Mapping[str, str] | None) -> bool:
    """Whether a photograph, and its depth where asked for, is there and whole."""
    return all(is_whole(root, path, sums) for path in files_of(root, shot, config))


def scene_of(root: Path, split: str, shots: list[Shot], config: TownConfig) -> Scene:
    """The kapture dataset of one split."""
    chosen = [shot for shot in shots if shot.split == split]
    return Scene(
        root / split,
        cameras={CAMERA: camera_of(config)},
        records={shot.name: Record(CAMERA, shot.timestamp) for shot in chosen},
        poses={shot.name: shot.pose for shot in chosen},
    )


def render_shots(root: Path, config: TownConfig, shots: list[Shot], workers: int, progress: bool = False) -> None:
    """Render and write photographs, in this process or in several."""
    if not shots:
        return
    with progress_bar(len(shots), "rendering", "photographs", shown=progress) as bar:
        if workers <= 1 or len(shots) < 2:
            _render_part(root, config, shots, bar.update)
            return
        count = min(workers, len(shots))
        render = functools.partial(_render_part, root, config)
        seen = watching([image_path(root, shot) for shot in shots], bar.update)
        for _ in in_processes(render, [shots[part::count] for part in range(count)], workers, root, seen):
            pass


def _render_part(root: Path, config: TownConfig, shots: list[Shot], done: Callable[[], object] = lambda: None) -> None:
    """One worker's share."""
    street = open_street(config.seed, config.length, config.texels, config.look, config.optics)
    for shot in shots:
        write_shot(street, root, config, shot)
        done()


def write_shot(street: Street, root: Path, config: TownConfig, shot: Shot) -> None:
    """Render one photograph and write it; the depth map first, so that an image implies its depth."""
    view = street.render(shot.pose, shot.condition, camera_of(config), shot.timestamp, shot.visit)
    if config.depth:
        buffer = io.BytesIO()
        np.save(buffer, view.depth)
        write_bytes(depth_path(root, shot), buffer.getvalue())
    write_jpeg(image_path(root, shot), view.image, config.jpeg_quality)


def write_jpeg(path: Path, image: npt.NDArray[np.uint8], quality: int) -> None:
    """Write an RGB image ``[h, w, 3]`` atomically.

    Raises:
        StoreError: it cannot be encoded or written.
    """
    done, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise StoreError(f"{path}: the image could not be encoded as JPEG")
    write_bytes(path, encoded.tobytes())


def depth_maps(config: TownConfig, shots: list[Shot]) -> Iterator[Any]:
    """Depth of photographs at a quarter of the town's resolution, float32 ``[h, w]``; enough to count what is seen.

    What the map shows of things that stand there for that visit alone is no place to be found again: 0, like the sky.
    """
    street = open_street(config.seed, config.length, 8, config.look)
    camera = quarter_camera(config)
    for shot in shots:
        hits = street.scenery(shot.condition, shot.visit).caster.cast(camera, shot.pose)
        yield np.where(street.lasting(hits.surface), hits.depth, 0) if shot.split == "mapping" else hits.depth


def quarter_camera(config: TownConfig) -> Camera:
    """The town's camera at a quarter of its resolution."""
    return pinhole(
        max(config.width // 4, 8), max(config.height // 4, 8), config.focal * max(config.width // 4, 8) / config.width
    )


def retrieval_ground_truth(config: TownConfig, shots: list[Shot]) -> dict[str, Any]:
    """Positives and junk of every query, by covisibility.

    Returns:
        ``imlist`` (mapping names), ``qimlist`` (query names), ``gnd`` (``ok`` and ``junk`` indices into imlist for
        each query), ``conditions`` (query names by condition).
    """
    mapping = [shot for shot in shots if shot.split == "mapping"]
    queries = [shot for shot in shots if shot.split == "query"]
    # In the first look nothing changes between visits: one condition tells for all.
    seen = [shot for shot in queries if config.look > 1 or shot.condition == config.conditions[0]]
    maps = list(depth_maps(config, [*mapping, *seen]))
    camera = quarter_camera(config)
    graded: dict[tuple[Pose, str], dict[str, list[int]]] = {}
    for shot, depth in zip(seen, maps[len(mapping) :], strict=True):
        shares = [
            covisible_share(depth, shot.pose, other, m.pose, camera, stride=2)
            for m, other in zip(mapping, maps, strict=False)
        ]
        graded[shot.pose, shot.condition] = grade(shares)
    return {
        "imlist": [shot.name for shot in mapping],
        "qimlist": [shot.name for shot in queries],
        "gnd": [graded[shot.pose, shot.condition if config.look > 1 else config.conditions[0]] for shot in queries],
        "conditions": {c: [shot.name for shot in queries if shot.condition == c] for c in config.conditions},
    }


def default_workers() -> int:
    """As many rendering processes as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
