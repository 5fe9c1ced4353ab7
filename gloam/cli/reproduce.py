"""``gloam reproduce``: a table of a paper again, on the data that is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.memory_option import add_memory
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.unread import refuse, refuse_others
from gloam.cli.shared.values import seed
from gloam.errors import UsageError
from gloam.heartbeat import to_stderr

HELP = "a paper's table again: published value, ours, difference, and which files are missing"
KEPT = ("*/*",)
TOP_K = {False: 20, True: 5}  # of a benchmark's thousands of map images, and of its look-alike's few
LOCALIZED = (("dark-side", "3"), ("mduit", "1"))
GENERATORS = {"dark-side": 2, "mduit": 4}  # that these train on the town
WEAKLY_PAIRED = "weakly-paired"
# Options that a request of a table of retrieval takes as they are.
OF_RETRIEVAL = ("paper", "table", "data", "output", "train", "seed", "seeds", "budget", "words", "features_per_image",
                "limit", "town", "minutes")  # fmt: skip
OF_ALL = ("paper", "table", "data", "output", "rows", "weights", "train", "seed", "town", "minutes", "budget")
OF_POSES = ("set", "truth", "scores", "top_k", "more_k", "within", "unlocalized", "rig", "features", "matcher",
            "max_keypoints", "photometric", "pixel_shift", "workers", "memory", "device", "threads", "backend",
            "cpu_precision")  # fmt: skip
MDUIT_FIGURES = (("mduit", "figure3"), ("mduit", "figure4"))
OF_MDUIT_FIGURES = ("references", "device")
OF_WEAKLY_PAIRED = {"2": ("limit", "device"), "figure7": ("references", "device")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("paper", metavar="PAPER", help="cyclegan-study, dark-side, mduit, thesis or weakly-paired")
    parser.add_argument(
        "table",
        metavar="TABLE",
        help="cyclegan-study: 1; dark-side: 1 to 8; mduit: 1, figure3, figure4; thesis: 5.1, figure5.1; weakly-paired: "
        "2, figure7",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="layout of cirtorch: test/, train/, networks/; weakly-paired: weakly-paired/pairs.json of `gloam pair`; "
        "mduit's figures: mduit/pairs.json",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("reproduced"), metavar="DIR", help="models and stores, used again"
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="some rows of the table; all by default")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="ROW=FILE",
        help="an embedder of your own for a row, of the row's network, or for a part of a row of table 4 ('VGG16 "
        "GeM=FILE'); "
        "for a row 'night to day, ...' and of weakly-paired a translator; for figure7 'NetVLAD Pittsburgh=FILE' and "
        "'NetVLAD of the pairs=FILE'; for mduit figure3 'MDUIT=FILE', 'MUNIT=FILE.onnx' and so on; repeatable",
    )
    parser.add_argument(
        "--order",
        metavar="A,B,C",
        help="table 6, and rows 'night to day, ...': day, sunset and night in the order of a scene's image names",
    )
    parser.add_argument(
        "--words", type=int, default=65536, help="rows with local features: visual words of the codebook"
    )
    parser.add_argument(
        "--features-per-image",
        type=int,
        metavar="N",
        help="rows with local features: of each of 20 000 training images, for the codebook (default: 200, 2 GiB of "
        "memory; the paper: 1000, 10 GiB)",
    )
    parser.add_argument(
        "--train",
        action="store_true",
        help="train what a row lacks, generator, embedder and whitening (days on a GPU), into DATA/experiments",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="trainings of each row, from --seed on: the row is their mean and deviation (not of localization)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="processor time for the whole table, shared out over its trainings; of localization, weakly-paired and "
        "mduit's figures half of it is for their generators, with --town",
    )
    parser.add_argument(
        "--again",
        type=Path,
        metavar="ROW.json",
        help="run a row again as its record, OUT/rows/ROW/row.json, states it; of the other options -o alone is taken",
    )
    parser.add_argument(
        "--town", action="store_true", help="the miniature on procedural streets instead; needs no data"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=14.0,
        help="--town: processor time for each generator, at most, where there is no --budget",
    )
    parser.add_argument(
        "--references",
        nargs="+",
        default=[],
        metavar="DOMAIN",
        help="weakly-paired figure7: domains of map and queries (default: WDO-1 WDSn WDSu; --town: overcast snow sun); "
        "mduit figure3, figure4: the one of the sources, of the map (default: overcast-reference; --town: overcast)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="weakly-paired 2: most pairs and real images of a domain; thesis: images by day, and by night, of FID",
    )
    _add_localization(parser)


def _add_localization(parser: argparse.ArgumentParser) -> None:
    """Options of the tables whose numbers are poses."""
    group = parser.add_argument_group("tables of localization: dark-side 3, mduit 1")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="folder of aachen-v1.1, robotcar-v1 or robotcar-v2 (default: DATA/localization/NAME); repeatable",
    )
    group.add_argument(
        "--truth",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="kapture dataset with the queries' true poses, as a look-alike has them; gloam then scores by itself",
    )
    group.add_argument(
        "--scores",
        type=Path,
        metavar="FILE",
        help="the evaluation server's answers (text, .csv, .json), into the table",
    )
    group.add_argument(
        "--top-k", type=int, metavar="K", help="retrieved map images of a query in 2a and 2b (default: 20; --town: 5)"
    )
    group.add_argument(
        "--more-k", type=int, nargs="+", default=[], metavar="K", help="localize with so many too, e.g. 1 10 50"
    )
    group.add_argument(
        "--within",
        choices=("map", "camera", "location", "camera-and-location"),
        default="map",
        help="retrieve among all map images, or those of the query's own camera or location",
    )
    group.add_argument(
        "--unlocalized",
        choices=("absent", "top1"),
        default="absent",
        help="a query without a pose is left out of the server's file, or has its first retrieved image's pose",
    )
    group.add_argument(
        "--rig",
        choices=("off", "fill", "joint"),
        default="off",
        help="cameras of one rig: each by itself; those without a pose through the rig; or all together by one pose",
    )
    group.add_argument(
        "--features", default="sift", metavar="sift|MODEL|H5|DATABASE|FOLDER|TYPE", help="as of `gloam localize`"
    )
    group.add_argument("--matcher", default="mutual", metavar="mutual|MODEL", help="as of `gloam localize`")
    group.add_argument("--max-keypoints", type=int, default=4096, help="SIFT and models: strongest kept per image")
    group.add_argument("--photometric", choices=("none", "clahe"), help="SIFT and models: of the light")
    group.add_argument(
        "--pixel-shift",
        type=float,
        help="SIFT: where intrinsics count from, 0 or 0.5 (default: told by principal points)",
    )
    group.add_argument("--seed", type=seed, default=0, help="of every random choice")
    group.add_argument("--workers", type=int, help="threads (default: all cores); changes no result")
    add_memory(group)
    add_backend(group)


def run(arguments: argparse.Namespace) -> Report:
    """Run what can be run; exit code 1 where no row could."""
    key = (arguments.paper, arguments.table)
    of_others = key in LOCALIZED or key in MDUIT_FIGURES or arguments.paper == WEAKLY_PAIRED
    if of_others and (arguments.seeds != 1 or arguments.again is not None):
        what = f"{arguments.paper} {arguments.table}"
        raise UsageError(f"{what}: --seeds and --again are of tables of retrieval and of cyclegan-study; see --help")
    _refuse_unread(arguments)
    if key in LOCALIZED:
        return _localized(arguments)
    if key in MDUIT_FIGURES:
        return _mduit_figure(arguments)
    if arguments.paper == WEAKLY_PAIRED:
        return _weakly_paired(arguments)
    from gloam.workflows.reports.retrieval_table import reproduce_retrieval
    from gloam.workflows.reproduce.request import RetrievalRequest

    if arguments.again is not None:
        from gloam.workflows.reproduce.records import recorded_row

        request = recorded_row(arguments.again, arguments.output)
        if (request.paper, request.table) != (arguments.paper, arguments.table):
            raise UsageError(f"{arguments.again}: is of {request.paper} {request.table}; give these, or another record")
    else:
        request = RetrievalRequest(
            **{name: getattr(arguments, name) for name in OF_RETRIEVAL},
            rows=tuple(arguments.rows),
            weights=_files("--weights", "ROW=FILE, with the row's name as the table has it", arguments.weights),
            order=tuple(arguments.order.split(",")) if arguments.order else None,
        )
    found = reproduce_retrieval(request, to_stderr)
    return Report(found.to_dict(), found.to_text(), exit_code=0 if found.ours else 1)


def _refuse_unread(arguments: argparse.Namespace) -> None:
    what = f"{arguments.paper} {arguments.table}"
    if arguments.again is not None:
        read: tuple[str, ...] = ("paper", "table", "again", "output")
        return refuse_others(arguments, read, "is in the record already; --again reads -o alone beside it")
    if (arguments.paper, arguments.table) in LOCALIZED:
        read = OF_POSES
    elif (arguments.paper, arguments.table) in MDUIT_FIGURES:
        read = OF_MDUIT_FIGURES
    elif arguments.paper == WEAKLY_PAIRED:
        read = OF_WEAKLY_PAIRED.get(arguments.table, ("references", "limit", "device"))
    else:
        read = (*OF_RETRIEVAL, "order", "again")
    refuse_others(arguments, (*OF_ALL, *read), f"is not of {what}; leave it out, see --help")
    if not arguments.town:
        refuse(arguments, ("minutes",), "is of the miniature; add --town, or give --budget")


def _localized(arguments: argparse.Namespace) -> Report:
    from gloam.workflows.reports.localization import reproduce_localization
    from gloam.workflows.reproduce.localization.protocol import Protocol
    from gloam.workflows.reproduce.localization.request import TableRequest
    from gloam.workflows.reproduce.records import generator_minutes

    top_k = arguments.top_k if arguments.top_k is not None else TOP_K[arguments.town]
    fixed = {"min_inliers": 12, "verify_queries": True}
    protocol = filled(Protocol, arguments, top_k=top_k, more_k=tuple(arguments.more_k), **fixed)
    request = filled(
        TableRequest,
        arguments,
        weights=_files("--weights", "ROW=FILE, with the row's name as the table has it", arguments.weights),
        sets=_files("--set", "NAME=PATH, with the benchmark's name", arguments.set),
        truth=_files("--truth", "NAME=PATH, with the benchmark's name", arguments.truth),
        protocol=protocol,
        placement=placement(arguments),
        max_side=1024,
    )
    minutes = generator_minutes(arguments.minutes, arguments.budget, GENERATORS[arguments.paper])
    found = reproduce_localization(request, town_minutes=minutes if arguments.town else None, say=to_stderr)
    return Report(found.to_dict(), found.to_text(), exit_code=0 if found.ran else 1)


def _mduit_figure(arguments: argparse.Namespace) -> Report:
    from gloam.workflows.reports.mduit import reproduce_mduit
    from gloam.workflows.reproduce.mduit.request import ABSENT, MduitRequest
    from gloam.workflows.reproduce.records import generator_minutes
    from gloam.workflows.reproduce.rows import CONTENT

    weights = _files("--weights", "ROW=FILE, with the method's name as the figure has it", arguments.weights)
    request = filled(MduitRequest, arguments, weights=weights)
    trained = [row for row in request.asked if row not in weights and row not in ABSENT]
    count = len(trained if arguments.table == "figure3" else CONTENT.keys() & set(trained))
    minutes = generator_minutes(arguments.minutes, arguments.budget, count)
    found = reproduce_mduit(request, minutes if arguments.town else None, to_stderr)
    return Report(found.to_dict(), found.to_text(), exit_code=0 if found.ran else 1)


def _weakly_paired(arguments: argparse.Namespace) -> Report:
    from gloam.workflows.reports.weakly_paired import reproduce_weakly_paired
    from gloam.workflows.reproduce.records import generator_minutes
    from gloam.workflows.reproduce.weakly_paired.figure7 import METHODS
    from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
    from gloam.workflows.reproduce.weakly_paired.request import RECIPES, WeaklyPairedRequest

    weights = _files("--weights", "ROW=FILE, with the row's name as the table has it", arguments.weights)
    request = filled(WeaklyPairedRequest, arguments, weights=weights)
    count = len(arguments.rows or (RECIPES if arguments.table == "2" else METHODS))
    minutes = generator_minutes(arguments.minutes, arguments.budget, count)
    miniature = Miniature(minutes=minutes) if arguments.town else None
    found = reproduce_weakly_paired(request, miniature, to_stderr)
    return Report(found.to_dict(), found.to_text(), exit_code=0 if found.ran else 1)


def _files(option: str, form: str, assignments: list[str]) -> dict[str, Path]:
    found = {}
    for assignment in assignments:
        name, equals, file = assignment.rpartition("=")
        if not equals or not name or not file:
            raise UsageError(f"{option} {assignment!r}: give {form}")
        found[name] = Path(file)
    return found
