"""Matches of a list as other programs read them: true, whole or absent, and made again only where they must be."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gloam.cli.main import main
from gloam.data.hloc_io import HlocMatchFile, ImageFeatures, write_hloc_features
from gloam.data.kapture_io import write_scene
from gloam.data.scene import Camera, Scene
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.runtime.localization.matches import match_files
from gloam.runtime.localization.matches.match_files import (
    MatchedPairs,
    MatchOutput,
    MatchRequest,
    match_pairs,
    open_stage,
    workspace_of,
)
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.matcher import Matcher
from tests.damage import flip
from tests.runtime.localization.bright_points import DIMENSION, NearestModel
from tests.runtime.localization.exact_world import MAP, Projected, scenes, true_matches

PAIRS = [("m.png", "a.png"), ("a.png", "b.png"), ("q.png", "m.png")]
IN_ORDER = sorted((min(pair), max(pair)) for pair in PAIRS)


def write_list(path: Path, pairs: list[tuple[str, str]] = PAIRS) -> Path:
    path.write_text("".join(f"{first} {second}\n" for first, second in pairs))
    return path


def write_features(path: Path, dimension: int = 32, network: str = "projected", **changed: Any) -> Path:
    """The made-up world's features in hloc's file; ``changed`` makes an image's descriptors, by its letter."""

    def images() -> Any:
        for name in (*MAP, "q.png"):
            each = Projected().features(Scene(path), name)
            described = changed.get(name[0], lambda values: values)(each.descriptors[:, :dimension])
            yield name, ImageFeatures(each.keypoints - 0.5, described, each.scores, (640, 480))

    write_hloc_features(path, network, "", images())
    return path


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., MatchRequest]:
    """Requests about the made-up world's features in hloc's file, with its datasets beside it."""
    for scene in scenes(tmp_path):
        write_scene(scene)
    features, pairs = write_features(tmp_path / "feats.h5"), write_list(tmp_path / "pairs.txt")

    def made(output: str, **given: Any) -> MatchRequest:
        return MatchRequest(pairs, str(features), tmp_path / output, **{"workers": 2, **given})

    return made


def datasets(folder: Path) -> list[Path]:
    return [folder / "m", folder / "q"]


def in_kaptures_files(root: Path, but: str) -> Path:
    """The made-up world's features as kapture stores them, without one image's."""
    for what, suffix, size, more in (("keypoints", ".kpt", 2, ""), ("descriptors", ".desc", 32, ", projected, L2")):
        folder = root / "reconstruction" / what / "projected"
        folder.mkdir(parents=True)
        (folder / f"{what}.txt").write_text(f"# kapture format: 1.1\nprojected, float32, {size}{more}\n")
        for name in {*MAP, "q.png"} - {but}:
            each = Projected().features(Scene(root), name)
            values = each.keypoints if what == "keypoints" else each.descriptors
            values.astype(np.float32).tofile(folder / f"{name}{suffix}")
    return root


def in_colmaps_database(path: Path, but: str) -> None:
    """A database of SIFT, without one image's."""
    random = np.random.default_rng(0)
    with sqlite3.connect(path) as opened:
        opened.execute("create table images (image_id integer primary key, name text)")
        for table in ("keypoints", "descriptors"):
            opened.execute(f"create table {table} (image_id integer, rows integer, cols integer, data blob)")
        for number, name in enumerate(sorted({*MAP, "q.png"})):
            opened.execute("insert into images values (?, ?)", (number, name))
            if name != but:
                points = random.uniform(1, 400, (9, 2)).astype(np.float32)
                described = random.integers(0, 256, (9, 128), dtype=np.uint8)
                for table, values in (("keypoints", points), ("descriptors", described)):
                    row = (number, *values.shape, values.tobytes())
                    opened.execute(f"insert into {table} values (?, ?, ?, ?)", row)


def in_kapture(folder: Path, pair: tuple[str, str], kind: str = "projected") -> np.ndarray:
    path = folder / "reconstruction" / "matches" / kind / f"{pair[0]}.overlapping" / f"{pair[1]}.matches"
    return np.fromfile(path, "<f8").reshape(-1, 3)


def test_hlocs_file_has_the_true_matches_of_every_pair(request_of: Any, tmp_path: Path) -> None:
    done = match_pairs(request_of("m.h5"))
    assert 0 < done.seconds < 60
    assert (done.pairs, done.matched, done.kept, done.output) == (3, 3, 0, tmp_path / "m.h5")
    file = HlocMatchFile(tmp_path / "m.h5")
    for first, second in PAIRS:
        rows, scores = file.read(first, second)
        assert sorted(rows.tolist()) == true_matches(first, second)
        np.testing.assert_allclose(scores, 1, atol=1e-3)
    assert done.matches == sum(len(true_matches(*pair)) for pair in PAIRS)
    with h5py.File(tmp_path / "m.h5") as opened:
        assert sorted(opened) == sorted({first for first, _ in IN_ORDER})


def test_kaptures_files_are_as_its_readers_take_them(request_of: Any, tmp_path: Path) -> None:
    from kapture.io.features import image_matches_from_file  # type: ignore[import-untyped]

    match_pairs(request_of("out"))
    for pair in IN_ORDER:
        rows = in_kapture(tmp_path / "out", pair)
        assert rows[:, :2].tolist() == true_matches(*pair)
        place = tmp_path / "out" / "reconstruction" / "matches" / "projected" / f"{pair[0]}.overlapping"
        np.testing.assert_array_equal(image_matches_from_file(str(place / f"{pair[1]}.matches")), rows)
    match_pairs(request_of("out", feature_type="mine"))
    assert len(in_kapture(tmp_path / "out", IN_ORDER[0], "mine")) == len(true_matches(*IN_ORDER[0]))


def test_colmaps_database_has_cameras_keypoints_and_matches(request_of: Any, tmp_path: Path) -> None:
    done = match_pairs(request_of("m.db", datasets=datasets(tmp_path), verify=True))
    with sqlite3.connect(tmp_path / "m.db") as opened:
        images = dict(opened.execute("select name, image_id from images"))
        cameras = opened.execute("select width, height, prior_focal_length from cameras").fetchall()
        content = opened.execute("select data from keypoints where image_id = ?", (images["a.png"],)).fetchone()[0]
        geometries = dict(opened.execute("select pair_id, rows from two_view_geometries"))
        raw = dict(opened.execute("select pair_id, rows from matches"))
    assert list(images) == ["a.png", "b.png", "m.png", "q.png"]
    assert cameras == [(640, 480, 1)] * 2  # one of each dataset
    keypoints = np.frombuffer(content, np.float32).reshape(-1, 2)
    np.testing.assert_allclose(keypoints, Projected().features(Scene(tmp_path), "a.png").keypoints, atol=1e-4)
    assert list(geometries.values()) == list(raw.values())
    assert sum(raw.values()) == done.matches > 100
    match_pairs(request_of("raw.db", datasets=datasets(tmp_path)))
    with sqlite3.connect(tmp_path / "raw.db") as opened:
        assert opened.execute("select count(*) from two_view_geometries").fetchone() == (0,)
        assert opened.execute("select count(*) from matches").fetchone() == (3,)


def test_verified_matches_are_those_of_one_geometry(request_of: Any, tmp_path: Path) -> None:
    def wrong(descriptors: np.ndarray) -> np.ndarray:
        return np.concatenate((np.roll(descriptors[:20], 1, axis=0), descriptors[20:]))

    write_features(tmp_path / "feats.h5", b=wrong)
    match_pairs(request_of("raw.h5"))
    match_pairs(request_of("verified.h5", datasets=datasets(tmp_path), verify=True))
    raw, verified = (HlocMatchFile(tmp_path / name).read("a.png", "b.png") for name in ("raw.h5", "verified.h5"))
    assert len(raw[0]) > len(verified[0]) + 10
    false = set(map(tuple, verified[0].tolist())) - set(map(tuple, true_matches("a.png", "b.png")))
    assert len(false) < 5  # that lie near their epipolar lines
    scores = {tuple(row): score for row, score in zip(raw[0].tolist(), raw[1].tolist(), strict=True)}
    assert [scores[tuple(row)] for row in verified[0].tolist()] == verified[1].tolist()


@pytest.mark.parametrize("output", ["out", "m.h5", "m.db"])
def test_the_same_command_makes_again_what_must_be(
    request_of: Any, tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = request_of(output, datasets=datasets(tmp_path))
    match_pairs(given)
    where = tmp_path / output
    files = [where] if where.is_file() else sorted(where.rglob("*.matches"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    again = match_pairs(given)
    assert (again.matched, again.kept) == (0, 3)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == before
    flip(files[0])
    kept = sorted(Path(f"{where}.workspace").rglob("*.npz"))
    assert len(kept) == 3
    flip(kept[0])
    kept[1].unlink()
    repaired = match_pairs(given)
    assert (repaired.matched, repaired.kept) == (2, 1)
    assert files[0].stat().st_size == len(before[files[0]][0])
    if output != "m.db":  # whose bytes hold the time
        assert {path: path.read_bytes() for path in files} == {path: content for path, (content, _) in before.items()}
    write_list(given.pairs, [*PAIRS[:2], ("c.png", "q.png")])
    grown = match_pairs(given)
    assert (grown.pairs, grown.matched, grown.kept) == (3, 1, 2)
    if output == "out":
        assert [path.stem for path in sorted(where.rglob("*.matches"))] == ["b.png", "m.png", "q.png"]
    with monkeypatch.context() as patched:
        patched.setattr(MutualMatcher, "match_pairs", None)
        match_pairs(given)  # nothing is matched again
    write_features(tmp_path / "feats.h5", c=lambda descriptors: -descriptors)
    assert match_pairs(given).matched == 1


@pytest.mark.parametrize("output", ["out", "m.h5", "m.db"])
@pytest.mark.parametrize("stop", [2, 4])
def test_a_run_that_was_killed_leaves_no_half_and_carries_on(
    request_of: Any, tmp_path: Path, output: str, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = request_of(output, datasets=datasets(tmp_path), workers=1)
    asked, pair = [], match_files.MatchedPairs.pair
    result = match_files.MatchedPairs._result

    def interrupted(work: Any) -> Any:
        def worked(self: Any, *arguments: Any) -> Any:
            asked.append(arguments)
            if len(asked) == stop:
                raise KeyboardInterrupt
            return work(self, *arguments)

        return worked

    with monkeypatch.context() as patched:  # the second pair, or the first that is written
        patched.setattr(match_files.MatchedPairs, "pair", interrupted(pair))
        patched.setattr(match_files.MatchedPairs, "_result", interrupted(result))
        with pytest.raises(KeyboardInterrupt):
            match_pairs(given)
    where = tmp_path / output
    assert not where.is_file()
    assert all(len(path.read_bytes()) % 24 == 0 for path in where.rglob("*.matches"))
    done = match_pairs(given)
    # Another pair may have been matched before the first thread hears of the end.
    assert (done.matched, done.kept) in ([(2, 1), (1, 2)] if stop == 2 else [(0, 3)])
    other = match_pairs(request_of(f"other{where.suffix}", datasets=datasets(tmp_path)))
    assert done.matches == other.matches
    if output == "m.h5":
        assert where.read_bytes() == other.output.read_bytes()
    assert [path.name for path in tmp_path.rglob(".tmp-*")] == []


@pytest.mark.parametrize("output", ["out", "m.h5", "m.db"])
def test_another_output_is_not_written_over(request_of: Any, tmp_path: Path, output: str) -> None:
    match_pairs(request_of(output, datasets=datasets(tmp_path)))
    for changed in ({"ratio": 0.9}, {"verify": True}):
        with pytest.raises(
            IncompatibleError, match=r"holds matches of other features, another matcher or other options"
        ):
            match_pairs(request_of(output, datasets=datasets(tmp_path), **changed))
    record = tmp_path / ("out/reconstruction/matches/projected/gloam.json" if output == "out" else f"{output}.json")
    record.unlink()
    other = "--feature-type another name" if output == "out" else "another output"
    with pytest.raises(IncompatibleError, match=f"or does not say of which; give {other}, or remove it"):
        match_pairs(request_of(output, datasets=datasets(tmp_path)))


def test_a_learned_matcher_matches_the_features_it_is_for(
    request_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = NearestModel()
    rule = Matcher(session, batch_size=2)  # type: ignore[arg-type]  # as much as is needed
    monkeypatch.setattr(Matcher, "load", lambda path, placement: rule)
    features = str(write_features(tmp_path / "short.h5", DIMENSION, network=""))  # as hloc's, it does not say whose
    given = request_of("m.h5", matcher="bright.onnx")
    match_pairs(MatchRequest(**{**vars(given), "features": features}))
    assert sorted(session.batches) == [1, 2]
    assert (HlocMatchFile(tmp_path / "m.h5").read("a.png", "m.png")[1] == 0.5).all()
    with pytest.raises(IncompatibleError, match=r"bright\.onnx: is for bright features of 8 values, but .* of 32"):
        match_pairs(request_of("n.h5", matcher="bright.onnx"))


def test_the_order_of_threads_and_little_memory_change_nothing(request_of: Any, tmp_path: Path) -> None:
    every = list(itertools.combinations([*MAP, "q.png"], 2))
    write_list(tmp_path / "pairs.txt", every)
    match_pairs(request_of("a.h5", workers=1))
    match_pairs(request_of("b.h5", workers=4, memory=1))
    write_list(tmp_path / "pairs.txt", [(second, first) for first, second in reversed(every + every)])
    match_pairs(request_of("c.h5"))
    first, *others = ((tmp_path / f"{name}.h5").read_bytes() for name in "abc")
    assert others == [first] * 2


def test_what_is_asked_for_reaches_the_stage(request_of: Any, tmp_path: Path) -> None:
    given = request_of("m.h5", datasets=datasets(tmp_path), seed=5, memory=77, ratio=0.9, verify=True, pixel_origin=0.0)
    wanted, stage = open_stage(given, tmp_path / "cache")
    assert wanted == IN_ORDER
    assert (stage.seed, stage.memory, stage.verify, stage.cache) == (5, 77, True, tmp_path / "cache")
    assert stage.rule == MutualMatcher(0.9)
    assert stage.source.gives.origin == 0
    assert [scene.root for scene in stage.scenes] == datasets(tmp_path)
    assert workspace_of(given) == tmp_path / "m.h5.workspace"
    assert workspace_of(request_of("m.h5", workspace=tmp_path / "w")) == tmp_path / "w"


def test_every_part_of_a_pairs_key_changes_it_and_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run kept stays of use."""

    def key(source: Any = None, pair: tuple[str, str] = ("a.png", "m.png"), **given: Any) -> str:
        return MatchedPairs(source or Projected(), scenes(tmp_path), None, **given).pair_key(pair)

    class Other(Projected):
        def key(self, scene: Scene, name: str) -> str:
            return "other " + super().key(scene, name)

    monkeypatch.setattr(match_files, "solver_version", lambda: "solver 1")
    assert key() == "8c3f428384005b677fe209a29599735468013c88e9b61df947769fab4608247b"
    assert key(verify=True) == "e9bb1c2f0c1ef2b1857b96bf67be819ccc9e35b40675abd6c6603d23a755ec39"
    assert key(seed=3) == key()  # of no matter without verification
    keys = [
        key(),
        key(Other()),
        key(pair=("a.png", "b.png")),
        key(rule=MutualMatcher(0.9)),
        key(verify=True),
        key(verify=True, seed=1),
    ]
    moved = scenes(tmp_path, camera=Camera("PINHOLE", 640, 480, (500.0, 510.0, 321.0, 240.0)))
    keys.append(MatchedPairs(Projected(), moved, None, verify=True).pair_key(("a.png", "m.png")))
    monkeypatch.setattr(match_files, "solver_version", lambda: "solver 2")
    keys.append(key(verify=True))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output": "m.h5", "format": "kapture"}, r"m\.h5: kapture's matches need a name with no such ending"),
        ({"output": "out", "format": "hloc"}, r"out: hloc's matches need a name with \.h5"),
        ({"output": "out", "format": "colmap"}, r"out: colmap's matches need a name with \.db"),
        ({"output": "m.h5", "ratio": 0.8, "matcher": "m.onnx"}, "--ratio is of mutual neighbours"),
        ({"output": "m.h5", "feature_type": "a"}, r"--feature-type is kapture's; \.h5 files have no types"),
        ({"output": "m.h5", "memory": 0}, "--memory must be 1 byte or more"),
        ({"output": "m.h5", "workers": -1}, "--workers -1: must be 1 or more, or 0 for all cores"),
        ({"output": "m.h5", "verify": True}, "--verify needs the cameras; give the kapture datasets"),
        ({"output": "m.db"}, "a COLMAP database needs the cameras"),
    ],
)
def test_what_does_not_go_together_is_refused(request_of: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_of(**given)


def test_lists_and_features_that_cannot_be_used_are_refused(request_of: Any, tmp_path: Path) -> None:
    def refused(message: str, error: type[Exception] = DataError, **given: Any) -> None:
        with pytest.raises(error, match=message) as caught:
            match_pairs(request_of(**{"output": "m.h5", **given}))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "m.h5").exists()

    write_list(tmp_path / "pairs.txt", [("a.png", "z.png")])
    refused("image 'z.png' of the pair list is in none of the datasets", datasets=datasets(tmp_path))
    refused(r"feats\.h5: has no features of image 'z\.png', but those of 'a\.png' and others")
    write_list(tmp_path / "pairs.txt", [("a.png", "a.png")])
    refused(r"pairs\.txt: lists no pairs of two images")
    write_list(tmp_path / "pairs.txt")
    write_features(tmp_path / "feats.h5", b=lambda descriptors: descriptors[:, :4])
    refused(r"feats\.h5: image 'b\.png' has descriptors of 4 values, but 'a\.png' of 32; extract both alike")
    write_features(tmp_path / "feats.h5", network="")
    refused("does not say whose features these are; give --feature-type", UsageError, output="out")
    content = (tmp_path / "feats.h5").read_bytes()
    (tmp_path / "feats.h5").unlink()
    (tmp_path / "feats.h5").write_bytes(content[:2000])
    refused(r"feats\.h5: the HDF5 file cannot be read \(.*truncated")


@pytest.mark.parametrize("stored", ["h5", "kapture", "database"])
def test_an_image_without_features_matches_nothing_and_is_named(request_of: Any, tmp_path: Path, stored: str) -> None:
    given = request_of("m.h5", datasets=datasets(tmp_path))
    if stored == "h5":
        with h5py.File(tmp_path / "feats.h5", "r+") as opened:
            del opened["b.png"]
    elif stored == "kapture":
        given = replace(given, features=str(in_kaptures_files(tmp_path / "stored", but="b.png")))
    else:
        given = replace(given, features=str(tmp_path / "sift.db"))
        in_colmaps_database(tmp_path / "sift.db", but="b.png")
    done = match_pairs(given)
    assert (done.pairs, done.left_out, list(done.without_features)) == (2, 1, ["b.png"])
    assert "1 images have no features, first 'b.png'; their 1 pairs match nothing and are left out" in str(done)
    assert done.to_dict()["without_features"] == ["b.png"]
    if stored == "h5":  # with its features it is matched by the same call
        write_features(tmp_path / "feats.h5")
        again = match_pairs(given)
        assert (again.pairs, again.matched, again.left_out) == (3, 1, 0)
        assert "no features" not in str(again)


@pytest.mark.parametrize("output", ["out", "m.h5", "m.db"])
def test_writing_gives_signs_of_life(request_of: Any, tmp_path: Path, output: str) -> None:
    wanted, stage = open_stage(request_of(output, datasets=datasets(tmp_path)), tmp_path / "cache")
    beats: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        MatchOutput(request_of(output, datasets=datasets(tmp_path)), stage).write(wanted, pool, lambda: beats.append(1))
    assert len(beats) >= len(wanted)


def test_the_command(request_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb = ["match", "--pairs", str(tmp_path / "pairs.txt"), "--features", str(tmp_path / "feats.h5"), "-o"]
    assert main([*verb, str(tmp_path / "m.h5"), "--ratio", "0.9", "--memory", "8MB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["pairs"], found["matched"], found["output"]) == (3, 3, str(tmp_path / "m.h5"))
    assert main([*verb, str(tmp_path / "m.db"), *map(str, datasets(tmp_path))]) == 0
    assert "3 pairs: 3 matched, 0 kept" in capsys.readouterr().out
    assert main([*verb, str(tmp_path / "n.h5"), "--ratio", "2"]) == 2
    assert "Lowe's test takes one above 0 and at most 1" in capsys.readouterr().err
