"""What stands in front of an embedder inside the graph does what the host does in front of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.errors import ImageError, ModelError, UsageError
from gloam.export.embedder import export_embedder
from gloam.export.front.put import put_in_front
from gloam.export.front.reflection import cropping_graph, padding_graph
from gloam.export.front.shrink import shrinking_graph
from gloam.export.precision.convert import convert_precision
from gloam.export.precision.release_check import textured_image
from gloam.model_card import METADATA_KEY, ModelCard, Photometric
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import DescriptorPipeline
from gloam.networks.translators import create_generator
from gloam.padding import Anchor, PaddingProfile, reflect_pad, reflect_to
from gloam.runtime.backends.onnx_file import with_checksum
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import Translator
from tests.damage import flip, without_checksum
from tests.networks.embedders.test_embedders import randomized
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_translator

ONE_THREAD = Placement(threads=1)

ODD = ((97, 131), (255, 257), (40, 300), (256, 256))
NEXT = PaddingProfile.fixed((256, 512), (256, 512), batch=(1, 8)).reflecting(4, 8)  # the papers' rule
OWN = PaddingProfile.dynamic((1, 8)).reflecting(4, 8)
CORNER = PaddingProfile.dynamic((1, 8)).reflecting(4, 8, "top-left")
CORNER_NEXT = PaddingProfile.fixed((256, 512), (256, 512), batch=(1, 8)).reflecting(4, 8, "top-left")


def run(proto: object, feed: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    onnx.checker.check_model(proto, full_check=True)
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, feed)[0]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return textured_image(np.random.default_rng(seed), height, width)


def write_translator(path: Path, profile: PaddingProfile = NEXT, seed: int = 0, channels: int = 3) -> None:
    """A convolution of 7 x 7 and a tanh: what it makes of a pixel depends on the padding and on where it begins."""
    card = write_tiny_translator(path, channels=channels)
    weights = np.random.default_rng(seed).normal(0, 0.1, (channels, channels, 7, 7)).astype(np.float32)
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    t (uint8[batch, height, width, {channels}] images) => (float[batch, height, width, {channels}] found)
    <float scale = {{0.00784314}}, float one = {{1.0}}> {{
        turned = Transpose <perm = [0, 3, 1, 2]> (images)
        levels = Cast <to = 1> (turned)
        scaled = Mul (levels, scale)
        x = Sub (scaled, one)
        mixed = Conv <pads = [3, 3, 3, 3], strides = [1, 1]> (x, weights)
        y = Tanh (mixed)
        found = Transpose <perm = [0, 2, 3, 1]> (y)
    }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, dataclasses.replace(card, profile=profile, selftest=None).to_json()
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_embedder(path: Path, profile: PaddingProfile | None = None, photometric: Photometric | None = None) -> None:
    """A convolution of 3 x 3, a ReLU and the mean of its cells; padding-exact by masks in a fixed profile."""
    profile = profile or PaddingProfile.dynamic((1, 8))
    card = write_tiny_embedder(path, profile)
    weights = np.random.default_rng(5).normal(0, 0.2, (card.dimension, 3, 3, 3)).astype(np.float32)
    mask = """
        sides = Shape <start = 1, end = 3> (images)
        height = Gather (sides, first)
        width = Gather (sides, second)
        h_sides = Squeeze (height)
        w_sides = Squeeze (width)
        rows = Range (zero, h_sides, one)
        columns = Range (zero, w_sides, one)
        valid = Cast <to = 7> (sizes)
        h = Gather <axis = 1> (valid, first)
        w = Gather <axis = 1> (valid, second)
        h_within = Less (rows, h)
        w_within = Less (columns, w)
        h_mask = Cast <to = 1> (h_within)
        w_mask = Cast <to = 1> (w_within)
        h_shaped = Unsqueeze (h_mask, h_axes)
        w_shaped = Unsqueeze (w_mask, w_axes)
        mask = Mul (h_shaped, w_shaped)
        x = Mul (centred, mask)
        """
    fixed = profile.kind == "fixed"
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    e (uint8[batch, height, width, 3] images{", int32[batch, 2] sizes" if fixed else ""})
        => (float[batch, {card.dimension}] descriptors)
    <float scale = {{0.01}}, float shift = {{1.0}}, int64[2] cells = {{2, 3}}, int64[1] first = {{0}},
     int64[1] second = {{1}}, int64 zero = {{0}}, int64 one = {{1}}, int64[2] h_axes = {{1, 3}},
     int64[2] w_axes = {{1, 2}}> {{
        turned = Transpose <perm = [0, 3, 1, 2]> (images)
        levels = Cast <to = 1> (turned)
        scaled = Mul (levels, scale)
        centred = Sub (scaled, shift)
        {mask if fixed else "x = Identity (centred)"}
        mixed = Conv <pads = [1, 1, 1, 1]> (x, weights)
        active = Relu (mixed)
        counted = {"Mul (active, mask)" if fixed else "Identity (active)"}
        pooled = ReduceSum <keepdims = 0> (counted, cells)
        descriptors = LpNormalization <axis = 1, p = 2> (pooled)
    }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    card = dataclasses.replace(card, photometric=photometric or Photometric(), selftest=None)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    path.write_bytes(model.SerializeToString(deterministic=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedder in both profiles, and translators of both rules."""
    folder = tmp_path_factory.mktemp("front")
    write_embedder(folder / "dynamic.onnx")
    write_embedder(folder / "fixed.onnx", PaddingProfile.fixed((256, 512), (256, 512), batch=(1, 8)))
    write_embedder(folder / "clahe.onnx", photometric=Photometric("clahe"))
    write_translator(folder / "next.onnx")
    write_translator(folder / "own.onnx", OWN)
    write_translator(folder / "corner.onnx", CORNER)
    write_translator(folder / "corner_next.onnx", CORNER_NEXT)
    return folder


# The graphs themselves


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([(64, 1), (4, 8), (64, 128), (7, 1)]),
    st.sampled_from(["center", "top-left"]),
)
def test_reflection_in_the_graph_is_the_hosts(height: int, width: int, rule: tuple[int, int], anchor: Anchor) -> None:
    image = np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    padded = run(padding_graph(False, *rule, anchor), {"images": image[None]})
    expected, _ = reflect_pad(image, *rule, anchor)
    np.testing.assert_array_equal(padded[0], expected)
    feed = {"images": image[None], "translated": padded.astype(np.float32) / np.float32(127.5) - 1}
    np.testing.assert_array_equal(run(cropping_graph(False, anchor), feed)[0], image)


@pytest.mark.parametrize("anchor", ["center", "top-left"])
def test_mixed_sizes_are_placed_and_put_back(anchor: Anchor) -> None:
    sizes = [(1, 1), (2, 90), (63, 65), (64, 96), (33, 95)]
    images = [np.random.default_rng(row).integers(0, 256, (*size, 3), dtype=np.uint8) for row, size in enumerate(sizes)]
    batch = np.full((len(sizes), 64, 96, 3), 255, np.uint8)
    for row, image in enumerate(images):
        images[row] = image = image[:64]
        batch[row, : image.shape[0], : image.shape[1]] = image
    given_sizes = np.array([image.shape[:2] for image in images], np.int32)
    feed = {"images": batch, "sizes": given_sizes}
    padded = run(padding_graph(True, 64, 1, anchor), feed)
    for image, found in zip(images, padded, strict=True):
        np.testing.assert_array_equal(found, reflect_to(image, (64, 96), anchor)[0])
    moved = feed if anchor == "center" else {}
    back = run(cropping_graph(True, anchor), moved | {"translated": padded / np.float32(127.5) - 1})
    for image, found in zip(images, back, strict=True):
        np.testing.assert_array_equal(found[: image.shape[0], : image.shape[1]], image)


def test_levels_are_rounded_as_the_runtime_rounds_them() -> None:
    values = np.linspace(-1.1, 1.1, 3 * 5000, dtype=np.float32).reshape(1, 50, 100, 3)
    found = run(cropping_graph(False), {"images": np.zeros((1, 50, 100, 3), np.uint8), "translated": values})
    expected = np.rint((values + 1) * np.float32(127.5)).clip(0, 255)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(101, 67), (67, 101), (40, 41), (469, 640), (640, 469), (110, 60), (64, 64)])
def test_the_reduction_is_pillows(size: tuple[int, int]) -> None:
    image = picture(*size)
    host = Image.fromarray(image)
    host.thumbnail((64, 64), Image.Resampling.LANCZOS, reducing_gap=None)
    found = run(shrinking_graph(64), {"images": np.stack([image, image[:, ::-1]])})[0]
    expected = np.asarray(host, np.float32)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() <= 0.01
    if max(size) <= 64:
        np.testing.assert_array_equal(found, image)


# A translator in front

FUSED = [("dynamic", "next"), ("dynamic", "own"), ("fixed", "next"), ("dynamic", "corner"), ("fixed", "corner_next")]


@pytest.mark.parametrize(("profile", "rule"), FUSED)
def test_a_fused_model_is_its_two_files(profile: str, rule: str, files: Path, tmp_path: Path) -> None:
    card = put_in_front(files / f"{profile}.onnx", tmp_path / "fused.onnx", translator=files / f"{rule}.onnx")
    assert (card.kind, card.profile.kind) == ("fused", profile)
    fused = Embedder.load(tmp_path / "fused.onnx", ONE_THREAD)
    translator = Translator.load(files / f"{rule}.onnx", ONE_THREAD)
    pair = Embedder.load(files / f"{profile}.onnx", ONE_THREAD, translator=translator)
    images = [picture(*size, seed) for seed, size in enumerate(ODD)]
    expected = pair(images)
    assert (np.sum(fused(images) * expected, axis=1) >= 1 - 1e-5).all()
    assert (fused.space, fused.untranslated_space) == (pair.space, pair.untranslated_space)
    assert fused.fingerprint != pair.fingerprint
    assert fused.translated_by == pair.translated_by
    difference, tolerance = run_selftest(fused.session)
    assert difference <= tolerance
    # The test can fail: the other rule and no translation are further away.
    plain = Embedder.load(files / f"{profile}.onnx", ONE_THREAD)
    assert (np.sum(plain(images) * expected, axis=1) < 1 - 1e-4).all()
    if rule == "own":
        put_in_front(files / "dynamic.onnx", tmp_path / "next.onnx", translator=files / "next.onnx")
        other = Embedder.load(tmp_path / "next.onnx", ONE_THREAD)
        assert np.sum(other(images) * expected, axis=1).min() < 1 - 1e-5
        assert other.space != fused.space


@pytest.mark.parametrize("max_side", [None, 90])
def test_sizes_are_read_from_the_images_and_not_behind_the_crop(
    files: Path, tmp_path: Path, max_side: int | None
) -> None:
    put_in_front(files / "dynamic.onnx", tmp_path / "m.onnx", translator=files / "own.onnx", max_side=max_side)
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert not [node for node in nodes if node.op_type == "Shape" and node.input[0] == "crop.cropped"]


def test_images_of_a_batch_do_not_meet(files: Path, tmp_path: Path) -> None:
    put_in_front(files / "fixed.onnx", tmp_path / "fused.onnx", translator=files / "next.onnx")
    fused = Embedder.load(tmp_path / "fused.onnx", ONE_THREAD)
    images = [picture(*size, seed) for seed, size in enumerate([(97, 131), (255, 201), (200, 256)])]
    together = fused.run_batch(images)
    alone = np.concatenate([fused.run_batch([image]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_fixed_profile_is_the_next_multiple_and_never_larger(files: Path, tmp_path: Path) -> None:
    wide = PaddingProfile.fixed((512,), (256, 512), batch=(1, 8))
    proto = onnx.load(files / "fixed.onnx")
    text = {item.key: item for item in proto.metadata_props}[METADATA_KEY]
    text.value = dataclasses.replace(ModelCard.from_json(text.value), profile=wide).to_json()
    onnx.save(without_checksum(proto), tmp_path / "tall.onnx")
    card = put_in_front(tmp_path / "tall.onnx", tmp_path / "fused.onnx", translator=files / "next.onnx")
    assert ModelCard.from_json(card.to_json()) == card
    fused = Embedder.load(tmp_path / "fused.onnx", ONE_THREAD)
    assert fused.shape_for(picture(300, 200)) == (512, 256)
    assert Embedder.load(tmp_path / "tall.onnx", ONE_THREAD).shape_for(picture(200, 200)) == (512, 256)
    with pytest.raises(ImageError, match="needs the shape 256x256, which the model's fixed profile lacks"):
        fused([picture(200, 200)])


@pytest.mark.slow
@pytest.mark.parametrize("profile", [PaddingProfile.dynamic(), PaddingProfile.fixed((256,), (256,))])
def test_clahe_and_real_layers_come_behind_the_translation(
    profile: PaddingProfile, files: Path, tmp_path: Path
) -> None:
    model = randomized("gem_vgg16", stages=((8, 1), (16, 1)))
    export_embedder(model, tmp_path / "plain.onnx", profile=profile, provenance={})
    export_embedder(DescriptorPipeline(model, clahe=ClaheLayer()), tmp_path / "b.onnx", profile=profile, provenance={})
    put_in_front(tmp_path / "b.onnx", tmp_path / "fused.onnx", translator=files / "next.onnx")
    translator = Translator.load(files / "next.onnx", ONE_THREAD)
    host = Embedder.load(tmp_path / "plain.onnx", ONE_THREAD, photometric=Photometric("clahe"), translator=translator)
    assert run_selftest(OrtSession(tmp_path / "fused.onnx"))[0] <= 1e-3
    fused = Embedder.load(tmp_path / "fused.onnx", ONE_THREAD)
    images = [picture(97, 131), picture(255, 201)]
    assert fused.space == host.space
    assert np.sum(fused(images) * host(images), axis=1).min() >= 0.9999


def test_half_precision_of_the_whole(files: Path, tmp_path: Path) -> None:
    put_in_front(files / "fixed.onnx", tmp_path / "fused.onnx", translator=files / "next.onnx")
    card, done = convert_precision(tmp_path / "fused.onnx", tmp_path / "half.onnx", "fp16")
    assert (card.kind, card.precision, done.passed) == ("fused", "fp16", True)
    assert card.space() == Embedder.load(tmp_path / "fused.onnx", ONE_THREAD).space


# A reduction in front


def test_a_resizing_model_takes_any_size_and_describes_what_the_decoder_would_give(files: Path, tmp_path: Path) -> None:
    card = put_in_front(files / "dynamic.onnx", tmp_path / "model.onnx", max_side=64)
    model, plain = (Embedder.load(path, ONE_THREAD) for path in (tmp_path / "model.onnx", files / "dynamic.onnx"))
    for size in ((150, 201), (201, 120), (64, 50), (40, 41)):
        image = picture(*size)
        reduced = decode_image(cv2.imencode(".png", image[..., ::-1])[1].tobytes(), max_side=64)
        assert float(model([image])[0] @ plain([reduced])[0]) >= 1 - 1e-5
    assert (card.resize, card.kind) == (64, "embedder")
    assert ModelCard.from_json(card.to_json()) == card
    assert model.space != plain.space
    assert run_selftest(model.session)[0] <= run_selftest(model.session)[1]
    with pytest.raises(ImageError, match="300x40: the model reduces it to 64 px, which leaves a side under 32 px"):
        model([picture(40, 300)])


def test_reduction_comes_before_translation(files: Path, tmp_path: Path) -> None:
    card = put_in_front(files / "dynamic.onnx", tmp_path / "m.onnx", translator=files / "own.onnx", max_side=64)
    assert (card.kind, card.resize) == ("fused", 64)
    image = picture(150, 201)
    host = Image.fromarray(image)
    host.thumbnail((64, 64), Image.Resampling.LANCZOS, reducing_gap=None)
    translator = Translator.load(files / "own.onnx", ONE_THREAD)
    pair = Embedder.load(files / "dynamic.onnx", ONE_THREAD, translator=translator)
    assert float(Embedder.load(tmp_path / "m.onnx", ONE_THREAD)([image])[0] @ pair([np.array(host)])[0]) >= 1 - 1e-4


def test_photographs_of_both_routes_agree(data_pack: Callable[[str], Path]) -> None:
    """On the real network; ``antialias=1`` of ONNX's own Resize, the control, misses the bound on the same pixels."""
    weights = next((data_pack("weights") / "mobilenet_v2_imagenet").glob("*_fp16.pth"))
    model = load_checkpoint(weights, "gem_mobilenet_v2", padding="tf", mean=(0.5,) * 3, std=(0.5,) * 3).model.eval()

    def described(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.describe_uint8(torch.from_numpy(pixels.astype(np.uint8))[None])[0].numpy()

    resize = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
    r (float[1, 3, h, w] images, int64[4] size) => (float[1, 3, a, b] found) {
        found = Resize <antialias = 1, mode = "cubic", cubic_coeff_a = -0.5> (images, , , size)
    }""")
    photographs = sorted((data_pack("amos_daynight") / "images").glob("*/*/*.jpg"))[::41]
    cosines, controls = [], []
    for path in photographs:
        image, expected = decode_image(path), decode_image(path, max_side=320)
        truth = described(expected)
        cosines.append(float(described(run(shrinking_graph(320), {"images": image[None]})[0]) @ truth))
        feed = {"images": image.transpose(2, 0, 1)[None].astype(np.float32)}
        cubic = run(resize, feed | {"size": np.array([1, 3, *expected.shape[:2]])})[0].transpose(1, 2, 0)
        controls.append(float(described(np.rint(cubic).clip(0, 255)) @ truth))
    assert len(photographs) >= 5
    assert min(cosines) >= 1 - 1e-5
    assert min(controls) < 0.999


def test_a_file_of_real_photographs_takes_both_routes(
    data_pack: Callable[[str], Path], tmp_path: Path, files: Path
) -> None:
    photographs = sorted((data_pack("amos_daynight") / "images").glob("*/*/*.jpg"))[::150]
    put_in_front(files / "dynamic.onnx", tmp_path / "model.onnx", max_side=320)
    model, plain = (Embedder.load(path, ONE_THREAD) for path in (tmp_path / "model.onnx", files / "dynamic.onnx"))
    found = model([decode_image(path) for path in photographs])
    expected = plain([decode_image(path, max_side=320) for path in photographs])
    assert len(photographs) >= 2
    assert np.sum(found * expected, axis=1).min() >= 1 - 1e-5


# The commands


def test_commands_export_check_extract_and_search(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, size in enumerate(((90, 131), (120, 100), (77, 140))):
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture(*size, number))
    embedder, translator, fused = files / "dynamic.onnx", files / "next.onnx", tmp_path / "fused.onnx"
    assert main(["export", str(embedder), "--translate", str(translator), "-o", str(fused)]) == 0
    assert main(["check", str(fused)]) == 0
    assert "translated by tiny" in capsys.readouterr().out
    words = ["extract", str(tmp_path / "images"), "--threads", "1", "--dtype", "float32"]
    assert main([*words, "--model", str(embedder), "-o", str(tmp_path / "map")]) == 0
    assert main([*words, "--model", str(fused), "-o", str(tmp_path / "one")]) == 0
    assert "images translated by tiny first" in capsys.readouterr().out
    pair = ["--model", str(embedder), "--translate", str(translator)]
    assert main([*words, *pair, "-o", str(tmp_path / "two")]) == 0
    one, two = (DescriptorStore.open(tmp_path / name) for name in ("one", "two"))
    assert (np.sum(one.load() * two.load(), axis=1) >= 1 - 1e-5).all()
    assert (one.space, one.untranslated_space) == (two.space, two.untranslated_space)
    assert one.manifest["job"]["options"]["translate"] == two.manifest["job"]["options"]["translate"]
    assert main(["index", str(tmp_path / "map"), "-o", str(tmp_path / "index")]) == 0
    assert main(["search", str(tmp_path / "index"), "--store", str(tmp_path / "one"), "-k", "1"]) == 0


def test_the_command_leaves_the_resizing_to_the_model(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), picture(90, 131))
    model = tmp_path / "model.onnx"
    assert main(["export", str(files / "dynamic.onnx"), "--resize", "64", "-o", str(model)]) == 0
    words = ["extract", str(tmp_path / "images"), "--model", str(model), "--threads", "1"]
    assert main([*words, "-o", str(tmp_path / "store")]) == 0
    assert "reduced to 64 px by the model" in capsys.readouterr().out
    stated = DescriptorStore.open(tmp_path / "store").manifest["job"]["options"]
    assert (stated["resize"], stated["max_side"]) == (64, None)
    for size in (["--max-side", "64"], ["--stretch", "64x64"]):
        assert main([*words, *size, "-o", str(tmp_path / "other")]) == 2
        assert "reduces images to 64 px itself" in one_line(capsys)
    assert main([*words, "--max-side", "0", "-o", str(tmp_path / "native")]) == 0


@pytest.mark.slow
def test_weights_of_a_translator_are_exported_by_the_papers_rule(files: Path, tmp_path: Path) -> None:
    """The file that is exported on the way is the one that the command writes: the same fingerprint, so one space."""
    torch.manual_seed(0)
    weights = tmp_path / "t.safetensors"
    save_checkpoint(weights, create_generator("resnet", width=4, blocks=1), {"recipe": "test"})
    assert main(["export", str(weights), "-o", str(tmp_path / "t.onnx"), "--profile", "fixed"]) == 0
    card = put_in_front(files / "dynamic.onnx", tmp_path / "fused.onnx", translator=weights)
    pair = Embedder.load(
        files / "dynamic.onnx",
        ONE_THREAD,
        translator=Translator.load(tmp_path / "t.onnx", ONE_THREAD),
    )
    fused = Embedder.load(tmp_path / "fused.onnx", ONE_THREAD)
    assert card.provenance["translator"]["recipe"] == "test"
    assert card.provenance["translator"]["multiple"] == 256
    assert fused.space == pair.space
    images = [picture(*size, seed) for seed, size in enumerate(ODD)]
    assert (np.sum(fused(images) * pair(images), axis=1) >= 1 - 1e-5).all()


# Refusals


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    return error


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["clahe.onnx", "--translate", "next.onnx"], "export the embedder with --bake-clahe"),
        (["fixed.onnx", "--translate", "own.onnx"], "pads images to multiples of 4"),
        (["fixed.onnx", "--resize", "64"], "--resize goes with the dynamic profile"),
        (["dynamic.onnx", "--resize", "16"], "32 px or more"),
        (["dynamic.onnx", "--translate", "dynamic.onnx"], "kind 'embedder', but 'translator' is needed"),
        (["next.onnx", "--translate", "next.onnx"], "kind 'translator', but 'embedder' is needed"),
        (["dynamic.onnx", "--translate", "grey.onnx"], "only colour translators"),
        (["dynamic.onnx", "--translate", "next.onnx", "--bake-clahe"], "give --bake-clahe when its weights"),
        (["m.safetensors", "--translate", "next.onnx", "--photometric", "clahe"], "--bake-clahe"),
        (["m.safetensors", "--resize", "64", "--profile", "fixed"], "dynamic profile"),
        (["m.safetensors", "--resize", "64", "--local-features"], "one descriptor"),
        (["dynamic.onnx"], "is exported already"),
    ],
)
def test_what_cannot_be_put_together_is_one_line(
    words: list[str], reason: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_translator(files / "grey.onnx", channels=1)
    paths = [str(files / word) if "." in word else word for word in words]
    assert main(["export", *paths, "-o", str(tmp_path / "x.onnx")]) == 2
    assert reason in one_line(capsys)
    assert not (tmp_path / "x.onnx").exists()


def test_nothing_goes_in_front_of_what_prepares_images_itself(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    translator = Translator.load(files / "next.onnx", ONE_THREAD)
    for options, first in (({"translator": files / "next.onnx"}, "translation"), ({"max_side": 64}, "resizing")):
        path = tmp_path / "model.onnx"
        put_in_front(files / "dynamic.onnx", path, **options)
        with pytest.raises(ModelError, match=f"cannot stand in front of the {first}"):
            Embedder.load(path, translator=translator)
        with pytest.raises(ModelError, match=f"clahe belongs behind the {first}.*--bake-clahe"):
            Embedder.load(path, photometric=Photometric("clahe"))
        assert main(["check", str(path), "--against", "weights.safetensors"]) == 2
        assert "exported alone" in one_line(capsys)
        with pytest.raises(ModelError):
            put_in_front(path, tmp_path / "twice.onnx", translator=files / "next.onnx")
    with pytest.raises(UsageError, match="a translator, a longer side, or both"):
        put_in_front(files / "dynamic.onnx", tmp_path / "x.onnx")


def test_files_of_another_opset_or_precision_are_refused(files: Path, tmp_path: Path) -> None:
    proto = onnx.load(files / "next.onnx")
    proto.opset_import[0].version = 18
    onnx.save(without_checksum(proto), tmp_path / "old.onnx")
    with pytest.raises(ModelError, match="translate: a graph of opset 18, but 20 is needed"):
        put_in_front(files / "dynamic.onnx", tmp_path / "x.onnx", translator=tmp_path / "old.onnx")
    convert_precision(files / "dynamic.onnx", tmp_path / "half.onnx", "fp16")
    with pytest.raises(ModelError, match="is fp16; put the float32 files together"):
        put_in_front(tmp_path / "half.onnx", tmp_path / "x.onnx", max_side=64)


def test_an_earlier_card_reads_as_one_without_anything_in_front(tmp_path: Path) -> None:
    card = write_tiny_embedder(tmp_path / "tiny.onnx")
    assert '"resize"' not in card.to_json()
    assert "next_only" not in card.to_json()
    assert card.prepares is False
    assert card.space() == dataclasses.replace(card, resize=None).space()


def test_a_damaged_model_gets_no_checksum_of_its_damage(files: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(with_checksum((files / "dynamic.onnx").read_bytes()))
    flip(damaged)
    with pytest.raises(ModelError, match=r"damaged\.onnx: damaged, or changed"):
        put_in_front(damaged, tmp_path / "fused.onnx", max_side=64)
    with pytest.raises(ModelError, match=r"damaged\.onnx: damaged, or changed"):
        convert_precision(damaged, tmp_path / "half.onnx", "fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.onnx"]
