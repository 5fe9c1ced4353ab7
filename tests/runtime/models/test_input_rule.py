"""One picture, one number: Python, extraction, queries and local features resize by the rule that the card holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

import gloam
from gloam.cli.main import main
from gloam.data.images import decode_image, resize_image
from gloam.errors import ImageError, IncompatibleError, ModelError, UsageError
from gloam.model_card import LITERATURE, METADATA_KEY, NATIVE, InputRule
from gloam.padding import PaddingProfile
from gloam.runtime.bench.run import BenchRequest, read_images
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import build_index
from gloam.runtime.search.index.card import read_index_card
from gloam.runtime.search.pairs import retrieve_pairs
from gloam.runtime.search.queries import describe_queries, read_queries
from tests.tiny_models import write_tiny_embedder

SIZE = (1919, 1079)
AUTHORS = (InputRule(512, filter="bilinear", multiple=14), InputRule(None, (322, 322), "bicubic", True))
RULES = (None, LITERATURE, InputRule(512), NATIVE, InputRule.of(stretch=(416, 320)), *AUTHORS)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photograph as PNG and as JPEG."""
    folder = tmp_path_factory.mktemp("photographs")
    coarse = np.random.default_rng(1).integers(0, 256, (90, 160, 3), np.uint8)
    picture = Image.fromarray(cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC))
    picture.save(folder / "a.png", compress_level=1)
    picture.save(folder / "b.jpg", quality=92)
    return folder


def write_model(path: Path, rule: InputRule | None, profile: PaddingProfile | None = None) -> Path:
    """A tiny embedder whose card states a rule."""
    card = write_tiny_embedder(path, profile)
    model = onnx.load(path)
    (entry,) = (item for item in model.metadata_props if item.key == METADATA_KEY)
    entry.value = replace(card, input_rule=rule).to_json()
    onnx.save(model, path)
    return path


def native(folder: Path) -> list[npt.NDArray[np.uint8]]:
    """The photographs as any decoder gives them."""
    return [decode_image(folder / name) for name in ("a.png", "b.jpg")]


# A batch of one: ONNX Runtime rounds sums by the batch.
FIXED = PaddingProfile.fixed((256, 768, 1280), (512, 1024, 2048), (1, 1))


@pytest.mark.parametrize(
    ("rule", "profile"), [*((rule, None) for rule in RULES), *((rule, FIXED) for rule in RULES[2:])], ids=str
)
def test_python_extraction_and_queries_give_the_same_bits(
    photographs: Path, tmp_path: Path, rule: InputRule | None, profile: PaddingProfile | None
) -> None:
    model = write_model(tmp_path / "m.onnx", rule, profile)
    embedder = gloam.load(model)
    assert isinstance(embedder, Embedder)
    given = native(photographs)
    described = embedder(given)
    words = ["extract", str(photographs), "-o", str(tmp_path / "store"), "--model", str(model), "--dtype", "float32"]
    assert main(words) == 0
    store = DescriptorStore.open(tmp_path / "store")
    assert (store.space, store.input_rule) == (embedder.space, rule or LITERATURE)
    np.testing.assert_array_equal(store.load(), described)
    extract(photographs, embedder, tmp_path / "python", ExtractOptions(dtype="float32"))
    np.testing.assert_array_equal(DescriptorStore.open(tmp_path / "python").load(), described)
    build_index(store, tmp_path / "index")
    queries = describe_queries(photographs, model, read_index_card(tmp_path / "index"))
    assert queries.space == embedder.space
    np.testing.assert_array_equal(queries.descriptors, described)
    # The control: other sizes, other numbers.
    assert embedder.input_rule == NATIVE or (embedder.reading(NATIVE)(given) != described).any()


def test_queries_are_not_described_by_a_model_that_computes_something_else(photographs: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", None)
    assert main(["extract", str(photographs), "-o", str(tmp_path / "store"), "--model", str(model)]) == 0
    build_index(DescriptorStore.open(tmp_path / "store"), tmp_path / "index")
    proto = onnx.load(model)
    weights = next(item for item in proto.graph.initializer if item.name == "matrix")
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights)[::-1].copy(), "matrix"))
    onnx.save(proto, model)
    with pytest.raises(ModelError, match=r"m\.onnx: its self-test failed"):
        describe_queries(photographs, model, read_index_card(tmp_path / "index"))


@pytest.mark.parametrize("rule", RULES[1:], ids=str)
def test_an_array_becomes_the_very_pixels_that_decoding_gives(photographs: Path, rule: InputRule) -> None:
    for name, whole in zip(("a.png", "b.jpg"), native(photographs), strict=True):
        before = whole.copy()
        resized = resize_image(whole, rule)
        expected = decode_image(photographs / name, rule=rule)
        np.testing.assert_array_equal(resized, expected)
        np.testing.assert_array_equal(whole, before)
        assert resize_image(resized, rule) is resized  # once is enough


@pytest.mark.parametrize(
    ("rule", "size", "wanted"),
    [
        (InputRule(1024, multiple=14), (1024, 768), (1022, 770)),
        (InputRule(1024, multiple=14), (2048, 1536), (1022, 770)),
        (InputRule(1030, multiple=14), (1036, 500), (1022, 504)),  # never above the longer side
        (InputRule(None, None, "bilinear", multiple=14), (271, 362), (266, 364)),
        (InputRule(None, None, "bilinear", multiple=14), (133, 147), (140, 140)),  # 9.5 and 10.5 go to the even number
        (InputRule(None, (322, 322), "bilinear", True), (640, 480), (322, 322)),
    ],
    ids=str,
)
def test_sides_become_multiples_of_a_patch_by_pillow_s_filter(
    rule: InputRule, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    resized = resize_image(image, rule)
    assert (resized.shape[1], resized.shape[0]) == wanted
    expected = Image.fromarray(image).resize(wanted, getattr(Image.Resampling, rule.filter.upper()))
    np.testing.assert_array_equal(resized, np.asarray(expected))
    assert resize_image(resized, rule) is resized


def test_another_size_keeps_the_multiple() -> None:
    own = InputRule(1024, filter="bilinear", multiple=14)
    assert own.sized(512) == replace(own, max_side=512)
    assert own.sized(0) == replace(own, max_side=None)
    assert own.sized(stretch=(96, 64)) == InputRule.of(stretch=(96, 64))
    assert LITERATURE.sized(512) == InputRule(512)
    assert "both to the nearest multiple of 14 px (bilinear" in str(own)
    with pytest.raises(ImageError, match=r"300x40 read at .* has a side under 32 px"):
        resize_image(np.zeros((40, 300, 3), np.uint8), own.sized(224))


def test_a_view_of_other_channels_is_resized_as_its_copy_is(photographs: Path) -> None:
    whole = native(photographs)[0][..., ::-1]  # as cv2.imread(path)[..., ::-1] is
    for rule in RULES[1:]:
        np.testing.assert_array_equal(resize_image(whole, rule), resize_image(whole.copy(), rule))


def test_a_measurement_reads_its_images_by_the_models_rule(photographs: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", InputRule(512))
    request = BenchRequest(model, photographs)
    assert [image.shape for image in read_images(request)[0]] == [(288, 512, 3)] * 2
    assert [image.shape for image in read_images(replace(request, max_side=0))[0]] == [(1079, 1919, 3)] * 2
    assert max(max(image.shape) for image in read_images(BenchRequest(model))[0]) == 512
    stretched = write_model(tmp_path / "s.onnx", InputRule.of(stretch=(96, 64)))
    assert {image.shape for image in read_images(BenchRequest(stretched))[0]} == {(64, 96, 3)}


def test_what_never_enlarges_leaves_a_small_image_alone_and_a_strip_is_refused() -> None:
    small = np.zeros((40, 60, 3), np.uint8)
    assert resize_image(small, LITERATURE) is small
    assert resize_image(small, InputRule.of(stretch=(80, 64))).shape == (64, 80, 3)
    with pytest.raises(ImageError, match="4000x100 at --max-side 1024 has a side under 32 px"):
        resize_image(np.zeros((100, 4000, 3), np.uint8), LITERATURE)


def test_only_departures_from_the_literatures_rule_are_other_spaces(tmp_path: Path) -> None:
    spaces = {rule: Embedder.load(write_model(tmp_path / "m.onnx", rule)).space for rule in RULES}
    assert spaces[None] == spaces[LITERATURE]
    assert len(set(spaces.values())) == len(RULES) - 1
    plain = Embedder.load(write_model(tmp_path / "m.onnx", None))
    assert plain.reading(InputRule(512)).space == spaces[InputRule(512)]  # wherever the rule comes from
    assert plain.reading(InputRule(512)).reading(LITERATURE).fingerprint == plain.fingerprint
    assert plain.reading(InputRule(512)).fingerprint != plain.fingerprint


def test_stores_of_two_sizes_are_refused_by_a_sentence_that_names_both(photographs: Path, tmp_path: Path) -> None:
    embedder = Embedder.load(write_model(tmp_path / "m.onnx", None))
    for side in (512, 1024):
        extract(photographs, embedder, tmp_path / str(side), ExtractOptions(max_side=side))
    small, large = (DescriptorStore.open(tmp_path / str(side)) for side in (512, 1024))
    both = r"images read at longer side of at most 512 px.*images read at longer side of at most 1024 px"
    with pytest.raises(IncompatibleError, match=both):
        retrieve_pairs(small, large, 1)
    build_index(large, tmp_path / "index")
    with pytest.raises(IncompatibleError, match=both):
        read_queries(tmp_path / "512", read_index_card(tmp_path / "index"))


def test_a_store_from_before_meets_a_new_one_of_the_same_sizes_alone(photographs: Path, tmp_path: Path) -> None:
    embedder = Embedder.load(write_model(tmp_path / "m.onnx", None))
    for side in (512, 1024):
        extract(photographs, embedder, tmp_path / str(side), ExtractOptions(max_side=side))
    new = DescriptorStore.open(tmp_path / "512")
    path = tmp_path / "512/manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["job"]["options"].pop("input_rule")["max_side"] == 512
    manifest["job"]["space"] = embedder.space  # which knew nothing of sizes
    path.write_text(json.dumps(manifest))
    old = DescriptorStore.open(tmp_path / "512")
    assert (old.space, old.input_rule) == (new.space, InputRule(512))
    retrieve_pairs(old, new, 1)
    with pytest.raises(IncompatibleError, match="512 px"):
        retrieve_pairs(old, DescriptorStore.open(tmp_path / "1024"), 1)
    built = build_index(old, tmp_path / "index")
    for _ in range(2):  # the card states the rule from now on, and its space is not hashed again
        card = read_index_card(tmp_path / "index")
        assert (card.space, card.options) == (new.space, built.options)
    # An index from before is read likewise.
    value = json.loads((tmp_path / "index/index.json").read_text())
    del value["options"]["input_rule"]
    (tmp_path / "index/index.json").write_text(json.dumps(value | {"space": embedder.space}))
    assert read_index_card(tmp_path / "index").space == new.space


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"max_side": 8}, "image sides must be 32 pixels or more"),
        ({"filter": "area"}, "filter 'area' with enlarge False where longer side of at most 1024 px takes 'lanczos'"),
        ({"stretch": (64, 64)}, "--stretch and --max-side exclude each other"),
        ({"enlarge": True}, "enlarge True"),
        (
            {"max_side": None, "filter": "bilinear"},
            "filter 'bilinear' with enlarge False where native sizes takes 'none'",
        ),
        ({"multiple": 0}, "sides that are multiples of 0 px"),
        (
            {"max_side": None, "stretch": (64, 64), "filter": "area", "enlarge": True, "multiple": 14},
            "multiples of 14 px, where they are exactly 64x64 px",
        ),
        (
            {"max_side": None, "stretch": (40000, 40000), "filter": "area", "enlarge": True},
            "more than 120000000 pixels",
        ),
    ],
)
def test_a_rule_that_nobody_can_follow_is_refused(value: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        InputRule(**value)  # type: ignore[arg-type]  # bad on purpose


def test_the_example_of_the_documentation_gives_the_same_number(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs/embedders.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "InferenceSession" in block)
    monkeypatch.chdir(tmp_path)
    Image.open(photographs / "b.jpg").save("photo.jpg", quality=90)
    for rule in RULES[:4]:
        found: dict[str, npt.NDArray[np.float32]] = {}
        embedder = Embedder.load(write_model(tmp_path / "embedder.onnx", rule))
        exec(code, found)
        np.testing.assert_allclose(found["descriptor"], embedder([decode_image("photo.jpg")])[0], atol=1e-6)
