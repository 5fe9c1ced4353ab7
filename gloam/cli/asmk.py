"""``gloam asmk``: search by local features, as HOW is evaluated."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.help_format import HelpFormatter
from gloam.cli.shared.report import Report
from gloam.errors import UsageError

if TYPE_CHECKING:
    from gloam.runtime.search.asmk_images import Extracted

HELP = "build and search an ASMK index of HOW's local features"
SHOWN = 5  # failures in a report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verbs."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = verbs.add_parser(
        "build",
        help="codebook and index of a map's images",
        formatter_class=HelpFormatter,
    )
    _add_images(build, "the map")
    build.add_argument("-o", "--output", type=Path, required=True, metavar="INDEX.npz", help="index to write")
    build.add_argument(
        "--train", type=Path, metavar="SOURCE", help="images that the codebook is learned from; the map's by default"
    )
    build.add_argument(
        "--codebook", type=Path, metavar="FILE", help="codebook to use; where it is missing, the learned one is kept"
    )
    build.add_argument("--words", type=int, default=65536, help="visual words of a codebook to learn")
    build.add_argument("--seed", type=int, default=0, help="of the codebook")
    build.set_defaults(run=run_build)
    search = verbs.add_parser("search", help="rank the map for each query", formatter_class=HelpFormatter)
    search.add_argument("index", type=Path, metavar="INDEX.npz", help="what `gloam asmk build` wrote")
    _add_images(search, "the queries")
    search.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="ranking and scores of each query")
    search.add_argument("-k", type=int, default=100, help="images of the map in the output for each query")
    search.add_argument("--ground-truth", type=Path, metavar="FILE", help="print mAP and recall")
    search.add_argument("--set", metavar="NAME", help="set of a ground-truth file that holds several")
    search.set_defaults(run=run_search)


def _add_images(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("source", type=Path, help=f"images of {what}: folder, text list or kapture dataset")
    parser.add_argument("--model", type=Path, required=True, metavar="MODEL.onnx", help="of kind local_features")
    parser.add_argument("--root", type=Path, help="folder that a list's names are relative to (default: the list's)")
    parser.add_argument(
        "--max-side", type=int, help="longer side in pixels, 0 keeps native sizes (default: the model's input rule)"
    )
    parser.add_argument("--strongest", type=int, default=1000, help="local features of each image")
    add_backend(parser)


def run_build(arguments: argparse.Namespace) -> Report:
    """Learn or read the codebook, index the map, write."""
    from gloam.runtime.search.asmk_images import build_asmk

    given = arguments.codebook is not None and arguments.codebook.is_file()
    train = None if given or arguments.train is None else _images(arguments, arguments.train)
    index, failures = build_asmk(
        _images(arguments, arguments.source),
        train=train,
        codebook=arguments.codebook,
        words=arguments.words,
        seed=arguments.seed,
    )
    index.save(arguments.output)
    words = index.codebook.words
    learned = "read" if given else f"learned from {arguments.train or 'the map itself'}"
    data = {"index": str(arguments.output), "images": len(index), "words": words, "failures": failures}
    text = f"{arguments.output}: {len(index)} images, {words} words, {learned}"
    return Report(data, "\n".join([text, *_said(failures)]))


def run_search(arguments: argparse.Namespace) -> Report:
    """Rank, write the ranking, and score it where the truth is given."""
    from gloam.eval.retrieval.ground_truth import read_ground_truth
    from gloam.eval.retrieval.scores import evaluate_scores
    from gloam.files import write_json
    from gloam.runtime.search.asmk import AsmkIndex
    from gloam.runtime.search.asmk_images import ranking, search_images

    if arguments.output is None and arguments.ground_truth is None:
        raise UsageError("give -o FILE.json, --ground-truth FILE, or both")
    if arguments.k < 1:
        raise UsageError(f"-k {arguments.k}: must be at least 1")
    index = AsmkIndex.load(arguments.index)
    images = _images(arguments, arguments.source)
    scores = search_images(images, index)
    lines = [f"{len(scores)} queries against {len(index)} images"]
    data: dict[str, Any] = {"queries": len(scores), "images": len(index), "failures": images.failures}
    if arguments.output is not None:
        best = ranking(scores, index.names, arguments.k)
        write_json(arguments.output, {"space": index.codebook.space, "ranking": best})
        lines.append(f"{arguments.output}: the best {min(arguments.k, len(index))} of each")
    if arguments.ground_truth is not None:
        truth = read_ground_truth(arguments.ground_truth, arguments.set)
        found = evaluate_scores(scores, index.names, truth, failed=images.failures)
        data["scores"] = found.to_dict()
        recalls = ", ".join(f"R@{k} {value:.3f}" for k, value in found.recall.items())
        lines.append(
            f"mAP {found.mAP:.4f} (chance {found.chance_mAP:.4f}), {recalls}; {found.queries} queries count, "
            f"{found.failed} of them failed"
        )
    return Report(data, "\n".join([*lines, *_said(images.failures)]))


def _images(arguments: argparse.Namespace, source: Path) -> Extracted:
    from gloam.runtime.search.asmk_images import Extracted

    return Extracted.open(
        arguments.model,
        source,
        arguments.root,
        max_side=arguments.max_side,
        strongest=arguments.strongest,
        placement=placement(arguments),
    )


def _said(failures: Mapping[str, str]) -> list[str]:
    shown = [f"no features: {name}: {reason}" for name, reason in list(failures.items())[:SHOWN]]
    return [*shown, *([f"and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else [])]
