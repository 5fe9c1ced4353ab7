"""``gloam pull``: fetch published weights and ground truths once, and know them again."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.download_bar import DownloadBar
from gloam.cli.shared.report import Report
from gloam.cli.shared.unread import refuse_others
from gloam.errors import UsageError
from gloam.heartbeat import bars_shown

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
        refuse_others(arguments, ("list",), "is of what is pulled; --list pulls nothing")
        width = max(len(name) for name in PUBLISHED)
        lines = [f"{one.name:{width}}  {one.what}; licence: {one.licence}" for one in PUBLISHED.values()]
        data = {one.name: {"urls": list(one.urls), "what": one.what, "kind": one.kind} for one in PUBLISHED.values()}
        return Report({"published": data}, "\n".join(lines))
    if not arguments.name:
        raise UsageError("name what to pull; `gloam pull --list` shows the choices")
    with DownloadBar(bars_shown()) as bar:
        found = pull(arguments.name, arguments.to, mirror=arguments.mirror, lock=arguments.lock, progress=bar.update)
    return Report(found.to_dict(), str(found))
