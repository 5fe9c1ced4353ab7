"""An exported model to a TensorRT engine: one optimisation profile per padded shape, a card, and a log.

The network is strongly typed: precision is what the ONNX file says, on every version of TensorRT. An engine whose key
(model, TensorRT, GPU, driver, shapes, options) is the one asked for is used again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam import __version__
from gloam.errors import ModelError, StoreError, UsageError
from gloam.export.engine.progress import BuildBars, make_monitor
from gloam.files import atomic_write, sha256_bytes, sha256_file, write_bytes, write_failure
from gloam.model_card import ModelCard
from gloam.runtime.backends.cuda.device import Device
from gloam.runtime.backends.cuda.open import open_device
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.tensorrt.api import (
    EngineLog,
    create_network,
    hardware_level,
    load_tensorrt,
    make_logger,
    start_library,
)
from gloam.runtime.backends.tensorrt.engine_card import PLAN, EngineCard, EngineKey, read_engine_card, read_plan

LOG, TIMING_CACHE = "build.log", "timing.cache"
PREFERRED_BATCH = 16  # what gloam's own callers give at once


@dataclass(frozen=True)
class BuildOptions:
    """What decides an engine, beside the model and the machine.

    Attributes:
        heights, widths: padded sides to build, pixels; all of the model's by default. Each pair is a profile, and each
            profile takes its time and memory.
        batch: smallest, preferred and largest batch; by default the model's, preferring 16.
        tf32: let fp32 layers use TensorFloat-32 (10 bits of mantissa); off, because descriptors are to be fp32's.
        workspace: bytes that a layer may use; TensorRT's own limit by default.
        level: 0 (quickest build) to 5 (slowest, maybe a faster engine).
        hardware: ``same-gpu``, ``compute-capability`` or ``ampere-plus``: the GPUs that may run the engine.
        version_compatible: later versions of the same major TensorRT may run it; brings code for the host.
    """

    heights: tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None
    batch: tuple[int, int, int] | None = None
    tf32: bool = False
    workspace: int | None = None
    level: int = 3  # TensorRT's own default
    hardware: str = "same-gpu"
    version_compatible: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 5:
            raise UsageError(f"the builder's optimisation level is 0 to 5, not {self.level}")
        if self.batch is not None and not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise UsageError(f"the batch is MIN,OPT,MAX, ascending from 1, not {','.join(map(str, self.batch))}")
        if self.workspace is not None and self.workspace < 1:
            raise UsageError("the workspace must be 1 byte or more")

    def deciding(self) -> dict[str, Any]:
        """What enters an engine's key, beside its shapes."""
        return {
            "tf32": self.tf32,
            "workspace": self.workspace,
            "level": self.level,
            "hardware": self.hardware,
            "version_compatible": self.version_compatible,
        }


@dataclass(frozen=True)
class BuiltEngine:
    """An engine on the disk: its plan, its card, and whether it was there already."""

    plan: Path
    card: EngineCard
    reused: bool

    @property
    def shapes(self) -> list[str]:
        """``WIDTHxHEIGHT`` of every profile, pixels."""
        key = self.card.key
        return [f"{width}x{height}" for height in key.heights for width in key.widths]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        key = self.card.key
        return {
            "engine": str(self.plan),
            "reused": self.reused,
            "key": key.digest(),
            "fingerprint": key.fingerprint,
            "tensorrt": key.tensorrt,
            "gpu": key.gpu,
            "compute_capability": key.compute_capability,
            "driver": key.driver,
            "shapes": self.shapes,
            "batch": list(key.batch),
            "options": dict(key.options),
            "plan_bytes": self.card.plan_bytes,
            "seconds": self.card.build["seconds"],
        }

    def __str__(self) -> str:
        """Lines for people."""
        key, card = self.card.key, self.card
        how = "there already" if self.reused else f"built in {card.build['seconds']} s"
        return "\n".join(
            (
                f"{self.plan}: {how}, {card.plan_bytes / 2**20:.1f} MiB, {card.model.name} {card.model.precision}",
                f"for {key.gpu} (compute capability {key.compute_capability}), TensorRT {key.tensorrt}, "
                f"driver {key.driver}",
                f"shapes {' '.join(self.shapes)}; batch {key.batch[0]} to {key.batch[2]}, preferring {key.batch[1]}",
                f"key {key.digest()}",
            )
        )


def build_engine(
    onnx_path: str | Path,
    out: str | Path,
    options: BuildOptions | None = None,
    *,
    device: Device | None = None,
    timing_cache: str | Path | None = None,
    progress: bool = False,
) -> BuiltEngine:
    """Build an engine, or find that it is there.

    Args:
        onnx_path: exported model of a fixed profile.
        out: folder to write: ``model.engine``, its card ``model.json``, ``build.log``, ``timing.cache``.
        options: of the build.
        device: the GPU to build for and on; the first one by default.
        timing_cache: timings of earlier builds, read and written; ``out / timing.cache`` by default.
        progress: show bars on stderr.

    Raises:
        UsageError: a dynamic profile, or shapes and batches that the model does not have.
        ModelError: TensorRT cannot take a node, which is named.
        DeviceError: no driver, no memory, or the build failed; the log has the rest.
        MissingExtraError: TensorRT or a CUDA package is not installed.
    """
    options = options or BuildOptions()
    model, folder = Path(onnx_path), Path(out)
    card = read_card(model)
    heights, widths, batch = _shapes(card, options, model)
    trt = load_tensorrt()
    device = open_device() if device is None else device
    level = hardware_level(trt, options.hardware)
    onnx_sha256 = sha256_file(model)
    gpu = device.info
    key = EngineKey(
        fingerprint=card.fingerprint(onnx_sha256),
        tensorrt=trt.__version__,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        heights=heights,
        widths=widths,
        batch=batch,
        options=options.deciding(),
    )
    plan = folder / PLAN
    found = _reusable(plan, key)
    if found is not None:
        return BuiltEngine(plan, found, True)
    began = time.perf_counter()
    cache = folder / TIMING_CACHE if timing_cache is None else Path(timing_cache)
    with _log_file(folder / LOG) as log, device.current():
        content = _build(trt, model, card, key, options, level, log, cache, progress)
    with atomic_write(plan) as handle:
        handle.write(content)
    built = EngineCard(
        key=key,
        model=card,
        onnx_sha256=onnx_sha256,
        plan_sha256=sha256_bytes(content),
        plan_bytes=len(content),
        build={"seconds": round(time.perf_counter() - began, 1), "gloam": __version__},
    )
    built.write(plan)
    return BuiltEngine(plan, built, False)


def _shapes(
    card: ModelCard, options: BuildOptions, model: Path
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int]]:
    """Heights, widths and batch range to build."""
    profile = card.profile
    if profile.kind != "fixed":
        raise UsageError(
            f"{model}: a model of the {profile.kind} profile takes any size, and an engine needs fixed shapes; export "
            "it with `gloam export --profile fixed`"
        )
    for wanted, have, label in (
        (options.heights, profile.heights, "heights"),
        (options.widths, profile.widths, "widths"),
    ):
        if wanted is not None and (not wanted or not set(wanted) <= set(have)):
            raise UsageError(
                f"{model}: {label} {_listed(wanted)} are asked for, but the model has {_listed(have)}; "
                "export it with these --sides"
            )
    least, most = profile.batch
    batch = options.batch or (least, max(least, min(PREFERRED_BATCH, most)), most)
    if batch[0] < least or batch[2] > most:
        raise UsageError(
            f"{model}: a batch of {batch[0]} to {batch[2]} is asked for, but the model takes {least} to {most}"
        )
    return (
        tuple(sorted(set(options.heights or profile.heights))),
        tuple(sorted(set(options.widths or profile.widths))),
        batch,
    )


def _reusable(plan: Path, key: EngineKey) -> EngineCard | None:
    """The card of an engine with this very key, where there is a whole one."""
    if not plan.is_file():
        return None
    try:
        card = read_engine_card(plan)
        if card.key.digest() != key.digest():
            return None
        read_plan(plan, card)
    except ModelError:  # torn or changed: built again
        return None
    return card


def _build(
    trt: Any,
    model: Path,
    card: ModelCard,
    key: EngineKey,
    options: BuildOptions,
    level: Any,
    log: EngineLog,
    cache: Path,
    progress: bool,
) -> bytes:
    logger = make_logger(trt, log)
    builder = start_library(trt.Builder, logger, log, "builder")
    network = create_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise ModelError(_parse_failure(parser, model, trt.__version__))
    config = builder.create_builder_config()
    _configure(trt, config, options, level)
    for height, width in itertools.product(key.heights, key.widths):
        profile = builder.create_optimization_profile()
        for spec in card.inputs:
            profile.set_shape(spec.name, *(spec.sized(size, height, width, str(model)) for size in key.batch))
        if config.add_optimization_profile(profile) < 0:
            raise log.failure(f"{model}: TensorRT refuses the shape {width}x{height}", f"the log is in {log.path}")
    timings = _load_timings(config, cache)
    with BuildBars(shown=progress) as bars:
        config.progress_monitor = monitor = make_monitor(trt, bars)
        plan = builder.build_serialized_network(network, config)
    del monitor  # the builder is done with it
    if bars.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise log.failure(f"{model}: TensorRT could not build the engine", f"the whole log is in {log.path}")
    if timings is not None:
        write_bytes(cache, bytes(memoryview(config.get_timing_cache().serialize())))
    return bytes(memoryview(plan))


def _configure(trt: Any, config: Any, options: BuildOptions, level: Any) -> None:
    config.builder_optimization_level = options.level
    config.hardware_compatibility_level = level
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default in every version
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def _load_timings(config: Any, cache: Path) -> Any:
    """Give earlier timings to the builder; what is not readable, or of another GPU or version, is begun anew."""
    try:
        content = cache.read_bytes()
    except OSError:
        content = b""
    for candidate in (content, b""):
        timings = config.create_timing_cache(candidate)
        if timings is not None and config.set_timing_cache(timings, False):
            return timings
    return None


def _parse_failure(parser: Any, model: Path, version: str) -> str:
    """The first node that TensorRT cannot take, in one line."""
    if parser.num_errors == 0:
        return f"{model}: TensorRT {version} cannot read the model; check it with `gloam check`"
    first = parser.get_error(0)
    operator, name = first.node_operator(), first.node_name()
    node = f"the node {name!r} ({operator})" if name or operator else "the model"
    more = f" and {parser.num_errors - 1} more" if parser.num_errors > 1 else ""
    reason = " ".join(first.desc().split())[:300]
    return f"{model}: TensorRT {version} cannot take {node}{more}: {reason}; run the ONNX file, or update TensorRT"


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[EngineLog]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "w", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise StoreError(write_failure(path, error)) from error
    with handle:
        yield EngineLog(handle)


def _listed(sides: tuple[int, ...]) -> str:
    return ", ".join(map(str, sides)) or "none"
