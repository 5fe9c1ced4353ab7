"""Single images on a saved map: what ``gloam localize`` finds, from any number of threads, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import gloam
from gloam.data.images import decode_image
from gloam.data.kapture_io import read_scene, write_scene
from gloam.data.scene import Camera, Record, Scene, position_error
from gloam.data.sources import find_images
from gloam.data.town import TownConfig, TownDataset, write_town
from gloam.errors import DataError, ImageError, IncompatibleError, StoreError, UsageError
from gloam.eval.localization.benchmark import LocalizationResult, run_localization
from gloam.eval.localization.localize import localize
from gloam.eval.localization.request import LocalizeRequest
from gloam.files import sha256_file
from gloam.model_card import FeatureRule, InputRule, KeypointRule, Photometric, matcher_inputs
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.localization.colmap import AbsolutePoseOptions
from gloam.runtime.localization.features.sources import ModelFeatures, SiftFeatures
from gloam.runtime.localization.localizer import LocalizedImage, Localizer
from gloam.runtime.localization.maps.map_folder import EmbedderRecord, read_map, write_map
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.models.matcher import FeatureMatcher, Matcher
from gloam.workflows import demo_embedder
from tests.runtime.localization.bright_points import BrightModel, NearestModel
from tests.tiny_models import write_tiny_embedder

TOWN = TownConfig(
    seed=5, length=30.0, width=192, height=144, focal=158, texels=16, queries=2, spacing=4.0, conditions=("day",)
)
ROOT = Path(__file__).resolve().parents[3]
SHIPPED = demo_embedder.SHIPPED[1]
BLACK = "zz/black.png"
ONE = Placement(threads=1)


@dataclasses.dataclass(frozen=True)
class Place:
    """A town, queries whose names stand before and behind the map's, and what ``gloam localize`` found of them."""

    town: TownDataset
    query: Scene
    folder: Path
    result: LocalizationResult

    @property
    def map(self) -> Path:
        return self.folder / "map"

    def reasons(self) -> dict[str, str]:
        with (self.folder / "poses" / "2b" / "queries.csv").open(encoding="utf-8") as table:
            return {row["image"]: row["reason"] for row in csv.DictReader(table)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    town = write_town(folder / "town", TOWN)
    query = Scene(folder / "query", town.query.cameras)
    (camera_id,) = query.cameras
    for number, name in enumerate(town.query.names):
        for first in "az":  # before and behind "mapping"
            own = f"{first}/{number}.jpg"
            query.records[own] = Record(camera_id, len(query.records))
            query.image_path(own).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(town.query.image_path(name), query.image_path(own))
    query.records[BLACK] = Record(camera_id, len(query.records))
    query.image_path(BLACK).parent.mkdir(parents=True)
    Image.new("RGB", (TOWN.width, TOWN.height)).save(query.image_path(BLACK))
    write_scene(query)
    embedder = Embedder.load(SHIPPED["trained"], ONE)
    for name, root in (("queries", query.root), ("images", town.folder / "mapping")):
        extract(find_images(root), embedder, folder / name, ExtractOptions(dtype="float16"))
    request = LocalizeRequest(
        town.folder / "mapping",
        query.root,
        folder / "poses",
        stores=[folder / "queries", folder / "images"],
        top_k=4,
        max_keypoints=400,
        pixel_shift=0.5,
        workers=1,
        seed=3,
        save_map=folder / "map",
    )
    found = localize(request)
    assert found.summary["saved_map"] == str(folder / "map")
    assert f"saved {folder / 'map'}: open it by gloam.Localizer.open" in found.to_text()
    return Place(town, query, folder, found.result)


@pytest.fixture(scope="module")
def localizer(place: Place) -> Localizer:
    return gloam.Localizer.open(place.map, embedder=SHIPPED["trained"], placement=ONE)


def plain(place: Place) -> list[LocalizedImage]:
    """Every query on the map of SIFT."""
    localizer = Localizer.open(place.map, embedder=SHIPPED["trained"], placement=ONE)
    return [localizer(place.query.image_path(name), place.query.camera(name), name) for name in place.query.names]


def same(found: LocalizedImage, result: LocalizationResult, name: str) -> None:
    """A pose of one image is the bulk run's, in every bit."""
    assert found.pose == result.poses["2b"][name]
    assert found.inliers == result.inliers["2b"][name]
    assert found.correspondences == result.correspondences["2b"][name]
    np.testing.assert_array_equal(found.covariance, result.covariances["2b"][name])


def test_an_image_has_the_pose_that_the_bulk_run_finds(place: Place, localizer: Localizer) -> None:
    reasons, posed = place.reasons(), 0
    for name in place.query.names:
        found = localizer(place.query.image_path(name), place.query.camera(name), name)
        same(found, place.result, name)
        assert found.reason == reasons[name]
        assert len(found.retrieved) == 4
        posed += found.pose is not None
    assert posed == 4
    assert reasons[BLACK] == "0 correspondences with the map, 12 are needed"


def test_matches_tell_which_have_a_point_of_the_map_the_first_one_too(
    place: Place, localizer: Localizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, camera = place.query.image_path("a/0.jpg"), place.query.camera("a/0.jpg")
    found, plain = localizer.with_matches(path, camera)
    assert found.pose == localizer(path, camera).pose
    assert sum(each.seen.sum() for each in plain) > 12
    known = type(localizer.world).observed

    def one_point(world: object, name: str) -> npt.NDArray[np.int64]:
        return np.minimum(known(localizer.world, name), 0)  # every keypoint that has a point has the first

    monkeypatch.setattr(type(localizer.world), "observed", one_point)
    _, first = localizer.with_matches(path, camera)
    seen = {each.image: each.seen.tolist() for each in plain}
    assert {each.image: each.seen.tolist() for each in first} == seen


def test_bytes_pixels_and_a_file_are_one_image(place: Place, localizer: Localizer) -> None:
    path, camera = place.query.image_path("a/0.jpg"), place.query.camera("a/0.jpg")
    by_file = localizer(str(path), camera)
    truth = place.town.query.poses[place.town.query.names[0]]
    assert by_file.pose is not None
    assert by_file.covariance is not None
    assert position_error(by_file.pose, truth) < 6 * np.sqrt(np.trace(by_file.covariance[3:, 3:]))
    for image in (path.read_bytes(), decode_image(path)):
        found = localizer(image, camera)
        assert found == by_file
        np.testing.assert_array_equal(found.covariance, by_file.covariance)
    assert localizer(path, camera, "a/0.jpg") == by_file  # the query comes first by default


def test_what_exif_turns_is_retrieved_upright_and_posed_as_stored(
    place: Place, localizer: Localizer, tmp_path: Path
) -> None:
    pixels, camera = decode_image(place.query.image_path("a/0.jpg")), place.query.camera("a/0.jpg")
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    found = localizer(tmp_path / "turned.png", camera)
    plain, turned = localizer(pixels, camera), localizer(np.ascontiguousarray(pixels[::-1, ::-1]), camera)
    assert found.retrieved == turned.retrieved != plain.retrieved
    assert found.pose is not None or found.correspondences < 12
    described = localizer.embedder([pixels[::-1, ::-1]])
    assert (
        found.retrieved[0] == localizer.world.names[int(np.argmax(localizer.world.arrays["retrieval"] @ described[0]))]
    )


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    return {path.name: (sha256_file(path), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_eight_threads_find_what_one_finds_and_the_map_is_only_read(place: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(place.map, tmp_path / "map")
    before = snapshot(folder)
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        localizer = Localizer.open(folder, embedder=SHIPPED["trained"], placement=ONE)
        asked = [*place.query.names, *place.query.names] * 2
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(lambda name: localizer(place.query.image_path(name), place.query.camera(name), name), asked)
            )
        for name, each in zip(asked, found, strict=True):
            same(each, place.result, name)
        assert snapshot(folder) == before
    finally:
        folder.chmod(0o755)


class SiftModel(BrightModel):
    """A session of local features that finds SIFT's."""

    def __init__(self, weights: str = "sift", count: int = 300) -> None:
        more = {"name": "other", "dimension": 128, "keypoints": KeypointRule(count)}
        super().__init__(**more, provenance={"weights_sha256": weights})
        self.fingerprint, self.count = weights, count

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        found = SiftFeatures(self.count).extract(inputs["images"][0])
        length = np.linalg.norm(found.descriptors, axis=1, keepdims=True)
        rows = [found.keypoints, found.scores, found.descriptors / np.maximum(length, 1e-9)]
        padded = [np.concatenate((row, np.zeros((self.count - len(row), *row.shape[1:]), np.float32))) for row in rows]
        names = (spec.name for spec in self.card.outputs)
        return dict(zip(names, [*(row[None] for row in padded), np.array([len(found)])], strict=True))


def nearest(weights: str = "nearest") -> Matcher:
    takes = FeatureRule("other", 128)
    session = NearestModel("other", takes=takes, inputs=matcher_inputs(takes), provenance={"weights_sha256": weights})
    return Matcher(session, min_score=0.25)  # type: ignore[arg-type]  # as much of a session as is needed


@pytest.fixture(scope="module", params=["matcher", "mutual"])
def by_models(place: Place, request: pytest.FixtureRequest) -> tuple[Path, LocalizationResult, FeatureMatcher]:
    """A map whose features are a model's, without verification, by a matcher or by mutual neighbours."""
    rule: FeatureMatcher = nearest() if request.param == "matcher" else MutualMatcher()
    source = ModelFeatures(LocalExtractor(SiftModel(), 200), 0.5)  # type: ignore[arg-type]  # as above
    retrieved = {name: list(found.retrieved) for name, found in zip(place.query.names, plain(place), strict=True)}
    options = AbsolutePoseOptions(min_inliers=15)
    result = run_localization(
        place.town.mapping,
        place.query,
        retrieved,
        source,
        workers=1,
        rule=rule,
        verify_queries=False,
        options=options,
        seed=3,
    )
    assert result.matcher is not None
    assert result.world is not None
    folder = place.folder / f"by {request.param}"
    # Descriptors by which every image is nearest to the images above.
    matrix = np.zeros((len(place.town.mapping.names), 6), np.float32)
    write_tiny_embedder(place.folder / "tiny.onnx")
    embedder = Embedder.load(place.folder / "tiny.onnx", ONE)
    record = EmbedderRecord(embedder.space, embedder.fingerprint, {"dtype": "float32"})
    write_map(folder, result.matcher, result.world, matrix, record, 4, options)
    return folder, result, rule


def test_models_find_the_same_poses_too(
    place: Place, by_models: tuple[Path, LocalizationResult, FeatureMatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result, rule = by_models
    localizer = Localizer.open(
        folder,
        embedder=place.folder / "tiny.onnx",
        extractor=LocalExtractor(SiftModel()),  # type: ignore[arg-type]  # as above
        matcher=Matcher(rule.session) if isinstance(rule, Matcher) else None,  # the map knows the least score
        placement=ONE,
    )
    assert isinstance(localizer.source, ModelFeatures)
    assert (localizer.source.extractor.strongest, localizer.source.pixel_origin) == (200, 0.5)
    assert localizer.rule.key == rule.key
    retrieved = dict(zip(place.query.names, (each.retrieved for each in plain(place)), strict=True))
    monkeypatch.setattr("gloam.runtime.localization.localizer.nearest_images", lambda *given: retrieved[given[-1]])
    posed = 0
    for name in place.query.names:
        found = localizer(place.query.image_path(name), place.query.camera(name), name)
        same(found, result, name)
        posed += found.pose is not None
    assert posed == 4
    assert found.reason == "0 correspondences with the map, 15 are needed"


def test_models_that_are_not_the_maps_are_refused_and_both_named(
    place: Place, by_models: tuple[Path, LocalizationResult, FeatureMatcher], tmp_path: Path
) -> None:
    folder, _, rule = by_models
    learned = isinstance(rule, Matcher)
    own: dict[str, Any] = {"embedder": place.folder / "tiny.onnx", "extractor": LocalExtractor(SiftModel())}  # type: ignore[arg-type]
    own |= {"matcher": rule if learned else None, "placement": ONE}
    Localizer.open(folder, **own)
    for given, kind, message in (
        (
            {"embedder": SHIPPED["trained"]},
            IncompatibleError,
            r"embedder \S+ of space \w{12} is not the map's, an embedder of",
        ),
        ({"extractor": None}, UsageError, r"the map's features are by other; give that model as extractor"),
        (
            {"extractor": LocalExtractor(SiftModel("others"))},  # type: ignore[arg-type]  # as above
            IncompatibleError,
            r"extractor other of space \w{12} is not the map's, other of space \w{12}; give the model",
        ),
        *(
            [
                ({"matcher": None}, UsageError, r"the map matches by other; give that model as matcher"),
                (
                    {"matcher": nearest("others")},
                    IncompatibleError,
                    r"matcher other of space \w{12} is not the map's, other of",
                ),
            ]
            if learned
            else [
                ({"matcher": nearest()}, IncompatibleError, "the map matches by mutual neighbours; leave out matcher")
            ]
        ),
    ):
        with pytest.raises(kind, match=message) as caught:
            Localizer.open(folder, **{**own, **given})  # type: ignore[dict-item]  # mixed
        assert str(caught.value).startswith(f"{folder}: ")
    with pytest.raises(IncompatibleError, match="the map's features are SIFT's; leave out extractor"):
        Localizer.open(place.map, **{**own, "embedder": SHIPPED["trained"]})


def test_an_embedder_reads_images_as_those_of_the_map_were_read(place: Place, localizer: Localizer) -> None:
    given = Embedder.load(SHIPPED["trained"], ONE, input_rule=InputRule.of(64), photometric=Photometric("clahe"))
    again = Localizer.open(place.map, embedder=given)
    assert again.embedder.space == localizer.embedder.space != given.space
    untrained = Embedder.load(SHIPPED["untrained"], ONE)
    with pytest.raises(IncompatibleError, match=f"space {read_map(place.map).card.embedder.space[:12]}"):
        Localizer.open(place.map, embedder=untrained)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (
            Camera("PINHOLE", 191, 144, (158.0, 158.0, 96.0, 72.0)),
            r"0\.jpg: the image is 192x144 but its camera is 191x",
        ),
        (Camera("FISHY", 192, 144, (158.0,)), "camera model 'FISHY' is unknown"),
        (Camera("PINHOLE", 192, 144, (158.0,)), "does not take 1 parameters"),
        (Camera("PINHOLE", 192, 144, (float("nan"), 158.0, 96.0, 72.0)), "must be finite and above 0"),
        (Camera("PINHOLE", 192, 144, (-158.0, -158.0, 96.0, 72.0)), "must be finite and above 0"),
        (Camera("PINHOLE", 0, 144, (158.0, 158.0, 96.0, 72.0)), "must be finite and above 0"),
    ],
)
def test_intrinsics_that_are_not_the_images_are_refused(
    place: Place, localizer: Localizer, camera: Camera, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        localizer(place.query.image_path("a/0.jpg"), camera)


def test_images_that_are_none_are_refused(place: Place, localizer: Localizer, tmp_path: Path) -> None:
    camera = place.query.camera("a/0.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    pixels = decode_image(place.query.image_path("a/0.jpg"))
    for image, message in (
        (tmp_path / "text.jpg", r"text\.jpg: not an image"),
        (tmp_path / "absent.jpg", r"absent\.jpg: cannot be read"),
        (b"no image", "^the image: not an image"),
        (pixels[..., 0], r"must be uint8 \[H, W, 3\], not uint8 \[144, 192\]"),
        (pixels / 255, r"must be uint8 \[H, W, 3\], not float64"),
    ):
        with pytest.raises(ImageError, match=message):
            localizer(image, camera)


class Looking:
    """An embedder that notes what it is shown."""

    translator = None

    def __init__(self, like: Embedder, rule: InputRule, answer: float = 1.0) -> None:
        self.session, self.input_rule, self.answer = like.session, rule, answer
        self.seen: list[npt.NDArray[np.uint8]] = []

    def __call__(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        self.seen += images
        return np.full((len(images), 128), self.answer, np.float32)


@pytest.mark.parametrize("rule", [InputRule.of(48), InputRule.of(None, (50, 36))], ids=["side", "stretched"])
def test_files_are_decoded_as_those_of_the_map_were(
    place: Place, localizer: Localizer, rule: InputRule, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (144, 192, 3), np.uint8)
    Image.fromarray(pixels).resize((1536, 1152)).resize((192, 144)).save(tmp_path / "a.jpg", quality=90)
    shown = []
    for fast in (False, True):
        record = dataclasses.replace(localizer.world.card.embedder, options={"fast_decode": fast, "dtype": "float32"})
        world = dataclasses.replace(localizer.world, card=dataclasses.replace(localizer.world.card, embedder=record))
        looking = Looking(localizer.embedder, rule)
        Localizer(world, looking, localizer.source, localizer.rule)(  # type: ignore[arg-type]  # enough of one
            tmp_path / "a.jpg", place.query.camera("a/0.jpg")
        )
        expected = decode_image(tmp_path / "a.jpg", max_side=rule.max_side, stretch=rule.stretch, fast=fast)
        np.testing.assert_array_equal(looking.seen[0], expected)
        shown.append(expected)
    assert (shown[0] != shown[1]).any()  # or the test could not tell


def test_a_descriptor_that_is_not_finite_is_said(place: Place, localizer: Localizer) -> None:
    looking = Looking(localizer.embedder, InputRule.of(64), float("nan"))
    broken = Localizer(localizer.world, looking, localizer.source, localizer.rule)  # type: ignore[arg-type]  # as above
    with pytest.raises(
        ImageError, match="gives no finite descriptor of the image; `gloam check` says more of the model"
    ):
        broken(place.query.image_path("a/0.jpg"), place.query.camera("a/0.jpg"))


def test_a_query_that_is_in_the_map_is_not_its_own_neighbour(place: Place, localizer: Localizer) -> None:
    scene = place.town.mapping
    name = scene.names[5]
    assert name not in localizer(scene.image_path(name), scene.camera(name), name).retrieved
    assert localizer(scene.image_path(name), scene.camera(name)).retrieved[0] == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stores": None, "pairs": Path("p")}, "retrieves by --stores"),
        ({"methods": ("2a", "top1")}, "the map of method 2b"),
        ({"save_map": Path("m/inside")}, "lies inside m"),
        ({"save_map": Path("q")}, "lies inside q"),
        ({"verify": 20}, "a localizer does not rank again what it retrieves"),
        ({"matches": Path("matches.h5")}, "a new image has no stored matches; give --matcher"),
        ({"save_map": Path("x/../o")}, "is the output folder; give the map a folder of its own"),
    ],
)
def test_maps_that_cannot_be_saved_are_refused_first(given: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {
        "mapping": Path("m"),
        "query": Path("q"),
        "output": Path("o"),
        "stores": [Path("a"), Path("b")],
    }
    LocalizeRequest(**plain, save_map=Path("map"))
    with pytest.raises(UsageError, match=message):
        LocalizeRequest(**{**plain, "save_map": Path("map"), **given})


def test_a_map_of_stored_features_cannot_be_saved(place: Place, tmp_path: Path) -> None:
    for root in (place.town.mapping.root, place.query.root):
        for kind, more in (("keypoints", ""), ("descriptors", ", made, L2")):
            folder = root / "reconstruction" / kind / "made"
            folder.mkdir(parents=True)
            (folder / f"{kind}.txt").write_text(f"# kapture format: 1.1\nmade, float32, 2{more}\n")
    stores = [place.folder / "queries", place.folder / "images"]
    request = LocalizeRequest(
        place.town.mapping.root,
        place.query.root,
        tmp_path / "out",
        stores=stores,
        features="made",
        save_map=tmp_path / "map",
    )
    with pytest.raises(UsageError, match=r"^--save-map needs --features sift or an exported model"):
        localize(request)
    assert not (tmp_path / "map").exists()
    with pytest.raises(StoreError, match="is not empty and holds no map"):
        localize(dataclasses.replace(request, features="sift", save_map=place.folder))
    assert not (tmp_path / "out").exists()  # before any work


def test_what_the_documentation_shows_runs(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/localization.md").read_text(encoding="utf-8"), re.S)
    for name, target in (("town.map", place.map), ("embedder.onnx", SHIPPED["trained"])):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "photo.jpg").symlink_to(place.query.image_path("a/0.jpg"))
    monkeypatch.chdir(tmp_path)
    own = "512, 384, (420.0, 420.0, 256.0, 192.0)"
    assert own in code
    exec(code.replace(own, "192, 144, (158.0, 158.0, 96.0, 72.0)"), {})
    assert capsys.readouterr().out.strip().endswith("(6, 6)")


@pytest.mark.slow
def test_a_query_of_the_town_takes_little_longer_than_its_extraction(tmp_path: Path) -> None:
    """The town as it is by default, five map images a query; prints the figures, of which a busy machine moves the
    seconds, and hardly their share."""
    town = write_town(tmp_path / "town", TownConfig(queries=4, conditions=("day", "night")), 2)
    embedder = Embedder.load(SHIPPED["trained"])
    for split in ("query", "mapping"):
        extract(find_images(town.folder / split), embedder, tmp_path / split)
    request = LocalizeRequest(
        town.folder / "mapping",
        town.folder / "query",
        tmp_path / "out",
        stores=[tmp_path / "query", tmp_path / "mapping"],
        top_k=5,
        max_keypoints=2048,
        pixel_shift=0.5,
        save_map=tmp_path / "map",
    )
    localize(request)
    localizer = Localizer.open(tmp_path / "map", embedder=embedder)
    scene, shares, rests = read_scene(town.folder / "query"), [], []
    for name in [*scene.names, *scene.names]:  # the first round warms up
        pixels, clock = decode_image(scene.image_path(name)), time.perf_counter()
        localizer.source.extract(pixels)
        localizer.embedder([pixels])
        extracted = time.perf_counter() - clock
        localizer(pixels, scene.camera(name), name)
        whole = time.perf_counter() - clock - extracted
        shares.append((whole - extracted) / extracted)
        rests.append(whole - extracted)
    rest = float(np.median(rests[len(scene.names) :]))
    print(
        f"{rest:.3f} s a query beside extraction, {np.median(shares):.2f} of it, {len(os.sched_getaffinity(0))} cores"
    )
    assert rest < 1.0


def test_the_errors_of_a_folder_that_is_no_map(place: Place, tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"not a map \(no readable map\.json\); write one by `gloam localize --save-map`"
    ):
        Localizer.open(tmp_path, embedder=SHIPPED["trained"])
