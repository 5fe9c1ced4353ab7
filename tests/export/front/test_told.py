"""A translator of several domains inside an embedder's graph: its domain and zeros of noise are constants of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from gloam.errors import UsageError
from gloam.export.front.put import put_in_front
from gloam.export.front.told import telling_graph
from gloam.export.weights import ExportRequest, export_weights
from gloam.padding import PaddingProfile
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import load_translator
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_domains, write_tiny_translator

ALONE = Placement(threads=1)
FIXED = PaddingProfile.fixed((256, 512), (256, 512), batch=(1, 8))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_what_is_told_is_as_large_as_the_images(tmp_path: Path) -> None:
    specs = write_tiny_domains(tmp_path / "m.onnx").inputs[1:]
    proto = telling_graph(specs)
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString())
    for batch, height, width in ((1, 8, 12), (3, 64, 4)):
        found = session.run(None, {"padded": np.zeros((batch, height, width, 3), np.float32)})
        for spec, value in zip(specs, found, strict=True):
            np.testing.assert_array_equal(value, spec.filled(batch, height, width), strict=True)


@pytest.mark.parametrize("domain", [None, "snow"])
def test_a_fused_model_takes_images_alone_and_gives_what_the_two_give(tmp_path: Path, domain: str | None) -> None:
    write_tiny_embedder(tmp_path / "e.onnx")
    write_tiny_domains(tmp_path / "t.onnx")
    card = put_in_front(tmp_path / "e.onnx", tmp_path / "f.onnx", translator=tmp_path / "t.onnx", domain=domain)
    assert [spec.name for spec in card.inputs] == ["images"]
    assert card.provenance["translator"]["name"] == f"tiny to {domain or 'night'}"
    fused = Embedder.load(tmp_path / "f.onnx", ALONE)
    apart = Embedder.load(tmp_path / "e.onnx", ALONE, translator=load_translator(tmp_path / "t.onnx", ALONE, domain))
    images = [picture(40, 50), picture(97, 131, 1), picture(40, 50, 2)]
    np.testing.assert_allclose(fused(images), apart(images), atol=1e-5)
    assert (fused.space, fused.translated_by) == (apart.space, apart.translated_by)
    difference, tolerance = run_selftest(fused.session)
    assert difference <= tolerance


def test_padded_sizes_have_a_domain_inside_too(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "e.onnx", FIXED)
    write_tiny_domains(tmp_path / "t.onnx", profile=FIXED)
    put_in_front(tmp_path / "e.onnx", tmp_path / "f.onnx", translator=tmp_path / "t.onnx", domain="snow")
    snow = load_translator(tmp_path / "t.onnx", ALONE, "snow")
    images = [picture(256, 512), picture(256, 256, 1)]  # the tiny embedder reads what lies beyond an image
    apart = Embedder.load(tmp_path / "e.onnx", ALONE, translator=snow)
    session = OrtSession(tmp_path / "f.onnx", threads=1)
    for image, expected in zip(images, apart(images), strict=True):
        fed = {"images": image[None], "sizes": np.array([image.shape[:2]], np.int32)}
        np.testing.assert_allclose(session.run(fed)["descriptors"][0], expected, atol=1e-5)


def test_a_domain_that_is_not_there_or_that_nothing_has_is_refused(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "e.onnx")
    write_tiny_domains(tmp_path / "t.onnx")
    write_tiny_translator(tmp_path / "one.onnx")

    def export(**more: Any) -> None:
        export_weights(ExportRequest(output=tmp_path / "f.onnx", weights=tmp_path / "e.onnx", **more))

    with pytest.raises(UsageError, match="unknown domain 'rain'; its domains are day, night, snow"):
        export(translate=tmp_path / "t.onnx", domain="rain")
    with pytest.raises(UsageError, match="unknown domain 'snow'; it translates into one alone"):
        export(translate=tmp_path / "one.onnx", domain="snow")
    with pytest.raises(UsageError, match="give --domain when its weights are exported"):
        export(resize=64, domain="snow")
    with pytest.raises(UsageError, match="domain 'snow' is of a translator; give one"):
        put_in_front(tmp_path / "e.onnx", tmp_path / "f.onnx", max_side=64, domain="snow")
    request = ExportRequest(tmp_path / "g.onnx", network="hed", random_init=0, options={"width": 2}, domain="x")
    with pytest.raises(UsageError, match="--domain is of a translator, but hed is of kind 'edges'"):
        export_weights(request)
    assert not (tmp_path / "f.onnx").exists()
