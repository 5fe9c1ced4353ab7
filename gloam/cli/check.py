"""``gloam check``: does a model still compute what it should?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gloam.cli.report import Report

HELP = "run a model's stored self-test here, and compare it with its PyTorch original"
COSINE_LOSS = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 1e-2}  # largest allowed 1 - cosine, by precision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("model", type=Path, help=".onnx file")
    parser.add_argument("--against", type=Path, metavar="WEIGHTS", help="the weights it was exported from")
    parser.add_argument("--network", help="network name, for weights that do not say it themselves")
    parser.add_argument("--padding", choices=("symmetric", "tf"), help="MobileNetV2: padding of layers of stride 2")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where to run the model")


def run(arguments: argparse.Namespace) -> Report:
    """Self-test first; then, with ``--against``, the numeric step of the release check."""
    from gloam.runtime.embedder import Embedder
    from gloam.runtime.selftest import run_selftest

    embedder = Embedder.load(arguments.model, device=arguments.device)
    card = embedder.card
    difference, tolerance = run_selftest(embedder.session)
    passed = difference <= tolerance
    data: dict[str, Any] = {
        "model": str(arguments.model),
        "kind": card.kind,
        "name": card.name,
        "dimension": card.dimension,
        "profile": card.profile.kind,
        "precision": card.precision,
        "space": embedder.space,
        "fingerprint": embedder.fingerprint,
        "backend": embedder.session.backend,
        "provenance": dict(card.provenance),
        "selftest": {"max_abs": difference, "tolerance": tolerance, "passed": passed},
    }
    lines = [
        f"{arguments.model}: {card.name} ({card.kind}), {card.dimension}-D, {card.profile.kind}, {card.precision}",
        f"space       {embedder.space}",
        f"fingerprint {embedder.fingerprint}",
        f"self-test   {'passed' if passed else 'FAILED'}: max abs {difference:.2e}, tolerance {tolerance:.0e}",
    ]
    if arguments.against is not None:
        from gloam.export.release_check import compare
        from gloam.training.networks.checkpoints import load_checkpoint

        options: dict[str, Any] = {}
        if arguments.network:
            options = {"mean": card.mean, "std": card.std, "p": (card.pooling or {}).get("p", 3.0)}
        if arguments.padding:
            options["padding"] = arguments.padding
        model = load_checkpoint(arguments.against, arguments.network, **options).model
        rows = []
        for row in compare(model, embedder):
            good = 1 - row.cosine <= COSINE_LOSS[card.precision] and row.max_abs <= tolerance
            passed = passed and good
            sizes = " ".join(f"{width}x{height}" for height, width in row.shapes)
            rows.append({"shapes": row.shapes, "max_abs": row.max_abs, "cosine": row.cosine, "passed": good})
            verdict = "agrees" if good else "DIFFERS"
            lines.append(f"{sizes:34s} {verdict}: max abs {row.max_abs:.2e}, 1 - cosine {1 - row.cosine:.1e}")
        data["against"] = {"weights": str(arguments.against), "batches": rows}
    data["passed"] = passed
    return Report(data, "\n".join(lines), exit_code=0 if passed else 1)
