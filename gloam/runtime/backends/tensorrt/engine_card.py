"""EngineCard: what an engine was built from, for what, and whether it may run here.

An engine of TensorRT is a cache of a model for one GPU and one TensorRT, never an artifact to ship. An engine of
TensorRT for RTX runs on every GPU of the architectures that it names, with the very version that built it. The card,
JSON beside the plan, holds the complete key: model fingerprint, TensorRT version, GPU, compute capability and driver or
architectures, shapes and build options. The key is an engine's identity: plans of one key differ in some bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gloam.errors import DeviceError, ModelError, UsageError
from gloam.files import read_sealed, sealed_json, sha256_bytes, sha256_json, write_bytes
from gloam.model_card import ModelCard, SelfTest
from gloam.record import Written, fill_dataclass, sparse, to_json
from gloam.runtime.backends.cuda.device import GpuInfo
from gloam.runtime.backends.tensorrt.api import EngineProfile, Tensor

SCHEMA = 1
PLAN = "model.engine"  # of an engine folder; the card stands beside it under the same name
SUFFIX = ".engine"
BUILD_AGAIN = "build it here with `gloam engine`"
BUILD_AGAIN_RTX = "build it again with `gloam engine --for rtx`"
NAMES = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}


@dataclass(frozen=True)
class EngineKey(Written):
    """Everything that decides whether a plan can be used again; equal keys, equal use.

    Attributes:
        fingerprint: of the model.
        tensorrt: version that built it.
        gpu, compute_capability, driver: of the machine that built it; empty for RTX.
        heights, widths: sides of the optimisation profiles, pixels; every height with every width.
        batch: smallest, preferred and largest batch.
        options: of the build.
        target: ``tensorrt``, or ``rtx`` for TensorRT for RTX.
        architectures: RTX: of the GPUs that may run the engine, e.g. ``sm89``, in ascending order.
    """

    fingerprint: str
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    batch: tuple[int, int, int]
    options: Mapping[str, Any]
    target: Literal["tensorrt", "rtx"] = sparse("tensorrt")
    architectures: tuple[str, ...] = sparse(())

    def digest(self) -> str:
        """Hex sha256 of the key."""
        return sha256_json(to_json(self))

    @property
    def build_again(self) -> str:
        """What to do where the engine cannot be used."""
        return BUILD_AGAIN_RTX if self.target == "rtx" else BUILD_AGAIN


@dataclass(frozen=True)
class EngineCard(Written):
    """The card of an engine.

    Attributes:
        key: of the engine.
        model: the card of the model that it was built from.
        onnx_sha256: of the model file.
        plan_sha256, plan_bytes: of the plan.
        build: seconds, version of gloam: nothing that decides.
    """

    key: EngineKey
    model: ModelCard
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    build: Mapping[str, Any]

    def session_card(self) -> ModelCard:
        """The model's card, narrowed to the shapes and batches that the engine has."""
        key, profile = self.key, self.model.profile
        narrowed = replace(profile, heights=key.heights, widths=key.widths, batch=(1, key.batch[2]))

        def built(test: SelfTest | None) -> SelfTest | None:
            batch, height, width = (0, 0, 0) if test is None else test.shape
            return test if height in key.heights and width in key.widths and batch <= key.batch[2] else None

        first, larger = built(self.model.selftest), built(self.model.selftest_larger)
        return replace(self.model, profile=narrowed, selftest=first, selftest_larger=larger)

    def expect_machine(self, gpu: GpuInfo, where: str) -> None:
        """Refuse an engine that was built for another GPU.

        Raises:
            DeviceError: names what the engine wants and what is here.
        """
        key = self.key
        if key.target == "rtx":
            here = _architecture(gpu)
            if here not in key.architectures:
                raise DeviceError(
                    f"{where}: an engine for {', '.join(key.architectures)}, but this machine has {gpu.name} "
                    f"({here}); {BUILD_AGAIN_RTX} --gpu {here}"
                )
            return
        level = key.options.get("hardware", "same-gpu")
        same_capability = key.compute_capability == gpu.compute_capability
        fits = {
            "same-gpu": same_capability and key.gpu == gpu.name,
            "compute-capability": same_capability,
            "ampere-plus": _version(gpu.compute_capability) >= (8, 0),
        }
        if not fits.get(level, False):
            raise DeviceError(
                f"{where}: an engine for {key.gpu} (compute capability {key.compute_capability}, {level}), but this "
                f"machine has {gpu.name} ({gpu.compute_capability}); {BUILD_AGAIN}"
            )

    def expect_version(self, tensorrt: str, where: str) -> None:
        """Refuse an engine of another TensorRT.

        Raises:
            DeviceError: names what the engine wants and what is here.
        """
        key = self.key
        built, here = _version(key.tensorrt), _version(tensorrt)
        compatible = bool(key.options.get("version_compatible")) and built[0] == here[0] and built <= here
        if key.tensorrt != tensorrt and not compatible:
            raise DeviceError(
                f"{where}: an engine of {NAMES[key.target]} {key.tensorrt}, but {tensorrt} is here; {key.build_again}"
            )

    def expect_model(self, fingerprint: str, where: str) -> None:
        """Refuse an engine of another model."""
        if self.key.fingerprint != fingerprint:
            raise ModelError(
                f"{where}: an engine of the model {self.key.fingerprint[:12]}, but {fingerprint[:12]} is asked for; "
                f"{self.key.build_again}"
            )

    def expect_tensors(self, tensors: Sequence[Tensor], where: str) -> None:
        """Refuse an engine whose inputs and outputs are not those of the model.

        Args:
            tensors: of the engine, as the runtime says.
            where: begins the message.

        Raises:
            ModelError: names the first that differs in its name, direction, type or shape.
        """
        found = {tensor.name: tensor for tensor in tensors}
        wanted = {spec.name: (spec, spec in self.model.inputs) for spec in (*self.model.inputs, *self.model.outputs)}
        for name, tensor in found.items():
            if name not in wanted:
                what = "an input" if tensor.is_input else "an output"
                raise ModelError(f"{where}: {name!r} is {what} of the engine, absent in the card; {BUILD_AGAIN}")
        for name, (spec, goes_in) in wanted.items():
            dtype = np.dtype(spec.dtype)
            if name not in found or found[name].dtype != dtype:
                kind = found[name].dtype if name in found else "absent"
                raise ModelError(f"{where}: {name!r} is {kind} in the engine, {dtype} in the card; {BUILD_AGAIN}")
            if found[name].is_input != goes_in:
                ways = ("an input", "an output") if goes_in else ("an output", "an input")
                raise ModelError(f"{where}: {name!r} is {ways[1]} of the engine, {ways[0]} in the card; {BUILD_AGAIN}")
            if not _same_shape(found[name].shape, spec.shape):
                sides, stated = (", ".join(map(str, shape)) for shape in (found[name].shape, spec.shape))
                raise ModelError(f"{where}: {name!r} is [{sides}] in the engine, [{stated}] in the card; {BUILD_AGAIN}")

    def expect_profiles(self, profiles: Sequence[EngineProfile], where: str) -> None:
        """Refuse an engine whose optimisation profiles are not those of the key.

        Raises:
            ModelError: names the first shape and input that differs.
        """
        key = self.key
        wanted = [(height, width) for height in key.heights for width in key.widths]
        if sorted(profile.shape for profile in profiles) != sorted(wanted):
            built, stated = (
                ", ".join(f"{width}x{height}" for height, width in sorted(shapes))
                for shapes in ([profile.shape for profile in profiles], wanted)
            )
            raise ModelError(f"{where}: the engine takes {built}, its card states {stated}; {key.build_again}")
        for profile in profiles:
            for spec in self.model.inputs:
                stated_range = tuple(spec.sized(batch, *profile.shape, where) for batch in key.batch)
                if profile.ranges[spec.name] != stated_range:
                    raise ModelError(
                        f"{where}: {spec.name!r} goes from {list(profile.ranges[spec.name][0])} to "
                        f"{list(profile.ranges[spec.name][2])} in the engine, from {list(stated_range[0])} to "
                        f"{list(stated_range[2])} in the card; {key.build_again}"
                    )

    def write(self, plan: Path) -> None:
        """Write the card beside a plan, atomically."""
        stated = {"schema": SCHEMA, "key_sha256": self.key.digest()}
        write_bytes(card_path(plan), sealed_json(stated | to_json(self)))


def is_engine(path: str | Path) -> bool:
    """Whether a path is meant as an engine: a ``.engine`` file or a folder with one."""
    place = Path(path)
    return place.suffix == SUFFIX or (place.is_dir() and (place / PLAN).exists())


def plan_path(path: str | Path) -> Path:
    """The plan of an engine folder, or the ``.engine`` file itself.

    Raises:
        ModelError: there is none.
    """
    plan = Path(path) / PLAN if Path(path).is_dir() else Path(path)
    if not plan.is_file():
        raise ModelError(f"{plan}: no such engine; build one with `gloam engine MODEL -o DIR`")
    return plan


def card_path(plan: Path) -> Path:
    """Where the card of a plan stands."""
    return plan.with_suffix(".json")


def kernels_path(plan: Path, gpu: GpuInfo) -> Path:
    """Where the kernels stand that TensorRT for RTX compiled for a GPU."""
    return plan.with_suffix(f".{_architecture(gpu)}.kernels")


def read_engine_card(plan: Path) -> EngineCard:
    """The card of a plan.

    Raises:
        ModelError: absent, not readable, of another schema, or not what was written.
    """
    file = card_path(plan)
    try:
        value = read_sealed(file)
    except FileNotFoundError as error:
        raise ModelError(f"{plan}: {file.name}, the engine's card, is not beside it; {BUILD_AGAIN}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: the engine's card is not readable ({error}); {BUILD_AGAIN}") from error
    try:
        if value["schema"] != SCHEMA:
            raise ModelError(f"{file}: engine card of schema {value['schema']!r}, this gloam reads {SCHEMA}")
        model = ModelCard.from_json(json.dumps(value["model"]), str(file))
        card = fill_dataclass(EngineCard, value | {"model": model}, "card")
        whole = card.key.digest() == value["key_sha256"]
    except (KeyError, TypeError, UsageError) as error:
        raise ModelError(f"{file}: the engine's card is malformed ({error!r}); {BUILD_AGAIN}") from error
    if not whole or card.model.fingerprint(card.onnx_sha256) != card.key.fingerprint:
        raise ModelError(f"{file}: the engine's card was changed after the build; {BUILD_AGAIN}")
    return card


def read_plan(plan: Path, card: EngineCard) -> bytes:
    """The plan's bytes.

    Raises:
        ModelError: truncated, or not the plan that the card describes.
    """
    try:
        content = plan.read_bytes()
    except OSError as error:
        raise ModelError(f"{plan}: the engine is not readable ({error.strerror})") from error
    if len(content) < card.plan_bytes:
        again = card.key.build_again
        raise ModelError(f"{plan}: the engine is truncated, {len(content)} of {card.plan_bytes} bytes; {again}")
    if sha256_bytes(content) != card.plan_sha256:
        raise ModelError(f"{plan}: not the engine that its card describes (another sha256); {card.key.build_again}")
    return content


def _same_shape(found: tuple[int, ...], stated: tuple[int | str, ...]) -> bool:
    """Whether an engine's shape is one that the card states; an axis that is free in either of them fits."""
    return len(found) == len(stated) and all(
        side == wanted or side < 0 or isinstance(wanted, str) for side, wanted in zip(found, stated, strict=True)
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit()) or (0,)


def _architecture(gpu: GpuInfo) -> str:
    return f"sm{gpu.compute_capability.replace('.', '')}"
