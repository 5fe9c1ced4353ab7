"""Every verb explains itself, errors are one line with exit code 2, and help needs no heavy package."""

from __future__ import annotations

import argparse
import io
import json
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from gloam.cli import main as cli
from gloam.cli.shared.report import Report
from gloam.errors import GloamError
from gloam.heartbeat import to_stderr


def leaves(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [leaf for name, child in action.choices.items() for leaf in leaves(child, (*path, name))]
    return [path]


@pytest.mark.parametrize("path", leaves(cli.build_parser()), ids=" ".join)
def test_help_of_every_verb(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*path, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "--json" in printed
    assert "--debug" in printed


def test_import_and_help_load_nothing_heavy() -> None:
    """``import gloam`` loads the standard library alone, and no help of any verb a package that takes time."""
    code = """
import contextlib, io, json, sys
before = {name.partition(".")[0] for name in sys.modules}  # an editable install's finder
import gloam
alone = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names - {"gloam"}
from gloam.cli.main import main
refused = []
with contextlib.redirect_stdout(io.StringIO()):
    for path in json.loads(sys.argv[1]):
        try:
            main([*path, "--help"])
        except SystemExit as end:
            refused += [path] if end.code else []
heavy = ["numpy", "torch", "cv2", "onnxruntime", "faiss", "kapture", "pycolmap", "onnx", "openvino", "matplotlib"]
print(json.dumps([sorted(alone), refused, [name for name in heavy if name in sys.modules]]))
"""
    paths = [(), *((verb,) for verb in cli.VERBS), *leaves(cli.build_parser())]
    done = subprocess.run([sys.executable, "-c", code, json.dumps(paths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], [], []]


def test_an_error_is_one_line_and_debug_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace) -> Report:
        raise GloamError("the lamp is out; light it")

    monkeypatch.setattr("gloam.cli.doctor.run", fail)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "gloam doctor: the lamp is out; light it\n"
    assert cli.main(["doctor", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_json_is_the_last_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gloam.cli.doctor.run", lambda arguments: Report({"b": 1}, "text", exit_code=1))
    assert cli.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"b": 1}


@pytest.mark.parametrize(
    ("ends", "code", "error"),
    [
        (GloamError("the lamp is out; light it"), 2, "the lamp is out; light it"),
        (FileNotFoundError(2, "No such file", "lamp"), 2, "lamp: No such file; check the path"),
        (ImportError("No module named 'faiss'", name="faiss"), 2, "pip install 'gloam[cpu]'"),
        (KeyboardInterrupt(), 130, "interrupted; such a run keeps nothing"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_json_object_where_json_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ends: BaseException, code: int, error: str
) -> None:
    def fail(arguments: argparse.Namespace) -> Report:
        raise ends

    monkeypatch.setattr("gloam.cli.eval.retrieval.run", fail)
    words = ["eval", "retrieval", "--query", "a", "--map", "b"]
    assert cli.main([*words, "--json"]) == code
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert set(told) == {"command", "error", "exit_code"}
    assert (told["command"], told["exit_code"]) == ("gloam eval retrieval", code)
    assert error in told["error"]
    assert captured.err == f"gloam eval retrieval: {told['error']}\n"
    assert cli.main(words) == code
    assert capsys.readouterr().out == ""


def test_a_fault_of_gloam_is_told_to_programs_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("gloam.cli.doctor.run", lambda arguments: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor", "--json", "--log-file", str(tmp_path / "a.log")])
    assert json.loads(capsys.readouterr().out)["error"].startswith("a fault of gloam: ZeroDivisionError")
    assert " gloam doctor: a fault of gloam: ZeroDivisionError" in (tmp_path / "a.log").read_text().splitlines()[-1]


def test_quiet_says_the_report_and_errors_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(arguments: argparse.Namespace) -> Report:
        to_stderr("halfway")
        if arguments.debug:
            raise GloamError("out")
        return Report({}, "the report")

    monkeypatch.setattr("gloam.cli.doctor.run", run)
    log = tmp_path / "a.log"
    assert cli.main(["doctor", "--quiet", "--log-file", str(log)]) == 0
    assert capsys.readouterr() == ("the report\n", "")
    assert cli.main(["doctor", "--log-file", str(log)]) == 0
    assert capsys.readouterr().err == "halfway\n"
    assert cli.main(["doctor", "--quiet", "--debug"]) == 2
    assert capsys.readouterr().err.endswith("gloam doctor: out\n")
    lines = [line.partition(" ")[2] for line in log.read_text().splitlines()]
    again = ["halfway", "the report", "exit code 0"]
    assert lines == [f"gloam doctor --quiet --log-file {log}", *again, f"gloam doctor --log-file {log}", *again]
    assert all(datetime.fromisoformat(line.partition(" ")[0]).tzinfo for line in log.read_text().splitlines())


def test_a_log_that_cannot_be_written_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["doctor", "--log-file", str(tmp_path / "no" / "a.log")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"gloam doctor: --log-file {tmp_path}/no/a.log: cannot be written (No such file")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = (
        "import sys, time; from gloam.cli import main as cli; from gloam.cli import doctor\n"
        "from gloam.cli.shared.report import Report\n"
        "doctor.run = lambda arguments: (sys.stdin.readline(), Report({}, 'long ' * 100000))[1]\n"
        "sys.exit(cli.main(['doctor']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(b"go\n", timeout=60)
    assert (process.returncode, said) == (0, b"")


SLEEPER = """
import signal, sys, time
from gloam.cli import doctor, main

def run(arguments):
    if sys.argv[1:] == ["processes"]:
        import multiprocessing
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()  # joined at the exit
    try:
        print("running", flush=True)
        time.sleep(60)
    finally:
        print("kept", flush=True)

doctor.run = run
# As a shell in the foreground starts it: one in the background has SIGINT ignored, and nohup SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1:] == ["nohup"] else signal.SIG_DFL)
sys.exit(main.main(["doctor"]))
"""


def sleeping(*words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: str(value),
)
def test_signals_that_ask_to_end_end_in_one_line_and_keep_work(number: int, code: int) -> None:
    process = sleeping()
    process.send_signal(number)
    out, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == "kept\n"
    assert errors == "gloam doctor: interrupted; such a run keeps nothing before its end; run it again\n"


@pytest.mark.parametrize(
    ("words", "made", "kept"),
    [
        ("extract images --model m.onnx -o OUT", None, False),
        ("extract images --model m.onnx -o OUT", "job.json", False),
        ("extract images --model m.onnx -o OUT", "shards/.tmp-1.npy", False),
        ("extract images --model m.onnx -o OUT", "shards/00000.npy", True),
        ("translate images --model m.onnx -o OUT", "progress.jsonl", True),
        ("edges images --model m.onnx -o OUT", "images/.tmp-7", False),
        ("train metric -o OUT", "views/views-1.npz", False),
        ("train metric -o OUT", "state/newest.json", True),
        ("train translator -o OUT", "state/newest.json", True),
        ("train edges -o OUT", "state/newest.json", True),
        ("train embedder -o OUT", "state/newest.json", True),
        ("demo -o OUT", "town/kapture.json", True),
        ("town OUT", "mapping/sensors/records_data/a.png", True),
    ],
)
def test_an_interrupted_run_claims_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: str,
    made: str | None,
    kept: bool,
) -> None:
    def interrupted(arguments: argparse.Namespace) -> Report:
        if made is not None:
            (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / made).touch()
        raise KeyboardInterrupt

    verb, *rest = words.replace("OUT", str(tmp_path)).split()
    place = f"train.{rest[0]}" if verb == "train" else verb
    monkeypatch.setattr(f"gloam.cli.{place}.run", interrupted)
    assert cli.main([verb, *rest]) == 130
    said = capsys.readouterr().err
    assert ("finished work is kept, run it again to carry on" in said) == kept
    assert ("nothing was finished yet, so nothing is kept" in said) != kept


def test_under_nohup_a_terminal_that_goes_ends_nothing() -> None:
    process = sleeping("nohup")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_the_processes_of_a_verb_end_with_it() -> None:
    process = sleeping("processes")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert errors == "gloam doctor: interrupted; such a run keeps nothing before its end; run it again\n"


def test_a_process_that_loses_the_first_signal_is_told_again() -> None:
    class Deaf:
        told = 0

        def terminate(self) -> None:
            self.told += 1

        def join(self, seconds: float) -> None:
            assert 0 <= seconds <= 1

        def is_alive(self) -> bool:
            return self.told < 3

    process = Deaf()
    cli._end_processes([process])
    assert process.told == 3


def test_a_verb_called_from_python_leaves_signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def noted(arguments: argparse.Namespace) -> Report:
        seen.append(signal.getsignal(signal.SIGTERM))
        return Report({}, "")

    monkeypatch.setattr("gloam.cli.doctor.run", noted)
    assert cli.main(["doctor"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert seen != [before]


def test_names_command_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["check", f"{tmp_path}/a\x1b[2J\n\u202egloam.onnx"]) == 2
    told = capsys.readouterr().err
    assert "a\\x1b[2J\\n\\u202egloam.onnx: no such model file" in told
    assert told.removesuffix("\n").isprintable()

    def run(_: argparse.Namespace) -> Report:
        return Report({"name": "\x1b"}, "one \x1b[2J\ntwo ä")

    monkeypatch.setattr("gloam.cli.doctor.run", run)
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == "one \\x1b[2J\ntwo ä\n"
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", write_through=True))
    assert cli.main(["doctor"]) == 0
    assert raw.getvalue() == b"one \\x1b[2J\ntwo \\xe4\n"
