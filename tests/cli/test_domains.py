"""The commands that name a domain, and their bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.runtime.descriptors.store import DescriptorStore
from tests.tiny_appearance import write_tiny_encoder, write_tiny_filtered
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_domains, write_tiny_translator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{number}.png")
    write_tiny_domains(tmp_path / "many.onnx")
    write_tiny_domains(tmp_path / "quiet.onnx", noisy=False)
    write_tiny_translator(tmp_path / "one.onnx")
    write_tiny_embedder(tmp_path / "embedder.onnx")
    return tmp_path


def translated(folder: Path, name: str, *words: str) -> list[np.ndarray]:
    command = ["translate", str(folder / "in"), "-o", str(folder / name), "--model", str(folder / "many.onnx")]
    assert main([*command, *words]) == 0
    return [np.asarray(Image.open(path)) for path in sorted((folder / name / "images").glob("*.png"))]


def test_translate_to_a_domain_and_with_noise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snow, night = translated(folder, "snow", "--to", "snow"), translated(folder, "night")
    assert "translated by tiny to snow" in capsys.readouterr().out
    assert all((bright > dark).mean() > 0.9 for bright, dark in zip(snow, night, strict=True))
    same = translated(folder, "same", "--to", "night", "--noise", "zeros")
    assert all(np.array_equal(one, other) for one, other in zip(same, night, strict=True))
    drawn = translated(folder, "drawn", "--noise", "5")
    assert not any(np.array_equal(one, other) for one, other in zip(drawn, night, strict=True))
    (folder / "in" / "0.png").rename(folder / "in" / "z.png")  # another name, another place in the list
    again = translated(folder, "again", "--noise", "5", "--decode-threads", "1")
    assert np.array_equal(again[-1], drawn[0])
    assert np.array_equal(again[0], drawn[1])


def test_a_folder_of_one_domain_is_not_gone_on_with_in_another(folder: Path) -> None:
    translated(folder, "out", "--to", "snow")
    many = ["--model", str(folder / "many.onnx")]
    assert main(["translate", str(folder / "in"), "-o", str(folder / "out"), *many, "--to", "day"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model many.onnx --to rain", "tiny: unknown domain 'rain'; its domains are day, night, snow"),
        ("--model one.onnx --to night", "tiny: unknown domain 'night'; it translates into one alone"),
        ("--model gamma --to night", "gamma: a formula has no domains"),
        ("--model quiet.onnx --noise 3", "tiny: takes no noise"),
        ("--model many.onnx --noise some", "'some' is no seed"),
    ],
)
def test_bad_words_for_translate(folder: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(folder / word) if word.endswith(".onnx") else word for word in words.split()]
    try:
        code = main(["translate", str(folder / "in"), "-o", str(folder / "out"), *given])
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_extract_translates_to_a_domain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["extract", str(folder / "in"), "--model", str(folder / "embedder.onnx"), "--json"]
    front = ["--translate", str(folder / "many.onnx")]
    spaces = {}
    for name, more in {"plain": [], "night": front, "snow": [*front, "--to", "snow"]}.items():
        assert main([*words, "-o", str(folder / name), *more]) == 0
        spaces[name] = json.loads(capsys.readouterr().out)["space"]
    assert len(set(spaces.values())) == 3
    assert main([*words, "-o", str(folder / "x"), *front, "--to", "rain"]) == 2
    assert main([*words, "-o", str(folder / "x"), "--to", "snow"]) == 2
    assert "add --translate MODEL" in capsys.readouterr().err


def test_what_extract_translates_by_an_example_or_with_noise_is_what_translate_makes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_filtered(folder / "filtered.onnx")
    write_tiny_encoder(folder / "encoder.onnx")
    Image.new("RGB", (64, 48), (20, 20, 20)).save(folder / "dark.png")
    model = ["--model", str(folder / "embedder.onnx"), "--dtype", "float32"]
    ways = {
        "noise": ("many.onnx", ["--noise", "5"]),
        "other": ("many.onnx", ["--noise", "6"]),
        "like": ("filtered.onnx", ["--like", str(folder / "dark.png"), "--appearance", str(folder / "encoder.onnx")]),
    }
    spaces = set()
    for name, (front, more) in ways.items():
        words = [*more, "--max-side", "0"]
        made = ["translate", str(folder / "in"), "-o", str(folder / "made" / name), "--model", str(folder / front)]
        assert main([*made, *words]) == 0
        here = folder / "made" / name
        assert main(["extract", str(here / "images"), "-o", str(here / "store"), *model, "--max-side", "0"]) == 0
        whole = ["extract", str(folder / "in"), "-o", str(folder / name), *model, "--translate", str(folder / front)]
        assert main([*whole, *words]) == 0
        stores = [DescriptorStore.open(place) for place in (folder / name, here / "store")]
        assert np.abs(stores[0].load() - stores[1].load()).max() < 1e-6
        spaces.add(stores[0].space)
    assert len(spaces) == 3
    capsys.readouterr()
    for more in (["--noise", "5"], ways["like"][1][:2], ways["like"][1][2:]):
        assert main(["extract", str(folder / "in"), "-o", str(folder / "x"), *model, *more]) == 2
        assert f"{more[0]} is of a translator; add --translate MODEL" in capsys.readouterr().err


def test_a_fused_file_has_the_domain_inside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(folder / "embedder.onnx"), "--translate", str(folder / "many.onnx")]
    assert main([*words, "-o", str(folder / "fused.onnx"), "--domain", "snow"]) == 0
    assert "images translated by tiny to snow" in capsys.readouterr().out
    assert main([*words, "-o", str(folder / "other.onnx"), "--domain", "rain"]) == 2
    assert "its domains are day, night, snow" in capsys.readouterr().err


def test_translate_like_an_example(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_filtered(folder / "filtered.onnx")
    write_tiny_encoder(folder / "encoder.onnx")
    write_tiny_encoder(folder / "other.onnx", weights="other")
    for level in (20, 240):
        Image.new("RGB", (64, 48), (level,) * 3).save(folder / f"{level}.png")
    words = ["translate", str(folder / "in"), "--model", str(folder / "filtered.onnx")]
    encoder = ["--appearance", str(folder / "encoder.onnx")]
    source = np.asarray(Image.open(folder / "in" / "0.png"), np.float64)
    for name, levels in {"dark": [20], "bright": [240], "mean": [20, 240]}.items():
        examples = [word for level in levels for word in ("--like", str(folder / f"{level}.png"))]
        assert main([*words, *encoder, *examples, "-o", str(folder / name)]) == 0
        made = np.asarray(Image.open(folder / name / "images" / "0.png"), np.float64)
        assert np.abs(made - (source + np.mean(levels)) / 2).max() <= 1
    assert main([*words, "--to", "day", "-o", str(folder / "day")]) == 0
    capsys.readouterr()
    dark = ["--like", str(folder / "20.png")]
    for said, more in {
        "--like IMAGE and --appearance MODEL go together": dark,
        "give one of the two": [*dark, *encoder, "--to", "day"],
        "is of other weights than the translator": [*dark, "--appearance", str(folder / "other.onnx")],
        "absent.png": ["--like", str(folder / "absent.png"), *encoder],
    }.items():
        assert main([*words, *more, "-o", str(folder / "x")]) == 2
        assert said in capsys.readouterr().err
    plain = ["translate", str(folder / "in"), "-o", str(folder / "x"), *dark, *encoder]
    assert main([*plain, "--model", str(folder / "many.onnx")]) == 2
    assert "takes no filter" in capsys.readouterr().err
    assert main([*plain, "--model", "gamma"]) == 2
    assert "takes no noise and no example" in capsys.readouterr().err
    assert not (folder / "x").exists()
