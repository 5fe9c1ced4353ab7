"""Every kind of file is decoded as it should be, or refused with its reason."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gloam.data import images
from gloam.data.images import MAX_BYTES, decode_image, fitted, header_size, image_size, resize_image, stored_size
from gloam.data.photometric import clahe
from gloam.errors import ImageError
from gloam.model_card import NATIVE, InputRule


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def gradient() -> Image.Image:
    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([x * 4, y * 5, x + y], -1).astype(np.uint8))


def test_lossless_pixels_come_back(gradient: Image.Image) -> None:
    np.testing.assert_array_equal(decode_image(encode(gradient)), np.asarray(gradient))


def test_path_and_bytes_agree(gradient: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(gradient))
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), decode_image(encode(gradient)))


def test_exif_orientation_is_applied(gradient: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate a quarter turn clockwise to see it upright
    found = decode_image(encode(gradient, "PNG", exif=exif))
    np.testing.assert_array_equal(found, np.rot90(np.asarray(gradient), -1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_pixels_stay_where_they_are(gradient: Image.Image, kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(gradient, kind, exif=exif)
    np.testing.assert_array_equal(decode_image(content, upright=False), decode_image(encode(gradient, kind)))
    assert decode_image(content, upright=False, fast=True, stretch=(40, 32)).shape == (32, 40, 3)
    assert decode_image(content).shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
    assert image_size(content) == (64, 48)
    (tmp_path / "a").write_bytes(content)
    assert stored_size(tmp_path / "a") == (64, 48)


def test_a_size_that_cannot_be_read_gives_its_reason(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ImageError, match="not an image"):
        stored_size(tmp_path / "text.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        stored_size(tmp_path / "absent.jpg")
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(ImageError, match="decompression bomb"):
        stored_size(tmp_path / "bomb.png")


def test_max_side_reduces_and_never_enlarges(gradient: Image.Image) -> None:
    big = gradient.resize((400, 300))
    assert decode_image(encode(big), max_side=200).shape == (150, 200, 3)
    assert decode_image(encode(gradient), max_side=2000).shape == (48, 64, 3)


def test_stretch_ignores_the_aspect(gradient: Image.Image) -> None:
    assert decode_image(encode(gradient), stretch=(41, 37)).shape == (37, 41, 3)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    found = decode_image(encode(Image.fromarray(values)))
    np.testing.assert_allclose(found[..., 0], values / 257, atol=0.51)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_other_modes_become_rgb(gradient: Image.Image, mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    found = decode_image(encode(gradient.convert(mode), kind))
    assert found.shape == (48, 64, 3)
    if mode == "CMYK":
        assert np.abs(found.astype(int) - np.asarray(gradient)).mean() < 3


def bomb() -> bytes:
    """A valid PNG of 30000 x 30000 pixels in a few kilobytes."""
    row = zlib.compress(bytes(30000 // 8 + 1) * 30000, 9)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (30000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def test_refusals_give_reasons(gradient: Image.Image) -> None:
    whole = encode(gradient.resize((640, 480)), "JPEG")
    frames = encode(gradient, "GIF", save_all=True, append_images=[gradient.rotate(90, expand=False)])
    cases = {
        b"": "empty",
        b"hello, I am a text": "not an image",
        whole[: len(whole) // 2]: "truncated",
        whole[:200]: "corrupt|not an image",
        encode(gradient.resize((1, 1))): "too small",
        encode(gradient.resize((500, 31))): "too small",
        frames: "animated",
        encode(Image.fromarray(np.zeros((40, 40), np.float32)), "TIFF"): "floating-point",
        bomb(): "decompression bomb",
    }
    for content, reason in cases.items():
        with pytest.raises(ImageError, match=reason) as caught:
            decode_image(content)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        decode_image(tmp_path / "absent.jpg")


def test_clahe_lifts_a_dark_image_and_keeps_its_colour(data_pack: Callable[[str], Path]) -> None:
    path = next(iter(sorted((data_pack("amos_daynight") / "images" / "cam01" / "night").glob("*.jpg"))))
    dark = decode_image(path, max_side=320)
    found = clahe(dark)
    assert found.shape == dark.shape
    assert found.std() > dark.std()
    grey = np.repeat(dark[..., :1], 3, axis=2)
    assert np.ptp(clahe(grey).astype(int), axis=2).max() <= 2  # grey stays grey
    np.testing.assert_array_equal(clahe(np.full((64, 64, 3), 90, np.uint8)).std((0, 1)), 0)


def png(width: int, height: int, depth: int, kind: int, row: bytes) -> bytes:
    """A PNG of equal rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(b"\0" + row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, kind, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_deep_pixels_take_little_more_memory_than_others(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(10900, 10900, 16, 0, bytes(2 * 10900)))
    code = (
        "import resource, sys; from gloam.data.images import decode_image; decode_image(sys.argv[1], max_side=1024); "
    )
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, check=True)
    assert int(done.stdout) < 1_400_000  # kB; 3.4 million where all of it became floating-point numbers


def test_every_value_of_sixteen_bits_is_the_nearest_of_eight() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(512, 128)
    found = decode_image(encode(Image.fromarray(values)))
    np.testing.assert_array_equal(found[..., 0], np.rint(values / 257))


@pytest.mark.parametrize("kind", ["EPS", "PCX", "TGA", "ICO", "SGI", "PDF"])
def test_formats_that_are_not_on_the_list_are_no_images(gradient: Image.Image, kind: str) -> None:
    with pytest.raises(ImageError, match="not an image that can be decoded"):
        decode_image(encode(gradient, kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "MPO"])
def test_formats_on_the_list_are_read(gradient: Image.Image, kind: str, tmp_path: Path) -> None:
    content = encode(gradient, kind)
    assert decode_image(content).shape == (48, 64, 3)
    (tmp_path / "a").write_bytes(content)
    assert header_size(tmp_path / "a") == (64, 48)


@pytest.mark.parametrize("where", ["asarray", "array", "resize", "open"])
def test_an_image_that_memory_has_no_room_for_is_a_reason(
    gradient: Image.Image, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise cv2.error("Insufficient memory") if where == "resize" else MemoryError()

    content = encode(gradient)
    monkeypatch.setattr({"resize": cv2, "open": Image}.get(where, np), where, full)
    with pytest.raises(ImageError, match="no memory for its pixels; make it smaller"):
        decode_image(content, stretch=None if where == "array" else (40, 40))


def test_pipes_devices_and_endless_files_are_reasons(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with open(tmp_path / "long.jpg", "wb") as file:
        file.truncate(MAX_BYTES * 40)
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero"), Path("/dev/null")):
        for read in (decode_image, header_size):
            with pytest.raises(ImageError, match="cannot be read: a pipe, socket or device, not a file"):
                read(path)
    with pytest.raises(ImageError, match=r"not an image|holds more than 1024 MB"):
        decode_image(tmp_path / "long.jpg")


def textured(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_a_reduction_is_lanczos_and_a_stretch_is_by_area() -> None:
    image = textured(310, 203)
    small = image.copy()
    small.thumbnail((100, 100), Image.Resampling.LANCZOS, reducing_gap=None)
    np.testing.assert_array_equal(decode_image(encode(image), max_side=100), small)
    area = cv2.resize(np.asarray(image), (90, 120), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(decode_image(encode(image), stretch=(90, 120)), area)
    for side in (310, 311, None):
        np.testing.assert_array_equal(decode_image(encode(image), max_side=side), image)


@pytest.mark.parametrize("size", [(310, 203), (203, 310), (100, 64)])
def test_a_decoded_image_is_resized_as_decoding_does(size: tuple[int, int]) -> None:
    image = textured(*size)
    pixels = np.asarray(image)
    for rule in (
        InputRule(100),
        InputRule(max(size)),
        InputRule(max(size) - 1),
        InputRule(None, (70, 90), "area", True),
    ):
        expected = decode_image(encode(image), max_side=rule.max_side, stretch=rule.stretch)
        np.testing.assert_array_equal(resize_image(pixels, rule), expected)
        np.testing.assert_array_equal(
            resize_image(pixels[..., ::-1], rule), resize_image(pixels[..., ::-1].copy(), rule)
        )
    for rule in (InputRule(max(size)), InputRule.of(stretch=size), InputRule(5000), NATIVE):
        assert resize_image(pixels, rule) is pixels


def test_a_side_that_a_reduction_leaves_too_short_is_named() -> None:
    image = textured(400, 40)
    message = r"^400x40 at --max-side 200 has a side under 32 px$"
    for reduce in (
        lambda: decode_image(encode(image), max_side=200),
        lambda: resize_image(np.asarray(image), InputRule(200)),
    ):
        with pytest.raises(ImageError, match=message):
            reduce()
    assert decode_image(encode(image), max_side=200, min_side=20).shape == (20, 200, 3)
    assert resize_image(np.asarray(image), InputRule(200), 20).shape == (20, 200, 3)
    assert decode_image(encode(image), max_side=320).shape == (32, 320, 3)
    with pytest.raises(ImageError, match="--max-side 200 has a side under 21 px"):
        decode_image(encode(image), max_side=200, min_side=21)


@pytest.mark.parametrize(("orientation", "said"), [(1, "40x31"), (3, "40x31"), (6, "31x40"), (8, "31x40")])
def test_a_size_that_is_too_small_is_said_upright(orientation: int, said: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(textured(40, 31), "PNG", exif=exif)
    with pytest.raises(ImageError, match=rf"^{said} is too small; the shorter side must be 32 px or more$"):
        decode_image(content)
    with pytest.raises(ImageError, match=r"^40x31 is too small"):
        decode_image(content, upright=False)
    assert min(decode_image(content, min_side=31).shape[:2]) == 31
    assert decode_image(encode(textured(32, 32))).shape == (32, 32, 3)


def test_as_many_pixels_and_bytes_as_are_allowed_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gradient: Image.Image
) -> None:
    content = encode(gradient)
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48)
    monkeypatch.setattr(images, "MAX_BYTES", len(content))
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), gradient)
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError, match=r"^64x48 is more than 3071 pixels: .*; cut it first$"):
        decode_image(content)
    monkeypatch.setattr(images, "MAX_BYTES", len(content) - 1)
    with pytest.raises(ImageError, match="holds more than"):
        decode_image(tmp_path / "a.png")


def test_the_reduced_size_of_a_jpeg_is_that_of_pillow() -> None:
    for width, height in ((640, 373), (373, 640), (500, 500), (999, 100), (101, 1000), (3, 1000), (640, 361)):
        for side in (1, 10, 99, 128, 250):
            image = Image.new("L", (width, height))
            image.thumbnail((side, side))
            assert fitted((width, height), side) == image.size


def test_what_no_photograph_is_is_refused(gradient: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^the file is empty$"):
        decode_image(b"")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"^cannot be read: not an image$"):
        header_size(tmp_path / "text.png")
    with pytest.raises(ImageError, match=r"^cannot be read: No such file"):
        header_size(tmp_path / "absent.png")
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(ImageError, match=r"^a decompression bomb or a scan; cut it first$"):
        header_size(tmp_path / "bomb.png")
    frames = encode(gradient, "TIFF", save_all=True, append_images=[gradient])
    with pytest.raises(ImageError, match=r"^animated or of several frames; extract one frame first$"):
        decode_image(frames)
    views = encode(gradient, "MPO", save_all=True, append_images=[gradient.rotate(180)])  # as phones write them
    np.testing.assert_array_equal(decode_image(views), decode_image(encode(gradient, "MPO")))


def test_damage_is_said_in_one_line(gradient: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encode(gradient))
    for error, reason in (
        (SyntaxError("first line\nsecond"), "first line"),
        (ValueError(""), "ValueError"),
        (ValueError("  \n "), "ValueError"),
    ):

        def fails(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(images, "open_image", fails)
        with pytest.raises(ImageError) as caught:
            decode_image(tmp_path / "a.png")
        assert str(caught.value) == f"corrupt or truncated: {reason}"
        with pytest.raises(ImageError, match=rf"^cannot be read: {type(error).__name__}$"):
            header_size(tmp_path / "a.png")
        with pytest.raises(ImageError, match=r"^corrupt or truncated: "):
            stored_size(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_deep_grey_of_every_kind_is_scaled(mode: str) -> None:
    values = np.linspace(-300 if mode == "I" else 0, 70000 if mode == "I" else 65535, 64 * 300).reshape(300, 64)
    image = Image.fromarray(values.astype({"I;16": "<u2", "I;16B": ">u2", "I": np.int32}[mode]))
    found = decode_image(encode(image, "TIFF"))
    expected = np.rint(values.astype(np.int64).clip(0, 65535) / 257)
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], expected)


def test_pixels_are_the_callers_own(gradient: Image.Image) -> None:
    for options in ({}, {"max_side": 50}, {"stretch": (40, 40)}):
        found = decode_image(encode(gradient), **options)  # type: ignore[arg-type]  # mixed
        found[:] = 0
        assert found.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_background_shows_where_a_picture_is_transparent(mode: str) -> None:
    pixels = np.full((40, 40, 4), (10, 10, 10, 255), np.uint8)
    pixels[:, 20:, 3] = 0
    pixels[:10, :, 3] = 128
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = picture.quantize(8)
    elif mode != "RGBA":
        picture = picture.convert(mode)
    content = io.BytesIO()
    picture.save(content, "PNG")
    found = decode_image(content.getvalue(), background=(255, 255, 255))
    assert abs(found[30, 10].astype(int) - 10).max() <= 3
    assert (found[30, 30] == 255).all()
    assert abs(found[5, 10].astype(int) - 132).max() <= 3  # half of each
    assert decode_image(content.getvalue())[30, 30].max() <= 12  # its transparency dropped


def test_a_background_changes_no_picture_without_transparency(gradient: Image.Image) -> None:
    content = io.BytesIO()
    gradient.save(content, "PNG")
    plain = decode_image(content.getvalue())
    assert np.array_equal(decode_image(content.getvalue(), background=(255, 0, 0)), plain)


@pytest.mark.parametrize(("width", "height"), [(64, 900), (900, 64), (128, 420), (233, 401), (400, 300)])
def test_rows_are_reduced_first_whatever_the_release_of_pillow_does(width: int, height: int) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    reduced = resize_image(pixels, InputRule(512 if max(width, height) > 512 else 128), 1)
    rows = Image.fromarray(pixels).resize((reduced.shape[1], height), Image.Resampling.LANCZOS)
    whole = rows.resize((reduced.shape[1], reduced.shape[0]), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(reduced, np.asarray(whole))
