"""Public weights of LightGlue and LighterGlue, by their keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gloam.errors import ModelError
from gloam.networks.foreign.key_maps import Recognised
from gloam.networks.foreign.local_features import state_in
from gloam.networks.matchers import TAKES

MARK = "posenc.Wr.weight"
PREFIXES = ("matcher.",)  # beside an extractor
OLD = re.compile(r"^(self_attn|cross_attn)\.(\d+)\.")  # before the layers of both became one list
UNUSED = re.compile(r"^log_assignment\.\d+\.r$|^confidence_thresholds$")  # left by earlier versions of the code
LAYERS = re.compile(r"^transformers\.(\d+)\.")


def is_matcher(content: Any) -> bool:
    """Whether the content of a file holds a LightGlue of any size."""
    state = state_in(content)
    return any(f"{prefix}{MARK}" in state for prefix in ("", *PREFIXES))


def recognise_matcher(state: Mapping[str, Tensor], name: str | None = None) -> Recognised:
    """Which matcher a state dict holds, by gloam's keys.

    Args:
        state: of a foreign file, float32.
        name: of the matcher, where several take such features.

    Raises:
        ModelError: of no LightGlue, of no known features, or of several and not named, or not those that are named.
    """
    prefix = next((prefix for prefix in ("", *PREFIXES) if f"{prefix}{MARK}" in state), None)
    if prefix is None:
        raise ModelError(f"no {MARK} among the keys, which every LightGlue has; the weights are of another network")
    kept: dict[str, Tensor] = {}
    dropped: list[str] = []
    for original, value in state.items():
        key = OLD.sub(r"transformers.\2.\1.", original.removeprefix(prefix))
        if not original.startswith(prefix) or UNUSED.search(key):  # LighterGlue's file has an extractor beside it
            dropped.append(original)
        else:
            kept[key] = value
    first = "transformers.0.self_attn.out_proj.weight"
    if first not in kept or kept[MARK].ndim != 2:
        raise ModelError(f"has {MARK} but no {first}; the weights are not whole")
    width, (half, values) = len(kept[first]), kept[MARK].shape
    dimension = kept["input_proj.weight"].shape[-1] if "input_proj.weight" in kept else width
    options = {
        "width": width,
        "heads": max(width // (2 * half), 1),
        "layers": 1 + max(int(found[1]) for key in kept if (found := LAYERS.match(key))),
    }
    fitting = [each for each, takes in TAKES.items() if (takes.dimension, takes.oriented) == (dimension, values == 4)]
    if name is None and len(fitting) > 1:
        raise ModelError(
            f"holds a LightGlue for features of {dimension} values, and does not say whose; name it with "
            f"--network (gloam import: --as) {' or '.join(fitting)}"
        )
    if not fitting or (name is not None and name not in fitting):
        asked = "no matcher here takes them" if name is None else f"{name} does not take them"
        oriented = " with orientations" if values == 4 else ""
        raise ModelError(f"holds a LightGlue for features of {dimension} values{oriented}; {asked}")
    return Recognised(name or fitting[0], options, kept, dropped)
