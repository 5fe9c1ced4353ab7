"""Figure 3 of mduit again: every column beside sources and examples, or its reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.data.sheets import GAP, HEADING, LEFT, fitted_picture
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.weak_pairs.pair_file import Listed, read_pair_file, write_pair_file
from gloam.errors import DataError
from gloam.files import sha256_file
from gloam.networks.checkpoints import load_generator, save_checkpoint
from gloam.networks.translators import create_generator
from gloam.workflows.reports.mduit import reproduce_mduit
from gloam.workflows.reproduce.localization.content import ContentRun
from gloam.workflows.reproduce.mduit.figure3 import choose_examples, reproduce_figure_3
from gloam.workflows.reproduce.mduit.request import PAIRS
from tests.tiny_appearance import write_tiny_filtered
from tests.tiny_translators import DOMAINS, write_tiny_translator
from tests.workflows.reproduce.mduit.pairs import data, request

__all__ = ["data"]
TINY = {"width": 4, "blocks": 1, "stages": [[4, 1], [4, 1], [8, 1]]}
DRIVES = DrivesConfig(
    domains=("overcast", "night", "snow"), train=(5,), val=(6,), test=(7,), length=30, spacing=10, width=128, height=96
)
SAID: list[str] = []


def write_tiny_mduit(path: Path, seed: int = 0) -> Path:
    """Random weights, whose pictures depend on the example."""
    torch.manual_seed(seed)
    model = create_generator("mduit", **TINY)
    with torch.no_grad():
        model.appearance.linear.weight.mul_(20)
    save_checkpoint(path, model, {"recipe": "mduit", "data": "none", "licence": "none"})
    return path


@pytest.fixture
def figure_of_three(data: Path, tmp_path: Path):
    """MDUIT by its example, AdaIN by the domain's name, MUNIT of one direction."""
    write_tiny_filtered(tmp_path / "a.onnx")
    write_tiny_translator(tmp_path / "m.onnx")
    weights = {
        "MDUIT": write_tiny_mduit(tmp_path / "m.safetensors"),
        "AdaIN": tmp_path / "a.onnx",
        "MUNIT": tmp_path / "m.onnx",
    }
    # AdaIN's stand-in keeps day and night alone: seen from snow all three can be shown but snow.
    return reproduce_figure_3(request("figure3", data, tmp_path, weights=weights, references=("snow",)))


def cell(sheet: np.ndarray, row: int, column: int, size: tuple[int, int]) -> np.ndarray:
    """A picture of a sheet."""
    top, left = HEADING + row * (size[1] + GAP), LEFT + column * (size[0] + GAP)
    return sheet[top : top + size[1], left : left + size[0]]


@pytest.mark.slow
def test_columns_are_what_each_method_makes_of_source_and_example(figure_of_three, data: Path, tmp_path: Path) -> None:
    figure = figure_of_three
    assert list(figure.made_by) == ["AdaIN", "MUNIT", "MDUIT"]
    assert [example.domain for example in figure.examples] == ["day", "night"]
    sheet = np.asarray(Image.open(tmp_path / "out" / "figure3.png"))
    images = {one.item.name: one.item.path for one in read_pair_file(data / PAIRS, "test").images}
    native = load_generator(tmp_path / "m.safetensors").model.eval()
    for row, one in enumerate(figure.examples):
        source, example = decode_image(images[one.source]), decode_image(images[one.example])
        size = (256, round(256 * source.shape[0] / source.shape[1]))
        shown = [cell(sheet, row, column, size).astype(int) for column in range(5)]
        np.testing.assert_array_equal(shown[0], fitted_picture(source, size))
        np.testing.assert_array_equal(shown[1], fitted_picture(example, size))
        np.testing.assert_allclose(shown[3], fitted_picture(255 - source, size), atol=1)
        with torch.inference_mode():
            x, like = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 127.5 - 1 for p in (source, example))
            wanted = (native.dressed(x, native.worn(like))[0].permute(1, 2, 0) + 1) * 127.5
        np.testing.assert_allclose(shown[4], fitted_picture(wanted.round().to(torch.uint8).numpy(), size), atol=1)


@pytest.mark.slow
def test_what_it_is_made_by_is_stated_and_the_absent_have_reasons(figure_of_three, tmp_path: Path) -> None:
    found = json.loads((tmp_path / "out" / "figure3.json").read_text())
    assert found["columns"] == ["AdaIN", "MUNIT", "MDUIT"]
    made = found["made_by"]
    assert made["MDUIT"]["weights"][0]["sha256"] == sha256_file(tmp_path / "m.safetensors")
    assert (made["MDUIT"]["network"], made["MDUIT"]["recipe"], made["MDUIT"]["goes by"]) == (
        "mduit",
        "mduit",
        "the example",
    )
    assert made["AdaIN"]["goes by"] == "the name of the example's domain"
    assert made["MUNIT"]["goes by"].startswith("nothing")
    assert {row["domain"]: row["paired"] for row in found["rows"]} == {"day": True, "night": False}
    assert [item["path"].split("/")[-2] for item in found["missing"]] == ["mduit_no_nce"]
    notes = {note.split(":")[0]: note for note in found["notes"]}
    assert "CC BY-NC-SA 4.0" in notes["PhotoWCT"]
    assert "no code" in notes["CD-GAN"]
    assert "MUNIT" not in notes
    text = figure_of_three.to_text()
    assert sha256_file(tmp_path / "a.onnx")[:12] in text
    assert str(tmp_path / "out" / "figure3.png") in text


def test_the_command_writes_a_page_and_a_method_that_fails_is_a_note(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_translator(tmp_path / "m.onnx")
    write_tiny_filtered(tmp_path / "a.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    given = {"MUNIT": "m.onnx", "AdaIN": "a.onnx", "MDUIT": "bad.onnx", "MDUIT w/o L_NCE": "none"}
    weights = [word for row, file in given.items() for word in ("--weights", f"{row}={tmp_path / file}")]
    words = ["reproduce", "mduit", "figure3", "--data", str(data), "-o", str(tmp_path / "out"), "--references", "day"]
    assert main([*words, *weights, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["columns"] == ["MUNIT"]
    assert [row["domain"] for row in found["rows"]] == ["night", "snow"]
    notes = {note.split(":")[0]: note for note in found["notes"]}
    assert "bad.onnx" in notes["MDUIT"]
    assert "no such file" in notes["MDUIT w/o L_NCE"]
    assert "snow" in notes["AdaIN"]  # which it keeps no filter of
    page = (tmp_path / "out" / "figure3.html").read_text()
    assert sha256_file(tmp_path / "m.onnx")[:12] in page
    assert "PhotoWCT" in page
    assert found["page"] == str(tmp_path / "out" / "figure3.html")
    assert json.loads((tmp_path / "out" / "figure3.json").read_text()) == found
    assert main([*words, "--rows", "CD-GAN"]) == 1
    assert "CD-GAN: no code of it was found" in capsys.readouterr().out


def test_every_other_domain_has_a_source_of_its_own_and_its_partner(data: Path) -> None:
    images = read_pair_file(data / PAIRS, "test")
    position = {one.item.name: one.position for one in images.images}
    for reference in DOMAINS:
        for seed in range(6):
            chosen = choose_examples(images, reference, seed)
            assert [domain for domain, *_ in chosen] == [name for name in DOMAINS if name != reference]
            assert len({source.item.name for _, source, _, _ in chosen}) == 2
            for domain, source, example, paired in chosen:
                assert (images.domains[source.label], images.domains[example.label]) == (reference, domain)
                assert paired == ("day" in (reference, domain))  # night and snow are in no pair
                if paired:
                    assert position[source.item.name][0] == position[example.item.name][0]
            assert choose_examples(images, reference, seed) == chosen
    assert len({str(choose_examples(images, "day", seed)) for seed in range(6)}) > 1


def test_a_reference_without_images_for_the_test_is_refused(data: Path, tmp_path: Path) -> None:
    places = [tmp_path / "images" / domain / f"{place}.png" for domain in DOMAINS for place in (0, 1)]
    parts = ["train", "train", "train", "test", "train", "test"]
    listed = Listed(
        {name: {} for name in DOMAINS}, places, [0, 0, 1, 1, 2, 2], parts, [(0.0, 0.0, 0.0)] * 6, [(3, 5, 1.0, 0.0)]
    )
    write_pair_file(data / PAIRS, listed)
    with pytest.raises(DataError, match="its part test has no images of day"):
        reproduce_figure_3(request("figure3", data, tmp_path))


@pytest.mark.slow
def test_the_town_shows_what_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def products(run: ContentRun, recipe: str, row: str) -> dict[str, Path]:
        asked.append(recipe)
        run.folder.mkdir(parents=True, exist_ok=True)
        return {"translator": write_tiny_mduit(run.folder / f"{recipe}.safetensors", len(recipe))}

    monkeypatch.setattr(ContentRun, "products", products)
    figure = reproduce_mduit(request("figure3", tmp_path, tmp_path, references=()), 1.0, SAID.append, DRIVES)
    assert asked == ["adain", "mduit_no_nce", "mduit"]
    assert list(figure.made_by) == ["AdaIN", "MDUIT w/o L_NCE", "MDUIT"]
    assert figure.reference == "overcast"
    assert [row.domain for row in figure.examples] == ["night", "snow"]
    assert not figure.missing
    assert figure.page is not None
    assert figure.page.is_file()
