"""What mduit's figures take and refuse, and how a recipe's weights are found or trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from gloam.cli.main import main
from gloam.errors import ModelError, UsageError
from gloam.training.translators.config import read_translator_recipe
from gloam.workflows.reproduce.mduit import runs as module
from gloam.workflows.reproduce.mduit.request import COLUMNS, PAIRS, ROWS, TRANSLATORS, MduitRequest
from gloam.workflows.reproduce.mduit.runs import FROZEN, MduitRuns
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.rows import CONTENT
from tests.tiny_translators import DOMAINS

SAID: list[str] = []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("figure5", "mduit: no table 'figure5' to reproduce; choose one of 1, figure3, figure4"),
        ("figure3 --rows Full", "no row 'Full'; choose one of AdaIN, MUNIT, PhotoWCT, CD-GAN, MDUIT w/o L_NCE, MDUIT"),
        ("figure4 --weights MDUIT=x", "no row 'MDUIT'; choose one of NetVLAD"),
        ("figure3 --weights PhotoWCT=x", "no weights of PhotoWCT can be run"),
        ("figure3 --weights AdaIN", "give ROW=FILE"),
        ("figure3 --references sun rain", "--references takes one domain, not sun, rain"),
        ("figure4 --device tensorrt", "runs on cpu or cuda"),
        ("figure3 --limit 3", "--limit is not of mduit figure3; leave it out"),
        ("figure4 --top-k 3", "--top-k is not of mduit figure4; leave it out"),
        ("figure4 --minutes 3", "--minutes is of the miniature; add --town, or give --budget"),
        ("figure3 --seeds 3", "--seeds and --again are of tables of retrieval"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "mduit", *words.split(), "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ["figure3", "figure4"])
def test_without_pairs_they_are_named(tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "mduit", table, "--data", str(tmp_path), "-o", str(tmp_path / "out")]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert f"{tmp_path / PAIRS}\n" in said
    assert "its text alone is known" in said


def test_rows_are_those_of_the_table_and_of_the_recipes(tmp_path: Path) -> None:
    assert ROWS["figure4"] == tuple(published("mduit", "1").rows)
    assert set(TRANSLATORS) < set(COLUMNS)
    asked = MduitRequest("figure3", tmp_path, tmp_path, rows=("MDUIT", "AdaIN")).asked
    assert asked == ["AdaIN", "MDUIT"]
    assert MduitRequest("figure4", tmp_path, tmp_path).reference(("overcast-reference", "night"), False)
    with pytest.raises(
        UsageError, match="no reference 'overcast' among the pairs; give --references one of day, night"
    ):
        MduitRequest("figure4", tmp_path, tmp_path).reference(("day", "night"), True)
    with pytest.raises(UsageError, match="no domain but day"):
        MduitRequest("figure4", tmp_path, tmp_path, references=["day"]).reference(("day",), True)


def test_weights_are_given_or_trained_before_or_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = tmp_path / "data" / "experiments" / "mduit" / "translator.safetensors"
    runs = MduitRuns(MduitRequest("figure3", tmp_path / "data", tmp_path / "out"), DOMAINS, SAID.append)
    weights, (missing,) = runs.find("MDUIT", "mduit", "translator")
    assert weights is None
    assert (missing.path, missing.where) == (trained, "--train trains recipe mduit; or give --weights 'MDUIT=FILE'")
    trained.parent.mkdir(parents=True)
    trained.write_bytes(b"")
    weights, absent = runs.find("MDUIT", "mduit", "translator")
    assert weights is not None
    assert (weights.files, absent) == ([trained], [])
    assert weights.origin.startswith("trained by recipe mduit")
    given = {"MDUIT": tmp_path / "data", "AdaIN": trained.parent}
    runs = MduitRuns(MduitRequest("figure3", tmp_path, tmp_path, weights=given), DOMAINS, SAID.append)
    with pytest.raises(ModelError, match=r"or a folder without translator\.safetensors"):
        runs.find("MDUIT", "mduit", "translator")
    weights, _ = runs.find("AdaIN", "adain", "translator")
    assert weights is not None
    assert (weights.files, weights.origin) == ([trained], "given with --weights")

    asked: dict[str, dict] = {}

    def train(kind, recipe, changes, folder, say):
        asked[recipe] = changes
        return SimpleNamespace(weights={name: Path(folder) / name for name in ("translator", "embedder")})

    monkeypatch.setattr(module, "train", train)
    runs = MduitRuns(MduitRequest("figure3", tmp_path / "data", tmp_path, train=True), DOMAINS, SAID.append)
    recipes = {*TRANSLATORS.values(), *CONTENT.values()}
    for recipe in recipes:
        product = "translator" if recipe in TRANSLATORS.values() else "embedder"
        if recipe in FROZEN:
            (missing,) = runs.find("row", recipe, product)[1]
            assert missing.path.name == FROZEN[recipe][2]
            missing.path.parent.mkdir(exist_ok=True)
            missing.path.write_bytes(b"")
        weights, absent = runs.find("row", recipe, product)
        assert weights is not None
        assert weights.files == [tmp_path / "data" / "experiments" / recipe / product]
        assert not absent
        if recipe in FROZEN:
            missing.path.unlink()
    assert set(asked) == recipes
    for recipe, changes in asked.items():
        config = read_translator_recipe(recipe, changes)
        assert config.options.domains == DOMAINS
        assert config.data.day == str(tmp_path / "data" / PAIRS)
