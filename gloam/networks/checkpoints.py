"""Weights in and out: native safetensors with their network's name inside, and public state dicts by key map.

No pickle is trusted: ``.pth`` and ``.pt`` files load with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.files import load_sealed, sealed, split_seal, write_bytes
from gloam.networks.edges import EdgeDetectorNetwork, create_detector
from gloam.networks.embedders import EmbedderNetwork, create_embedder
from gloam.networks.embedders.edge_mac import EdgeMAC
from gloam.networks.local_features import LocalFeatureNetwork, create_extractor
from gloam.networks.matchers import MatcherNetwork, create_matcher
from gloam.networks.translators import TranslatorNetwork, create_generator

METADATA_KEY = "gloam.checkpoint"
# What a native file says of itself; a file without "kind" is an embedder of an earlier gloam.
DESCRIPTION = {"network", "options", "provenance"}
EMBEDDER_DESCRIPTION = DESCRIPTION | {"mean", "std"}
NOUNS = {
    "embedder": "an embedder",
    "translator": "a translator",
    "edges": "an edge detector",
    "local_features": "a network of local features",
    "matcher": "a matcher",
}
TYPES = {"kind": str, "network": str, "options": dict, "provenance": dict, "mean": list, "std": list}
# A classifier's head and counters of training: no part of a descriptor.
DROPPED = re.compile(r"^(fc|classifier)\.|\.num_batches_tracked$")
RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint(Generic[Model]):
    """A loaded network.

    Attributes:
        model: in eval mode, float32.
        provenance: at least ``weights_sha256``; for native files all that was saved with them.
        dropped: keys of the file that the network does not use.
        defaulted: keys of the network that the file does not hold and that kept their initial value (GeM's p).
    """

    model: Model
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


def save_checkpoint(
    path: str | Path,
    model: EmbedderNetwork | TranslatorNetwork | EdgeDetectorNetwork | LocalFeatureNetwork | MatcherNetwork,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a native ``.safetensors`` checkpoint, atomically.

    Args:
        path: file to write.
        model: embedder (of any family, or a pipeline around one), translator, edge detector, network of local features
            or matcher; the file says which.
        provenance: ``recipe``, ``data``, ``licence`` and what else is worth keeping, JSON-ready.

    Returns:
        the provenance with the weights' sha256 added: of the embedder alone where a pipeline is around it.
    """
    from safetensors.torch import save

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    own = model.core.state_dict() if isinstance(model, EmbedderNetwork) else state
    full = {**provenance, "weights_sha256": weights_sha256(own)}
    description: dict[str, Any] = {
        "kind": _kind_of(model),
        "network": model.name,
        "options": model.options,
        "provenance": full,
    }
    if isinstance(model, EmbedderNetwork):
        description |= {"mean": list(model.mean), "std": list(model.std)}
        if model.core is not model:
            description["state_sha256"] = weights_sha256(state)
    write_bytes(path, save(state, metadata={METADATA_KEY: sealed(json.dumps(description, sort_keys=True))}))
    return full


def load_checkpoint(
    path: str | Path, name: str | None = None, *, learned_first: tuple[str, ...] = (), **options: Any
) -> Checkpoint[EmbedderNetwork]:
    """Load an embedder.

    Args:
        path: native ``.safetensors``, or a ``.pth``/``.pt`` state dict (torchvision, cirtorch, or bare).
        name: the network; needed for a file that does not say it itself.
        learned_first: beginnings of keys that the file, a backbone's, may lack, because whoever loads it learns them
            from its cells before anything else, or gives them: HOW's PCA, NetVLAD's centres, EdgeMAC's filter and
            detector.
        options: passed to ``create_embedder``; refused where the file states its own.

    Raises:
        ModelError: unreadable, of another network or kind, or with keys left over; the first keys are listed.
    """
    file = Path(path)
    state, description = read_state(file)
    if description is not None:
        _demand_kind(file, description, "embedder")
        if options or (name is not None and name != description["network"]):
            raise ModelError(
                f"{file}: the checkpoint says it is {description['network']}; drop --network and its options"
            )
        normalisation = {key: tuple(description[key]) for key in ("mean", "std")}
        model = _created(file, create_embedder, description, **normalisation)
        if model.core is model or "state_sha256" in description:  # a pipeline of before has that of its core alone
            _expect_whole(file, description, state)
    elif name is None:
        raise ModelError(f"{file}: a plain state dict does not say its network; name it with --network")
    else:
        model = create_embedder(name, **options)
    # A native file holds the network's own keys.
    mapped, dropped = (state, []) if description is not None else _map_keys(state, model)
    if isinstance(model, EdgeMAC):
        mapped = model.of_grey(mapped)
    later = [key for key in model.state_dict() if learned_first and key.startswith(learned_first)]
    defaulted = fill_network(model, mapped, file, optional={"pool.p", *later})
    provenance = dict(description["provenance"]) if description is not None else {"data": file.name}
    provenance["weights_sha256"] = weights_sha256(model.core.state_dict())
    return Checkpoint(model, provenance, dropped, defaulted)


def load_generator(path: str | Path) -> Checkpoint[TranslatorNetwork]:
    """Load a native translator checkpoint.

    Raises:
        ModelError: unreadable, of another kind or network, or foreign (``gloam import`` converts those).
    """
    return _load_native(Path(path), "translator", create_generator)


def load_detector(path: str | Path) -> Checkpoint[EdgeDetectorNetwork]:
    """Load a native edge detector checkpoint.

    Raises:
        ModelError: unreadable, of another kind or network, or foreign (``gloam import`` converts those).
    """
    return _load_native(Path(path), "edges", create_detector)


def load_extractor(path: str | Path) -> Checkpoint[LocalFeatureNetwork]:
    """Load a native checkpoint of local features.

    Raises:
        ModelError: unreadable, of another kind or network, or foreign (``gloam import`` converts those).
    """
    return _load_native(Path(path), "local_features", create_extractor)


def load_matcher(path: str | Path) -> Checkpoint[MatcherNetwork]:
    """Load a native matcher checkpoint.

    Raises:
        ModelError: unreadable, of another kind or network, or foreign (``gloam import`` converts those).
    """
    return _load_native(Path(path), "matcher", create_matcher)


def checkpoint_kind(path: str | Path) -> str | None:
    """``embedder``, ``translator``, ``edges``, ``local_features`` or ``matcher`` as a native file says; None for a file
    that does not say its kind.

    Raises:
        ModelError: not a readable safetensors file.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file")
    if file.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: not a readable safetensors file ({error})") from error
    description = _description(file, metadata)
    return None if description is None else str(description.get("kind", "embedder"))


def fill_network(
    model: nn.Module, state: Mapping[str, Tensor], file: str | Path, optional: Collection[str] = ()
) -> list[str]:
    """Load ``state`` into ``model``, all of it and nothing else, and put the model in eval mode.

    Args:
        model: to fill; has a ``name``.
        state: tensors by the model's own keys.
        file: where they come from, for the message.
        optional: keys that may be missing and then keep their value; batch counters always may.

    Returns:
        the optional keys that were missing.

    Raises:
        ModelError: keys missing, unexpected or of another shape; the first of each are listed.
    """
    own = model.state_dict()
    reshaped = [key for key, value in state.items() if key in own and value.shape != own[key].shape]
    if reshaped:
        found, needed = tuple(state[reshaped[0]].shape), tuple(own[reshaped[0]].shape)
        raise ModelError(
            f"{file}: not the weights of {model.name}; {len(reshaped)} keys of another shape "
            f"(first {reshaped[0]}: {found}, needed {needed})"
        )
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    defaulted = [key for key in missing if key in optional]
    missing = [key for key in missing if key not in optional and not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ModelError(
            f"{file}: not the weights of {model.name}; {len(missing)} keys missing{_first(missing)}, "
            f"{len(unexpected)} unexpected{_first(unexpected)}"
        )
    model.eval()
    return defaulted


def load_plain(path: str | Path) -> Any:
    """The content of a ``.pth``/``.pt`` file: containers, numbers, strings and tensors; no other object is built.

    Raises:
        ModelError: absent, not a torch file, or with objects that only a pickle that runs code could rebuild.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file")
    _expect_whole_records(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and value errors alike
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{file}: cannot be loaded as plain weights ({reason[:160]})") from error


def _expect_whole_records(file: Path) -> None:
    """Refuse a torch file of which some record is not as it was written, which torch does not look at. Files that were
    written without checksums have none that is right, and are read as they are."""
    try:
        with zipfile.ZipFile(file) as records:
            names = [entry.filename for entry in records.infolist() if entry.file_size]
            damaged = [name for name in names if not _is_whole(records, name)]
    except (zipfile.BadZipFile, OSError, NotImplementedError):  # of the older format, or for torch to refuse
        return
    if 0 < len(damaged) < len(names):
        raise ModelError(f"{file}: damaged, the checksum of {damaged[0]} differs; fetch it again")


def _is_whole(records: zipfile.ZipFile, name: str) -> bool:
    try:
        with records.open(name) as handle:
            while handle.read(1 << 20):
                pass
        return True
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False


def _load_native(file: Path, kind: str, create: Callable[..., Model]) -> Checkpoint[Model]:
    description = None
    if file.suffix == ".safetensors" or not file.is_file():
        state, description = read_state(file)
    if description is None:
        raise ModelError(f"{file}: no checkpoint of gloam; convert it with `gloam import {file.name} --as ...`")
    _demand_kind(file, description, kind)
    _expect_whole(file, description, state)
    model = _created(file, create, description)
    fill_network(model, state, file)
    provenance = {**description["provenance"], "weights_sha256": weights_sha256(model.state_dict())}
    return Checkpoint(model, provenance)


def _created(file: Path, create: Callable[..., Model], description: Mapping[str, Any], **more: Any) -> Model:
    """The network that a file describes, not yet filled."""
    try:
        return create(description["network"], **{**description["options"], **more})
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error


def _kind_of(model: nn.Module) -> str:
    if isinstance(model, EmbedderNetwork):
        return "embedder"
    if isinstance(model, LocalFeatureNetwork):
        return "local_features"
    if isinstance(model, MatcherNetwork):
        return "matcher"
    return "translator" if isinstance(model, TranslatorNetwork) else "edges"


def _demand_kind(file: Path, description: Mapping[str, Any], kind: str) -> None:
    found = description.get("kind", "embedder")
    if found != kind:
        raise ModelError(
            f"{file}: the checkpoint holds {NOUNS.get(found, found)} ({description['network']}); "
            f"{NOUNS[kind]} is needed here"
        )


def read_state(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a weights file and what a native file says of itself, None for a foreign one.

    Raises:
        ModelError: absent, unreadable, or without a state dict.
    """
    if not file.is_file():
        raise ModelError(f"{file}: no such weights file")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt") as handle:
                metadata = handle.metadata() or {}
                state = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118  # not a dict
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: not a readable safetensors file ({error})") from error
        description = _description(file, metadata)
        if description is not None and (lost := _lost(description)):
            raise ModelError(f"{file}: the checkpoint's description lacks {', '.join(lost)}; save it again")
        return state, description
    content = load_plain(file)
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{file}: holds no state dict of tensors")
    return dict(content), None


def _description(file: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """What a native file says of itself, checked where it was sealed; None for a foreign one."""
    text = metadata.get(METADATA_KEY)
    if text is None and not any(split_seal(other)[1] for other in metadata.values()):
        return None
    try:
        found = load_sealed(text or "")
    except ValueError as error:
        raise ModelError(
            f"{file}: the checkpoint's description is damaged ({error}); train or import it again"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key, kind()), kind) for key, kind in TYPES.items()):
        raise ModelError(f"{file}: the checkpoint's description is not of its types; train or import it again")
    return found


def _expect_whole(file: Path, description: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those that were saved; around an embedder, ``state_sha256`` is that of them all."""
    stated = description.get("state_sha256") or dict(description["provenance"]).get("weights_sha256")
    if stated is not None and stated != weights_sha256(state):
        raise ModelError(f"{file}: damaged, the checksum of its weights differs; train or import it again")


def _lost(description: Mapping[str, Any]) -> list[str]:
    needed = EMBEDDER_DESCRIPTION if description.get("kind", "embedder") == "embedder" else DESCRIPTION
    return sorted(needed - set(description))


def _map_keys(state: Mapping[str, Tensor], model: EmbedderNetwork) -> tuple[dict[str, Tensor], list[str]]:
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
