"""Options of a service that do not go together, and files of keys that hold none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gloam.errors import DataError, UsageError
from gloam.runtime.serve.options import Keys, Limits, ServeRequest

MODEL = Path("m.onnx")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"host": "0.0.0.0"}, "--host 0.0.0.0: whoever reaches this machine may ask; give --api-keys"),
        ({"host": "::"}, "--host ::"),
        ({"host": "gloam.example"}, "--host gloam.example"),
        ({"port": 65536}, "--port 65536: must be 0 to 65535"),
        ({"port": -1}, "--port -1"),
        ({"extractor": MODEL}, "--extractor is of a map; add --map"),
        ({"images": Path("x")}, "--images is of a map"),
        ({"map": Path("m"), "images": Path("/nowhere")}, "--images /nowhere: no such folder"),
        ({"open": True, "api_keys": Path("k")}, "leave --api-keys out"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ServeRequest(model=MODEL, **given)


def test_this_machine_alone_needs_no_key() -> None:
    for host in ("127.0.0.1", "127.3.4.5", "::1", "localhost"):
        assert ServeRequest(model=MODEL, host=host).loopback
    for more in ({"open": True}, {"api_keys": Path("k")}):
        assert not ServeRequest(model=MODEL, host="0.0.0.0", **more).loopback  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"body": 0}, "max-body"),
        ({"pixels": -1}, "max-pixels"),
        ({"upload": 0.0}, "upload-timeout"),
        ({"queue": 0}, "queue"),
        ({"answer": float("nan")}, "answer-timeout"),
        ({"body": 10, "memory": 9}, "max-memory"),
    ],
)
def test_limits_are_above_0(given: dict[str, Any], option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option}"):
        Limits(**given)


def test_keys_are_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the night shift\n0123456789abcdef\n\n another-key-of-20-ch \n")
    keys = Keys.read(file)
    assert keys.let_in(b"0123456789abcdef")
    assert keys.let_in(b"another-key-of-20-ch")
    for wrong in (b"", b"0123456789abcde", b"# of the night shift", b"0123456789ABCDEF"):
        assert not keys.let_in(wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("a\n", "keys:1: a key has 16"),
        ("\nno key with spaces\n", "keys:2"),
    ],
)
def test_a_file_of_keys_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        Keys.read(tmp_path / "keys")
    assert "no key with" not in str(error.value)  # keys are not told
    with pytest.raises(DataError, match="the file of keys cannot be read"):
        Keys.read(tmp_path / "absent")
