"""Arrays are read, and what is no file of arrays is one kind of error."""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.npz import read_npz


def test_arrays_are_read_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.arange(3), text=np.array("x"))
    assert read_npz(tmp_path / "a.npz")["one"].tolist() == [0, 1, 2]
    assert read_npz(tmp_path / "a.npz", ("text",)).keys() == {"text"}
    with pytest.raises(ValueError, match="two"):
        read_npz(tmp_path / "a.npz", ("one", "two"))


def test_every_cut_and_every_flip_is_read_or_a_value_error(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", one=np.arange(30.0), two=np.zeros((2, 2)))
    whole = (tmp_path / "whole.npz").read_bytes()
    damaged = tmp_path / "damaged.npz"
    for at in range(0, len(whole), 3):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            damaged.write_bytes(content)
            with contextlib.suppress(ValueError):
                read_npz(damaged)


def test_bombs_objects_and_plain_arrays_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(4_000_000, np.uint8))
        packed.writestr("a.npy", buffer.getvalue())
    np.savez(tmp_path / "objects.npz", a=np.array([None, "x"], object))
    np.save(tmp_path / "plain.npy", np.zeros(3))
    for name, message in (("bomb.npz", "stand for"), ("objects.npz", "allow_pickle"), ("plain.npy", "zip file")):
        with pytest.raises(ValueError, match=message):
            read_npz(tmp_path / name)


def test_headers_are_read_by_one_thread_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", one=np.arange(3))
    inside, most, load = [0], [0], np.load

    def watched(*given: Any, **named: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        found = load(*given, **named)
        inside[0] -= 1
        return found

    monkeypatch.setattr(np, "load", watched)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_npz, [tmp_path / "a.npz"] * 8))
    assert [each["one"].tolist() for each in found] == [[0, 1, 2]] * 8
    assert most == [1]
