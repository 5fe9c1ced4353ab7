"""The second look: what changes between visits and what stays, smooth edges, clipped lamps, noise as a parameter."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from gloam.cli import demo as demo_verb
from gloam.data.retrieval_sets.streets import read_town
from gloam.data.scene import Camera, position_error, rotation_error
from gloam.data.town import CONDITIONS, Optics, TownConfig, render_training_views, sample_places
from gloam.data.town.dataset import depth_maps, plan_shots, quarter_camera
from gloam.data.town.look2.cars import FLOOR, PROFILES, STEP, steps
from gloam.data.town.look2.changes import fronts
from gloam.data.town.look2.hours import HOURS
from gloam.data.town.look2.photography import noisy, scattered, toned
from gloam.data.town.look2.queries import KINDS, ROOM, changing_query_poses
from gloam.data.town.look2.street import RAYS, NightStreet, on_edge
from gloam.data.town.sampling import camera_pose, mapping_poses
from gloam.data.town.street import pinhole
from gloam.data.town.unpaired_views import render_unpaired, sample_poses
from gloam.errors import UsageError
from gloam.eval.photometry import photometry
from gloam.workflows.demo import DemoConfig, DemoResult

SMALL = pinhole(192, 144)
POSE = camera_pose(12, 0.3, 1.6, 4, 3)


@pytest.fixture(scope="module")
def street() -> NightStreet:
    return NightStreet(7, length=40, texels=16)


def test_the_street_stays_and_what_stands_about_changes(street: NightStreet) -> None:
    map_visit, query = street.scenery("day", "mapping"), street.scenery("day", "query")
    shared = len(street.plan.surfaces)
    for scenery in (map_visit, query):
        assert all(a is b for a, b in zip(scenery.plan.surfaces, street.plan.surfaces, strict=False))
        assert len(scenery.plan.surfaces) > shared + 50
    places = [
        {(s.axis, s.offset, s.low, s.high) for s in scenery.plan.surfaces[shared:]} for scenery in (map_visit, query)
    ]
    assert not places[0] & places[1]  # no car, bin, poster or shutter hangs where it hung
    assert street.scenery("day", "query") is query
    again = NightStreet(7, length=40, texels=16).scenery("day", "query")
    assert {(s.axis, s.offset, s.low, s.high) for s in again.plan.surfaces[shared:]} == places[1]
    depth = [street.depth(POSE, SMALL, "day", visit) for visit in ("mapping", "query")]
    same = depth[0] == depth[1]
    assert 0.5 < same.mean() < 0.995
    moved = [street.scenery("day", v).caster.cast(SMALL, POSE).surface >= shared for v in ("mapping", "query")]
    assert same[~moved[0] & ~moved[1]].all()


def test_shutters_close_by_night_and_keep_their_light(street: NightStreet) -> None:
    lamps = {c: len([x for x in street.scenery(c).plan.lamps if not x.shadows]) for c in CONDITIONS}
    shops = len([lamp for lamp in street.plan.lamps if not lamp.shadows])
    assert lamps["night"] < lamps["day"] <= shops


def test_posters_and_shutters_leave_other_windows_open(street: NightStreet) -> None:
    hung = [s for s in street.scenery("night").plan.surfaces[len(street.plan.surfaces) :] if s.axis == 1]
    for front in fronts(street.plan):
        own = [s for s in hung if abs(s.offset - front.offset) < 0.05 and front.low[0] <= s.low[0] < front.high[0]]
        for poster, opening in itertools.product(own, front.openings):
            corner = front.world([opening.left, opening.right], [opening.bottom, opening.top])
            low, high = corner.min(axis=0), corner.max(axis=0)
            reach = [min(poster.high[i], high[2 * i]) - max(poster.low[i], low[2 * i]) for i in (0, 1)]
            covered = max(reach[0], 0) * max(reach[1], 0) / np.prod(high[[0, 2]] - low[[0, 2]])
            assert covered < 0.01 or covered == pytest.approx(1, abs=1e-3)


def test_fronts_are_built_again_elsewhere(street: NightStreet) -> None:
    rows = fronts(street.plan)
    copies = [(a, b) for a, b in itertools.combinations(rows, 2) if a.texture is b.texture]
    assert copies
    for first, second in copies:
        assert first.size == second.size
        assert (first.low, first.offset) != (second.low, second.offset)
    assert len({id(front.texture) for front in rows}) > len(rows) / 2


@pytest.mark.parametrize("kind", PROFILES)
def test_a_car_s_steps_stay_below_its_roof(kind: str) -> None:
    along, heights = np.array(PROFILES[kind]).T
    along = along * 4.2
    slabs = steps(along, heights)
    assert min(low for _, _, low, _ in slabs) == FLOOR
    for start, end, low, high in slabs:
        inside = np.linspace(start + 1e-6, end - 1e-6, 20)
        assert (np.interp(inside, along, heights) >= high - 1e-6).all()
        assert low < high
    edges = sorted((start, end) for start, end, _, _ in slabs)
    assert (edges[0][0], edges[-1][1]) == pytest.approx((0, 4.2), abs=0.02)
    assert all(abs(a[1] - b[0]) < 1e-6 for a, b in itertools.pairwise(edges))  # no gap to look through
    assert max(high for _, _, _, high in slabs) > heights.max() - STEP


@pytest.mark.parametrize("seed", [7, 8])
def test_a_hundred_queries_keep_clear_and_look_every_way(seed: int) -> None:
    mapping = mapping_poses(seed, 60, 2.5)
    poses = changing_query_poses(seed, 60, 100, mapping)
    assert len(set(poses)) == 100
    pairs = list(itertools.product(poses, mapping))
    assert min(position_error(q, m) for q, m in pairs) >= 1.0
    assert min(rotation_error(q, m) for q, m in pairs) >= 10.0
    assert max(abs(q.center[1]) for q in poses) <= ROOM
    forward = np.array([q.rotation[2] for q in poses])
    turn = np.degrees(np.arcsin(np.abs(forward[:, 1])))
    wide = np.array([kind == "wide" for kind in KINDS] * 25)
    assert turn[wide].min() > 24
    assert turn[~wide].max() < 10
    back = np.array([q.center[1] * f[0] > 0 for q, f in zip(poses, forward, strict=True)])[2::4]
    assert back.all()  # what looks along +x was mapped on the right of the road


def test_no_camera_stands_in_a_car() -> None:
    config = TownConfig(look=2, queries=24, length=40)
    street, camera = NightStreet(7, 40, texels=8), pinhole(32, 24)
    for shot in plan_shots(config):
        depth = street.depth(shot.pose, camera, shot.condition, shot.visit)
        assert depth[depth > 0].min() > 0.25, shot.name


def test_the_map_s_cars_are_no_place_to_be_found() -> None:
    config = TownConfig(look=2, queries=1, length=40, conditions=("night",))
    shots = plan_shots(config)
    street, camera = NightStreet(7, 40, texels=8), quarter_camera(config)
    chosen = [*shots[:8], shots[-1]]
    hidden = 0
    for shot, depth in zip(chosen, depth_maps(config, chosen), strict=True):
        hits = street.scenery(shot.condition, shot.visit).caster.cast(camera, shot.pose)
        moved = ~street.lasting(hits.surface)
        assert np.array_equal(depth[~moved], hits.depth[~moved])
        expected = 0 * hits.depth[moved] if shot.split == "mapping" else hits.depth[moved]
        assert np.array_equal(depth[moved], expected)
        hidden += int(moved.sum())
    assert hidden > 100


def test_edges_are_near_the_mean_of_many_rays(street: NightStreet) -> None:
    picture, depth = street.radiance(POSE, "day", SMALL)
    hits = street.scenery("day").caster.cast(SMALL, POSE)
    assert np.array_equal(depth, hits.depth)  # depth is the centre's, exact
    edge = on_edge(hits)
    assert 0.02 < edge.mean() < 0.5
    plain = street._shade(hits, HOURS["day"], SMALL, street.scenery("day"), None, hits.pixels)
    single = np.zeros_like(picture)
    single.reshape(-1, 3)[hits.pixels] = plain.T
    fine = Camera("PINHOLE", SMALL.width * 4, SMALL.height * 4, tuple(4 * value for value in SMALL.params))
    many = np.zeros((fine.height, fine.width, 3), np.float32)
    rays = street.scenery("day").caster.cast(fine, POSE)
    shaded = street._shade(rays, HOURS["day"], fine, street.scenery("day"), None, rays.pixels)
    many.reshape(-1, 3)[rays.pixels] = shaded.T
    true = many.reshape(SMALL.height, 4, SMALL.width, 4, 3).mean(axis=(1, 3))
    solid = edge & (depth > 0) & (true.min(axis=2) > 0)
    sky = np.zeros_like(edge)
    sky[1:-1, 1:-1] = [[(depth[r - 1 : r + 2, c - 1 : c + 2] == 0).any() for c in range(1, 191)] for r in range(1, 143)]
    kept = solid & ~sky
    error = [np.abs(found[kept] - true[kept]).mean() for found in (picture, single)]
    assert error[0] < 0.7 * error[1]
    assert np.array_equal(picture[~edge & (depth > 0)], single[~edge & (depth > 0)])


@pytest.mark.parametrize("condition", ["day", "night-rain"])
def test_rays_beside_a_pixel_s_centre_are_those_of_a_camera_that_is_moved(street: NightStreet, condition: str) -> None:
    """The plain twin: a whole picture by each of the moved cameras, of which the pixels on edges are kept."""
    scenery, (fx, fy, cx, cy) = street.scenery(condition), SMALL.params
    mirror = street._mirror(POSE, HOURS[condition], SMALL, scenery) if condition == "night-rain" else None
    edge = np.flatnonzero(on_edge(scenery.caster.cast(SMALL, POSE)))
    assert edge.size > 1000
    rays = scenery.caster.cast_beside(SMALL, POSE, edge, RAYS)
    depth, surface = np.zeros((2, edge.size * len(RAYS)), np.float32)
    light = np.zeros((edge.size * len(RAYS), 3), np.float32)
    depth[:], surface[:] = rays.depth.ravel(), rays.surface.ravel()
    light[rays.pixels] = street._shade(rays, HOURS[condition], SMALL, scenery, mirror, edge[rays.pixels // len(RAYS)]).T
    for ray, (right, below) in enumerate(RAYS):
        moved = Camera("PINHOLE", SMALL.width, SMALL.height, (fx, fy, cx - right, cy - below))
        hits = scenery.caster.cast(moved, POSE)
        picture = np.zeros((SMALL.width * SMALL.height, 3), np.float32)
        picture[hits.pixels] = street._shade(hits, HOURS[condition], moved, scenery, mirror, hits.pixels).T
        assert np.array_equal(depth[ray :: len(RAYS)], hits.depth.ravel()[edge])
        assert np.array_equal(surface[ray :: len(RAYS)], hits.surface.ravel()[edge])
        assert np.array_equal(light[ray :: len(RAYS)], picture[edge])


def test_lamps_are_clipped_and_bloom() -> None:
    light = np.full((120, 160, 3), 0.002, np.float32)
    light[58:62, 78:82] = 60
    bloomed = scattered(light, HOURS["night"].glow)
    assert bloomed.sum() == pytest.approx(light.sum(), rel=0.05)  # scattered, not made
    image = toned(bloomed)
    assert image[60, 80].min() == 255
    assert image[60, 90].min() > image[60, 120].min() >= image[5, 5].min()
    assert toned(light)[60, 90].max() < image[60, 90].min()
    assert toned(np.zeros((8, 8, 3), np.float32)).max() == 0


def test_noise_is_a_parameter_and_correlated() -> None:
    light = np.full((192, 256, 3), 0.05, np.float32)
    found = []
    for factor in (0, 1, 4):
        rng = np.random.default_rng(3)
        found.append(photometry(toned(noisy(light, HOURS["night"], factor, rng))))
    assert found[0].noise == pytest.approx(0, abs=1e-9)
    assert 0 < found[1].noise < 2
    assert found[2].noise > 2.5 * found[1].noise
    assert found[2].correlation > 0.4
    rng = np.random.default_rng(3)
    colour = noisy(light, HOURS["night"], 4, rng) - light
    grey = colour.mean(axis=2)
    assert np.std(colour - grey[..., None]) < 0.5 * np.std(grey)  # less in colour than in brightness


def test_motion_blurs_nights_alone_and_defocus_all(street: NightStreet, monkeypatch: pytest.MonkeyPatch) -> None:
    for condition, equal in (("day", True), ("night", False)):
        views = []
        for optics in (Optics(noise=0), Optics(noise=0, motion_blur=9), Optics(noise=0, defocus=6)):
            monkeypatch.setattr(street, "optics", optics)
            views.append(street.render(POSE, condition, SMALL, 5))
        gradient = [
            sum(np.abs(np.diff(view.image.astype(float), axis=axis)).mean() for axis in (0, 1)) for view in views
        ]
        assert np.array_equal(views[0].image, views[1].image) == equal
        assert equal or gradient[1] < 0.9 * gradient[0]
        assert gradient[2] < 0.8 * gradient[0]
        assert all(np.array_equal(view.depth, views[0].depth) for view in views)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"look": 2, "noise": -1.0}, r"noise -1.0: must be 0 to 100"),
        ({"look": 2, "motion_blur": 1e9}, r"motion_blur 1000000000.0: must be 0 to 100"),
        ({"look": 2, "defocus": float("nan")}, r"defocus nan: must be 0 to 50"),
        ({"look": 1, "noise": 2.0}, r"give look 2"),
    ],
)
def test_cameras_that_there_are_not(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TownConfig(**change)  # type: ignore[arg-type]  # values of several kinds


def test_every_option_is_another_town() -> None:
    plain = TownConfig(look=2)
    others = [{"noise": 2.0}, {"motion_blur": 1.0}, {"defocus": 2.0}, {"look": 1}]
    hashes = {plain.content_hash(), *(dataclasses.replace(plain, **change).content_hash() for change in others)}  # type: ignore[arg-type]  # as above
    assert len(hashes) == 5


def test_training_views_keep_out_of_cars_and_know_their_look() -> None:
    first, second = (render_training_views(11, 2, 2, ("day", "night"), (64, 48), look) for look in (1, 2))
    assert second.conditions == first.conditions
    assert second.places.tolist() == first.places.tolist()
    assert not np.array_equal(first.images[0], second.images[0])
    poses, _ = sample_places(11, 40, 2, 60.0, ROOM)
    assert max(abs(pose.center[1]) for pose in poses) <= ROOM
    sets = [read_town(seeds=[11], places=2, views_per_place=2, size=(64, 48), look=look) for look in (1, 2)]
    assert [item.name for item in sets[0].images] == [item.name for item in sets[1].images]
    assert not np.array_equal(sets[0].image(0), sets[1].image(0))
    with pytest.raises(UsageError, match="look 3: choose from 1, 2"):
        read_town(seeds=[11], places=2, look=3)


def test_unpaired_views_keep_out_of_cars_too() -> None:
    first, second = (render_unpaired(11, 2, ("night",), (64, 48), look=look)["night"] for look in (1, 2))
    assert not np.array_equal(first[0], second[0])
    assert max(abs(pose.center[1]) for pose in sample_poses(11, 40, "night", 40.0, ROOM)) <= ROOM
    with pytest.raises(UsageError, match="look 3: choose from 1, 2"):
        render_unpaired(11, 2, look=3)


def test_the_demo_takes_a_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[DemoConfig] = []

    def keep(folder: Path, config: DemoConfig, say: object) -> DemoResult:
        asked.append(config)
        return DemoResult({}, "", folder / "report.html")

    monkeypatch.setattr("gloam.workflows.demo.run_demo", keep)
    parser = argparse.ArgumentParser()
    parser.set_defaults(leaf=parser)  # as every verb has it
    demo_verb.add_arguments(parser)
    parser.set_defaults(json=True)
    for options in ([], ["--look", "1"]):
        demo_verb.run(parser.parse_args(["-o", str(tmp_path), *options]))
    assert [config.town.look for config in asked] == [2, 1]
    assert DemoConfig().town.look == 2
