"""Positions from tables, their frames, UTM, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.data.weak_pairs.geodesy import degrees_problem, to_metres, zone_named, zone_of
from gloam.data.weak_pairs.positions import NO_FILE, Positions, in_one_frame, of_yaw, plane_axes, thinned
from gloam.data.weak_pairs.table import read_table
from gloam.errors import DataError


@pytest.mark.parametrize(
    ("latitude", "longitude", "zone", "easting", "northing"),
    [
        (43.642567, -79.387139, "17 north", 630084.30083, 4833438.58567),
        (-33.856784, 151.215297, "56 south", 334900.26129, 6252290.52241),
        (51.752, -1.2577, "30 north", 620265.36253, 5734891.77156),
        (83.5, -40.0, "24 north", 487362.11116, 9272385.45132),
        (51.7, 6.0, "30 north", 1121376.24564, 5766111.73992),  # beyond its border
        (0.0, 3.0, "31 north", 500000.0, 0.0),
    ],
)
def test_known_places_in_utm_as_proj_has_them(
    latitude: float, longitude: float, zone: str, easting: float, northing: float
) -> None:
    found = to_metres(np.array([[latitude, longitude]]), zone, "here")
    np.testing.assert_allclose(found, [[easting, northing]], rtol=0, atol=2e-5)
    assert zone_of(latitude, longitude) == zone or longitude == 6


def test_utm_is_metres_in_every_direction() -> None:
    degree = 6378137 * np.pi / 180 * 0.9996
    here = np.array([[51.75, -1.25], [51.75, -1.25 + 10 / (degree * np.cos(np.radians(51.75)))]])
    step = np.diff(to_metres(here, "30 north", "here"), axis=0)
    assert np.linalg.norm(step) == pytest.approx(10, abs=0.05)


def test_a_place_over_the_date_line_or_the_equator_stays_one_place() -> None:
    for here in ([[10.0, 179.99999], [10.0, -179.99999]], [[0.00001, 20.0], [-0.00001, 20.0]]):
        found = to_metres(np.array(here), zone_of(*here[0]), "here")
        assert 1.5 < np.linalg.norm(found[0] - found[1]) < 2.5


def test_zones_by_letter_and_far_positions() -> None:
    assert [zone_named(name) for name in ("30U", " 05k ", "60X")] == ["30 north", "5 south", "60 north"]
    for wrong in ("", "30", "0U", "61U", "30O", "30I", "U30"):
        with pytest.raises(ValueError, match="no UTM zone"):
            zone_named(wrong)
    with pytest.raises(DataError, match="here: a position lies 93 degrees of longitude from the middle"):
        to_metres(np.array([[51.0, 90.0]]), "30 north", "here")


def test_degrees_out_of_range() -> None:
    assert degrees_problem(51, -1) is None
    assert "latitude 91" in (degrees_problem(91, 0) or "")
    assert "longitude -181" in (degrees_problem(0, -181) or "")
    assert "where UTM ends" in (degrees_problem(-85, 0) or "")


def table(folder: Path, text: str, files: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Path:
    for name in files:
        (folder / name).touch()
    (folder / "table.csv").write_bytes(text.encode("utf-8"))
    return folder / "table.csv"


def test_the_columns_say_what_the_numbers_are(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, "image,x,y,yaw\na.jpg,1,2,90\nb.jpg,3,4,-180\nc.jpg,0,0,0\n"))[""]
    assert (len(found), found.frame, found.left_out) == (2, "x, y", {NO_FILE: 1})
    np.testing.assert_allclose(found.centers, [[1, 2, 0], [3, 4, 0]])
    np.testing.assert_allclose(found.directions, [[0, 1, 0], [-1, 0, 0]], atol=1e-12)
    found = read_table(table(tmp_path, "z,y,x,path,yaw_rad,weather\n3,2,1,a.jpg,3.14159265,rain\n"))[""]
    assert found.frame == "x, y, z"
    np.testing.assert_allclose(found.centers, [[1, 2, 3]])
    np.testing.assert_allclose(found.directions, [[-1, 0, 0]], atol=1e-6)
    found = read_table(table(tmp_path, "image,easting,northing,utm_zone\na.jpg,620000,5735000,30U\n"))[""]
    assert found.frame == "UTM zone 30 north"
    assert np.isnan(found.directions).all()


def test_tables_of_other_systems_and_their_domains(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffimage,Latitude,Longitude,domain\r\na.jpg,51,-1,snow\r\n\r\nb.jpg,51,-1,night\r\n")
    found = read_table(path)
    assert {name: [p.name for p in part.paths] for name, part in found.items()} == {
        "snow": ["a.jpg"],
        "night": ["b.jpg"],
    }


def test_yaw_that_looks_like_radians_is_noted(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, "image,x,y,yaw\na.jpg,1,2,3.1\nb.jpg,3,4,-1.5\n"))[""]
    assert "call the column yaw_rad" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", r":1: no column names the image"),
        ("image,path,x,y\na,b,1,2\n", r":1: two columns state image"),
        ("image,lat,latitude,lon\na,1,2,3\n", r":1: two columns state lat"),
        ("image,x\na.jpg,1\n", r":1: no columns state the position; expected x and y"),
        ("image,x,y,lat,lon\na.jpg,1,2,3,4\n", r":1: the columns state the position twice, by x, y and by lat, lon"),
        ("image,x,y,yaw,yaw_rad\na.jpg,1,2,3,4\n", r":1: the columns state the heading twice"),
        ("image,x,y\na.jpg,1\n", r":2: 2 values where the header has 3"),
        ("image,x,y\na.jpg,1,nan\n", r":2: image 'a.jpg': y 'nan' is not a finite number"),
        ("image,x,y\na.jpg,,2\n", r":2: image 'a.jpg': x '' is not a finite number"),
        ("image,x,y\na.jpg,1,1e300\n", r":2: image 'a.jpg': y 1e300 is no place"),
        ("image,x,y,yaw\na.jpg,1,2,inf\n", r":2: image 'a.jpg': yaw 'inf' is not a finite number"),
        ("image,x,y,yaw\na.jpg,1,2,400\n", r":2: image 'a.jpg': yaw 400 is outside 360 degrees"),
        ("image,lat,lon\na.jpg,91,2\n", r":2: image 'a.jpg': latitude 91 is outside"),
        ("image,lat,lon\na.jpg,51,200\n", r":2: image 'a.jpg': longitude 200 is outside"),
        ("image,x,y\na.jpg,1,2\na.jpg,1,2\n", r":3: image 'a.jpg' is there already, in line 2"),
        ("image,x,y\n./a.jpg,1,2\na.jpg,1,2\n", r":3: image 'a.jpg' is there already, in line 2"),
        ("image,x,y\n../a.jpg,1,2\n", r":2: image name '../a.jpg' contains '..'"),
        ("image,x,y,domain\na.jpg,1,2,\n", r":2: image 'a.jpg' has no domain"),
        ("image,easting,northing,utm_zone\na.jpg,1,2,30U\nb.jpg,1,2,31U\n", r":3: is of UTM zone 31 north"),
        ("image,x,y\n", r"table.csv: lists no images"),
        ("image,x,x\n", r":1: .*two columns of one name"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(table(tmp_path, text))


def positions(where: str, centers: list[tuple[float, float, float]], frame: str) -> Positions:
    paths = tuple(Path(f"{where}{row}.jpg") for row in range(len(centers)))
    return Positions(where, paths, np.array(centers), of_yaw(np.zeros(len(centers))), frame)


def test_degrees_join_the_zone_of_the_others() -> None:
    degrees = positions("gps", [(51.75, -1.25, 0)], "latitude and longitude")
    for others in ([], [positions("ins", [(620000, 5735000, 0)], "UTM zone 30 north")]):
        moved = in_one_frame([degrees, *others])
        assert {found.frame for found in moved} == {"UTM zone 30 north"}
        np.testing.assert_allclose(moved[0].centers[0, :2], to_metres(np.array([[51.75, -1.25]]), "30 north", "")[0])


def test_frames_that_cannot_be_compared_are_refused() -> None:
    for frame in ("x, y, z", "UTM zone 30 north", "latitude and longitude"):
        with pytest.raises(DataError, match=r"two has positions of .* and one of x, y; only positions of one frame"):
            in_one_frame([positions("one", [(1, 2, 0)], "x, y"), positions("two", [(1, 2, 0)], frame)])


def test_a_car_that_stands_is_one_image() -> None:
    found = thinned(positions("car", [(0, 0, 0), (0.4, 0, 0), (0.8, 0, 0), (1.0, 0, 0), (1.9, 0, 0)], "x, y"), 1.0)
    assert [path.name for path in found.paths] == ["car0.jpg", "car3.jpg"]
    assert found.left_out == {"nearer than 1 m to the image before": 3}


def test_a_map_is_drawn_along_the_axes_of_most_spread() -> None:
    assert plane_axes(np.array([[0.0, 0, 0], [5, 1, 9]])) == (0, 2)
    assert plane_axes(np.array([[0.0, 0, 0], [0, 0, 0]])) == (0, 1)
