"""What translators of several domains are told: a domain, and noise that is a matter of the image and a seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.errors import UsageError
from gloam.padding import PaddingProfile
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.conditions import Conditions
from gloam.runtime.models.translator import Translator, load_translator
from tests.tiny_translators import DOMAINS, write_tiny_domains, write_tiny_translator

ALONE = Placement(threads=1)
FIXED = PaddingProfile.fixed((256,), (256,), batch=(1, 4))


@pytest.fixture
def noisy(tmp_path: Path) -> Translator:
    write_tiny_domains(tmp_path / "m.onnx")
    return Translator.load(tmp_path / "m.onnx", ALONE)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_tiny_model_is_what_it_says(noisy: Translator) -> None:
    difference, tolerance = run_selftest(noisy.session)
    assert difference <= tolerance


def test_a_domain_is_asked_for_by_its_name(noisy: Translator) -> None:
    image = picture(20, 30)
    for domain, shade in zip(DOMAINS, (-0.3, 0.0, 0.3), strict=True):
        other = noisy.towards(domain)
        assert (other.domain, other.name) == (domain, f"tiny to {domain}")
        expected = (image / 127.5 - 1) * 0.5 + shade
        assert np.abs(other([image])[0] - ((expected + 1) * 127.5).clip(0, 255)).max() <= 0.51
    assert noisy.domain == "night"
    assert noisy.towards("snow").towards("night").fingerprint == noisy.fingerprint
    with pytest.raises(UsageError, match="tiny: unknown domain 'rain'; its domains are day, night, snow"):
        noisy.towards("rain")


def test_noise_is_a_matter_of_the_pixels_and_the_seed(noisy: Translator) -> None:
    images = [picture(20, 30, 1), picture(20, 30, 2), picture(17, 5), picture(20, 30, 1)]
    drawn = noisy.drawing(7)
    together = drawn(images)
    assert np.array_equal(together[0], together[3])
    for image, found in zip(images, together, strict=True):
        assert np.array_equal(drawn([image])[0], found)
        assert not np.array_equal(noisy([image])[0], found)
        assert not np.array_equal(noisy.drawing(8)([image])[0], found)
    drawn._model.batch_size = 3  # as on a GPU
    for one, other in zip(drawn(images), together, strict=True):
        assert np.array_equal(one, other)


def test_padding_draws_no_noise(tmp_path: Path, noisy: Translator) -> None:
    write_tiny_domains(tmp_path / "fixed.onnx", profile=FIXED)
    fixed = Translator.load(tmp_path / "fixed.onnx", ALONE)
    for image in (picture(20, 30), picture(33, 35), picture(64, 96)):
        one, other = (model.drawing(3)([image])[0] for model in (noisy, fixed))
        assert np.array_equal(one, other)


def test_a_map_of_noise_is_drawn_at_the_images_size_and_reflected_with_it(noisy: Translator) -> None:
    conditions = Conditions(noisy.card.inputs[1:], seed=5)
    image = picture(6, 10)
    own, wide = (conditions.filled([image], shape)["alignment"][0, 0] for shape in ((6, 10), (8, 16)))
    assert np.array_equal(wide[1:7, 3:13], own)
    assert np.array_equal(wide[:, 2], wide[:, 4])
    assert abs(float(conditions.filled([picture(96, 96)], (96, 96))["alignment"].std()) - 1) < 0.05
    label = conditions.filled([image, image], (8, 16))["label"]
    assert label.tolist() == [[0, 1, 0]] * 2
    assert not Conditions(noisy.card.inputs[1:]).filled([image], (8, 16))["noise"].any()


def test_identities_follow_domain_and_noise(noisy: Translator) -> None:
    snow, drawn = noisy.towards("snow"), noisy.drawing(0)
    both = {item.fingerprint for item in (snow.drawing(0), drawn.towards("snow"))}
    assert len(both) == 1
    assert len({noisy.fingerprint, snow.fingerprint, drawn.fingerprint, noisy.drawing(1).fingerprint, *both}) == 5
    assert drawn.drawing(None).fingerprint == noisy.fingerprint


def test_what_has_no_domains_or_noise_refuses_them(tmp_path: Path) -> None:
    write_tiny_domains(tmp_path / "quiet.onnx", noisy=False)
    write_tiny_translator(tmp_path / "one.onnx")
    quiet = load_translator(tmp_path / "quiet.onnx", ALONE, "snow")
    assert quiet.name == "tiny to snow"
    with pytest.raises(UsageError, match="tiny: takes no noise; leave out the seed"):
        load_translator(tmp_path / "quiet.onnx", ALONE, noise=1)
    with pytest.raises(UsageError, match="tiny: unknown domain 'snow'; it translates into one alone"):
        load_translator(tmp_path / "one.onnx", ALONE, "snow")
    for given in ({"domain": "snow"}, {"noise": 0}):
        with pytest.raises(UsageError, match="gamma: a formula has no domains and takes no noise"):
            load_translator("gamma", ALONE, **given)  # type: ignore[arg-type]
