"""Matches of a list of pairs by stored features, as kapture's or hloc's files or a COLMAP database: resumed by content.

What is found of a pair lies in a workspace, by the hash of all it depends on; the output is made from there when all
pairs are matched, so that it is whole or absent, and holds just the pairs of the list.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from gloam.data.hloc_io import SUFFIXES, write_hloc_matches
from gloam.data.kapture_io import read_scene
from gloam.data.kapture_matches import EXTENSION, encoded, match_file
from gloam.data.pairs import read_pairs
from gloam.data.scene import Camera, Record, Scene
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.files import (
    inside,
    read_sealed,
    replaced_when_whole,
    sealed_json,
    sha256_file,
    sha256_json,
    write_bytes,
    write_where_changed,
)
from gloam.heartbeat import progress_bar
from gloam.runtime.backends.placement import Placement
from gloam.runtime.localization.colmap import DatabaseImage, solver_version, verify_matches, write_match_database
from gloam.runtime.localization.features.stored import StoredFeatures, expect_matched_by, named_for, open_stored
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.pair_stage import MEMORY, Arrays, Pair, PairStage
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import FeatureMatcher, Matched, Matcher

Format = Literal["kapture", "hloc", "colmap"]
DATABASE = ".db"
RECORD = "gloam.json"  # of kapture's type, inside it; of a file it is the file's name with .json behind it
WORKSPACE = "workspace"

Value = TypeVar("Value")


@dataclass(frozen=True)
class MatchRequest:
    """What to match, and how.

    Attributes:
        pairs: list of pairs, hloc's or kapture's text; the order of a pair and repeats do not matter.
        features: hloc's ``.h5`` file, a folder of kapture local features, or the type of those that all datasets hold.
        output: kapture dataset to write into, hloc's ``.h5`` file, or a COLMAP ``.db``.
        datasets: kapture datasets of the images; not needed for hloc's features, unless cameras are.
        matcher: ``mutual`` nearest neighbours, or an exported matcher of the features.
        ratio: Lowe's test of mutual neighbours; None for none.
        format: of the output; by its name where None.
        feature_type: kapture's name of the features, for the folder of the matches; as the features say by default.
        verify: keep what agrees with a two-view geometry, estimated for each pair.
        pixel_origin: hloc's features: where the intrinsics have the centre of the first pixel, see :func:`open_stored`.
        workspace: folder of what is kept; beside the output by default.
        memory: bytes of features and matches that are held at once.
        workers: threads; all cores where None. Changes no result.
        seed: of the verification.
        placement: where and how the matcher runs.

    Raises:
        UsageError: what does not go together.
    """

    pairs: Path
    features: str
    output: Path
    datasets: Sequence[Path] = ()
    matcher: str = "mutual"
    ratio: float | None = None
    format: Format | None = None
    feature_type: str | None = None
    verify: bool = False
    pixel_origin: float | None = None
    workspace: Path | None = None
    memory: int = MEMORY
    workers: int | None = None
    seed: int = 0
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        if self.written != self.by_name:
            names = {"hloc": SUFFIXES[0], "colmap": DATABASE, "kapture": "no such ending"}
            raise UsageError(f"{self.output}: {self.written}'s matches need a name with {names[self.written]}")
        if self.ratio is not None and self.matcher != "mutual":
            raise UsageError("--ratio is of mutual neighbours; a learned matcher has its own threshold")
        if self.memory < 1:
            raise UsageError("--memory must be 1 byte or more")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers {self.workers}: must be 1 or more, or 0 for all cores")
        if self.feature_type is not None and self.written != "kapture":
            raise UsageError(f"--feature-type is kapture's; {self.output.suffix} files have no types")
        if self.pixel_origin is not None and Path(self.features).suffix not in SUFFIXES:
            raise UsageError("--pixel-origin is of hloc's features; others have the origin of their format")
        needs_cameras = self.verify or self.written == "colmap"
        if needs_cameras and not self.datasets:
            what = "--verify" if self.verify else "a COLMAP database"
            raise UsageError(f"{what} needs the cameras; give the kapture datasets of the images")

    @property
    def by_name(self) -> Format:
        """The format that the output's name is of."""
        return "hloc" if self.output.suffix in SUFFIXES else "colmap" if self.output.suffix == DATABASE else "kapture"

    @property
    def written(self) -> Format:
        """The format that is written."""
        return self.format or self.by_name


@dataclass(frozen=True)
class MatchSummary:
    """How it came out.

    Attributes:
        output: what was written.
        pairs: in it; matched: of these now; kept: by an earlier run.
        matches: of all of them.
        seconds: that it took.
        without_features: images of the list that have none, and so match nothing.
        left_out: pairs of such images.
    """

    output: Path
    pairs: int
    matched: int
    kept: int
    matches: int
    seconds: float
    without_features: Sequence[str] = ()
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "output": str(self.output), "without_features": list(self.without_features)}

    def __str__(self) -> str:
        mean = self.matches / max(self.pairs, 1)
        absent = ""
        if self.without_features:
            absent = (
                f"\n{len(self.without_features)} images have no features, first {self.without_features[0]!r}; their "
                f"{self.left_out} pairs match nothing and are left out"
            )
        return (
            f"{self.pairs} pairs: {self.matched} matched, {self.kept} kept, {self.seconds:.1f} s; {self.matches} "
            f"matches, {mean:.0f} a pair: {self.output}{absent}"
        )


@dataclass
class MatchedPairs(PairStage):
    """Matches of pairs with their scores, each computed once and kept by content.

    Attributes:
        source: where features come from.
        scenes: the datasets; an image name belongs to the first that has it.
        cache: folder for results.
        rule: by which two images' features are matched.
        verify: whether what agrees with a two-view geometry alone is kept.
        seed: of the verification.
        memory: bytes of features and matches that are held at once.
        made: counts the pairs that are matched.
        without_features: images of the pairs that have none.
        left_out: pairs of these.
    """

    source: StoredFeatures
    scenes: Sequence[Scene]
    cache: Path | None
    rule: FeatureMatcher = field(default_factory=MutualMatcher)
    verify: bool = False
    seed: int = 0
    memory: int = MEMORY
    made: count[int] = field(default_factory=count, init=False)
    without_features: Sequence[str] = field(default=(), init=False)
    left_out: int = field(default=0, init=False)
    stage = "pairs"
    kept = ("matches", "scores", "counts")

    def __post_init__(self) -> None:
        self._begin()

    def scene_of(self, name: str) -> Scene:
        """The dataset that an image belongs to."""
        for scene in self.scenes:
            if name in scene.records:
                return scene
        raise DataError(f"image {name!r} of the pair list is in none of the datasets")

    def _frame(self, name: str) -> Camera | None:
        scene = self.scene_of(name)
        return self.camera(name) if scene.records[name].camera_id in scene.cameras else None

    @property
    def identity(self) -> list[Any]:
        """How pairs are matched, beside their features."""
        return [self.rule.key, [self.seed, solver_version()] if self.verify else "raw"]

    def pair_key(self, pair: Pair) -> str:
        """See :class:`PairStage`."""
        cameras = [list(vars(self.camera(name)).values()) for name in pair] if self.verify else []
        return sha256_json(["match", [self.key(name) for name in pair], self.identity, cameras])

    def _result(self, pair: Pair, both: tuple[LocalFeatures, LocalFeatures], found: Matched) -> Arrays:
        next(self.made)
        matches, scores = found
        if self.verify:
            by_row = np.zeros(len(both[0]), np.float32)
            by_row[matches[:, 0]] = scores
            first, second = (self.camera(name) for name in pair)
            matches = verify_matches(first, both[0].keypoints, second, both[1].keypoints, matches, self.seed)
            scores = by_row[matches[:, 0]]
        return {"matches": matches, "scores": scores, "counts": np.array([len(each) for each in both])}


def match_pairs(request: MatchRequest, progress: bool = True) -> MatchSummary:
    """Match the pairs of a list; the same call carries on where an earlier one stopped.

    Args:
        request: the pairs, their features, and where to.
        progress: say how far it is, on stderr.

    Raises:
        DataError: a list, dataset or features that cannot be used, or an image that is in none of them.
        IncompatibleError: a matcher of other features, or an output of other matches.
        ModelError: a matcher that cannot be read.
        UsageError: more keypoints than a matcher's fixed profile holds.
        StoreError: a file cannot be written.
        MissingExtraError: pycolmap is not installed, where it is needed.
    """
    clock = time.perf_counter()
    wanted, stage = open_stage(request, workspace_of(request))
    output = MatchOutput(request, stage)
    with (
        ThreadPoolExecutor(request.workers or len(os.sched_getaffinity(0)), "match") as pool,
        progress_bar(len(wanted), "matching", "pairs", shown=progress) as bar,
    ):
        stage.match_all(wanted, pool, bar.update)
        matches = output.write(wanted, pool, lambda: bar.update(0))
    matched = next(stage.made)
    seconds = time.perf_counter() - clock
    kept = len(wanted) - matched
    return MatchSummary(
        request.output, len(wanted), matched, kept, matches, seconds, stage.without_features, stage.left_out
    )


def open_stage(request: MatchRequest, cache: Path) -> tuple[list[Pair], MatchedPairs]:
    """The pairs of a request, the names of each in order, and what matches them; nothing is matched yet.

    An image without features, as one that could not be extracted, matches nothing: its pairs are left out.

    Raises:
        as :func:`match_pairs`.
    """
    names: dict[str, str] = {}  # of equal texts one
    listed = (
        [names.setdefault(name, name) for name in (pair.query, pair.mapping)] for pair in read_pairs(request.pairs)
    )
    wanted = sorted({(min(pair), max(pair)) for pair in listed if pair[0] != pair[1]})
    if not wanted:
        raise DataError(f"{request.pairs}: lists no pairs of two images")
    needs_cameras = request.verify or request.written == "colmap"
    if needs_cameras:
        solver_version()  # a missing solver is said before anything is matched
    scenes = [read_scene(folder, need_cameras=needs_cameras) for folder in request.datasets]
    source: StoredFeatures = open_stored(request.features, scenes, request.pixel_origin)
    if not scenes:  # of features that need none
        scenes = [Scene(Path(), records=dict.fromkeys(names, Record("", 0)))]
    rule: FeatureMatcher = MutualMatcher(request.ratio)
    if request.matcher != "mutual":
        rule = Matcher.load(request.matcher, request.placement)
        expect_matched_by(rule, source.gives, (request.matcher, request.features))
        source = named_for(rule, source)
    stage = MatchedPairs(source, scenes, cache, rule, request.verify, request.seed, request.memory)
    for name in names:
        stage.scene_of(name)
    absent = sorted(name for name in names if not source.holds(stage.scene_of(name), name))
    gone = set(absent)
    left = [pair for pair in wanted if gone.isdisjoint(pair)]
    if not left:
        stage.key(absent[0])  # which says what is wrong
    stage.without_features, stage.left_out = absent, len(wanted) - len(left)
    return left, stage


def workspace_of(request: MatchRequest) -> Path:
    """Where what is found of pairs is kept."""
    if request.workspace is not None:
        return request.workspace
    return request.output.with_name(f"{request.output.name}.{WORKSPACE}")


class MatchOutput:
    """The files of a request, made from what a stage has kept.

    Args:
        request: says where and in which format.
        stage: of the pairs.

    Raises:
        IncompatibleError: something else is there.
        UsageError: kapture's matches of features without a name.
    """

    def __init__(self, request: MatchRequest, stage: MatchedPairs) -> None:
        self._stage, self._format, self._place = stage, request.written, request.output
        gives = stage.source.gives
        if self._format == "kapture":
            kind = request.feature_type or gives.name
            if not kind:
                raise UsageError(f"{request.features}: does not say whose features these are; give --feature-type")
            self._place = inside(request.output / "reconstruction" / "matches", kind)
        self._record = self._place / RECORD if self._format == "kapture" else Path(f"{self._place}.json")
        self._identity = [self._format, gives.name, gives.dimension, *stage.identity]
        self._done = self._read_record()

    def _read_record(self) -> dict[str, Any]:
        """What an earlier run has written; empty where there is nothing."""
        there = any(self._place.iterdir()) if self._place.is_dir() else self._place.exists()
        if not there:
            return {}
        try:
            record: dict[str, Any] = read_sealed(self._record)
            if record["source"] == self._identity:
                return record
        except (OSError, ValueError, KeyError, TypeError):
            pass
        other = "--feature-type another name" if self._format == "kapture" else "another output"
        raise IncompatibleError(
            f"{self._place}: holds matches of other features, another matcher or other options, or does not say of "
            f"which; give {other}, or remove it"
        )

    def write(self, wanted: Sequence[Pair], pool: ThreadPoolExecutor, beat: Callable[[], object] = lambda: None) -> int:
        """Write the matches of pairs, in their order; those of other pairs go.

        Args:
            wanted: pairs, the names of each in order.
            pool: of threads.
            beat: is called now and then.

        Returns:
            number of matches.
        """
        content = sha256_json([[*pair, self._stage.pair_key(pair)] for pair in wanted])
        if self._format == "kapture":
            self._note("")
            found = sum(self._each(pool.map(self._write_kapture, wanted), beat))
            expected = {self._kapture_path(pair) for pair in wanted}
            for path in self._place.rglob(f"*{EXTENSION}"):
                if path not in expected:
                    path.unlink()
            self._note(content)
            return found
        if self._done.get("content") == content and self._done.get("sha256") == sha256_file(self._place):
            return sum(len(self._stage.pair(pair)["matches"]) for pair in wanted)
        self._matches = 0
        if self._format == "hloc":
            write_hloc_matches(self._place, self._each(map(self._hloc_pair, wanted), beat))
        else:
            with replaced_when_whole(self._place) as temporary:
                images = map(self._colmap_image, sorted({name for pair in wanted for name in pair}))
                pairs = self._each(map(self._colmap_pair, wanted), beat)
                write_match_database(temporary, self._each(images, beat), pairs, self._stage.verify)
        self._note(content, sha256_file(self._place))
        return self._matches

    @staticmethod
    def _each(values: Iterable[Value], beat: Callable[[], object]) -> Iterator[Value]:
        for value in values:
            beat()
            yield value

    def _note(self, content: str, sha256: str = "") -> None:
        write_bytes(self._record, sealed_json({"source": self._identity, "content": content, "sha256": sha256}))

    def _kapture_path(self, pair: Pair) -> Path:
        return inside(self._place, match_file(*pair))

    def _write_kapture(self, pair: Pair) -> int:
        found = self._stage.pair(pair)
        write_where_changed(self._kapture_path(pair), encoded(found["matches"], found["scores"]))
        return len(found["matches"])

    def _hloc_pair(self, pair: Pair) -> tuple[str, str, int, npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        found = self._stage.pair(pair)
        self._matches += len(found["matches"])
        return (*pair, int(found["counts"][0]), found["matches"], found["scores"])

    def _colmap_image(self, name: str) -> DatabaseImage:
        scene = self._stage.scene_of(name)
        camera_id = f"{scene.root} {scene.records[name].camera_id}"
        return DatabaseImage(name, camera_id, self._stage.camera(name), self._stage.features(name).keypoints)

    def _colmap_pair(self, pair: Pair) -> tuple[str, str, npt.NDArray[np.uint32]]:
        found = self._stage.pair(pair)["matches"]
        self._matches += len(found)
        return (*pair, found)
