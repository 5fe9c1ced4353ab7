"""Public networks of local features to native ones: which file it is, by its keys, and its options by its shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gloam.errors import ModelError
from gloam.networks.foreign.key_maps import Recognised, State, need, tensors
from gloam.networks.local_features import LocalFeatureNetwork, alike, aliked, create_extractor


def recognise_extractor(content: Any) -> Recognised | None:
    """The network of local features in the content of a file, or None where it is something else.

    Raises:
        ModelError: of the family, but of an architecture that gloam does not have.
    """
    state = state_in(content)
    for key, recognise in KEYS.items():
        if key in state:
            return recognise(tensors(state))
    return None


def fill_extractor(found: Recognised, chosen: Mapping[str, Any], file: Path) -> LocalFeatureNetwork:
    """The network of gloam with the file's tensors, in eval mode.

    Args:
        found: recognised.
        chosen: options in place of what the file shows.
        file: for messages.

    Raises:
        ModelError: keys missing, unexpected or of another shape; unknown options.
    """
    from gloam.networks.checkpoints import fill_network

    model = create_extractor(found.network, **{**found.options, **chosen})
    fill_network(model, found.state, file)
    return model


def probe(model: LocalFeatureNetwork, file: Path) -> None:
    """Extract from an image: what comes must be finite, and so must be the weights, for a score that is none is no
    keypoint.

    Raises:
        ModelError: it is not.
    """
    ramp = torch.arange(64 * 96 * 3, dtype=torch.int64).reshape(1, 64, 96, 3)
    with torch.no_grad():
        outputs = model.extract_uint8(((ramp * 2654435761) % 251).to(torch.uint8), 32, 0.0)
    if not all(bool(torch.isfinite(item).all()) for item in (*model.state_dict().values(), *outputs)):
        raise ModelError(f"{file}: the network gives local features that are not finite; are the weights whole?")


def _aliked(state: State) -> Recognised:
    channels = tuple(need(state, f"conv{level}.weight", 4, "ALIKED").shape[1] for level in (1, 2, 3, 4))
    positions = need(state, "desc_head.agg_weights", 3, "ALIKED").shape[0]
    return _variant("aliked", aliked.VARIANTS, (channels, positions), state)


def _alike(state: State) -> Recognised:
    channels = tuple(need(state, f"conv{level}.weight", 4, "ALIKE").shape[1] for level in (1, 2, 3, 4))
    return _variant("alike", alike.VARIANTS, (channels, need(state, "convhead2.weight", 4, "ALIKE").shape[1]), state)


def _xfeat(state: State) -> Recognised:
    dropped = [key for key in state if key.startswith("fine_matcher.")]
    return Recognised("xfeat", {}, {key: value for key, value in state.items() if key not in dropped}, dropped)


def _variant(network: str, variants: Mapping[str, Any], layout: Any, state: State) -> Recognised:
    name = next((name for name, known in variants.items() if known == layout), None)
    if name is None:
        raise ModelError(f"a variant of {network} that gloam does not have (channels {layout[0]})")
    return Recognised(network, {"variant": name}, dict(state))


# By a key that no other public file has.
KEYS: dict[str, Callable[[State], Recognised]] = {
    "desc_head.agg_weights": _aliked,
    "convhead2.weight": _alike,
    "keypoint_head.3.weight": _xfeat,
    "unet.path_down.0.1.3.weight": lambda state: Recognised("disk", {}, dict(state)),
    "detector.0.conv.weight": lambda state: Recognised("superpoint", {"layout": "mit"}, dict(state)),
    "convPa.weight": lambda state: Recognised("superpoint", {"layout": "magicleap"}, dict(state)),
    "sal.weight": lambda state: Recognised("r2d2", {}, dict(state)),
}


def state_in(content: Any) -> dict[str, Tensor]:
    """The state dict of a file, bare or under one of the usual names; empty where there is none."""
    for key in ("state_dict", "model_state", "model", "extractor"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        return {}
    return {str(key).removeprefix("module."): value for key, value in content.items()}
