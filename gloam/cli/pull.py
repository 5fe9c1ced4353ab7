"""``gloam pull``: fetch published weights and ground truths once, and know them again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gloam.cli.shared.report import Report
from gloam.errors import UsageError

HELP = "fetch published weights or ground truth by name; resumes, and pins the sha256 on first use"
KEPT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("name", nargs="?", help="such as gem_vgg16_hedngan; --list names all")
    parser.add_argument("--list", action="store_true", help="list what can be pulled, and from where")
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder; $GLOAM_PUBLISHED or the user's cache otherwise")
    parser.add_argument(
        "--mirror", metavar="URL", help="address of a folder with the same file names; $GLOAM_MIRROR otherwise"
    )
    parser.add_argument("--lock", type=Path, metavar="JSON", help="file of the pinned hashes; in the folder otherwise")


def run(arguments: argparse.Namespace) -> Report:
    """Fetch, or list."""
    from gloam.data.published.names import PUBLISHED
    from gloam.data.published.pull import pull

    if arguments.list:
        width = max(len(name) for name in PUBLISHED)
        lines = [f"{one.name:{width}}  {one.what}; licence: {one.licence}" for one in PUBLISHED.values()]
        data = {one.name: {"urls": list(one.urls), "what": one.what, "kind": one.kind} for one in PUBLISHED.values()}
        return Report({"published": data}, "\n".join(lines))
    if not arguments.name:
        raise UsageError("name what to pull; `gloam pull --list` shows the choices")
    bar = _Bar(sys.stderr.isatty())
    try:
        found = pull(arguments.name, arguments.to, mirror=arguments.mirror, lock=arguments.lock, progress=bar.update)
    finally:
        bar.close()
    lines = []
    for path, digest in zip(found.paths, found.sha256, strict=True):
        what = "fetched" if path.name in found.fetched else "was there"
        how = "pinned now" if path.name in found.pinned else "as pinned"
        lines.append(f"{path}: {what}, sha256 {digest} ({how})")
    lines.append(f"licence: {found.published.licence}")
    main = found.paths[0]
    if found.published.family:
        lines.append(f"next: gloam import {main} --as {found.published.family} -o {main.stem}.safetensors")
    report: dict[str, Any] = {
        "name": found.published.name,
        "kind": found.published.kind,
        "files": [str(path) for path in found.paths],
        "sha256": list(found.sha256),
        "fetched": list(found.fetched),
        "pinned": list(found.pinned),
        "licence": found.published.licence,
    }
    return Report(report, "\n".join(lines))


class _Bar:
    """A progress bar a file, on a terminal."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._file = shown, ""
        self._bar: Any = None

    def update(self, file: str, done: int, total: int | None) -> None:
        if not self._shown:
            return
        from tqdm import tqdm

        if self._bar is None or file != self._file:
            self.close()
            self._bar = tqdm(total=total, initial=0, unit="B", unit_scale=True, desc=file)
            self._file = file
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
