"""Mistyped verbs and options name the nearest; a bare verb shows its help; every message names the whole verb."""

from __future__ import annotations

import argparse
import json

import pytest

from gloam.cli.main import main
from gloam.cli.shared.parser import Mistake, Parser


def refused(capsys: pytest.CaptureFixture[str], words: str) -> tuple[str, str, str]:
    """What stands before the last line of stderr, that line, and stdout."""
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    captured = capsys.readouterr()
    *before, last = captured.err.splitlines()
    return "\n".join(before), last, captured.out


@pytest.mark.parametrize(
    ("words", "verb", "meant"),
    [
        ("exstract photos", "gloam", "extract"),
        ("localise", "gloam", "localize"),
        ("indx store", "gloam", "index"),
        ("eval retreival", "gloam eval", "retrieval"),
        ("train metrics -o run", "gloam train", "metric"),
        ("dataset chek set.json", "gloam dataset", "check"),
        ("extract photos --modle m.onnx -o out", "gloam extract", "--model"),
        ("extract photos --model m.onnx -o out --max_side 3", "gloam extract", "--max-side"),
        ("extract photos --model m.onnx --outptu out", "gloam extract", "--output"),
        ("eval retrieval --query a --map b --protocol revisitd", "gloam eval retrieval", "revisited"),
        ("eval retrieval --query a --map b --ground-trut=x --raport r", "gloam eval retrieval", "--report"),
        ("--verison", "gloam", "--version"),
    ],
)
def test_the_nearest_is_named(capsys: pytest.CaptureFixture[str], words: str, verb: str, meant: str) -> None:
    _, line, _ = refused(capsys, words)
    assert line.startswith(f"{verb}: error: ")
    assert line.endswith(f"; did you mean {meant!r}?")


@pytest.mark.parametrize(
    "words", ["fly", "extract images -o out --model m --batch-size 0", "train edges --set a=b -o r"]
)
def test_what_is_near_nothing_is_only_refused(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert "did you mean" not in refused(capsys, words)[1]


@pytest.mark.parametrize(("words", "parts"), [("", ("extract", "exit codes:")), ("train", ("translator", "whitening"))])
def test_a_bare_verb_shows_its_help(capsys: pytest.CaptureFixture[str], words: str, parts: tuple[str, str]) -> None:
    before, line, out = refused(capsys, words)
    assert all(part in before for part in parts)
    assert "the following arguments are required" in line
    assert out == ""


def test_an_unknown_option_shows_the_usage_of_its_own_verb(capsys: pytest.CaptureFixture[str]) -> None:
    before, line, _ = refused(capsys, "eval retrieval --query a --map b --fast")
    assert before.startswith("usage: gloam eval retrieval ")
    assert line == "gloam eval retrieval: error: unrecognized arguments: --fast"


def test_a_mistake_is_json_for_whoever_asked_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    _, line, out = refused(capsys, "exstract photos --json")
    assert json.loads(out) == {"command": "gloam", "error": line, "exit_code": 2}


def test_mistakes_end_a_program_as_those_of_argparse_do() -> None:
    parser = Parser(prog="p")
    parser.add_argument("--number", type=int)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--number", "x"])
    assert isinstance(ended.value, Mistake)
    assert ended.value.line == "p: error: argument --number: invalid int value: 'x'"


@pytest.mark.parametrize(
    ("message", "option"),
    [
        ("max_minutes -1.0: must be positive", " (--max-minutes)"),
        ("distance 0: must be a number above 0", " (--pair-distance)"),
        ("size 4x4: 32 to 4096 pixels a side", " (--size)"),
        ("size '4x4': choose", " (--size)"),
        ("distance 3: must be", ""),
        ("--max-minutes -1.0: must be positive", ""),
        ("recipe town: unknown key", ""),
        ("town.yaml: unknown key", ""),
    ],
)
def test_a_value_that_is_named_names_its_option(message: str, option: str) -> None:
    parser = Parser(prog="p")
    parser.add_argument("--max-minutes", type=float)
    parser.add_argument("--pair-distance", type=float)
    parser.add_argument("--size")
    parser.add_argument("--recipe")
    given = argparse.Namespace(max_minutes=-1.0, pair_distance=0.0, size="4x4", recipe="town")
    assert parser.option_of(given, message) == option
