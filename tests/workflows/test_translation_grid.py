"""Pictures of translators between many domains: what stands in which cell, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.data.sheets import GAP, HEADING, LEFT
from gloam.errors import UsageError
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.translators import create_generator
from gloam.runtime.models.translator import load_translator
from gloam.training.embedders.nights import open_night_maker
from gloam.workflows.translation_grid import GridRequest, draw_grid
from tests.eval.translation.test_domains import street
from tests.tiny_appearance import write_tiny_encoder, write_tiny_filtered
from tests.tiny_translators import DOMAINS, write_tiny_domains, write_tiny_translator

SIZE = (64, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("grid")
    for domain in DOMAINS:
        (root / "images" / domain).mkdir(parents=True)
        for place in range(3):
            Image.fromarray(street(place, domain)).save(root / "images" / domain / f"{place}.png")
    rows = [f"day/{place}.png,day,{other}/{place}.png,{other},test" for place in range(3) for other in DOMAINS[1:]]
    (root / "images" / "pairs.csv").write_text("path_a,domain_a,path_b,domain_b,part\n" + "\n".join(rows) + "\n")
    write_tiny_domains(root / "m.onnx")
    write_tiny_translator(root / "one.onnx")
    torch.manual_seed(0)
    model = create_generator("weakly_paired", domains=list(DOMAINS), width=2, base=[1, 2], latent=3)
    save_checkpoint(root / "run" / "translator.safetensors", model, {})
    return root


def cell(path: Path, row: int, column: int) -> np.ndarray[Any, Any]:
    picture = np.asarray(Image.open(path))
    top, left = HEADING + row * (SIZE[1] + GAP), LEFT + column * (SIZE[0] + GAP)
    return picture[top : top + SIZE[1], left : left + SIZE[0]]


def test_sources_by_domains_with_masks_beneath(folder: Path, tmp_path: Path) -> None:
    out, day = tmp_path / "g.png", folder / "images" / "day"
    grid = draw_grid(GridRequest(day, str(folder / "run"), out, rows=2, size=SIZE))
    assert (grid.columns, grid.rows, grid.masks) == (("source", *DOMAINS), ("0", "2"), True)
    first = decode_image(day / "0.png", stretch=SIZE)
    assert np.array_equal(cell(out, 0, 0), first)
    assert (cell(out, 1, 0) == 255).all()  # a source has no mask
    for column, domain in enumerate(DOMAINS, 1):
        maker = open_night_maker(folder / "run", domain=domain)
        assert np.abs(cell(out, 0, column).astype(int) - maker([first])[0]).max() <= 1
        mask = maker.masks([first])[0]  # type: ignore[attr-defined]  # of a network
        assert 0 < mask.min() <= mask.max() < 1
        assert np.abs(cell(out, 1, column) - (mask * 255)[..., None]).max() <= 1
    one = draw_grid(GridRequest(day, str(folder / "run"), out, domain="snow", rows=1, size=SIZE))
    assert one.columns == ("source", "snow")


def test_a_mask_says_what_of_the_source_stays(folder: Path) -> None:
    image = street(0, "day")[:64, :64]
    maker: Any = open_night_maker(folder / "run")
    with torch.no_grad():
        maker.model.head_mask.bias.fill_(40.0)
    assert np.array_equal(maker.masks([image])[0], np.ones((64, 64), np.float32))
    assert np.abs(maker([image])[0].astype(int) - image).max() <= 1


def test_methods_beside_the_weakly_paired_image(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "g.png"
    words = ["translate", str(folder / "images" / "pairs.csv"), "--grid", "--model", str(folder / "m.onnx")]
    more = ["--beside", f"net={folder / 'run'}", "--beside", "dark=gamma", "--cell", "64x32", "-o", str(out)]
    assert main([*words, *more, "--to", "snow", "--rows", "3"]) == 0
    for row in range(3):
        day, snow = (
            decode_image(folder / "images" / domain / f"{row}.png", stretch=SIZE) for domain in ("day", "snow")
        )
        makers = [open_night_maker(folder / name, domain="snow") for name in ("m.onnx", "run")]
        makers.append(open_night_maker("gamma"))
        shown = [day, *(maker([day])[0] for maker in makers), snow]
        for column, image in enumerate(shown):
            assert np.abs(cell(out, row, column).astype(int) - image).max() <= 1, (row, column)
    assert main([*words, *more]) == 0
    assert Image.open(out).height == HEADING + len(DOMAINS) * (SIZE[1] + GAP)


def test_sources_by_examples_which_stand_above(folder: Path, tmp_path: Path) -> None:
    model, encoder, out = tmp_path / "m.onnx", tmp_path / "e.onnx", tmp_path / "g.png"
    write_tiny_filtered(model)
    write_tiny_encoder(encoder)
    examples = [folder / "images" / domain / "1.png" for domain in ("night", "snow")]
    words = ["translate", str(folder / "images" / "day"), "--grid", "--model", str(model), "--appearance", str(encoder)]
    likes = [word for file in examples for word in ("--like", str(file))]
    assert main([*words, *likes, "--rows", "2", "--cell", "64x32", "-o", str(out)]) == 0
    assert (cell(out, 0, 0) == 255).all()
    sources = [decode_image(folder / "images" / "day" / f"{place}.png", stretch=SIZE) for place in (0, 2)]
    for column, file in enumerate(examples, 1):
        assert np.array_equal(cell(out, 0, column), decode_image(file, stretch=SIZE))
        maker = load_translator(model, like=[file], encoder=encoder)
        for row, made in enumerate(maker(sources), 1):
            assert np.array_equal(cell(out, row, 0), sources[row - 1])
            assert np.array_equal(cell(out, row, column), made)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("day --grid --model one.onnx -o g.png", "one.onnx: translates into one domain alone"),
        ("day --grid --model gamma -o g.png", "gamma: translates into one domain alone"),
        ("day --grid --model m.onnx --to rain -o g.png", "knows no domain 'rain'; its domains are day, night, snow"),
        ("day --grid --model m.onnx -o g", "g: a grid of pictures is written as .png"),
        ("day --grid --model m.onnx -o g.png --rows 0", "0 rows of pictures"),
        ("day --grid --model m.onnx -o g.png --tar", "--tar is of a folder of pictures"),
        ("day --model m.onnx -o g --rows 2", "--rows is of a picture of many; add --grid"),
        ("day --grid --model m.onnx --like x.png -o g.png", "--like IMAGE and --appearance MODEL go together"),
        ("day --grid --model m.onnx --appearance e.png -o g.png", "--like IMAGE and --appearance MODEL go together"),
        ("pairs.csv --grid --model m.onnx --like x.png -o g.png", "a model by example is shown on images"),
        ("pairs.csv --grid --model m.onnx --beside model=gamma -o g.png", "two methods are called 'model'"),
    ],
)
def test_bad_input_is_one_line(folder: Path, words: str, said: str, tmp_path: Path, capsys) -> None:
    source, *others = words.split()
    others[others.index("-o") + 1] = str(tmp_path / others[others.index("-o") + 1])
    others = [str(folder / word) if word.endswith(".onnx") else word for word in others]
    assert main(["translate", str(folder / "images" / source), *others]) == 2
    assert said in capsys.readouterr().err


def test_a_device_of_engines_draws_no_grid(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="drawn on cpu or cuda"):
        GridRequest(folder, "m.onnx", tmp_path / "g.png", device="tensorrt")  # type: ignore[arg-type]
