"""Domains from every kind of source, paired, split and written; and what is refused before anything is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.kapture_io import write_scene
from gloam.data.scene import Pose, Record, Scene
from gloam.data.weak_pairs.build import Paired, PairRequest, pair_domains
from gloam.data.weak_pairs.domains import chosen, read_domains, read_positions
from gloam.data.weak_pairs.pair_file import read_pair_file
from gloam.errors import DataError, GloamError, UsageError
from tests.data.weak_pairs.drives import write_drive

DRIVES = {
    "WNO": (1_400_000_000_000_000, 0.0),
    "WDSn": (1_410_000_000_000_000, 0.5),
    "SDO": (1_420_000_000_000_000, 1.0),
}


@pytest.fixture(scope="module")
def robotcar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three traversals around the same streets, on lanes half a metre apart, and their table."""
    root = tmp_path_factory.mktemp("robotcar")
    lines = ["root: drives", "domains:"]
    for name, (start, lane) in DRIVES.items():
        write_drive(root / "drives" / name, start, lane=lane)
        lines += [f"  {name}:", f"    sources: [{{robotcar: {name}}}]"]
    (root / "domains.yaml").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def paired(robotcar: Path) -> Paired:
    (robotcar / "regions.yaml").write_text("test: [{rectangle: [619990, 5734990, 620030, 5735030]}]\n")
    request = PairRequest(
        robotcar / "domains.yaml", robotcar / "pairs.json", test_regions=robotcar / "regions.yaml", gap=25.0
    )
    return pair_domains(request)


def test_weak_pairs_are_near_and_look_the_same_way(paired: Paired) -> None:
    found = read_pair_file(paired.path)
    assert found.domains == ("WNO", "WDSn", "SDO")
    assert len(found.pairs) > 150
    for pair in found.pairs:
        assert pair.first.position is not None
        assert pair.second.position is not None
        apart = np.linalg.norm(np.subtract(pair.first.position, pair.second.position))
        assert pair.distance == pytest.approx(apart, abs=2e-3)
        assert pair.distance <= 3.0
        assert pair.angle is not None
        assert pair.angle <= 10.0
        assert pair.first.label < pair.second.label
        assert pair.first.part == pair.second.part
    assert all(
        len({pair.first.item.name for pair in group}) == len(group) for group in by_domains(found.pairs).values()
    )


def by_domains(pairs: tuple) -> dict:
    groups: dict = {}
    for pair in pairs:
        groups.setdefault((pair.first.label, pair.second.label), []).append(pair)
    return groups


def test_counts_are_those_of_the_file(paired: Paired) -> None:
    for part in ("train", "test"):
        found = read_pair_file(paired.path, part)
        counts = np.zeros((3, 3), int)
        for pair in found.pairs:
            counts[pair.first.label, pair.second.label] += 1
            counts[pair.second.label, pair.first.label] += 1
        assert counts.tolist() == paired.pairs[part]
        assert paired.parts[part] == len(found.images)
    assert sum(paired.parts.values()) == 300
    assert paired.parts["gap"] > 0
    text = paired.to_text()
    assert "WNO: " in text
    assert f"gap: {paired.parts['gap']} images, in no part; 1 test regions" in text


def test_no_training_image_of_the_file_lies_within_the_gap_of_a_test_image(paired: Paired) -> None:
    images = read_pair_file(paired.path).images
    train, test = (np.array([i.position for i in images if i.part == part]) for part in ("train", "test"))
    assert np.sqrt(((train[:, None] - test[None]) ** 2).sum(axis=2)).min() > 25.0


def test_the_same_call_writes_the_same_bytes(robotcar: Path, paired: Paired) -> None:
    before = paired.path.read_bytes(), paired.map.read_bytes()
    again = pair_domains(
        PairRequest(robotcar / "domains.yaml", robotcar / "pairs.json", test_regions=robotcar / "regions.yaml")
    )
    assert (again.path.read_bytes(), again.map.read_bytes()) == before


def test_the_map_shows_domains_pairs_and_regions(paired: Paired) -> None:
    with Image.open(paired.map) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(0, 0, 0), (205, 205, 205), (150, 150, 150)} <= colours
    assert len([c for c in colours if max(c) - min(c) > 60]) == 3


def test_nearest_gives_every_image_its_partner(robotcar: Path) -> None:
    request = PairRequest(robotcar / "domains.yaml", robotcar / "nearest.json", rule="nearest")
    mutual = pair_domains(replace(request, output=robotcar / "mutual.json", rule="mutual"))
    nearest = pair_domains(request)
    assert nearest.pairs["train"][0][1] >= mutual.pairs["train"][0][1]
    assert set(nearest.parts) == {"train"}


def test_blocks_split_too(robotcar: Path) -> None:
    found = pair_domains(PairRequest(robotcar / "domains.yaml", robotcar / "blocks.json", blocks=40.0, gap=10.0))
    assert found.regions is not None
    assert min(found.parts.values()) > 0
    images = read_pair_file(found.path).images
    train, test = (np.array([i.position for i in images if i.part == part]) for part in ("train", "test"))
    assert np.sqrt(((train[:, None] - test[None]) ** 2).sum(axis=2)).min() > 10.0


def test_a_car_that_stands_is_thinned_and_some_domains_are_chosen(tmp_path: Path, robotcar: Path) -> None:
    write_drive(tmp_path / "slow", speed=1.0)
    write_drive(tmp_path / "fast", 1_500_000_000_000_000, speed=1.0)
    (tmp_path / "d.yaml").write_text("domains: {a: {sources: [{robotcar: slow}]}, b: {sources: [{robotcar: fast}]}}")
    found = pair_domains(PairRequest(tmp_path / "d.yaml", tmp_path / "p.json"))
    assert found.images == (34, 34)  # steps of 0.4 m
    assert found.left_out[0] == {"nearer than 1 m to the image before": 66}
    assert pair_domains(PairRequest(tmp_path / "d.yaml", tmp_path / "p.json", spacing=0)).images == (100, 100)
    some = PairRequest(robotcar / "domains.yaml", tmp_path / "q.json", domains=("SDO", "WNO"))
    assert read_pair_file(pair_domains(some).path).domains == ("SDO", "WNO")


def test_the_darkest_and_brightest_images_of_a_traversal_can_be_left_out(tmp_path: Path) -> None:
    for name, start in (("a", 1_400_000_000_000_000), ("b", 1_500_000_000_000_000)):
        write_drive(tmp_path / name, start, images=11)
        for step, path in enumerate(sorted((tmp_path / name / "stereo" / "centre").iterdir())[1:]):
            Image.fromarray(np.full((64, 64), 20 * ((7 * step) % 10), np.uint8)).save(path)
    (tmp_path / "d.yaml").write_text("domains: {a: {sources: [{robotcar: a}]}, b: {sources: [{robotcar: b}]}}")
    found = pair_domains(PairRequest(tmp_path / "d.yaml", tmp_path / "p.json", extremes=0.1))
    assert found.left_out[0] == {"does not decode": 1, "darkest or brightest of its traversal": 2}
    kept = {image.item.path.name for image in read_pair_file(found.path).images}
    names = sorted(path.name for path in (tmp_path / "a" / "stereo" / "centre").iterdir())
    assert [name for name in names if name not in kept] == [names[0], names[1], names[8]]


def write_dataset(root: Path, count: int = 12) -> None:
    """Day and night views along a street, cameras looking along x in a world whose y points down."""
    scene = Scene(root)
    forward = Pose.from_matrix([[0, 0, -1], [0, 1, 0], [1, 0, 0]], [0, 0, 0])
    for place, condition in enumerate(("day", "night")):
        names = [f"{condition}/{step:02d}.jpg" for step in range(count)]
        for step, name in enumerate(names):
            center = np.array([5.0 * step + 0.3 * place, 1.5, 0.2 * place])
            scene.records[name] = Record("cam", 100 * place + step)
            scene.poses[name] = Pose.from_matrix(forward.rotation, -forward.rotation @ center)
            scene.image_path(name).parent.mkdir(parents=True, exist_ok=True)
            scene.image_path(name).touch()
        (root / "conditions").mkdir(parents=True, exist_ok=True)
        (root / "conditions" / f"{condition}.txt").write_text("\n".join(names))
    del scene.poses["day/03.jpg"]
    write_scene(scene)


def test_a_kapture_dataset_by_its_lists_its_names_or_as_a_whole(tmp_path: Path) -> None:
    write_dataset(tmp_path / "street")
    found = pair_domains(PairRequest(tmp_path / "street", tmp_path / "p.json"))
    assert found.domains == ("day", "night")
    assert found.images == (11, 12)
    assert found.left_out == ({"no pose": 1}, {})
    assert found.pairs["train"] == [[0, 11], [11, 0]]
    pair = read_pair_file(found.path).pairs[0]
    assert pair.distance == pytest.approx(np.hypot(0.3, 0.2), abs=1e-4)
    assert pair.angle == pytest.approx(0, abs=1e-4)
    (tmp_path / "d.yaml").write_text(
        "domains:\n  light: {sources: [{kapture: street, names: [day/*]}]}\n"
        "  dark: {sources: [{kapture: street, conditions: [night]}]}\n"
    )
    assert pair_domains(PairRequest(tmp_path / "d.yaml", tmp_path / "q.json")).pairs == found.pairs


def test_latitude_and_longitude_meet_the_ins(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", images=10)
    (tmp_path / "snow.jpg").touch()
    (tmp_path / "snow.csv").write_text("image,lat,lon,yaw\nsnow.jpg,51.753023,-1.261522,0\n")  # of 620000, 5735000
    (tmp_path / "d.yaml").write_text("domains: {a: {sources: [{robotcar: drive}]}, b: {sources: [{csv: snow.csv}]}}")
    found = pair_domains(PairRequest(tmp_path / "d.yaml", tmp_path / "p.json", distance=20, heading=45))
    assert found.pairs["train"] == [[0, 1], [1, 0]]


def write_table(folder: Path) -> Path:
    rows = ["image,x,y,yaw,domain"]
    for domain in ("night", "snow"):
        for step in range(4):
            name = f"{domain}{step}.jpg"
            (folder / name).touch()
            rows.append(f"{name},{4 * step},0,{350 if domain == 'snow' else -5},{domain}")
    (folder / "views.csv").write_text("\n".join(rows))
    return folder / "views.csv"


def test_a_table_with_a_column_of_domains(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    assert main(["pair", str(path), "-o", str(tmp_path / "p.json")]) == 0
    found = read_pair_file(tmp_path / "p.json")
    assert found.domains == ("night", "snow")
    assert [(pair.distance, pair.angle) for pair in found.pairs] == [(0.0, 5.0)] * 4
    assert (tmp_path / "p.png").is_file()


def test_without_headings_distance_alone_pairs_where_that_is_said(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    path.write_text("\n".join(",".join(line.split(",")[:3] + line.split(",")[4:]) for line in path.read_text().split()))
    with pytest.raises(DataError, match=r"night0.jpg: has no heading \(8 such images\); add a column yaw, or pair by"):
        pair_domains(PairRequest(path, tmp_path / "p.json"))
    pair_domains(PairRequest(path, tmp_path / "p.json", heading=180))
    assert read_pair_file(tmp_path / "p.json").pairs[0].angle is None


def test_the_template_names_the_eleven_domains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "domains.yaml"
    assert main(["pair", "--template", str(path)]) == 0
    with pytest.raises(UsageError, match="domain 'WNO' has no sources"):
        read_domains(path)
    path.write_text(path.read_text().replace("sources: []", "sources: [{robotcar: a}]"))
    names = ["WNO", "WNR", "WDSn", "WDO-1", "WDO-2", "WDSu", "WDO-3", "SDS-1", "SDO", "SDS-2", "SDR"]
    table = read_domains(path)
    assert list(table.domains) == names
    assert table.domains["WDSn"].attributes == {"season": "winter", "time": "day", "weather": "snow"}
    assert main(["pair"]) == 2
    assert "give a table of domains and -o PAIRS.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("domains: {a: {sources: [{csv: a.csv}]}, a: {sources: [{csv: b.csv}]}}", "key 'a' is there twice"),
        ("domains: {a: {sources: []}}", "domain 'a' has no sources"),
        ("domains: {}", "d.yaml: names no domains"),
        ("domain: {}", "unknown key 'domain'; did you mean 'domains'"),
        ("domains: {no: {sources: [{csv: a.csv}]}}", "domain False is no plain text; write its name in quotes"),
        ("domains: {a: {sources: [{tar: a}]}}", "d.yaml: domain 'a': sources: unknown key 'tar'"),
        (
            "domains: {a: {sources: [{csv: a.csv, kapture: b}]}}",
            "d.yaml: domain .a.: a source names kapture and csv; name one of",
        ),
        ("domains: {a: {sources: [{csv: a.csv, conditions: [x]}]}}", "conditions is an option of kapture"),
        ("domains: [a", "not readable as YAML"),
    ],
)
def test_a_table_of_domains_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_domains(tmp_path / "d.yaml")


def test_domains_that_cannot_be_paired_are_refused(tmp_path: Path, robotcar: Path) -> None:
    table = read_domains(robotcar / "domains.yaml")
    with pytest.raises(UsageError, match="here: unknown domain 'fog'; it has WNO, WDSn, SDO"):
        chosen(table, ["WNO", "fog"], "here")
    with pytest.raises(UsageError, match="domain 'WNO' is named twice"):
        chosen(table, ["WNO", "WNO"], "here")
    path = write_table(tmp_path)

    def refused(text: str, message: str, kind: type[GloamError] = DataError, **options: object) -> None:
        (tmp_path / "d.yaml").write_text(text)
        with pytest.raises(kind, match=message):
            pair_domains(PairRequest(tmp_path / "d.yaml", tmp_path / "p.json", **options))  # type: ignore[arg-type]
        assert not (tmp_path / "p.json").exists()

    views = "night: {sources: [{csv: views.csv}]}, snow: {sources: [{csv: views.csv}]}"
    refused(f"domains: {{{views}}}", "unknown domain 'fog'; it has night, snow", UsageError, domains=("fog",))
    refused(f"domains: {{{views}}}", "one domain, 'snow', has no partner", domains=("snow",))
    refused(
        f"domains: {{{views}, fog: {{sources: [{{csv: views.csv}}]}}}}", "no row is of domain 'fog'; its rows are of"
    )
    (tmp_path / "same.csv").write_text("image,x,y,yaw\nnight0.jpg,0,0,0\n")
    refused(f"domains: {{{views}, x: {{sources: [{{csv: same.csv}}]}}}}", "night0.jpg: is in 'night' and in domain 'x'")
    (tmp_path / "none.csv").write_text("image,x,y,yaw\nnone.jpg,0,0,0\n")
    refused(f"domains: {{{views}, x: {{sources: [{{csv: none.csv}}]}}}}", "domain 'x' has no images .*: no image file")
    (tmp_path / "lost.csv").write_text("image,x,y,yaw\nlost.jpg,900,0,0\n")
    (tmp_path / "lost.jpg").touch()
    refused(
        f"domains: {{{views}, x: {{sources: [{{csv: gone.csv}}]}}}}", "gone.csv: the table of positions cannot be read"
    )
    only = "domains: {night: {sources: [{csv: views.csv}]}, x: {sources: [{csv: lost.csv}]}}"
    refused(only, "no two images of different domains are within 3 m and 10 degrees")
    drive = (
        f"domains: {{night: {{sources: [{{csv: views.csv}}]}}, x: {{sources: [{{robotcar: {robotcar}/drives/WNO}}]}}}}"
    )
    refused(drive, "only positions of one frame can be compared")
    refused(
        f"domains: {{{views}}}",
        "no image is left for train with a gap of 25 m; positions are x 0.0 to 12.0",
        blocks=4.0,
    )
    (tmp_path / "far.yaml").write_text("test: [{rectangle: [500, 500, 600, 600]}]")
    refused(f"domains: {{{views}}}", "far.yaml: no image is left for test", test_regions=tmp_path / "far.yaml")
    assert path.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": 0.0}, "--distance 0: must be a number above 0"),
        ({"heading": float("nan")}, "--heading nan: must be a number above 0"),
        ({"extremes": 0.5}, "--extremes 0.5: must be at least 0 and below 0.5"),
        ({"gap": -1.0}, "--gap -1: must be a number from 0 on"),
        ({"test_share": 1.0}, "--test-share 1: must be between 0 and 1"),
        (
            {"blocks": 5.0, "test_regions": Path("r.yaml")},
            "--test-regions names the test regions and --blocks draws them",
        ),
        ({"rule": "any"}, "unknown rule 'any'; choose mutual or nearest"),
        ({"output": Path("p.csv")}, "p.csv: a pair file is written as .json"),
    ],
)
def test_options_that_are_none_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pair_domains(PairRequest(**{"source": write_table(tmp_path), "output": tmp_path / "p.json"} | options))


def test_a_dataset_whose_lists_are_wrong_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "street")
    for source, message in (
        ("{kapture: street, conditions: [fog]}", "has no list of condition 'fog'; it has day, night"),
        ("{kapture: street, names: [fog/*]}", r"no image is named as fog/\*; first is 'day/00.jpg'"),
        ("{kapture: lost}", "lost is not a kapture dataset"),
    ):
        (tmp_path / "d.yaml").write_text(
            f"domains: {{a: {{sources: [{source}]}}, b: {{sources: [{{kapture: street}}]}}}}"
        )
        with pytest.raises(DataError, match=message):
            read_positions(read_domains(tmp_path / "d.yaml"))
    (tmp_path / "street" / "conditions" / "day.txt").write_text("day/00.jpg\nday/99.jpg\n")
    with pytest.raises(DataError, match=r"image 'day/99.jpg' of a condition's list is not in records_camera.txt"):
        read_positions(read_domains(tmp_path / "street"))


@pytest.mark.slow  # rigs take the kapture package, whose import alone takes seconds
@pytest.mark.skipif("GLOAM_DATA" not in os.environ, reason="needs GLOAM_DATA")
def test_loops_of_a_real_gallery_are_paired(tmp_path: Path) -> None:
    gallery = Path(os.environ["GLOAM_DATA"]) / "virtual_gallery_tutorial"
    (tmp_path / "d.yaml").write_text(
        f"root: {gallery}\ndomains:\n  training: {{sources: [{{kapture: mapping}}]}}\n"
        "  testing: {sources: [{kapture: query}]}\n"
    )
    found = pair_domains(PairRequest(tmp_path / "d.yaml", tmp_path / "p.json", distance=2.0, heading=30.0))
    assert found.images == (12, 4)
    assert found.pairs["train"][0][1] == 3
    assert all(pair.distance is not None and pair.distance <= 2 for pair in read_pair_file(found.path).pairs)
