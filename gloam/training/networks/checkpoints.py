"""Weights in and out: native safetensors with their network's name inside, and public state dicts by key map.

No pickle is trusted: ``.pth`` and ``.pt`` files load with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gloam.errors import ModelError
from gloam.files import write_bytes
from gloam.training.networks.embedders import Embedder, create_embedder

METADATA_KEY = "gloam.checkpoint"
DESCRIPTION = {"network", "options", "mean", "std", "provenance"}  # what a native file says of itself
# A classifier's head and counters of training: no part of a descriptor.
DROPPED = re.compile(r"^(fc|classifier)\.|\.num_batches_tracked$")
RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded embedder.

    Attributes:
        model: in eval mode, float32.
        provenance: at least ``weights_sha256``; for native files all that was saved with them.
        dropped: keys of the file that the embedder does not use.
        defaulted: keys of the embedder that the file does not hold and that kept their initial value (GeM's p).
    """

    model: Embedder
    provenance: dict[str, Any]
    dropped: list[str] = field(default_factory=list)
    defaulted: list[str] = field(default_factory=list)


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Hex sha256 over key, dtype, shape and bytes of every tensor in key order, whatever the file format."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def save_checkpoint(path: str | Path, model: Embedder, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Write a native ``.safetensors`` checkpoint, atomically.

    Args:
        path: file to write.
        model: embedder to save.
        provenance: ``recipe``, ``data``, ``licence`` and what else is worth keeping, JSON-ready.

    Returns:
        the provenance with the weights' sha256 added.
    """
    from safetensors.torch import save

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    full = {**provenance, "weights_sha256": weights_sha256(state)}
    description = {
        "network": model.name,
        "options": model.options,
        "mean": list(model.mean),
        "std": list(model.std),
        "provenance": full,
    }
    write_bytes(path, save(state, metadata={METADATA_KEY: json.dumps(description, sort_keys=True)}))
    return full


def load_checkpoint(path: str | Path, name: str | None = None, **options: Any) -> Checkpoint:
    """Load an embedder.

    Args:
        path: native ``.safetensors``, or a ``.pth``/``.pt`` state dict (torchvision, cirtorch, or bare).
        name: the network; needed for a file that does not say it itself.
        options: passed to ``create_embedder``; refused where the file states its own.

    Raises:
        ModelError: unreadable, of another network, or with keys left over; the first keys are listed.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file")
    state, description = _read(file)
    if description is not None:
        if options or (name is not None and name != description["network"]):
            raise ModelError(
                f"{file}: the checkpoint says it is {description['network']}; drop --network and its options"
            )
        model = create_embedder(
            description["network"],
            mean=tuple(description["mean"]),
            std=tuple(description["std"]),
            **description["options"],
        )
    elif name is None:
        raise ModelError(f"{file}: a plain state dict does not say its network; name it with --network")
    else:
        model = create_embedder(name, **options)
    mapped, dropped = _map_keys(state, model)
    own = model.state_dict()
    reshaped = [key for key, value in mapped.items() if key in own and value.shape != own[key].shape]
    if reshaped:
        found, needed = tuple(mapped[reshaped[0]].shape), tuple(own[reshaped[0]].shape)
        raise ModelError(
            f"{file}: not the weights of {model.name}; {len(reshaped)} keys of another shape "
            f"(first {reshaped[0]}: {found}, needed {needed})"
        )
    missing, unexpected = model.load_state_dict(mapped, strict=False)
    defaulted = [key for key in missing if key == "pool.p"]
    missing = [key for key in missing if key != "pool.p" and not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ModelError(
            f"{file}: not the weights of {model.name}; {len(missing)} keys missing{_first(missing)}, "
            f"{len(unexpected)} unexpected{_first(unexpected)}"
        )
    model.eval()
    provenance = dict(description["provenance"]) if description is not None else {"data": file.name}
    provenance["weights_sha256"] = weights_sha256(model.state_dict())
    return Checkpoint(model, provenance, dropped, defaulted)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt") as handle:
                metadata = handle.metadata() or {}
                state = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118  # not a dict
            description = json.loads(metadata[METADATA_KEY]) if METADATA_KEY in metadata else None
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{file}: not a readable safetensors file ({error})") from error
        if description is not None and not set(description) >= DESCRIPTION:
            lost = ", ".join(sorted(DESCRIPTION - set(description)))
            raise ModelError(f"{file}: the checkpoint's description lacks {lost}; save it again")
        return state, description
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and value errors alike
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{file}: cannot be loaded as plain weights ({reason[:160]})") from error
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{file}: holds no state dict of tensors")
    return dict(content), None


def _map_keys(state: Mapping[str, Tensor], model: Embedder) -> tuple[dict[str, Tensor], list[str]]:
    """Keys of torchvision's and cirtorch's layouts to ours; what a descriptor does not need is dropped and listed."""
    known = set(model.state_dict())
    mapped: dict[str, Tensor] = {}
    dropped: list[str] = []
    for original, value in state.items():
        key = original.removeprefix("module.")
        first, _, rest = key.partition(".")
        if "resnet" in model.name and first in RESNET_CHILDREN:
            key = f"features.{RESNET_CHILDREN[first]}.{rest}"
        elif first.isdigit():
            key = f"features.{key}"
        if key not in known and DROPPED.search(key):
            dropped.append(original)
        else:
            mapped[key] = value.float() if value.is_floating_point() else value
    return mapped, dropped


def _first(keys: list[str]) -> str:
    return f" (first {keys[0]})" if keys else ""
