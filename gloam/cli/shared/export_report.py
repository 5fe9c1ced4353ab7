"""What ``gloam export`` says of the file that it wrote."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gloam.cli.shared.report import Report
from gloam.files import sha256_file

if TYPE_CHECKING:
    from gloam.export.precision.convert import Conversion
    from gloam.model_card import ModelCard


def export_report(
    card: ModelCard, conversion: Conversion | None, arguments: argparse.Namespace, notes: list[str]
) -> Report:
    """Identities of a written file, and the release check where its precision was converted."""
    fingerprint = card.fingerprint(sha256_file(arguments.output))
    data = {
        "model": str(arguments.output),
        "kind": card.kind,
        "name": card.name,
        "dimension": card.dimension,
        "profile": card.profile.kind,
        "multiple": card.profile.multiple,
        "space": card.space(),
        "fingerprint": fingerprint,
        "precision": card.precision,
        "resize": card.resize,
        "translate": card.translate,
        "release_check": None if conversion is None else asdict(conversion),
        "notes": notes,
    }
    size = card.kind if card.dimension is None else f"{card.dimension}-D"
    text = "\n".join(
        [
            f"{arguments.output}: {card.name}, {size}, {card.profile.kind} profile, {card.precision}",
            f"space       {card.space()}",
            f"fingerprint {fingerprint}",
            *_front_lines(card),
            *(() if conversion is None else _check_lines(conversion)),
            *notes,
            f"next: {_next(card, arguments.output)}",
        ]
    )
    return Report(data, text)


def _next(card: ModelCard, output: Path) -> str:
    if card.precision != "bf16":
        return f"gloam check {output}"
    if card.profile.kind == "fixed":
        return f"gloam engine {output} -o {output.with_suffix('')}"
    return f"gloam check {output} --backend openvino (ONNX Runtime has no bf16 on a CPU)"


def _front_lines(card: ModelCard) -> list[str]:
    translator = card.provenance.get("translator", {}).get("name")
    return [
        *([] if card.resize is None else [f"inside      images reduced to {card.resize} px first"]),
        *([] if card.kind != "fused" else [f"inside      images translated by {translator}"]),
    ]


def _check_lines(conversion: Conversion) -> list[str]:
    done, verdict = conversion.details, "passed" if conversion.passed else "FAILED, written because of --accept-loss"
    if conversion.precision == "int8":
        what = f"{done['quantized']} convolutions in int8, {done['kept']} left in fp32 because they cost too much"
    else:
        nodes = sum(done["half"].values())
        what = f"{nodes} operators in {conversion.precision}, {done['casts']} casts, everything else in fp32"
    lines = [
        f"precision   {what}",
        f"check       {verdict}: {conversion.unit} {conversion.loss:.1e} at worst of {conversion.images} images, "
        f"allowed {conversion.tolerance:.0e}",
    ]
    if conversion.precision != "int8":
        lines.append(
            f"            by a float32 twin, rounded to {conversion.precision} behind each operator as a GPU does"
        )
    task = conversion.task
    if task:
        scores = f", mAP {task['mAP']:.4f} (fp32 {task['mAP_fp32']:.4f})" if "mAP" in task else ""
        lines.append(f"task        same nearest neighbour for {task['same_nearest']:.0%} of them{scores}")
    return lines
