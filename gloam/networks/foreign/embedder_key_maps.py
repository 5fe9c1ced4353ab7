"""Public embedders recognised: cirtorch's, gandtr's, HOW's, NetVLAD's and CIConv's files as networks of gloam.

Sizes are read from the tensors themselves, so that narrower copies of a network are recognised too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gloam.errors import ModelError
from gloam.networks.checkpoints import RESNET_CHILDREN
from gloam.networks.foreign.key_maps import Recognised, State, need, tensors, truth

BACKBONES = ("vgg16", "resnet18", "resnet50", "resnet101")
POOLINGS = ("gem", "mac")
HEAD = re.compile(r"^(fc|classifier)\.|num_batches_tracked$")
HOW_NETWORKS = {"resnet18": "how_resnet18", "resnet50": "how_resnet50_minus"}
VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)
COUNTS: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101"}


def cirtorch(meta: Mapping[str, Any], state: State) -> Recognised:
    """cirtorch's ImageRetrievalNet; ``meta`` says the architecture, and older files lack some of its entries."""
    architecture = str(meta.get("architecture", ""))
    pooling = meta.get("pooling", "gem")
    if isinstance(pooling, dict):  # gandtr: {"type": "gem", ...}
        pooling = pooling.get("type", "gem")
    if architecture not in BACKBONES:
        raise ModelError(f"holds a {architecture or 'network without a name'}; gloam imports {', '.join(BACKBONES)}")
    if pooling not in POOLINGS:
        raise ModelError(f"pools by {pooling}; gloam imports {' and '.join(POOLINGS)}")
    if truth(meta.get("regional", False)):
        raise ModelError("pools regionally (pool.rpool), which gloam does not import")
    if int(meta.get("in_channels", 3)) != 3:
        raise ModelError(f"takes {meta['in_channels']} channels; gloam imports RGB embedders")
    kept, dropped = _without_heads(state)
    options = sizes(kept, architecture)
    options |= {
        option: True
        for option, key in (("local_whitening", "lwhiten.weight"), ("whitening", "whiten.weight"))
        if key in kept
    }
    options |= normalisation(meta.get("mean"), meta.get("std"))
    return Recognised(f"{pooling}_{architecture}", options, kept, dropped)


def how(content: Mapping[str, Any]) -> Recognised:
    """HOW's file; ``whiten.*`` of the old ones is ``dim_reduction.*``."""
    parameters: Any = content.get("net_params")
    parameters = parameters if isinstance(parameters, dict) else {}
    meta: Any = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    architecture = str(parameters.get("architecture") or meta.get("architecture") or "")
    if architecture not in HOW_NETWORKS:
        known = ", ".join(HOW_NETWORKS)
        raise ModelError(f"HOW on {architecture or 'a network without a name'}; gloam imports those on {known}")
    state = {key.replace("whiten.", "dim_reduction.", 1) if key.startswith("whiten.") else key: value
             for key, value in tensors(content.get("state_dict")).items()}  # fmt: skip
    kept, dropped = _without_heads(state)
    runtime = parameters.get("runtime")
    stated = runtime.get("mean_std") if isinstance(runtime, dict) else None
    first = need(kept, "features.0.weight", 4, "HOW")
    reduction = need(kept, "dim_reduction.weight", 4, "HOW")
    options: dict[str, Any] = {"width": first.shape[0], "dimension": reduction.shape[0]}
    options |= normalisation(*stated) if isinstance(stated, list | tuple) and len(stated) == 2 else {}
    if architecture == "resnet50" and any(key.startswith("features.7.") for key in kept):
        raise ModelError("HOW on a whole ResNet-50; gloam imports the one without its last stage (how_r50-)")
    return Recognised(HOW_NETWORKS[architecture], options, kept, dropped)


def netvlad(state: State) -> Recognised:
    """NetVLAD in PyTorch (layouts B and C): ``encoder.*``, ``pool.conv``, ``pool.centroids``, perhaps ``WPCA.0``."""
    kept: dict[str, Tensor] = {}
    dropped = []
    for original, value in state.items():
        key = original.replace(".module.", ".").removeprefix("module.")
        if key.startswith("encoder."):
            kept["features." + key.removeprefix("encoder.")] = value
        elif key in ("WPCA.0.weight", "WPCA.0.bias"):
            kept["whiten." + key.rpartition(".")[2]] = value.flatten(1) if value.dim() == 4 else value
        elif HEAD.search(key):
            dropped.append(original)
        else:
            kept[key] = value
    centroids = need(kept, "pool.centroids", 2, "NetVLAD")
    options = _netvlad_options(kept, centroids)
    return Recognised("netvlad_vgg16", options, kept, dropped)


def netvlad_matlab(layers: list[Any], mean: npt.NDArray[Any]) -> Recognised:
    """NetVLAD as its authors published it for MATLAB (layout A), unified to K-major vectors.

    Args:
        layers: weights of each layer, ``[weight, bias]`` or empty, at the indices of torchvision's VGG16 up to 28;
            30 holds the assignment ``[D, K]`` and the negated centres ``[D, K]``, 33 the whitening ``[D * K, d]`` of
            D-major vectors, with its bias.
        mean: of RGB in 0..255, three values.
    """
    if len(layers) < 31 or len(layers[30]) < 2:
        raise ModelError(f"has {len(layers)} layers, or none of NetVLAD at 30; expected the authors' *_struct.mat")
    state: dict[str, Tensor] = {}
    for index, weights in enumerate(layers[:30]):
        if len(weights) == 2 and np.ndim(weights[0]) == 4:
            state[f"features.{index}.weight"] = _tensor(np.transpose(weights[0], (3, 2, 0, 1)))
            state[f"features.{index}.bias"] = _tensor(weights[1]).reshape(-1)
    assignment, centres = (np.asarray(values, np.float64) for values in layers[30][:2])
    if assignment.ndim != 2 or assignment.shape != centres.shape:
        raise ModelError(f"assignment {assignment.shape} and centres {centres.shape} of layer 30 do not fit")
    depth, clusters = assignment.shape
    state["pool.conv.weight"] = _tensor(assignment.T[:, :, None, None])
    state["pool.centroids"] = _tensor(-centres.T)
    if len(layers) > 33 and len(layers[33]) == 2:
        weight = np.asarray(layers[33][0]).reshape(depth * clusters, -1)
        state["whiten.weight"] = _tensor(k_major(weight.T, depth, clusters))
        state["whiten.bias"] = _tensor(layers[33][1]).reshape(-1)
    options = _netvlad_options(state, state["pool.centroids"])
    options |= {"mean": tuple(float(value) / 255 for value in np.ravel(mean)), "std": (1 / 255,) * 3}
    return Recognised("netvlad_vgg16", options, state)


def k_major(columns: npt.NDArray[Any], depth: int, clusters: int) -> npt.NDArray[Any]:
    """Columns ``d * K + k`` of ``[n, D * K]`` moved to ``k * D + d``."""
    return columns.reshape(-1, depth, clusters).transpose(0, 2, 1).reshape(len(columns), -1)


def ciconv(meta: Mapping[str, Any], state: State) -> Recognised:
    """CIConv in front of a ResNet: torchvision's keys, or cirtorch's, with ``ciconv.scale``."""
    kept, dropped = _without_heads({torchvision_key(key): value for key, value in state.items()})
    first = need(kept, "features.0.weight", 4, "a ResNet behind CIConv")
    if "ciconv.scale" not in kept:
        raise ModelError("has no ciconv.scale among its keys, so this is not CIConv")
    if first.shape[1] != 1:
        raise ModelError(f"its first convolution takes {first.shape[1]} channels; behind CIConv it takes 1")
    kept["ciconv.scale"] = kept["ciconv.scale"].reshape(1)
    architecture = resnet_of(kept)
    notes = [] if "pool.p" in kept else ["the file holds no pool.p: GeM's p is 3, as for a classifier's weights"]
    options: dict[str, Any] = {"width": first.shape[0]}
    stated = normalisation(meta.get("mean"), meta.get("std"))
    if any(value > 0 for value in stated.get("mean", ())):
        notes.append(f"the file states mean {stated['mean']}, but CIConv takes RGB in [0, 1]; nothing is subtracted")
    else:
        options |= stated
    return Recognised(f"ciconv_{architecture}", options, kept, dropped, notes)


def resnet_of(state: State, known: Mapping[tuple[int, ...], str] = COUNTS) -> str:
    """Which ResNet the ``features.4`` to ``features.7`` of a state dict are, by their blocks."""
    counts = tuple(
        len({key.split(".")[2] for key in state if key.startswith(f"features.{stage}.")}) for stage in range(4, 8)
    )
    if counts not in known:
        raise ModelError(f"has stages of {list(counts)} blocks; gloam imports {', '.join(known.values())}")
    return known[counts]


def normalisation(mean: Any, std: Any) -> dict[str, tuple[float, ...]]:
    """``mean`` and ``std`` as options, empty where the file does not say them."""
    if mean is None or std is None:
        return {}
    found = {"mean": tuple(np.ravel(mean).astype(float).tolist()), "std": tuple(np.ravel(std).astype(float).tolist())}
    if any(len(values) != 3 or not np.isfinite(values).all() for values in found.values()) or min(found["std"]) <= 0:
        raise ModelError(f"says mean {mean} and std {std}; three finite numbers each are needed, std above 0")
    return found


def vgg_stages(state: State) -> list[list[int]]:
    """Width and number of convolutions of each stage of ``features.*``: two modules lie between the convolutions of a
    stage, three where a pooling is among them."""
    indices = sorted(
        int(key.split(".")[1]) for key in state if re.fullmatch(r"features\.\d+\.weight", key) and state[key].dim() == 4
    )
    stages: list[list[int]] = []
    for place, index in enumerate(indices):
        width = state[f"features.{index}.weight"].shape[0]
        if place == 0 or index - indices[place - 1] == 3:
            stages.append([width, 0])
        stages[-1][1] += 1
    return stages


def sizes(state: State, architecture: str) -> dict[str, Any]:
    """Options of a backbone of a ResNet's or VGG16's kind that the shapes of ``features.*`` show."""
    first = need(state, "features.0.weight", 4, architecture)
    if architecture != "vgg16":
        return {"width": first.shape[0]}
    stages = vgg_stages(state)
    usual = [[width, count] for width, count in zip((64, 128, 256, 512, 512), VGG_CONVOLUTIONS, strict=True)]
    return {} if stages == usual else {"stages": stages}


def _netvlad_options(state: State, centroids: Tensor) -> dict[str, Any]:
    options: dict[str, Any] = {"clusters": centroids.shape[0], **sizes(state, "vgg16")}
    if "pool.conv.bias" in state:
        options["bias"] = True
    if "whiten.weight" in state:
        options["whitening"] = state["whiten.weight"].shape[0]
    return options


def _without_heads(state: State) -> tuple[dict[str, Tensor], list[str]]:
    dropped = [key for key in state if HEAD.search(key)]
    return {key: value for key, value in state.items() if key not in dropped}, [
        key for key in dropped if not key.endswith("num_batches_tracked")
    ]


def torchvision_key(key: str) -> str:
    """A key of torchvision's ResNets in the order of its children, as gloam has it; another as it is."""
    first, _, rest = key.partition(".")
    return f"features.{RESNET_CHILDREN[first]}.{rest}" if first in RESNET_CHILDREN else key


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
