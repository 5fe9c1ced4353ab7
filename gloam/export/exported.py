"""What an export wrote, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.files import sha256_file
from gloam.model_card import ModelCard
from gloam.record import to_json

if TYPE_CHECKING:
    from gloam.export.precision.convert import Conversion

SHOWN = 3  # of the convolutions left in float32; the JSON form has all


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        output: the ``.onnx`` file.
        card: that it carries.
        conversion: of its precision, with the release check's figures; None for float32.
        notes: what is worth knowing of how the weights were read.
    """

    output: Path
    card: ModelCard
    conversion: Conversion | None = None
    notes: Sequence[str] = ()

    @property
    def fingerprint(self) -> str:
        """Of the written file, hex sha256."""
        return self.card.fingerprint(sha256_file(self.output))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        card = self.card
        return {
            "model": str(self.output),
            "kind": card.kind,
            "name": card.name,
            "dimension": card.dimension,
            "profile": card.profile.kind,
            "multiple": card.profile.multiple,
            "input_rule": None if card.input_rule is None else to_json(card.input_rule),
            "space": card.space(),
            "fingerprint": self.fingerprint,
            "precision": card.precision,
            "resize": card.resize,
            "translate": card.translate,
            "keypoints": None if card.keypoints is None else to_json(card.keypoints),
            "takes": None if card.takes is None else to_json(card.takes),
            "release_check": None if self.conversion is None else asdict(self.conversion),
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """Identities, what is inside, the release check, and what to do next."""
        card = self.card
        size = card.kind if card.dimension is None else f"{card.dimension}-D"
        return "\n".join(
            [
                f"{self.output}: {card.name}, {size}, {card.profile.kind} profile, {card.precision}",
                *([] if card.input_rule is None else [f"images      {card.described_input()}"]),
                *([] if card.takes is None else [f"takes       {card.takes}"]),
                f"space       {card.space()}",
                f"fingerprint {self.fingerprint}",
                *_keypoint_lines(card),
                *_front_lines(card),
                *(() if self.conversion is None else _check_lines(self.conversion)),
                *self.notes,
                f"next: {_next(card, self.output)}",
            ]
        )


def _next(card: ModelCard, output: Path) -> str:
    if card.precision != "bf16":
        return f"gloam check {output}"
    if card.profile.kind == "fixed":
        return f"gloam engine {output} -o {output.with_suffix('')}"
    return f"gloam check {output} --backend openvino (ONNX Runtime has no bf16 on a CPU)"


def _keypoint_lines(card: ModelCard) -> list[str]:
    rule = card.keypoints
    if rule is None:
        return []
    which = f" of a score above {rule.threshold:g}" if rule.threshold else ""
    return [
        f"keypoints   the {rule.count} strongest{which}, in pixels as the file stores them, the first one's centre at "
        f"{rule.origin:g}",
        f"licence     {card.provenance['licence']}",
    ]


def _front_lines(card: ModelCard) -> list[str]:
    translator = card.provenance.get("translator", {}).get("name")
    return [
        *([] if card.resize is None else [f"inside      images reduced to {card.resize} px first"]),
        *([] if card.kind != "fused" else [f"inside      images translated by {translator}"]),
    ]


def _costliest(done: Mapping[str, Any]) -> list[str]:
    """Names of the convolutions left in float32 that would cost most."""
    known = [name for name in done["float32"] if name in done["losses"]]
    return sorted(known, key=lambda name: -done["losses"][name])[:SHOWN]


def _check_lines(conversion: Conversion) -> list[str]:
    done, verdict = conversion.details, "passed" if conversion.passed else "FAILED, written because of --accept-loss"
    if conversion.precision == "int8":
        what = f"{done['quantized']} convolutions in int8, {done['kept']} left in fp32 because they cost too much"
        if done["kept"]:
            cost = ", ".join(f"{name} {done['losses'][name]:.1e}" for name in _costliest(done))
            what += f"; {done['returned']} returned one by one" + (f"; costliest alone: {cost}" if cost else "")
    else:
        nodes = sum(done["half"].values())
        what = f"{nodes} operators in {conversion.precision}, {done['casts']} casts, everything else in fp32"
        if done["kept"]:
            why = ", ".join(f"{name} {reason}" for name, reason in list(done["kept"].items())[:SHOWN])
            what += f"; {len(done['kept'])} of them because they would not survive: {why}"
    lines = [
        f"precision   {what}",
        f"check       {verdict}: {conversion.unit} {conversion.loss:.1e} at worst of {conversion.images} images, "
        f"allowed {conversion.tolerance:.0e}",
    ]
    if conversion.precision == "int8":
        lines.append(
            f"            calibrated on {conversion.calibrated} images of the folder, the first, the third and so on "
            "by name; judged on the others"
        )
    else:
        lines.append(
            f"            by a float32 twin, rounded to {conversion.precision} behind each operator as a GPU does"
        )
    task = conversion.task
    if task:
        scores = f", mAP {task['mAP']:.4f} (fp32 {task['mAP_fp32']:.4f})" if "mAP" in task else ""
        lines.append(f"task        same nearest neighbour for {task['same_nearest']:.0%} of them{scores}")
    return lines
