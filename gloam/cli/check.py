"""``gloam check``: does a model still compute what it should?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.report import Report
from gloam.errors import ModelError

if TYPE_CHECKING:
    from gloam.runtime.backends.session import Session

HELP = "run a model's stored self-test here, and compare it with its PyTorch original"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("model", type=Path, help="embedder, translator or edge detector: .onnx file, or engine folder")
    parser.add_argument("--against", type=Path, metavar="WEIGHTS", help="the weights it was exported from")
    parser.add_argument("--network", help="network name, for weights that do not say it themselves")
    parser.add_argument(
        "--whitening", type=Path, metavar="FILE", help="the whitening it was exported with, besides --against"
    )
    parser.add_argument("--padding", choices=("symmetric", "tf"), help="MobileNetV2: padding of layers of stride 2")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Self-test first; then, with ``--against``, the numeric step of the release check."""
    from gloam.record import to_json
    from gloam.runtime.backends.open import open_session
    from gloam.runtime.backends.selftest import run_selftest

    session = open_session(arguments.model, placement(arguments))
    card = session.card
    difference, tolerance = run_selftest(session)
    passed = difference <= tolerance
    rules = card.embeds or card.kind == "local_features"
    data: dict[str, Any] = {
        "model": str(arguments.model),
        "kind": card.kind,
        "name": card.name,
        "dimension": card.dimension,
        "profile": card.profile.kind,
        "precision": card.precision,
        "input_rule": to_json(card.reads) if rules else None,
        "space": card.space(),
        "fingerprint": session.fingerprint,
        "backend": session.backend.to_dict(),
        "provenance": dict(card.provenance),
        "selftest": {"max_abs": difference, "tolerance": tolerance, "passed": passed},
    }
    size = "" if card.dimension is None else f" {card.dimension}-D,"
    lines = [
        f"{arguments.model}: {card.name} ({card.kind}),{size} {card.profile.kind}, {card.precision}",
        *([f"images      {card.described_input()}"] if rules else []),
        f"space       {card.space()}",
        f"fingerprint {session.fingerprint}",
        f"self-test   {'passed' if passed else 'FAILED'}: max abs {difference:.2e}, tolerance {tolerance:.0e}",
    ]
    if arguments.against is not None:
        if card.prepares:
            raise ModelError(
                f"{arguments.model}: has a translator or a resizing in front, which the weights do not; compare the "
                "embedder and the translator as they were exported alone"
            )
        compare = _compare_embedder if card.kind == "embedder" else _compare_maps
        rows = compare(arguments, session, tolerance)
        passed = passed and all(row["passed"] for row in rows)
        for row in rows:
            sizes = " ".join(f"{width}x{height}" for height, width in row["shapes"])
            loss = f", 1 - cosine {1 - row['cosine']:.1e}" if "cosine" in row else ""
            verdict = "agrees" if row["passed"] else "DIFFERS"
            lines.append(f"{sizes:34s} {verdict}: max abs {row['max_abs']:.2e}{loss}")
        data["against"] = {"weights": str(arguments.against), "batches": rows}
    data["passed"] = passed
    return Report(data, "\n".join(lines), exit_code=0 if passed else 1)


def _compare_embedder(arguments: argparse.Namespace, session: Session, tolerance: float) -> list[dict[str, Any]]:
    from gloam.export.precision.release_check import COSINE_LOSS, as_exported, compare
    from gloam.networks.checkpoints import load_checkpoint
    from gloam.runtime.models.embedder import Embedder

    card = session.card
    options: dict[str, Any] = {}
    if arguments.network:
        options = {"mean": card.mean, "std": card.std}
        if (card.pooling or {}).get("name") == "gem":
            options["p"] = (card.pooling or {}).get("p", 3.0)
    if arguments.padding:
        options["padding"] = arguments.padding
    model = load_checkpoint(arguments.against, arguments.network, **options).model
    whitening = None
    if arguments.whitening is not None:
        from gloam.runtime.descriptors.whitening import Whitening

        whitening = Whitening.load(arguments.whitening)
    model = as_exported(model, card, whitening)
    rows = []
    for row in compare(model, Embedder(session)):
        good = 1 - row.cosine <= COSINE_LOSS[card.precision] and row.max_abs <= tolerance
        rows.append({"shapes": row.shapes, "max_abs": row.max_abs, "cosine": row.cosine, "passed": good})
    return rows


def _compare_maps(arguments: argparse.Namespace, session: Session, tolerance: float) -> list[dict[str, Any]]:
    from gloam.export.precision.image_check import compare_maps
    from gloam.networks.checkpoints import load_detector, load_generator
    from gloam.runtime.models.image_model import ImageModel

    kind = session.card.kind
    if kind not in ("translator", "edges"):
        raise ModelError(f"{arguments.model}: models of kind '{kind}' cannot be compared with their weights yet")
    load = load_generator if kind == "translator" else load_detector
    rows = compare_maps(load(arguments.against).model, ImageModel(session))
    return [{"shapes": row.shapes, "max_abs": row.max_abs, "passed": row.max_abs <= tolerance} for row in rows]
