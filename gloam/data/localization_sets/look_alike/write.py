"""A look-alike on disk: the set as it is distributed, and the poses of its queries in a folder of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from gloam.data.kapture_io import write_rig, write_scene
from gloam.data.localization_sets.check import CARD
from gloam.data.localization_sets.dataset import Layout, SetName
from gloam.data.localization_sets.look_alike.aachen import plan_aachen
from gloam.data.localization_sets.look_alike.original import original_image, write_original
from gloam.data.localization_sets.look_alike.photographs import jobs, take
from gloam.data.localization_sets.look_alike.robotcar import plan_robotcar_v1, plan_robotcar_v2
from gloam.data.localization_sets.look_alike.sizes import SIZES, LookAlikeSize, SizeName
from gloam.data.localization_sets.look_alike.views import SetPlan, View
from gloam.data.localization_sets.merge import merged
from gloam.data.scene import Camera
from gloam.data.town.config import REVISIONS
from gloam.data.town.dataset import CHECKSUMS, default_workers, is_whole, read_sums
from gloam.data.town.processes import in_processes
from gloam.errors import StoreError, UsageError
from gloam.files import read_json, sealed_json, sha256_file, sha256_json, write_json, write_where_changed
from gloam.heartbeat import Heartbeat, Say

PLANS: dict[SetName, Callable[[LookAlikeSize, int], SetPlan]] = {
    "aachen-v1.1": plan_aachen,
    "robotcar-v1": plan_robotcar_v1,
    "robotcar-v2": plan_robotcar_v2,
}
REVISION = 1  # raised whenever the same size and seed give other pixels or poses
SHOWN = 5  # damaged images that the report names
RIG = "car"
FEW = 500  # images that need no word before
FIRST_LINE = 3.0  # seconds until progress is told


@dataclass(frozen=True)
class LookAlike:
    """What :func:`write_look_alike` wrote or found.

    Attributes:
        set: folder of the set, as it is distributed.
        truth: kapture dataset of the queries with their poses; no reader of the set looks there.
        images: of the set; rendered: now; damaged: names of images that were there, but not as they were rendered.
    """

    folder: Path
    name: SetName
    size: LookAlikeSize
    images: int
    rendered: int
    damaged: tuple[str, ...] = ()

    @property
    def set(self) -> Path:
        """Folder of the set."""
        return self.folder / "set"

    @property
    def truth(self) -> Path:
        """Kapture dataset of the queries with their poses."""
        return self.folder / "truth"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "set": str(self.set),
            "truth": str(self.truth),
            "images": self.images,
            "rendered": self.rendered,
            "damaged": list(self.damaged),
            "picture": self.size.picture,
        }

    def __str__(self) -> str:
        """Lines for people."""
        again = f"\ndamaged, rendered again: {', '.join(self.damaged[:SHOWN])}" if self.damaged else ""
        return (
            f"{self.set}: {self.name} of {self.images} images, {self.rendered} rendered now, the largest "
            f"{self.size.picture} pixels wide or high\nhidden poses of its queries: {self.truth}{again}"
        )


def write_look_alike(
    folder: str | Path,
    name: SetName,
    size: SizeName | LookAlikeSize = "toy",
    *,
    layout: Layout = "kapture",
    picture: int | None = None,
    images: bool = True,
    seed: int = 7,
    workers: int = 1,
    say: Say | None = None,
) -> LookAlike:
    """Render a look-alike of a benchmark, or finish one that was begun: ``set/`` and the hidden ``truth/``.

    Args:
        folder: created where absent. Images that are there as they were rendered are kept.
        name: of the benchmark.
        size: ``toy``, ``real``, or counts of one's own.
        layout: ``kapture``, as its downloader lays the benchmark, or ``original``, as its authors do.
        picture: longer side of the largest image, pixels; the size's own where None.
        images: whether they are rendered; the lists alone tell what a benchmark of that size is like.
        seed: of the town; the same seed gives the same bytes.
        workers: processes that render; 0 is one per core.
        say: gets a line of progress now and then, the first within seconds.

    Raises:
        StoreError: the folder holds another look-alike, or cannot be written.
        UsageError: an unknown name or size.
    """
    if name not in PLANS:
        raise UsageError(f"set {name!r}: choose from {', '.join(PLANS)}")
    if isinstance(size, str) and size not in SIZES[name]:
        raise UsageError(f"size {size!r}: choose from {', '.join(SIZES[name])}")
    counts = SIZES[name][size] if isinstance(size, str) else size
    if workers < 0:
        raise UsageError(f"workers {workers}: must be 0 or more")
    if layout not in get_args(Layout):
        raise UsageError(f"layout {layout!r}: choose from {', '.join(get_args(Layout))}")
    if picture is not None:
        counts = dataclasses.replace(counts, picture=picture)
    root = Path(folder)
    _claim(root, name, layout, counts, seed)
    shots = sum(sum(kinds.values()) for kinds in (counts.mapping, counts.queries, counts.training))
    if say is not None and shots > FEW:
        say(f"{root}: planning {shots} shots of {counts.streets} streets")
    plan = PLANS[name](counts, seed)
    files = {view: _image_file(root / "set", name, layout, view) for view in plan.views}
    sums = read_sums(root)
    wanted = [(view, plan.camera(view), path) for view, path in files.items() if not is_whole(root, path, sums)]
    if not images:
        wanted = []
    damaged = tuple(view.name for view, _, path in wanted if path.is_file())
    _render(root, plan, wanted, workers or default_workers(), say)
    if layout == "original":
        write_original(root / "set", plan)
    for part in plan.cameras if layout == "kapture" else ():
        scene = plan.scene(part, root / "set" / part)
        write_scene(scene)
        if plan.rig:
            write_rig(scene.root, RIG, plan.rig)
    _write_truth(root, plan)
    if images:
        stated = {path.relative_to(root).as_posix(): sha256_file(path) for path in files.values()}
        write_where_changed(root / CHECKSUMS, sealed_json(stated))
    return LookAlike(root, name, counts, len(files), len(wanted), damaged)


def _claim(root: Path, name: SetName, layout: Layout, size: LookAlikeSize, seed: int) -> None:
    card = {
        "name": name,
        "layout": layout,
        "size": dataclasses.asdict(size),
        "seed": seed,
        "revision": [REVISION, REVISIONS[2]],
    }
    path = root / "set" / CARD
    if path.is_file():
        try:
            found = read_json(path)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); delete the folder to render it again") from error
        if sha256_json(found) != sha256_json(card):
            raise StoreError(
                f"{root}: holds another look-alike; choose another folder or delete it ({path} says which)"
            )
        return
    write_json(path, card)


def _image_file(root: Path, name: SetName, layout: Layout, view: View) -> Path:
    if layout == "original":
        return original_image(root, name, view)
    return root / view.part / "sensors" / "records_data" / view.name


def _render(root: Path, plan: SetPlan, wanted: list[tuple[View, Camera, Path]], workers: int, say: Say | None) -> None:
    if not wanted:
        return
    if say is not None and len(wanted) > FEW:
        say(f"{root}: {len(wanted)} images to render, {len(plan.views) - len(wanted)} are there")
    beat = Heartbeat(say, "rendering", len(wanted), first=FIRST_LINE)
    parts = list(jobs(dict(enumerate(plan.streets)), wanted))
    for count in map(take, parts) if workers <= 1 else in_processes(take, parts, workers, root):
        beat.update(count)


def _write_truth(root: Path, plan: SetPlan) -> None:
    """The queries as the reader of the set names them, and their poses."""
    asked = [part for part in plan.cameras if "query" in part]
    truth = merged(root / "truth", {part: plan.scene(part, root / "set" / part) for part in asked})
    truth.poses = {view.name: plan.world_pose(view) for view in plan.views if view.name in truth.records}
    write_scene(truth)
