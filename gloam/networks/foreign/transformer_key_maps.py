"""DINOv2 recognised: the authors' files and timm's, whose keys are nearly the same and whose descriptors are not.

Both are told apart by the keys that only one of them has, so that neither is taken for the other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from gloam.errors import ModelError
from gloam.networks.embedders.dinov2 import REGISTERS, SIZES
from gloam.networks.foreign.key_maps import Recognised, State, need

HEAD = 64  # channels of a head
CHUNKED = re.compile(r"^blocks\.\d+\.(\d+\.)")  # of a training that was sharded
MASK = "mask_token"  # of the authors' training; no part of a descriptor
OTHER_SPACE = "its positions are resampled otherwise, which makes another space"


def dinov2(state: State) -> Recognised:
    """The authors' file."""
    need(state, "cls_token", 3, "DINOv2")
    if "reg_token" in state or MASK not in state:
        raise ModelError(f"holds no {MASK}, so it is timm's file and not the authors'; {OTHER_SPACE}: --as dinov2_timm")
    kept = {key: value for key, value in state.items() if key != MASK}
    return _recognised(kept, [MASK], "antialias" if "register_tokens" in kept else "offset")


def dinov2_timm(state: State) -> Recognised:
    """timm's file, with registers brought to the authors' layout."""
    need(state, "cls_token", 3, "DINOv2")
    if MASK in state or "register_tokens" in state:
        raise ModelError(f"holds {MASK}, so it is the authors' file and not timm's; {OTHER_SPACE}: --as dinov2")
    kept = dict(state)
    if "reg_token" in kept:
        table = need(kept, "pos_embed", 3, "DINOv2")
        kept["register_tokens"] = kept.pop("reg_token")
        kept["pos_embed"] = torch.cat((torch.zeros_like(table[:, :1]), table), 1)  # its class token has its own in it
        return _recognised(kept, [], "antialias")
    note = "timm's file: positions are resampled with antialias, so its descriptors are not those of the authors' file"
    return _recognised(kept, [], "antialias", [note])


def backbone(state: State, what: str = "DINOv2") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options of :class:`~gloam.networks.embedders.dinov2.DinoV2` that a state dict's shapes show, and its tensors with
    the blocks numbered through.

    Raises:
        ModelError: no such network, or one that gloam does not have.
    """
    flat = {CHUNKED.sub(r"blocks.\1", key): value for key, value in state.items()}
    if any(".mlp.w12." in key for key in flat):
        raise ModelError(f"{what} of the size g (SwiGLU); gloam imports S, B and L")
    width = need(flat, "cls_token", 3, what).shape[2]
    places = need(flat, "pos_embed", 3, what).shape[1] - 1
    if math.isqrt(places) ** 2 != places:
        raise ModelError(f"{what} with {places + 1} positions, which are no square table and a class token")
    blocks = {int(match[1]) for key in flat if (match := re.match(r"blocks\.(\d+)\.", key))}
    registers = flat["register_tokens"].shape[1] if "register_tokens" in flat else 0
    options = {"width": width, "depth": max(blocks, default=-1) + 1, "heads": max(width // HEAD, 1)}
    return {**options, "registers": registers, "table": math.isqrt(places)}, flat


def network_of(options: dict[str, Any]) -> str:
    """The published name of a backbone; a narrow copy has that of the smallest."""
    sizes = {(width, depth): name for name, (width, depth, _) in SIZES.items()}
    name = sizes.get((options["width"], options["depth"]), next(iter(SIZES)))
    return f"{name}_reg" if options["registers"] == REGISTERS else name


def _recognised(state: State, dropped: list[str], position: str, notes: list[str] | None = None) -> Recognised:
    options, flat = backbone(state)
    kept = {f"features.{key}": value for key, value in flat.items()}
    return Recognised(network_of(options), {**options, "position": position}, kept, dropped, notes or [])


FAMILIES: dict[str, Callable[[State], Recognised]] = {"dinov2": dinov2, "dinov2_timm": dinov2_timm}


def family_of(keys: Collection[str]) -> str | None:
    """The family that a file's keys tell, or None."""
    if not {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= set(keys):
        return None
    return "dinov2" if MASK in keys or "register_tokens" in keys else "dinov2_timm"
