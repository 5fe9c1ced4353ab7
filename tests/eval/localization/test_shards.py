"""Shards fill one workspace: together all of it, each its own part, and the poses are those of one run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.shared.long_street import write_street
from gloam.cli.main import main
from gloam.data.kapture_io import write_scene
from gloam.data.scene import Record, Scene
from gloam.errors import UsageError
from gloam.eval.localization import request as front
from gloam.eval.localization.localize import localize
from gloam.eval.localization.request import LocalizeRequest
from gloam.eval.localization.shards import match_shard
from gloam.model_card import FeatureRule
from gloam.runtime.bulk.extract import Part
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.local_features import LocalFeatures
from tests.runtime.localization.exact_world import MAP, Projected, scenes


class Counted(Projected):
    """The made-up world's features; counts who asks."""

    gives = FeatureRule("projected", 32)
    asked: list[str]

    def __init__(self) -> None:
        self.asked = []

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        self.asked.append(name)
        return super().features(scene, "q.png" if name.startswith("q") else name)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Counted:
    made = Counted()
    monkeypatch.setattr(front, "_features", lambda *given: made)
    return made


def request_of(root: Path, output: str, **given: Any) -> LocalizeRequest:
    mapping, query = scenes(root)
    query.records.update({f"q{row}.png": Record("c", 10 + row) for row in range(5)})
    for scene in (mapping, query):
        write_scene(scene)
    (root / "pairs.txt").write_text("".join(f"{name} {image}\n" for name in query.names for image in MAP))
    return LocalizeRequest(mapping.root, query.root, root / output, pairs=root / "pairs.txt", workers=2, **given)


@pytest.mark.parametrize(("methods", "pairs"), [(("2b", "2a"), 30), (("2a",), 30), (("2b", "top1"), 30)])
def test_shards_do_each_a_part_and_together_all(
    source: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...], pairs: int
) -> None:
    expected = localize(request_of(tmp_path, "one", methods=methods)).result
    source.asked.clear()
    shared = request_of(tmp_path, "shared", methods=methods)
    done = [match_shard(shared, Part(index, 3), progress=False) for index in range(3)]
    assert sum(shard.pairs for shard in done) == sum(shard.matched for shard in done) == pairs
    assert min(shard.pairs for shard in done) > pairs / 6
    assert sum(shard.images for shard in done) == 10
    assert [shard.left for shard in done] == [pairs - done[0].pairs, done[2].pairs, 0]
    assert sorted(source.asked) == sorted([*MAP, "q.png", *(f"q{row}.png" for row in range(5))])  # each once
    assert not (shared.output / "2b").exists()
    again = match_shard(shared, Part(1, 3), progress=False)
    assert (again.matched, again.found, again.left) == (0, 0, 0)
    monkeypatch.setattr(Counted, "features", None)
    monkeypatch.setattr(MutualMatcher, "match_pairs", None)
    found = localize(shared).result
    assert found.poses == expected.poses
    assert found.inliers == expected.inliers
    if "2b" in methods:
        assert found.world is not None
        assert expected.world is not None
        np.testing.assert_array_equal(found.world.points, expected.world.points)


def test_pairs_that_are_known_only_later_are_left_to_the_last_run(source: Counted, tmp_path: Path) -> None:
    done = match_shard(request_of(tmp_path, "out", methods=("2a",), verify=4, top_k=2), Part(0, 1), progress=False)
    assert (done.pairs, done.left) == (24, 0)


def test_what_cannot_be_shared_is_refused(source: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = request_of(tmp_path, "out", methods=("top1", "ewb"))
    with pytest.raises(
        UsageError, match=r"^--shard-index shares out matching, and top1, ewb match nothing; leave it out$"
    ):
        match_shard(given, Part(0, 2))
    verb = ["localize", "--mapping", str(given.mapping), "--query", str(given.query), "--pairs", str(given.pairs)]
    verb += ["-o", str(given.output)]
    for more, message in (
        (["--num-shards", "2"], "--shard-index and --num-shards go together"),
        (["--shard-index", "2", "--num-shards", "2"], "the index runs from 0 to 1"),
        (["--shard-index", "0", "--num-shards", "2", "--dry-run"], "--dry-run tells of the whole run"),
    ):
        assert main([*verb, *more]) == 2
        assert message in capsys.readouterr().err
    assert main([*verb, "--shard-index", "0", "--num-shards", "2"]) == 0
    assert "pairs of other shards are left" in capsys.readouterr().out
    assert main([*verb, "--shard-index", "1", "--num-shards", "2"]) == 0
    assert "run the same command without --shard-index" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_at_once_one_of_them_killed_leave_what_one_run_does(tmp_path: Path) -> None:
    write_street(tmp_path, 24, 6)
    sides = ["--mapping", str(tmp_path / "mapping"), "--query", str(tmp_path / "query")]
    words = [
        "localize",
        *sides,
        "--pairs",
        str(tmp_path / "pairs.txt"),
        "--max-keypoints",
        "512",
        "--pixel-shift",
        "0.5",
    ]

    def begin(output: str, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "gloam.cli.main", *words, "-o", str(tmp_path / output), *more],
            stdout=subprocess.DEVNULL,
        )

    assert begin("one").wait() == 0
    first, second = (begin("shared", "--shard-index", str(index), "--num-shards", "2") for index in range(2))
    matches = tmp_path / "shared" / "workspace" / "matches"
    while second.poll() is None and not any(matches.rglob("*.npz")):
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    assert first.wait() == 0
    second.wait()
    assert begin("shared", "--shard-index", "1", "--num-shards", "2").wait() == 0
    count = sum(1 for _ in matches.rglob("*.npz"))
    assert begin("shared").wait() == 0
    assert sum(1 for _ in matches.rglob("*.npz")) == count  # nothing was left to match
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file() and path.name != "summary.json":
            other = tmp_path / "shared" / path.relative_to(tmp_path / "one")
            assert other.read_bytes() == path.read_bytes(), path
