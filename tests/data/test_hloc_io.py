"""hloc's files: as hloc itself writes and reads them, and refused in one line where they are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from gloam.data.hloc_io import (
    Hdf5File,
    HlocFeatureFile,
    HlocMatchFile,
    ImageFeatures,
    pair_names,
    write_groups,
    write_hloc_features,
    write_hloc_matches,
)
from gloam.errors import DataError
from tests.damage import named_or_harmless

COUNTS = {"db/a.jpg": 3, "b.png": 0, "db/c/d.jpg": 5}
ROWS = np.array([[0, 2], [2, 0]], np.uint32)
SCORES = np.float32([0.25, 0.75])


def made(name: str, dimension: int = 4) -> ImageFeatures:
    rng = np.random.default_rng(COUNTS[name])
    count = COUNTS[name]
    return ImageFeatures(
        rng.uniform(0, 2000, (count, 2)).astype(np.float32),
        rng.normal(size=(count, dimension)).astype(np.float32),
        rng.random(count).astype(np.float32),
        (2000, 1500),
        1.5,
        f"key of {name}",
    )


def written(path: Path) -> Path:
    assert write_hloc_features(path, "aliked", '["s"]', ((name, made(name)) for name in COUNTS)) == 3
    return path


def by_hloc(path: Path, **changed: dict[str, npt.NDArray[Any]]) -> Path:
    """A file as hloc's extract_features writes it: halves, and nothing of whose features they are."""
    with h5py.File(path, "a", libver="latest") as file:
        for name in COUNTS:
            each = made(name)
            group = file.create_group(name)
            arrays: dict[str, Any] = {
                "keypoints": each.keypoints.astype(np.float16),
                "descriptors": each.descriptors.T.astype(np.float16),
                "scores": each.scores.astype(np.float16),
                "image_size": np.array(each.size),
            }
            for what, values in (arrays | changed.get(name, {})).items():
                if values is not None:
                    group.create_dataset(what, data=values)
            if "keypoints" in group:
                group["keypoints"].attrs["uncertainty"] = 2.0
    return path


def test_features_are_read_as_hloc_reads_them(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path / "feats.h5")) as file:
        for name, count in COUNTS.items():
            group, each = file[name], made(name)
            assert sorted(group) == ["descriptors", "image_size", "keypoints", "scores"]
            assert group["descriptors"].shape == (4, count)
            np.testing.assert_array_equal(group["keypoints"].__array__(), each.keypoints)
            np.testing.assert_array_equal(group["descriptors"].__array__(), each.descriptors.T)
            np.testing.assert_array_equal(group["scores"].__array__(), each.scores)
            assert tuple(group["image_size"])[::-1] == (1500, 2000)
            assert group["keypoints"].attrs["uncertainty"] == 1.5


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = HlocFeatureFile(written(tmp_path / "feats.h5"))
    assert (file.network, file.source, file.dimension, file.names()) == ("aliked", '["s"]', 4, sorted(COUNTS))
    for name in COUNTS:
        found, each = file.read(name), made(name)
        for what in ("keypoints", "descriptors", "scores"):
            np.testing.assert_array_equal(getattr(found, what), getattr(each, what))
            assert getattr(found, what).dtype == np.float32
        assert (found.size, found.uncertainty, found.key) == (each.size, 1.5, each.key)


def test_hlocs_own_file_is_read(tmp_path: Path) -> None:
    file = HlocFeatureFile(by_hloc(tmp_path / "feats.h5", **{"db/a.jpg": {"scores": None}}))
    assert (file.network, file.source, file.dimension) == ("", "", 4)
    found = file.read("db/c/d.jpg")
    np.testing.assert_array_equal(found.keypoints, made("db/c/d.jpg").keypoints.astype(np.float16))
    assert (found.uncertainty, found.key, found.size) == (2.0, "", (2000, 1500))
    assert np.isnan(file.read("db/a.jpg").scores).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"descriptors": np.ones((6, 5))}, r"'db/c/d\.jpg' has descriptors of 6 values, but 'b\.png' of 4"),
        ({"descriptors": np.ones((4, 6))}, r"keypoints \[5, 2\], descriptors \[4, 6\] and 5 scores do not belong"),
        ({"descriptors": np.ones((5, 4))}, "do not belong together"),
        ({"scores": np.ones(4)}, "do not belong together"),
        ({"keypoints": np.ones((5, 1))}, "do not belong together"),
        ({"image_size": np.ones(3)}, "do not belong together"),
        ({"image_size": None}, "has no features of image"),
        ({"keypoints": np.full((5, 2), np.nan)}, "keypoints cannot be read .its values are not all finite"),
        ({"keypoints": np.ones(5)}, "it is not 2-dimensional numbers"),
        ({"keypoints": np.full((5, 2), b"x")}, "it is not 2-dimensional numbers"),
    ],
)
def test_features_that_do_not_belong_together_are_refused(tmp_path: Path, changed: Any, message: str) -> None:
    path = by_hloc(tmp_path / "feats.h5", **{"db/c/d.jpg": changed})
    with pytest.raises(DataError, match=message) as caught:
        HlocFeatureFile(path).read("db/c/d.jpg")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_image_set_is_refused(tmp_path: Path) -> None:
    file = HlocFeatureFile(written(tmp_path / "feats.h5"))
    for name in ("z.png", "db", "db/a.jpg/keypoints"):
        with pytest.raises(DataError, match=rf"has no features of image '{name}', but those of 'b\.png' and others"):
            file.read(name)


def test_what_is_no_features_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"no HDF5", written(tmp_path / "feats.h5").read_bytes()[:-100]):
        (tmp_path / "other.h5").write_bytes(content)
        with pytest.raises(DataError, match=r"other\.h5: the HDF5 file cannot be read \(.+\); write it again"):
            HlocFeatureFile(tmp_path / "other.h5")
    with pytest.raises(DataError, match=r"missing\.h5: .* cannot be read \(No such file or directory\); check"):
        HlocFeatureFile(tmp_path / "missing.h5")
    with pytest.raises(DataError, match=r"the HDF5 file cannot be read \(not a file\)"):
        HlocFeatureFile(tmp_path)
    write_groups(tmp_path / "global.h5", {}, [("a.png", {"global_descriptor": np.ones(4)}, {})])
    with pytest.raises(DataError, match=r"global\.h5: holds no local features"):
        HlocFeatureFile(tmp_path / "global.h5")


def test_an_array_larger_than_its_file_is_not_believed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_group("a.png").create_dataset("keypoints", (1 << 40, 2), "f4", chunks=(1 << 20, 2))
    opened = Hdf5File(tmp_path / "bomb.h5")
    with pytest.raises(DataError, match=r"a\.png: keypoints cannot be read .its shape .* more than the file can hold"):
        opened.array(opened.group("a.png"), "keypoints", 2)


def test_damage_is_named_or_harmless(tmp_path: Path) -> None:
    features = written(tmp_path / "feats.h5")
    matches = tmp_path / "matches.h5"
    write_hloc_matches(matches, [("a.png", "b.png", 3, ROWS, SCORES)])

    def read_features() -> Any:
        file = HlocFeatureFile(features)
        try:
            images = [file.read(name) for name in COUNTS]
            arrays = [getattr(each, what).tobytes() for each in images for what in ("keypoints", "descriptors")]
            return file.network, file.source, arrays, [(each.key, each.size, each.uncertainty) for each in images]
        finally:
            file.close()

    def read_matches() -> Any:
        file = HlocMatchFile(matches)
        try:
            return [values.tobytes() for values in file.read("a.png", "b.png")]
        finally:
            file.close()

    assert named_or_harmless(features, read_features, 250) > 150
    assert named_or_harmless(matches, read_matches, 250) > 100


def test_matches_are_as_hloc_reads_them_in_either_order(tmp_path: Path) -> None:
    path = tmp_path / "matches.h5"
    assert write_hloc_matches(path, [("db/a.jpg", "q/b.jpg", 4, ROWS, SCORES)]) == 1
    with h5py.File(path) as file:
        group = file["db-a.jpg"]["q-b.jpg"]
        assert group["matches0"].__array__().tolist() == [2, -1, 0, -1]
        assert group["matches0"].dtype == np.int16
        assert group["matching_scores0"].__array__().tolist() == [0.25, 0, 0.75, 0]
    file = HlocMatchFile(path)
    rows, scores = file.read("db/a.jpg", "q/b.jpg")
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(scores, SCORES)
    rows, scores = file.read("q/b.jpg", "db/a.jpg")
    np.testing.assert_array_equal(rows, ROWS[:, ::-1])
    assert rows.dtype == np.uint32
    with pytest.raises(DataError, match=r"matches\.h5: has no matches of 'db/a\.jpg' and 'c\.jpg'"):
        file.read("db/a.jpg", "c.jpg")


def test_rows_beyond_int16_stay_what_they_are(tmp_path: Path) -> None:
    write_hloc_matches(tmp_path / "m.h5", [("a", "b", 1, np.array([[0, 40_000]], np.uint32), np.float32([1]))])
    assert HlocMatchFile(tmp_path / "m.h5").read("a", "b")[0].tolist() == [[0, 40_000]]


def test_pairs_of_older_files_are_found(tmp_path: Path) -> None:
    assert list(pair_names("x/a", "b")) == [("x-a/b", False), ("b/x-a", True), ("x-a_b", False), ("b_x-a", True)]
    for number, (name, swapped) in enumerate(pair_names("x/a", "b")):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file.create_group(name)["matches0"] = np.int16([-1, 1])
        rows, scores = HlocMatchFile(path).read("x/a", "b")
        assert rows.tolist() == [[1, 1]]
        assert np.isnan(scores).all()
        del swapped


@pytest.mark.parametrize(
    "arrays",
    [
        {"matches0": np.int16([1, -2])},
        {"matches0": np.float32([1, 2])},
        {"matches0": np.int16([1, -1]), "matching_scores0": np.float16([1])},
        {"matches0": np.int16([[1, -1]])},
        {"matches0": np.int16([1, -1]), "matching_scores0": np.float16([np.nan, 1])},
    ],
)
def test_matches_that_are_none_are_refused(tmp_path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    write_groups(tmp_path / "m.h5", {}, [("a/b", arrays, {})])
    with pytest.raises(DataError, match=r"m\.h5: a/b.*(do not belong together|cannot be read)"):
        HlocMatchFile(tmp_path / "m.h5").read("a", "b")


def test_names_that_collide_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    for pairs in ([("a/b.png", "c"), ("a-b.png", "c")], [("a", "b"), ("a", "b/c"), ("a", "b-c")]):
        with pytest.raises(DataError, match="is there twice, or as a folder of others"):
            write_hloc_matches(tmp_path / "m.h5", [(*pair, 1, ROWS[:0], SCORES[:0]) for pair in pairs])
    with pytest.raises(DataError, match=r"image name '\.\./a\.png' contains"):
        write_groups(tmp_path / "m.h5", {}, [("../a.png", {"x": np.ones(2)}, {})])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    def stopped() -> Iterator[tuple[str, ImageFeatures]]:
        yield "b.png", made("b.png")
        raise KeyboardInterrupt

    before = written(tmp_path / "feats.h5").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_hloc_features(tmp_path / "feats.h5", "aliked", "", stopped())
    assert (tmp_path / "feats.h5").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
