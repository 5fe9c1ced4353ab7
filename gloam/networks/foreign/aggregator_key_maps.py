"""Networks whose aggregators were published with their backbones recognised: SALAD, MegaLoc, BoQ, MixVPR, CosPlace,
EigenPlaces and AP-GeM.

A file's layout is known by a key that no other has; sizes are read from the tensors themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor

from gloam.errors import ModelError
from gloam.networks.embedders.mixvpr import STRIDE
from gloam.networks.foreign.embedder_key_maps import COUNTS, normalisation, resnet_of, sizes, torchvision_key
from gloam.networks.foreign.key_maps import Recognised, State, need, tensors, truth
from gloam.networks.foreign.transformer_key_maps import MASK, backbone


def salad(state: State) -> Recognised:
    """SALAD's file."""
    what, inner, head = "SALAD", *_split(state, "backbone.model.", "aggregator.")
    need(inner, MASK, 2, what)
    options, features = _features({key: value for key, value in inner.items() if key != MASK}, what)
    return Recognised(
        "salad_dinov2", options | _of_salad(head, what), features | _pool(head), [f"backbone.model.{MASK}"]
    )


def megaloc(state: State) -> Recognised:
    """MegaLoc's file: a SALAD under ``aggregator.agg``, and a linear layer."""
    what, inner, head = "MegaLoc", *_split(state, "backbone.", "aggregator.")
    options, features = _features(inner, what)
    pool = {key.removeprefix("agg."): value for key, value in head.items() if not key.startswith("linear.")}
    linear = {key: value for key, value in head.items() if key.startswith("linear.")}
    options |= _of_salad(pool, what) | {"linear": need(linear, "linear.weight", 2, what).shape[0]}
    return Recognised("megaloc", options, features | _pool(pool) | linear)


def boq(state: State) -> Recognised:
    """BoQ's files, on DINOv2 or on a ResNet-50 without its last stage."""
    what, inner, head = "BoQ", *_split(state, "backbone.", "aggregator.")
    queries, first = need(head, "boqs.0.queries", 3, what), need(head, "proj_c.weight", 4, what)
    options: dict[str, Any] = {
        "head_width": first.shape[0],
        "queries": queries.shape[1],
        "query_blocks": len({key.split(".")[1] for key in head if key.startswith("boqs.")}),
        "rows": need(head, "fc.weight", 2, what).shape[0],
    }
    if any(key.startswith("dino.") for key in inner):
        kept = {key.removeprefix("dino."): value for key, value in inner.items()}
        need(kept, MASK, 2, what), need(kept, "norm.weight", 1, what), need(kept, "norm.bias", 1, what)
        unused = [
            key for key in kept if key == MASK or key.startswith("norm.")
        ]  # its patches are those before the norm
        own, features = _features({key: value for key, value in kept.items() if key not in unused}, what)
        name, dropped = "boq_dinov2", [f"backbone.dino.{key}" for key in unused]
        options |= own
    else:
        name, dropped, features = "boq_resnet50", [], {}
        for key, value in _joined(inner).items():
            features[f"features.{key.removeprefix('net.')}"] = value
        options["width"] = need(features, "features.0.weight", 4, what).shape[0]
    return Recognised(name, options, features | _pool(head), dropped)


def mixvpr(state: State) -> Recognised:
    """MixVPR's file."""
    what, inner, head = "MixVPR", *_split(state, "backbone.model.", "aggregator.")
    features = {torchvision_key(key): value for key, value in inner.items()}
    cells = need(head, "row_proj.weight", 2, what).shape[1]
    options = {
        "width": need(features, "features.0.weight", 4, what).shape[0],
        "side": math.isqrt(cells) * STRIDE,
        "channels": need(head, "channel_proj.weight", 2, what).shape[0],
        "rows": head["row_proj.weight"].shape[0],
        "mixers": len({key.split(".")[1] for key in head if key.startswith("mix.")}),
    }
    return Recognised("mixvpr", options, features | _pool(head))


def cosplace(state: State) -> Recognised:
    """CosPlace's and EigenPlaces' files, of one layout: on a ResNet, or on VGG16 without its last ReLU."""
    what, inner, head = "CosPlace or EigenPlaces", *_split(state, "backbone.", "aggregation.")
    need(head, "1.p", 1, what)
    layers = {"1.p": "pool.p", "3.weight": "fc.weight", "3.bias": "fc.bias"}
    kept = {f"features.{key}": value for key, value in inner.items()}
    kept |= {layers.get(key, f"aggregation.{key}"): value for key, value in head.items()}
    dimension = need(head, "3.weight", 2, what).shape[0]
    if "features.1.running_mean" not in kept:
        return Recognised("cosplace_vgg16", {**sizes(kept, "vgg16"), "dimension": dimension}, kept)
    architecture = resnet_of(kept, {**COUNTS, (3, 8, 36, 3): "resnet152"})
    return Recognised(f"cosplace_{architecture}", {**sizes(kept, architecture), "dimension": dimension}, kept)


def apgem(content: Mapping[str, Any]) -> Recognised:
    """AP-GeM's file, which says its architecture and normalisation."""
    stated: Any = content.get("model_options")
    stated = stated if isinstance(stated, dict) else {}
    architecture = str(stated.get("arch", "")).partition("_")[0]
    if architecture not in ("resnet50", "resnet101"):
        raise ModelError(
            f"AP-GeM on {architecture or 'a network without a name'}; gloam imports resnet50 and resnet101"
        )
    if not str(stated.get("pooling", "gem")).startswith("gem"):
        raise ModelError(f"AP-GeM that pools by {stated['pooling']}; gloam imports gem")
    for flag in ("norm_features", "without_fc"):
        if truth(stated.get(flag, False)):
            raise ModelError(f"AP-GeM with {flag}, which gloam does not import")
    state = tensors(content.get("state_dict"))
    need(state, "adpool.p", 1, "AP-GeM")
    kept = {"pool.p" if key == "adpool.p" else torchvision_key(key): value for key, value in state.items()}
    options = {**sizes(kept, architecture), "dimension": need(kept, "fc.weight", 2, "AP-GeM").shape[0]}
    how: Any = content.get("preprocess")
    if isinstance(how, dict):
        options |= normalisation(how.get("mean"), how.get("std"))
    return Recognised(f"apgem_{architecture}", options, kept)


FAMILIES: dict[str, Callable[[State], Recognised]] = {
    "salad": salad,
    "megaloc": megaloc,
    "boq": boq,
    "mixvpr": mixvpr,
    "cosplace": cosplace,
}
APGEM = "apgem"  # whose file says more than its tensors do
TELLING = {
    "aggregator.dust_bin": "salad",
    "aggregator.agg.dust_bin": "megaloc",
    "aggregator.boqs.0.queries": "boq",
    "aggregator.channel_proj.weight": "mixvpr",
    "aggregation.1.p": "cosplace",
    "adpool.p": APGEM,
}


def family_of(keys: Collection[str]) -> str | None:
    """The family that a file's keys tell, or None."""
    return next((family for key, family in TELLING.items() if key in keys), None)


def _split(state: State, backbone_prefix: str, head_prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The two parts without their prefixes; a key of neither keeps its name in the first, to be refused by it."""
    head = {key.removeprefix(head_prefix): value for key, value in state.items() if key.startswith(head_prefix)}
    rest = {key.removeprefix(backbone_prefix): value for key, value in state.items() if not key.startswith(head_prefix)}
    return rest, head


def _features(state: State, what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A backbone without registers by the authors' rule: its options, and its tensors by gloam's keys."""
    options, flat = backbone(state, what)
    return {**options, "position": "offset"}, {f"features.{key}": value for key, value in flat.items()}


def _pool(head: State) -> dict[str, Tensor]:
    return {f"pool.{key}": value for key, value in head.items()}


def _of_salad(head: State, what: str) -> dict[str, Any]:
    return {
        "clusters": need(head, "score.3.weight", 4, what).shape[0],
        "cluster_dimension": need(head, "cluster_features.3.weight", 4, what).shape[0],
        "token": need(head, "token_features.2.weight", 2, what).shape[0],
        "hidden": need(head, "token_features.0.weight", 2, what).shape[0],
    }


def _joined(inner: State) -> dict[str, Tensor]:
    """A ResNet's children numbered through, where a file has them in two parts, the second from 0 again."""
    frozen = [int(key.split(".")[1]) for key in inner if key.startswith("frozen_layers.")]
    shift = max(max(frozen, default=0) + 1, 4)  # the first stage is the fifth child, and two have no weights
    joined = {}
    for key, value in inner.items():
        part, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        if part == "unfrozen_layers" and number.isdigit():
            joined[f"net.{int(number) + shift}.{name}"] = value
        else:
            joined[f"net.{rest}" if part == "frozen_layers" else key] = value
    return joined
