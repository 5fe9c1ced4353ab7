"""The completion script is one that a shell takes, and completes verbs, options and files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gloam.cli.main import main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        file = tmp_path_factory.mktemp("completion") / "gloam.bash"
        with file.open("w") as out:
            patch.setattr(sys, "stdout", out)
            with pytest.raises(SystemExit) as ended:
                main(["--print-completion", "bash"])
    assert not ended.value.code
    return file


def completed(script: Path, *words: str) -> set[str]:
    """What TAB offers behind words."""
    typed = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {script}; function=$(complete -p gloam | sed 's/.*-F //; s/ .*//')\n"
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; COMPREPLY=()\n"
        f'$function gloam "{words[-1]}"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=script.parent, check=True)
    return {word.strip() for word in done.stdout.splitlines()}


def test_verbs_sub_verbs_options_and_files_are_completed(script: Path) -> None:
    (script.parent / "model.onnx").touch()
    assert completed(script, "gloam", "ex") == {"export", "extract"}
    assert completed(script, "gloam", "eval", "retr") == {"retrieval"}
    assert {"--model", "--max-side"} <= completed(script, "gloam", "extract", "--m")
    assert {"auto", "cpu"} <= completed(script, "gloam", "extract", "--device", "")
    assert completed(script, "gloam", "check", "mod") == {"model.onnx"}


def test_without_shtab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "zsh"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith("pip install 'gloam[completion]'")


def test_completion_does_not_slow_the_start() -> None:
    code = "import sys; from gloam.cli.main import build_parser; build_parser(); sys.exit('shtab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
