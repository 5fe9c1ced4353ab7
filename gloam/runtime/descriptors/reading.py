"""How the images of a store or an index were resized, as its options state it, and the space that follows.

Images resized as the literature does give the space of weights and normalisation alone, and options without
:data:`INPUT_RULE`. Any other rule is hashed into the space, and the options state it under that key.
Stores from before that hash state another size without the key: their space is brought up to date when they are read,
so that they are compared with new ones of the same sizes, and refused by those of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gloam.errors import UsageError
from gloam.model_card import LITERATURE, InputRule, space_read_by
from gloam.record import fill_dataclass, to_json

INPUT_RULE = "input_rule"


def stated_rule(options: Mapping[str, Any]) -> InputRule | None:
    """The rule that options state; None where they state no size, and native sizes where the model resized.

    Raises:
        UsageError: values that are no sizes.
    """
    if INPUT_RULE in options:  # which says more than the two sizes
        return fill_dataclass(InputRule, options[INPUT_RULE], INPUT_RULE)
    if "max_side" not in options and "stretch" not in options:
        return None
    try:
        stretch = options.get("stretch")
        return InputRule.of(options.get("max_side"), (int(stretch[0]), int(stretch[1])) if stretch else None)
    except (TypeError, ValueError, LookupError) as error:
        raise UsageError(f"max_side {options.get('max_side')!r}, stretch {stretch!r} are no sizes") from error


def space_of(space: str, options: Mapping[str, Any]) -> str:
    """The space of descriptors, from what is stated beside them."""
    return space_read_by(space, stated_rule(options) or LITERATURE) if _unmarked(options) else space


def marked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that belong to :func:`space_of`."""
    rule = stated_rule(options) if _unmarked(options) else None
    return {**options, **({} if rule in (None, LITERATURE) else {INPUT_RULE: to_json(rule)})}


def _unmarked(options: Mapping[str, Any]) -> bool:
    """Whether the sizes may be missing in the space; what a graph resizes itself is in it under another name."""
    return INPUT_RULE not in options and options.get("resize") is None
