"""Translated queries: another space than untranslated ones, yet searchable in the map of untranslated images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.data.sources import find_images
from gloam.errors import IncompatibleError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.source import expect_searchable
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import load_translator
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_translator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(5):
        size = (int(rng.integers(33, 60)), 40, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
    write_tiny_embedder(tmp_path / "embedder.onnx")
    write_tiny_translator(tmp_path / "night2day.onnx")
    return tmp_path


def store(folder: Path, name: str, spec: str | None) -> DescriptorStore:
    translator = None if spec is None else load_translator(spec)
    embedder = Embedder.load(folder / "embedder.onnx", Placement(threads=1), translator=translator)
    extract(find_images(folder / "images"), embedder, folder / name, ExtractOptions(shard_size=2, dtype="float32"))
    return DescriptorStore.open(folder / name)


def test_the_store_holds_descriptors_of_translated_images(folder: Path) -> None:
    translated = store(folder, "translated", str(folder / "night2day.onnx"))
    plain = Embedder.load(folder / "embedder.onnx", Placement(threads=1))
    by_hand = plain([255 - decode_image(item.path) for item in find_images(folder / "images")])
    np.testing.assert_allclose(translated.load(), by_hand, atol=1e-6)
    assert translated.manifest["job"]["options"]["translate"]["name"] == "tiny"


def test_identities_and_who_may_meet_whom(folder: Path) -> None:
    plain = store(folder, "plain", None)
    translated = store(folder, "translated", str(folder / "night2day.onnx"))
    other = store(folder, "other", "lab-inversion")
    assert len({item.space for item in (plain, translated, other)}) == 3
    assert len({item.fingerprint for item in (plain, translated, other)}) == 3
    assert plain.space == Embedder.load(folder / "embedder.onnx").session.card.space()
    assert "translate" not in plain.manifest["job"]["options"]
    expect_searchable(plain.space, translated, "queries")
    expect_searchable(translated.space, translated, "queries")
    for map_store, queries in ((translated, plain), (other, translated)):
        with pytest.raises(IncompatibleError):
            expect_searchable(map_store.space, queries, "queries")
    with pytest.raises(IncompatibleError, match="space, fingerprint"):
        store(folder, "plain", "lab-inversion")


def test_the_command_translates_queries_and_finds_them_in_the_map(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", str(folder / "images"), "--model", str(folder / "embedder.onnx"), "--shard-size", "2"]
    assert main([*words, "-o", str(folder / "map")]) == 0
    assert main([*words, "-o", str(folder / "query"), "--translate", str(folder / "night2day.onnx")]) == 0
    assert "translated by tiny" in capsys.readouterr().out
    pairs = ["pairs", "--query", str(folder / "query"), "--map", str(folder / "map"), "-k", "1"]
    assert main([*pairs, "-o", str(folder / "pairs.txt")]) == 0
    assert main(["index", str(folder / "map"), "-o", str(folder / "index")]) == 0
    assert main(["search", str(folder / "index"), "--store", str(folder / "query"), "-k", "1"]) == 0
    swapped = ["pairs", "--query", str(folder / "map"), "--map", str(folder / "query"), "-k", "1"]
    assert main([*swapped, "-o", str(folder / "swapped.txt")]) == 2
    assert main([*words, "-o", str(folder / "x"), "--translate", "lab_inversion"]) == 2
    assert "did you mean" in capsys.readouterr().err
