"""``gloam train whitening``: Lw or PCA from a descriptor store."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.store_options import add_trust

HELP = "a whitening of descriptors, learned from a store: Lw from matching pairs, or PCA"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "learn a whitening from the descriptors that `gloam extract` wrote; they must come from the model, scales and "
        "normalisation that it will be used with"
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of descriptors")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz or .safetensors")
    parser.add_argument("--kind", choices=("lw", "pca"), default="lw", help="from matching pairs, or without them")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="for lw: a set.json, or a text of two names a line")
    parser.add_argument("--set", default=None, metavar="NAME", help="part of a set.json, such as train")
    parser.add_argument("--dimension", type=int, metavar="D", help="values to keep; all by default")
    parser.add_argument("--shrinkage", type=int, metavar="K", help="for pca: index of the eigenvalue to shrink towards")

    add_trust(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Learn and write."""
    from gloam.errors import UsageError
    from gloam.runtime.descriptors.store import DescriptorStore
    from gloam.training.embedders.whitening import learn_lw, learn_pca

    if arguments.kind == "lw" and arguments.pairs is None:
        raise UsageError("lw is learned from matching pairs; give --pairs FILE, or --kind pca")
    if arguments.kind == "pca" and arguments.pairs is not None:
        raise UsageError("pca takes no pairs; drop --pairs, or choose --kind lw")
    if arguments.kind == "lw" and arguments.shrinkage is not None:
        raise UsageError("lw takes no shrinkage; drop --shrinkage, or choose --kind pca")
    if arguments.output.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"{arguments.output}: a whitening file ends in .npz or .safetensors")
    store = DescriptorStore.open(arguments.store, trust=arguments.trust)
    descriptors = store.load()
    if arguments.kind == "lw":
        queries, positives = _pairs(arguments.pairs, arguments.set, store.names)
        whitening = learn_lw(descriptors, queries, positives, arguments.dimension)
    else:
        whitening = learn_pca(descriptors, arguments.dimension, shrinkage=arguments.shrinkage)
    whitening = whitening.said({"space": store.space})
    path = whitening.save(arguments.output)
    data = {
        "whitening": str(path),
        "sha256": whitening.sha256,
        "kind": whitening.name,
        "input_dimension": whitening.input_dimension,
        "dimension": whitening.dimension,
        **{key: value for key, value in whitening.provenance.items() if key in ("images", "pairs", "space")},
    }
    learned = f"{data['images']} images" + (f" and {data['pairs']} pairs" if "pairs" in data else "")
    text = f"{path}: {whitening.name} from {whitening.input_dimension} to {whitening.dimension} values, from {learned}"
    return Report(data, text)


def _pairs(path: Path, set_name: str | None, names: list[str]) -> tuple[list[int], list[int]]:
    """Rows of the store for the pairs of a file; pairs of images that the store lacks are an error."""
    from gloam.data.retrieval_sets.sets import read_retrieval_set
    from gloam.errors import DataError

    if path.suffix == ".json":
        found = read_retrieval_set("json", path=path, **({"set_name": set_name} if set_name else {}))
        said = found.names
        wanted = [(said[q], said[p]) for q, p in zip(found.queries, found.positives, strict=True)]
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not readable as text ({error})") from error
        wanted = []
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = [field.strip() for field in (line.split(",") if "," in line else line.split())]
            if len(fields) < 2:
                raise DataError(f"{path}: line {number} is not a pair of names")
            wanted.append((fields[0], fields[1]))
    row_of = {name: row for row, name in enumerate(names)}
    missing = sorted({name for pair in wanted for name in pair if name not in row_of})
    if missing:
        raise DataError(
            f"{path}: {len(missing)} images of its pairs have no descriptor in the store (the first is {missing[0]}); "
            "extract them, or check that names are relative to the same folder"
        )
    return [row_of[first] for first, _ in wanted], [row_of[second] for _, second in wanted]
