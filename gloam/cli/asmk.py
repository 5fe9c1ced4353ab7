"""``gloam asmk``: search by local features, as HOW is evaluated."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    parser.add_argument("--max-side", type=int, default=1024, help="longer side in pixels, 0 keeps native sizes")
    parser.add_argument("--strongest", type=int, default=1000, help="local features of each image")
    parser.add_argument("--threads", type=int, help="threads of the model (default: all cores)")


def run_build(arguments: argparse.Namespace) -> Report:
    """Learn or read the codebook, index the map, write."""
    from gloam.runtime.search.asmk import Codebook
    from gloam.runtime.search.asmk_images import index_images, learn_codebook

    given = arguments.codebook is not None and arguments.codebook.is_file()
    failures: dict[str, str] = {}
    if given:
        codebook = Codebook.load(arguments.codebook)
    else:
        training = _images(arguments, arguments.train or arguments.source)
        codebook = learn_codebook(training, arguments.words, arguments.seed)
        failures |= training.failures
        if arguments.codebook is not None:
            codebook.save(arguments.codebook)
    images = _images(arguments, arguments.source)
    index = index_images(images, codebook)
    index.save(arguments.output)
    failures |= images.failures
    learned = "read" if given else f"learned from {arguments.train or 'the map itself'}"
    data = {"index": str(arguments.output), "images": len(index), "words": codebook.words, "failures": failures}
    text = f"{arguments.output}: {len(index)} images, {codebook.words} words, {learned}"
    return Report(data, "\n".join([text, *_said(failures)]))


def run_search(arguments: argparse.Namespace) -> Report:
    """Rank, write the ranking, and score it where the truth is given."""
    import numpy as np

    from gloam.files import write_json
    from gloam.runtime.search.asmk import AsmkIndex
    from gloam.runtime.search.asmk_images import search_images

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
        ranking = {}
        for name, row in scores.items():
            best = np.argsort(-row, kind="stable")[: arguments.k]
            ranking[name] = [[index.names[at], float(row[at])] for at in best]
        write_json(arguments.output, {"space": index.codebook.space, "ranking": ranking})
        lines.append(f"{arguments.output}: the best {min(arguments.k, len(index))} of each")
    if arguments.ground_truth is not None:
        found = _score(arguments, scores, index.names, images.failures)
        data["scores"] = found.to_dict()
        recalls = ", ".join(f"R@{k} {value:.3f}" for k, value in found.recall.items())
        lines.append(
            f"mAP {found.mAP:.4f} (chance {found.chance_mAP:.4f}), {recalls}; {found.queries} queries count, "
            f"{found.failed} of them failed"
        )
    return Report(data, "\n".join([*lines, *_said(images.failures)]))


def _score(
    arguments: argparse.Namespace, scores: Mapping[str, Any], names: list[str], failures: Mapping[str, str]
) -> Any:
    from gloam.eval.retrieval.ground_truth import read_ground_truth
    from gloam.eval.retrieval.scores import evaluate_scores

    return evaluate_scores(scores, names, read_ground_truth(arguments.ground_truth, arguments.set), failed=failures)


def _images(arguments: argparse.Namespace, source: Path) -> Extracted:
    from gloam.data.sources import find_images
    from gloam.runtime.models.local_features import LocalExtractor
    from gloam.runtime.search.asmk_images import Extracted

    extractor = LocalExtractor.load(arguments.model, strongest=arguments.strongest, threads=arguments.threads)
    return Extracted(extractor, find_images(source, arguments.root), arguments.max_side or None)


def _said(failures: Mapping[str, str]) -> list[str]:
    shown = [f"no features: {name}: {reason}" for name, reason in list(failures.items())[:SHOWN]]
    return [*shown, *([f"and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else [])]
