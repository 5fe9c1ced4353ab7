"""Which descriptors may be compared."""

from __future__ import annotations

from gloam.errors import IncompatibleError
from gloam.files import sha256_json
from gloam.model_card.input_rule import LITERATURE, InputRule
from gloam.record import to_json


def space_read_by(space: str, rule: InputRule) -> str:
    """The space of images resized by ``rule``, from the space of images resized as the literature does, which is what
    files and stores that state no rule have."""
    return space if rule == LITERATURE else sha256_json({"space": space, "input_rule": to_json(rule)})


def expect_same_space(
    expected: str, found: str, where: str, rules: tuple[InputRule | None, InputRule | None] = (None, None)
) -> None:
    """Refuse descriptors of another space; ``rules`` are those by which the images of the expected and of the found
    ones were resized, where they are known."""
    if expected == found:
        return
    if None not in rules and rules[0] != rules[1]:
        raise IncompatibleError(
            f"{where}: descriptors of space {found[:12]}, of images read at {rules[1]}, but {expected[:12]} is needed, "
            f"of images read at {rules[0]}; extract them again alike, by the model's own rule or one --max-side"
        )
    raise IncompatibleError(
        f"{where}: descriptors of space {found[:12]}, but {expected[:12]} is needed; "
        "they come from another model or normalisation and cannot be compared, extract them again"
    )
