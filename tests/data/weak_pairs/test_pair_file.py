"""The file of weak pairs: written, read back, and refused where a row is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gloam.data.weak_pairs.pair_file import Listed, read_pair_file, write_pair_file
from gloam.errors import DataError, UsageError


def written(folder: Path) -> Path:
    names = ["snow/a b.jpg", "snow/c.jpg", "night/d.jpg", "rain/e.jpg"]
    for name in names:
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).touch()
    listed = Listed(
        {"snow": {"season": "winter"}, "night": {}, "rain": {}},
        [folder / "photos" / name for name in names],
        [0, 0, 1, 2],
        ["train", "test", "train", "test"],
        [(1, 2, 0), (3, 4, 0), (1, 2.5, 0), (3, 4.123456, 0)],
        [(0, 2, 0.5, 3.25), (1, 3, 0.12345678, math.nan)],
        {"frame": "x, y"},
    )
    write_pair_file(folder / "pairs.json", listed)
    return folder / "pairs.json"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = read_pair_file(written(tmp_path))
    assert found.domains == ("snow", "night", "rain")
    assert found.attributes[0] == {"season": "winter"}
    assert [(image.item.name, image.label, image.part) for image in found.images] == [
        ("snow/a b.jpg", 0, "train"),
        ("snow/c.jpg", 0, "test"),
        ("night/d.jpg", 1, "train"),
        ("rain/e.jpg", 2, "test"),
    ]
    assert found.images[3].position == (3, 4.123, 0)
    first, second = found.pairs
    assert (first.first, first.second) == (found.images[0], found.images[2])
    assert (first.distance, first.angle, second.distance, second.angle) == (0.5, 3.25, 0.1235, None)
    assert found.images[0].item.path.samefile(tmp_path / "photos" / "snow" / "a b.jpg")


def test_a_part_and_some_domains_with_labels_of_their_own(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert [pair.first.item.name for pair in read_pair_file(path, "train").pairs] == ["snow/a b.jpg"]
    found = read_pair_file(path, domains=["rain", "snow"])
    assert found.domains == ("rain", "snow")
    assert [(pair.first.label, pair.second.label) for pair in found.pairs] == [(1, 0)]
    assert [image.item.name for image in found.images] == ["snow/a b.jpg", "snow/c.jpg", "rain/e.jpg"]
    with pytest.raises(UsageError, match=r"pairs.json: unknown domain 'fog'; it has snow, night, rain"):
        read_pair_file(path, domains=["fog"])
    with pytest.raises(UsageError, match=r"domain 'snow' is named twice"):
        read_pair_file(path, domains=["snow", "snow"])
    with pytest.raises(UsageError, match=r"unknown part 'val' of weak pairs; choose train or test"):
        read_pair_file(path, "val")
    with pytest.raises(DataError, match=r"holds no pairs of part train of rain, snow"):
        read_pair_file(path, "train", domains=["rain", "snow"])


def test_damage_is_noticed_and_missing_images_are_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "photos" / "rain" / "e.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images are not there, first .*rain/e.jpg"):
        read_pair_file(path)
    assert len(read_pair_file(path, "train").pairs) == 1
    assert len(read_pair_file(path, check_files=False).pairs) == 2
    with pytest.raises(DataError, match=r"2 of 2 images are not there"):
        read_pair_file(path, "train", images=tmp_path)
    path.write_text(path.read_text().replace("0.5, 3.25", "0.6, 3.25"))
    with pytest.raises(DataError, match=r"pairs.json: the pair file cannot be read \(its checksum differs"):
        read_pair_file(path)


def by_hand(folder: Path, **changes: Any) -> Path:
    for name in ("a", "b", "c"):
        (folder / f"{name}.jpg").touch()
    content = {
        "format": "gloam weak pairs",
        "version": 1,
        "domains": [{"name": "snow"}, {"name": "night"}],
        "images": [["a.jpg", "snow", "train", 0, 0, 0], ["b.jpg", "night", "train", 0, 0, 0]],
        "pairs": [["a.jpg", "snow", "b.jpg", "night", 1, 2, "train"]],
    } | changes
    text = json.dumps({key: value for key, value in content.items() if value is not None})
    (folder / "hand.json").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    return folder / "hand.json"


def test_a_file_by_hand_needs_no_images_and_no_seal(tmp_path: Path) -> None:
    found = read_pair_file(by_hand(tmp_path, images=None))
    assert [image.position for image in found.images] == [None, None]
    assert read_pair_file(by_hand(tmp_path)).images[0].position == (0, 0, 0)


GOOD = ["a.jpg", "snow", "b.jpg", "night", 1, 2, "train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, r"hand.json: is no file of weak pairs"),
        ({"version": 2}, r"hand.json: is of version 2; this gloam reads version 1"),
        ({"domains": [{"name": "snow"}]}, r"hand.json: has 1 domains; pairs are of two at least"),
        ({"domains": [{"name": "snow"}, {"name": "snow"}]}, r"domains\[1\]: domain 'snow' is named twice"),
        ({"domains": [{"name": "snow"}, {}]}, r"domains\[1\]: has no name"),
        ({"domains": [{"name": "snow", "attributes": {"a": 1}}]}, r"domains\[0\]: attributes of 'snow' are no words"),
        ({"pairs": None}, r"'pairs' is missing or no list"),
        ({"pairs": []}, r"hand.json: holds no pairs;"),
        ({"pairs": ["a"]}, r"pairs\[0\]: is no list"),
        ({"pairs": [GOOD[:4]]}, r"pairs\[0\]: 4 values; a pair is path_a, domain_a"),
        (
            {"pairs": [GOOD, ["a.jpg", "snow", "c.jpg", "snow", 1, 2, "train"]], "images": None},
            r"\[1\]: both .* 'snow'",
        ),
        ({"pairs": [["a.jpg", "fog", *GOOD[2:]]]}, r"pairs\[0\]: unknown domain 'fog'; the file has snow, night"),
        ({"pairs": [["a.jpg", "night", *GOOD[2:]]]}, r"pairs\[0\]: image 'a.jpg' is of domain 'night' here and of"),
        ({"pairs": [["c.jpg", *GOOD[1:]]]}, r"pairs\[0\]: image 'c.jpg' is not among the file's images"),
        ({"pairs": [["../a.jpg", *GOOD[1:]]]}, r"pairs\[0\]: image name '../a.jpg' contains '..'"),
        ({"pairs": [[7, *GOOD[1:]]]}, r"pairs\[0\]: image name 7 is no text"),
        ({"pairs": [[*GOOD[:4], -1, 2, "train"]]}, r"pairs\[0\]: dist_m -1 is below 0"),
        ({"pairs": [[*GOOD[:4], 1, 200, "train"]]}, r"pairs\[0\]: dyaw_deg 200 is above 180"),
        ({"pairs": [[*GOOD[:4], "near", 2, "train"]]}, r"pairs\[0\]: dist_m 'near' is not a finite number"),
        ({"pairs": [[*GOOD[:6], "val"]]}, r"pairs\[0\]: part 'val' is neither train nor test"),
        (
            {"pairs": [[*GOOD[:6], "test"]]},
            r"pairs\[0\]: image 'a.jpg' is of part 'test' here and of 'train' elsewhere",
        ),
        (
            {"pairs": [GOOD, [*GOOD[2:4], *GOOD[:2], 1, 2, "train"]]},
            r"pairs\[1\]: the pair is there already, in .*\[0\]",
        ),
        ({"images": [["a.jpg", "snow", "train", 0, 0]]}, r"images\[0\]: 5 values; an image is name, domain"),
        ({"images": [["a.jpg", "snow", "train", 0, 0, 0]] * 2}, r"images\[1\]: image 'a.jpg' is there already"),
        ({"images": [["a.jpg", "snow", "train", 0, None, 0]]}, r"images\[0\]: y None is not a finite number"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pair_file(by_hand(tmp_path, **changes))


def test_no_json_and_numbers_that_are_none(tmp_path: Path) -> None:
    path = by_hand(tmp_path)
    path.write_text(path.read_text(encoding="utf-8-sig").replace("1, 2, ", "NaN, 2, "))
    with pytest.raises(DataError, match=r"hand.json: the pair file cannot be read .*NaN is not a finite number"):
        read_pair_file(path)
    with pytest.raises(DataError, match=r"none.json: the pair file cannot be read"):
        read_pair_file(tmp_path / "none.json")


def test_a_table_of_pairs(tmp_path: Path) -> None:
    by_hand(tmp_path)
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"\xef\xbb\xbfpath_a,domain_a,path_b,domain_b,note\r\na.jpg,snow,b.jpg,night,x\r\n")
    found = read_pair_file(path)
    assert found.domains == ("night", "snow")
    assert (found.pairs[0].first.label, found.pairs[0].distance, found.pairs[0].first.part) == (1, None, "train")
    head = "path_a,domain_a,path_b,domain_b,dist_m,dyaw_deg,part\n"
    for rows, message in (
        ("path_a,domain_a,path_b\n", r"pairs.csv:1: no column 'domain_b'"),
        (head + "a.jpg,snow,c.jpg,snow,1,2,train\n", r"pairs.csv:2: both images are of domain 'snow'"),
        (head + "a.jpg,snow,b.jpg,night,nan,2,train\n", r"pairs.csv:2: dist_m nan is not a finite number"),
        (head + "a.jpg,snow,b.jpg,night,x,2,train\n", r"pairs.csv:2: dist_m 'x' is not a number"),
        (head + "a.jpg,snow,b.jpg,night,1,2\n", r"pairs.csv:2: 6 values where the header has 7"),
        (head + "a.jpg,snow,b.jpg,,1,2,\n", r"pairs.csv:2: domain_b is empty"),
        (head + "a.jpg,snow,z.jpg,night,1,2,\n", r"pairs.csv: 1 of 2 images are not there, first .*z.jpg"),
        (head, r"pairs.csv: holds no pairs"),
    ):
        path.write_text(rows)
        with pytest.raises(DataError, match=message):
            read_pair_file(path)
