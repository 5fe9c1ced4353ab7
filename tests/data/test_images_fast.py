"""JPEGs unpacked at a reduced scale: the same sizes, never fewer pixels than asked for, nearly the same descriptors."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from gloam.data.images import decode_image
from gloam.errors import ImageError


def jpeg(width: int, height: int, orientation: int = 1, form: str = "JPEG", mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(width * height + orientation)
    coarse = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, quality=95, exif=exif)
    return buffer.getvalue()


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes that JPEGs were unpacked at."""
    seen: list[tuple[int, int]] = []
    load = JpegImagePlugin.JpegImageFile.load_prepare

    def noted(self: JpegImagePlugin.JpegImageFile) -> None:
        if not seen or seen[-1] != self.size:
            seen.append(self.size)
        load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load_prepare", noted)
    return seen


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(640, 372), (373, 641), (1000, 999), (500, 130), (257, 800)])
@pytest.mark.parametrize("options", [{"max_side": 64}, {"max_side": 127}, {"max_side": 200}, {"stretch": (100, 40)}])
def test_sizes_and_pixels_are_those_of_the_whole_image(
    size: tuple[int, int], orientation: int, options: dict[str, object]
) -> None:
    content = jpeg(*size, orientation)
    plain = decode_image(content, min_side=1, **options)  # type: ignore[arg-type]  # parametrised
    fast = decode_image(content, min_side=1, fast=True, **options)  # type: ignore[arg-type]  # parametrised
    assert fast.shape == plain.shape
    assert np.abs(fast.astype(int) - plain).mean() < 2.5


def test_an_image_is_never_unpacked_below_the_size_asked_for(scales: list[tuple[int, int]]) -> None:
    for side, unpacked in ((1000, 1000), (501, 1000), (500, 500), (300, 500), (250, 250), (126, 250), (125, 125)):
        del scales[:]
        decode_image(jpeg(1000, 800), max_side=side, fast=True)
        assert scales[-1][0] == unpacked >= side
    del scales[:]
    decode_image(jpeg(1000, 800, orientation=6), stretch=(200, 500), fast=True)  # 800 x 1000 after the turn
    assert scales[-1] == (500, 400)
    decode_image(jpeg(1000, 132), max_side=250, min_side=1, fast=True)  # reduced, though one side is shorter than that
    assert scales[-1][0] == 250


@pytest.mark.parametrize(("form", "mode"), [("PNG", "RGB"), ("WEBP", "RGB"), ("PNG", "P"), ("TIFF", "1")])
def test_other_formats_and_native_sizes_stay_as_they_are(form: str, mode: str) -> None:
    content = jpeg(300, 200, form=form, mode=mode)
    np.testing.assert_array_equal(decode_image(content, max_side=64, fast=True), decode_image(content, max_side=64))
    for options in ({}, {"max_side": 200}, {"max_side": 4000}):
        content = jpeg(300, 200)
        np.testing.assert_array_equal(decode_image(content, fast=True, **options), decode_image(content, **options))


def test_what_is_refused_is_refused_in_the_same_words() -> None:
    narrow = jpeg(900, 40, orientation=6)
    for content, options in ((jpeg(20, 900), {}), (narrow, {"max_side": 100}), (jpeg(900, 700)[:3000], {})):
        reasons = []
        for fast in (False, True):
            with pytest.raises(ImageError) as error:
                decode_image(content, fast=fast, **options)
            reasons.append(str(error.value))
        assert reasons[0] == reasons[1]


def test_descriptors_of_photographs_stay_close(data_pack: Callable[[str], Path]) -> None:
    """Measured with MobileNetV2-GeM on webcam photographs by day and night at a third of their size."""
    torch = pytest.importorskip("torch")
    from gloam.networks.checkpoints import load_checkpoint

    weights = next((data_pack("weights") / "mobilenet_v2_imagenet").glob("*_fp16.pth"))
    model = load_checkpoint(weights, "gem_mobilenet_v2", padding="tf", mean=(0.5,) * 3, std=(0.5,) * 3).model.eval()
    photographs = sorted((data_pack("amos_daynight") / "images").glob("*/*/*.jpg"))[::11][:16]

    def describe(path: Path, fast: bool) -> np.ndarray:
        pixels = decode_image(path, max_side=224, fast=fast)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        with torch.inference_mode():
            return model(x)[0].numpy()

    cosines = [float(describe(path, True) @ describe(path, False)) for path in photographs]
    assert min(cosines) > 0.97  # measured: 0.976
    assert np.median(cosines) > 0.995  # measured: 0.997
