"""``gloam dataset``: a training set of one's own images, built and checked."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from gloam.cli.shared.report import Report
from gloam.errors import DataError, UsageError

HELP = "build and check training sets for metric learning: images, clusters, and pairs"
KINDS = ("auto", "folder", "csv", "pairs", "kapture", "town", "sfm", "nd", "gld_csv", "json")
POSED = ("positives", "distance", "heading", "shared_points", "apart", "side", "one_world")
TAKES: dict[str, tuple[str, ...]] = {  # options that a kind has beside its source
    "folder": ("pairs_per_image", "singles", "seed"),
    "csv": ("images", "pairs_per_image", "singles", "seed"),
    "pairs": ("images",),
    "kapture": (*POSED, "pairs_per_image", "seed"),
    "town": ("distance", "apart", "side", "pairs_per_image"),
    "sfm": ("images", "set_name", "day", "night"),
    "nd": ("images", "set_name", "day", "night"),
    "gld_csv": ("images", "pairs_per_image", "singles", "seed"),
    "json": ("images", "set_name"),
}
NEED_IMAGES = ("sfm", "nd", "gld_csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two sub-verbs."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="write set.json from folders, a table, pairs, poses or a public dataset")
    _add_build(build)
    build.set_defaults(run=run_build)
    check = actions.add_parser("check", help="name what is wrong with a set before training does; exit code 1 if so")
    check.add_argument("set", type=Path, help="set.json")
    check.add_argument("--set", dest="set_name", metavar="NAME", help="check this set of the file alone")
    check.add_argument("--images", type=Path, metavar="DIR", help="the images' folder, in place of the file's")
    check.add_argument("--decode", action="store_true", help="decode every image, not its header alone")
    check.add_argument("--contents", action="store_true", help="compare the files' bytes, to find copies")
    check.add_argument(
        "--negatives", type=int, default=5, help="per tuple; each needs a cluster of its own (default 5)"
    )
    check.set_defaults(run=run_check)


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, nargs="+", help="folder of places, table, list, dataset or pickle")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JSON", help="the set to write")
    parser.add_argument(
        "--from",
        dest="kind",
        choices=KINDS,
        default="auto",
        help="folder: PLACE/image.jpg or PLACE/CONDITION/image.jpg; csv: image,cluster[,condition]; pairs: a pair a "
        "line; kapture: by poses or 3D points; sfm, nd: pickles of Retrieval-SfM's schema; gld_csv: Google Landmarks; "
        "auto looks at the source (default)",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder that names are relative to")
    parser.add_argument("--validation", type=float, metavar="SHARE", help="hold out this share of clusters as set val")
    parser.add_argument("--set", dest="set_name", metavar="NAME", help="sfm, nd, json: the part to read, as train, val")
    parser.add_argument("--day", type=Path, help="sfm, nd: list of ids taken by day")
    parser.add_argument("--night", type=Path, help="sfm, nd: list of ids taken by night")
    parser.add_argument("--pairs-per-image", type=int, help="pairs that an image is the query of (default 2)")
    parser.add_argument("--singles", choices=("refuse", "keep", "drop"), help="clusters of one image")
    parser.add_argument("--seed", type=int, help="of drawn pairs (default 0)")
    parser.add_argument("--positives", choices=("distance", "covisibility"), help="kapture: rule (default distance)")
    parser.add_argument("--distance", type=float, help="between positives, metres (default 10; town 8)")
    parser.add_argument("--heading", type=float, help="between positives' viewing directions, degrees (default 40)")
    parser.add_argument("--shared-points", type=int, help="covisibility: 3D points in common (default 20)")
    parser.add_argument("--apart", type=float, help="from here images may be negatives, metres (default 25; town 6)")
    parser.add_argument("--side", type=float, help="cut the map into blocks of this side, metres, with gaps of --apart")
    parser.add_argument("--one-world", action="store_true", default=None, help="datasets share one coordinate system")


def run_build(arguments: argparse.Namespace) -> Report:
    """Read, write, and count."""
    from gloam.data.retrieval_sets.check import describe_set
    from gloam.data.retrieval_sets.native import hold_out_clusters, write_native
    from gloam.data.retrieval_sets.sets import read_retrieval_set

    sources: list[Path] = arguments.source
    kind = _kind(sources[0]) if arguments.kind == "auto" else arguments.kind
    if len(sources) > 1 and kind != "kapture":
        raise UsageError(f"several sources need --from kapture; a set of kind {kind} is read from one")
    given: dict[str, Any] = {"folder" if kind == "town" else "path": sources if kind == "kapture" else sources[0]}
    for name in sorted({option for options in TAKES.values() for option in options}):
        value = getattr(arguments, name)
        if value is None:
            continue
        if name not in TAKES[kind]:
            users = ", ".join(other for other, options in TAKES.items() if name in options)
            raise UsageError(f"--{name.replace('_', '-')} is for {users}; this source is of kind {kind}")
        given[name] = value
    if kind in NEED_IMAGES and "images" not in given:
        raise UsageError(f"a set of kind {kind} needs --images DIR, the folder of its images")
    whole = read_retrieval_set(kind, **given)
    sets = {arguments.set_name or "train": whole}
    if arguments.validation is not None:
        sets = dict(zip(("train", "val"), hold_out_clusters(whole, arguments.validation), strict=True))
    root = write_native(arguments.output, sets)
    data: dict[str, Any] = {"set": str(arguments.output), "kind": kind, "images_root": str(root)}
    data["sets"] = {name: describe_set(part) for name, part in sets.items()}
    lines = [f"{arguments.output}: images below {root}"]
    lines += [_counts(name, facts) for name, facts in data["sets"].items()]
    lines.append(f"next: gloam dataset check {arguments.output}")
    return Report(data, "\n".join(lines))


def run_check(arguments: argparse.Namespace) -> Report:
    """Print the findings of every set."""
    from gloam.data.retrieval_sets.check import check_set, describe_set
    from gloam.data.retrieval_sets.native import read_native, set_names

    names = [arguments.set_name] if arguments.set_name else set_names(arguments.set)
    lines, data, failed = [], dict[str, Any](), False
    for name in names:
        whole = read_native(arguments.set, name, arguments.images)
        findings = check_set(whole, decode=arguments.decode, contents=arguments.contents, negatives=arguments.negatives)
        facts = describe_set(whole)
        lines.append(_counts(name or "set", facts))
        lines += [f"  {'WRONG' if finding.fatal else 'note '} {finding}" for finding in findings]
        failed = failed or any(finding.fatal for finding in findings)
        shown = [
            {"what": finding.what, "count": len(finding.rows), "first": list(finding.rows[:5]), "fatal": finding.fatal}
            for finding in findings
        ]
        data[name or "set"] = {**facts, "findings": shown}
    lines.append("correct what is WRONG and check again" if failed else "nothing wrong")
    return Report({"sets": data, "passed": not failed}, "\n".join(lines), exit_code=int(failed))


def _kind(source: Path) -> str:
    if source.is_dir():
        if (source / "sensors" / "records_camera.txt").is_file():
            return "kapture"
        return "town" if (source / "town.json").is_file() else "folder"
    if not source.is_file():
        raise DataError(f"{source}: no such folder or file")
    if source.suffix == ".pkl":
        return "sfm"
    if source.suffix == ".json":
        return "json"
    if source.suffix == ".csv":
        try:
            with open(source, encoding="utf-8-sig", newline="") as handle:
                header = next(csv.reader(handle), [])
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{source}: the table cannot be read ({error})") from error
        return "gld_csv" if "landmark_id" in header else "csv"
    return "pairs"


def _counts(name: str, facts: dict[str, Any]) -> str:
    low, high = facts["images_per_cluster"]
    text = (
        f"{name}: {facts['images']} images in {facts['clusters']} clusters of {low} to {high}, {facts['pairs']} pairs "
        f"of {facts['queries']} queries"
    )
    if "conditions" in facts:
        text += f"; {', '.join(f'{count} {label}' for label, count in facts['conditions'].items())}"
    return text
