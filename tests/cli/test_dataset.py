"""``gloam dataset``: a user's own images to a checked set, and every fault of one in words."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.retrieval_sets.check import check_set, describe_set
from gloam.data.retrieval_sets.native import hold_out_clusters, write_native
from gloam.data.retrieval_sets.sets import RetrievalSet, read_retrieval_set
from gloam.data.sources import ImageItem
from gloam.errors import DataError, UsageError
from tests.data.retrieval_sets.test_sets import a_set, sfm_part


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return path


def own_images(root: Path) -> Path:
    for place, condition, index in itertools.product(range(7), ("day", "night"), range(2)):
        picture(root / f"place{place}" / condition / f"{index}.png", seed=100 * place + 10 * index + len(condition))
    return root


def test_folders_to_a_checked_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = own_images(tmp_path / "images")
    out = tmp_path / "lists" / "set.json"
    assert main(["dataset", "build", str(images), "-o", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sets"]["train"]["images"] == 28
    assert report["sets"]["train"]["conditions"] == {"day": 14, "night": 14}
    assert json.loads(out.read_text())["images_root"] == "../images"
    assert main(["dataset", "check", str(out), "--decode", "--contents"]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    found = read_retrieval_set("json", path=out)
    assert found.image(0).shape == (40, 48, 3)
    assert found.images[0].path.is_file()
    # Faults are all found in one run.
    (images / "place0" / "day" / "0.png").unlink()
    (images / "place1" / "day" / "0.png").write_bytes(b"no image")
    (images / "place2" / "day" / "0.png").write_bytes((images / "place3" / "day" / "0.png").read_bytes())
    assert main(["dataset", "check", str(out), "--contents", "--json"]) == 1
    checked = json.loads(capsys.readouterr().out)
    found_faults = {fault["what"]: fault["first"] for fault in checked["sets"]["train"]["findings"]}
    assert [row.split(":")[0] for row in found_faults["images cannot be read"]] == [
        "place0/day/0.png",
        "place1/day/0.png",
    ]
    assert found_faults["copies of an image are in different clusters"] == ["place3/day/0.png (as place2/day/0.png)"]


def test_what_a_folder_holds_beside_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = own_images(tmp_path / "images")
    for name in ("notes.txt", "place0/day/0.json", "place0/day/scan.heic"):
        (images / name).write_bytes(b"")
    picture(images / "alone" / "day" / "0.png")
    build = ["dataset", "build", str(images), "-o", str(tmp_path / "set.json"), "--singles", "drop"]
    assert main([*build, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == {"not an image": 3, "alone in its cluster": 1}
    assert main(build) == 0
    assert "left out: 1 x alone in its cluster, 3 x not an image" in capsys.readouterr().out


def test_validation_clusters_are_apart(tmp_path: Path) -> None:
    images = own_images(tmp_path)
    assert main(["dataset", "build", str(images), "-o", str(tmp_path / "s.json"), "--validation", "0.3"]) == 0
    train, val = (read_retrieval_set("json", path=tmp_path / "s.json", set_name=name) for name in ("train", "val"))
    assert (train.cluster_count, val.cluster_count) == (5, 2)
    assert not {name.split("/")[0] for name in train.names} & {name.split("/")[0] for name in val.names}
    whole = a_set([3] * 4, [(0, 1)])
    with pytest.raises(DataError, match="a single cluster"):
        hold_out_clusters(whole, 0.5)
    with pytest.raises(UsageError, match="above 0 and below 1"):
        hold_out_clusters(whole, 1.5)


def test_tables_and_pairs(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(
        "image,cluster,condition\na.jpg,one,day\nb.jpg,one,night\nc.jpg,two,day\nd.jpg,two,day\n"
    )
    assert (
        main(["dataset", "build", str(tmp_path / "c.csv"), "-o", str(tmp_path / "c.json"), "--pairs-per-image", "1"])
        == 0
    )
    found = read_retrieval_set("json", path=tmp_path / "c.json")
    assert found.conditions == ("day", "night", "day", "day")
    assert found.positives.tolist() == [1, 0, 3, 2]
    (tmp_path / "p.txt").write_text("a.jpg b.jpg\nc.jpg d.jpg\nb.jpg e.jpg\n")
    assert main(["dataset", "build", str(tmp_path / "p.txt"), "-o", str(tmp_path / "p.json")]) == 0
    pairs = read_retrieval_set("json", path=tmp_path / "p.json")
    assert pairs.names == [f"{letter}.jpg" for letter in "abcde"]
    assert pairs.clusters.tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,cluster\na.jpg,1\na.jpg,1\n", r"line 3: a.jpg again \(first in line 2\)"),
        ("a.csv", "image,cluster\na.jpg,\nb.jpg,nan\n", "2 bad rows: line 2: a.jpg has no cluster; line 3"),
        ("a.csv", "image,cluster\n../a.jpg,1\n", r"contains '..'"),
        ("a.csv", "image,cluster\na.jpg,1\nb.jpg,2\n", r"2 clusters have one image, so no positive: 1 \(a.jpg\)"),
        ("a.csv", "picture,cluster\na,1\n", "no column 'image'"),
        ("a.txt", "a b\nb c\n", "connect all 3 images, which leaves no negatives"),
        ("a.txt", "a, b, nan\n", "the score is NaN"),
        ("a.json", "{", "not readable as a retrieval set"),
        ("a.json", "[]", "not a retrieval set"),
        ("a.json", '{"images": ["a"], "clusters": [1], "queries": [0]}', "'positives' is missing"),
        (
            "a.json",
            '{"images": ["a"], "clusters": [NaN], "queries": [0], "positives": [0]}',
            "NaN is not a finite number",
        ),
        ("a.json", '{"version": 9, "sets": {}}', "is of version 9"),
    ],
)
def test_wrong_lists_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert main(["dataset", "build", str(tmp_path / name), "-o", str(tmp_path / "s.json")]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.count("\n") == 1
    assert str(tmp_path / name) in said
    assert not (tmp_path / "s.json").exists()


def test_options_that_do_not_belong_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = own_images(tmp_path / "i")
    out = str(tmp_path / "s.json")
    assert main(["dataset", "build", str(images), "-o", out, "--side", "3"]) == 2
    assert "--side is for kapture, town; this source is of kind folder" in capsys.readouterr().err
    assert main(["dataset", "build", str(images), str(images), "-o", out]) == 2
    assert "several sources need --from kapture" in capsys.readouterr().err
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(sfm_part()))
    assert main(["dataset", "build", str(tmp_path / "a.pkl"), "-o", out]) == 2
    assert "needs --images DIR" in capsys.readouterr().err


def test_all_kinds_of_faults_are_counted(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    items = tuple(ImageItem(name, file) for name in ("a", "b", "c", "d"))
    whole = RetrievalSet(items, np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2, 2]), np.array([1, 1, 3, 2, 0]))
    found = {finding.what: finding for finding in check_set(whole)}
    assert {what: len(finding.rows) for what, finding in found.items()} == {
        "images are listed more than once": 3,
        "pairs join two clusters": 1,
        "clusters have one image, so no positive": 1,
        "pairs are of an image with itself (q == p)": 1,
        "pairs are listed more than once": 1,
        "set with too few clusters for 5 negatives of different clusters": 1,
    }
    assert str(found["pairs join two clusters"]) == "1 pairs join two clusters: pair 2 (b, d)"
    assert describe_set(whole)["images_per_cluster"] == [1, 3]
    with pytest.raises(UsageError, match="images in memory cannot be listed"):
        write_native(tmp_path / "s.json", {"train": a_set([0], [(0, 0)], pixels=(np.zeros((4, 4, 3), np.uint8),))})


def test_day_and_night_of_real_cameras(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    images = data_pack("amos_daynight") / "images"
    assert main(["dataset", "build", str(images), "-o", str(tmp_path / "amos.json"), "--validation", "0.2"]) == 0
    found = read_retrieval_set("json", path=tmp_path / "amos.json", set_name="val")
    assert found.cluster_count == 2
    assert found.image(0, max_side=64).shape[1] == 64
