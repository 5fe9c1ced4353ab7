import csv
import itertools

import cv2
import numpy as np
import pytest

from gloam.data.day_night.papers import by_id, read_aachen, read_robotcar, read_sfm, read_transient
from gloam.data.day_night.read import (
    check_images,
    read_day_night,
    read_folders,
    read_paired_csv,
    read_paired_folders,
    without_small,
)
from gloam.errors import DataError

CIDS = [f"{index:032x}"[::-1] for index in (0xABCDEF, 0x123456, 0x777777)]


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def photograph(path, width=64, height=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def names(items):
    return [item.name for item in items]


def test_folders_at_any_depth_and_groups(tmp_path):
    touch(tmp_path, "cam1/day/a.jpg", "cam1/night/b.jpg", "cam2/day/c.jpg", "cam3/night/d.jpg", "cam1/day/.hidden")
    found = read_folders(tmp_path)
    assert names(found.day) == ["cam1/day/a.jpg", "cam2/day/c.jpg"]
    assert names(found.night) == ["cam1/night/b.jpg", "cam3/night/d.jpg"]
    assert names(read_folders(tmp_path, ["cam1"]).day) == ["cam1/day/a.jpg"]
    with pytest.raises(DataError, match=r"no folder 'cam9'.*cam1, cam2, cam3"):
        read_folders(tmp_path, ["cam9"])
    with pytest.raises(DataError, match="expected folders trainA/ and trainB/ or day/ and night/"):
        read_folders(tmp_path, ["cam2"])


def test_what_is_not_used_of_folders_is_counted(tmp_path):
    touch(tmp_path, "a/day/1.jpg", "a/day/notes.txt", "a/night/1.jpg", "a/night/Thumbs.db", "a/dusk/2.jpg", "b/3.jpg")
    (tmp_path / "a/again").symlink_to(tmp_path / "a/day")
    loops, beside = {"linked folder that leads back or is listed already": 1}, {"not an image": 2}
    assert read_folders(tmp_path).left_out == {**beside, **loops, "in no folder day/ or night/": 2}
    assert read_folders(tmp_path, ["a"]).left_out["in no folder day/ or night/"] == 1
    assert read_day_night(tmp_path / "a/day", tmp_path / "a/night").left_out == beside
    found = read_paired_folders(tmp_path / "a")
    assert found.left_out == found.unpaired().left_out == beside
    touch(tmp_path, "r/dusk/rear/1.jpg", "r/night/rear/2.jpg", "r/night/rear/poses.csv")
    assert read_robotcar(tmp_path / "r").left_out == {"not an image": 1}
    touch(tmp_path, "aachen/db/1.jpg", "aachen/db/1.json", "aachen/query/night/2.jpg")
    assert read_aachen(tmp_path / "aachen").left_out == {"not an image": 1}


def test_cyclegan_layout(tmp_path):
    touch(tmp_path, "trainA/1.png", "trainB/2.png", "testA/3.png")
    found = read_folders(tmp_path)
    assert (names(found.day), names(found.night)) == (["trainA/1.png"], ["trainB/2.png"])


def test_lists_know_their_lines_and_drop_intrinsics_and_repetitions(tmp_path):
    (tmp_path / "day.txt").write_text("# comment\n\na.jpg PINHOLE 1 2 3\nb.jpg\na.jpg\n")
    (tmp_path / "night.txt").write_text("n.jpg\n")
    found = read_day_night(tmp_path / "day.txt", tmp_path / "night.txt")
    assert names(found.day) == ["a.jpg", "b.jpg"]
    assert found.rows[tmp_path / "b.jpg"] == "day.txt:4"


def test_an_image_in_both_lists_is_refused(tmp_path):
    (tmp_path / "day.txt").write_text("a.jpg\nb.jpg\n")
    (tmp_path / "night.txt").write_text("c.jpg\nb.jpg\n")
    with pytest.raises(DataError, match=r"night.txt:2: b.jpg is in both"):
        read_day_night(tmp_path / "day.txt", tmp_path / "night.txt")


def test_bad_rows_are_named_with_line_and_reason(tmp_path):
    photograph(tmp_path / "good.png")
    photograph(tmp_path / "small.png", 40, 35)
    photograph(tmp_path / "pixel.png", 1, 1)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photograph")
    truncated = (tmp_path / "good.png").read_bytes()[:120]
    (tmp_path / "cut.png").write_bytes(truncated)
    lines = ["good.png", "small.png", "absent.png", "broken.jpg", "../evil.png", "pixel.png", "cut.png"]
    (tmp_path / "day.txt").write_text("\n".join(lines))
    (tmp_path / "night.txt").write_text("good2.png")
    found = read_day_night(tmp_path / "day.txt", tmp_path / "night.txt")
    with pytest.raises(DataError) as caught:
        check_images(found.day, found.rows, least_side=40)
    message = str(caught.value)
    assert message.startswith("6 images cannot be used: day.txt:2: small.png: 40x35: the crop needs")
    for part in (
        "day.txt:3: absent.png: cannot be read",
        "day.txt:4: broken.jpg: ",
        "day.txt:5: ../evil.png: name",
        "1 more",
    ):
        assert part in message
    assert "\n" not in message
    check_images(found.day[:1], found.rows, least_side=48)
    check_images(found.day[:1], least_side=48, decode=False)
    with pytest.raises(DataError, match="small"):
        check_images(found.day[1:2], least_side=40, decode=False)


def test_paired_folders_pair_by_stem_and_name_what_is_alone(tmp_path):
    touch(tmp_path, "day/a.jpg", "day/x/b.png", "night/a.png", "night/x/b.png")
    pairs = read_paired_folders(tmp_path).pairs
    assert [(day.name, night.name) for day, night in pairs] == [("a.jpg", "a.png"), ("x/b.png", "x/b.png")]
    touch(tmp_path, "night/c.png")
    with pytest.raises(DataError, match=r"1 images have no partner: night/c.png"):
        read_paired_folders(tmp_path)


def test_paired_tables(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("camera,night,day\n1,n1.jpg,d.jpg\n1,n2.jpg,d.jpg\n")
    found = read_paired_csv(table)
    assert [(day.name, night.name) for day, night in found.pairs] == [("d.jpg", "n1.jpg"), ("d.jpg", "n2.jpg")]
    assert names(found.unpaired().day) == ["d.jpg"]
    table.write_text("day,night\na.jpg,\n../b.jpg,c.jpg\n")
    with pytest.raises(DataError, match=r"2 bad names: line 2: '' is empty; line 3: '../b.jpg' contains"):
        read_paired_csv(table)
    table.write_text("left,night\na,b\n")
    with pytest.raises(DataError, match="no column 'day'"):
        read_paired_csv(table)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "x"])
def test_transient_attributes_are_finite(tmp_path, value):
    (tmp_path / "attributes.txt").write_text("daylight\nnight\n")
    (tmp_path / "annotations.tsv").write_text(f"a/d.jpg\t0.95,1\t0,1\na/n.jpg\t0,1\t{value},1\n")
    with pytest.raises(DataError, match=r"annotations\.tsv:2: an attribute is not a number"):
        read_transient(tmp_path)


def test_lists_and_tables_have_one_spelling_of_a_name(tmp_path):
    touch(tmp_path, "day/my a.jpg", "night/b.jpg")
    (tmp_path / "day.txt").write_bytes(b"\xef\xbb\xbfday/my a.jpg PINHOLE 640 480 1 1 1 1\r\n./day//my a.jpg\r\n")
    (tmp_path / "night.txt").write_text("night\\b.jpg\n")
    found = read_day_night(tmp_path / "day.txt", tmp_path / "night.txt")
    assert (names(found.day), names(found.night)) == (["day/my a.jpg"], ["night/b.jpg"])
    (tmp_path / "pairs.csv").write_text("day,night\n./day//my a.jpg,night\\b.jpg\n")
    assert read_paired_csv(tmp_path / "pairs.csv").pairs == ((found.day[0], found.night[0]),)


def test_transient_attributes_pair_within_webcams(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "attributes.txt").write_text("dirty\ndaylight\nnight\n")
    rows = [
        ("cam1/d1.jpg", 0.95, 0.0), ("cam1/d2.jpg", 1.0, 0.1), ("cam1/dusk.jpg", 0.5, 0.5), ("cam1/n1.jpg", 0.0, 0.91),
        ("cam1/edge.jpg", 0.0, 0.9), ("cam2/d.jpg", 1.0, 0.0), ("cam3/n1.jpg", 0.0, 1.0), ("cam3/n2.jpg", 0.1, 1.0),
        ("cam3/d.jpg", 0.92, 0.0),
    ]  # fmt: skip
    table = tmp_path / "annotations" / "annotations.tsv"
    table.write_text("".join(f"{name}\t0.1,0.5\t{day},0.8\t{night},0.9\n" for name, day, night in rows))
    found = read_transient(tmp_path)
    assert found.left_out == {"of a webcam without the other domain": 1}
    pairs = [(day.name, night.name) for day, night in found.pairs]
    assert pairs == [
        ("cam1/d1.jpg", "cam1/n1.jpg"),
        ("cam1/d2.jpg", "cam1/n1.jpg"),
        ("cam1/dusk.jpg", "cam1/n1.jpg"),  # whatever is no night
        ("cam1/edge.jpg", "cam1/n1.jpg"),
        *itertools.product(["cam3/d.jpg"], ["cam3/n1.jpg", "cam3/n2.jpg"]),
    ]
    table.write_text("cam1/d1.jpg\t0.1,0.5\n")
    with pytest.raises(DataError, match=r"annotations.tsv:1: 1 attributes after the name; expected 3"):
        read_transient(tmp_path)


def test_robotcar_takes_the_rear_camera_alone(tmp_path):
    touch(tmp_path, "images/sun/rear/1.jpg", "images/sun/left/2.jpg", "images/overcast-reference/rear/3.jpg")
    touch(tmp_path, "images/night-rain/rear/4.jpg", "images/dawn/rear/5.jpg", "images/night/right/6.jpg")
    found = read_robotcar(tmp_path)
    assert names(found.day) == ["sun/rear/1.jpg", "dawn/rear/5.jpg"]
    assert names(found.night) == ["night-rain/rear/4.jpg"]


def test_aachen_by_folders_and_by_lists(tmp_path):
    touch(tmp_path, "db/1.jpg", "query/day/milestone/2.jpg", "query/night/nexus5x/3.jpg", "sequences/x/4.png")
    found = read_aachen(tmp_path)
    assert names(found.day) == ["db/1.jpg", "query/day/milestone/2.jpg"]
    (tmp_path / "db_with_intrinsics.txt").write_text("db/9.jpg SIMPLE_RADIAL 1 2 3\n")
    assert names(read_aachen(tmp_path).day) == ["db/9.jpg"]
    assert names(read_aachen(tmp_path).night) == ["query/night/nexus5x/3.jpg"]


def test_aachen_lists_of_the_benchmark(data_pack):
    found = read_aachen(data_pack("gt_formats") / "aachen")
    assert (len(found.day), len(found.night)) == (4479 + 824, 98)


def test_sfm_lists_of_ids_and_of_paths(tmp_path):
    cid = CIDS[0]
    stored = f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"
    touch(tmp_path / "ims", stored)
    (tmp_path / "day.txt").write_text(f"{cid}\n{CIDS[1]}\n")
    (tmp_path / "night.txt").write_text(f"ab/cd/ef/{CIDS[2]}\n")
    found = read_sfm(tmp_path / "day.txt", tmp_path / "night.txt", tmp_path / "ims")
    assert found.day[0].path == tmp_path / "ims" / stored
    assert found.rows[found.day[0].path] == "day.txt:1"
    assert by_id(tmp_path / "ims" / stored) == tmp_path / "ims" / stored


def test_readers_on_real_photographs(data_pack):
    cameras = read_folders(data_pack("amos_daynight") / "images")
    assert (len(cameras.day), len(cameras.night)) == (142, 140)
    table = data_pack("amos_daynight") / "pairs.csv"
    with open(table) as handle:
        assert len(read_paired_csv(table).pairs) == sum(1 for _ in csv.reader(handle)) - 1
    landmarks = read_paired_csv(data_pack("wxbs_daynight") / "pairs.csv")
    assert len(landmarks.pairs) == 9
    check_images(landmarks.unpaired().day, landmarks.rows, least_side=256, decode=False)
    both = read_day_night(data_pack("amos_daynight") / "images" / "cam01" / "day", data_pack("night_street_unpaired"))
    assert len(both.night) == 10  # the licence note beside them is no image
    check_images(both.night)


def test_small_images_are_left_out_and_counted(tmp_path):
    for name, size in (("day/a", (60, 50)), ("day/b", (49, 90)), ("night/a", (50, 50)), ("night/c", (10, 10))):
        photograph(tmp_path / f"{name}.png", *size)
    (tmp_path / "day" / "broken.png").write_bytes(b"no image")
    found = without_small(read_day_night(tmp_path / "day", tmp_path / "night"), 50)
    assert (names(found.day), names(found.night)) == (["a.png", "broken.png"], ["a.png"])  # the broken is named later
    assert found.left_out == {"with a side under 50 px": 2}
    rows = ("day,night", "day/a.png,night/a.png", "day/a.png,night/c.png", "day/b.png,night/c.png")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    pairs = without_small(read_paired_csv(tmp_path / "pairs.csv"), 50)
    assert [(day.name, night.name) for day, night in pairs.pairs] == [("day/a.png", "night/a.png")]
    assert pairs.left_out == {"with a side under 50 px": 2}  # each image once
