"""An ONNX file through TensorRT's own parser and builder, and what they refuse, in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.errors import DeviceError, ModelError, UsageError
from gloam.export.engine.options import TURING, BuildOptions
from gloam.export.engine.progress import BuildBars, make_monitor
from gloam.files import write_bytes
from gloam.model_card import ModelCard
from gloam.runtime.backends.tensorrt.api import (
    EngineLog,
    create_network,
    layer_types,
    make_logger,
    set_architectures,
    start_library,
)
from gloam.runtime.backends.tensorrt.engine_card import NAMES

# Smallest, preferred and largest shape of each input, by name.
Shapes = Mapping[str, Sequence[tuple[int, ...]]]
# Types that a layer may have, by the file's precision, and the layers that a half or an int8 may pass.
NARROW = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "int8": "INT8"}
HALVES = ("fp16", "bf16")
MAY_NARROW = frozenset(
    (
        "ACTIVATION",
        "CAST",
        "CONCATENATION",
        "CONSTANT",
        "CONVOLUTION",
        "DECONVOLUTION",
        "DEQUANTIZE",
        "ELEMENTWISE",
        "IDENTITY",
        "PADDING",
        "PARAMETRIC_RELU",
        "POOLING",
        "QUANTIZE",
        "SCALE",
        "SHUFFLE",
        "SLICE",
        "SQUEEZE",
        "UNSQUEEZE",
    )
)
# Of a transformer's body, which is half between two norms: where no norm is half, no such body is there.
BODY_NORM = "NORMALIZATION"
OF_A_BODY = frozenset((BODY_NORM, "MATRIX_MULTIPLY", "SOFTMAX"))
TURING_LACKS = re.compile(r"for Turing|target\(s\) sm75")
NO_ROOM = re.compile(r"within workspace limit")
REQUESTED = re.compile(r"Requested size was (\d+) bytes")
# What TensorRT says of graphs that an older gloam wrote.
OF_OLD_FILES = ("has type UInt8 but must have type", "Unsupported reduction type")
CUDA_NOISE = ("Invalid Node - ", "[checkMacros.cpp")  # lines of a parser's reason that are about something else


@dataclass(frozen=True)
class Serialized:
    """What the builder made.

    Attributes:
        plan: the engine.
        number: of layers, as parsed.
        layers: kind of layer -> type -> number of outputs, as parsed.
        memory: bytes on the GPU that each profile needs beside the weights, where the builder says it.
        weights: bytes of the weights on the GPU, where it says it.
    """

    plan: bytes
    number: int
    layers: dict[str, dict[str, int]]
    memory: tuple[int, ...]
    weights: int | None


def serialize(
    trt: Any,
    model: Path,
    card: ModelCard,
    profiles: Sequence[Shapes],
    options: BuildOptions,
    log: EngineLog,
    level: Any = None,
    cache: Path | None = None,
    progress: bool = False,
) -> Serialized:
    """Parse a model and build it for some shapes.

    Args:
        trt: the module of the target.
        model, card: ``.onnx`` file and its card.
        profiles: shapes to build for.
        options: of the build; its shapes are not looked at.
        log: of the build.
        level: TensorRT's hardware compatibility level; RTX has none.
        cache: timings of earlier builds; RTX has none.
        progress: show bars on stderr.

    Raises:
        see :func:`build_engine`.
    """
    logger = make_logger(trt, log)
    builder = start_library(trt.Builder, logger, log, "builder")
    network = create_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(model))
    log.expect_written()
    name = f"{NAMES[options.target]} {trt.__version__}"
    if not parsed:
        raise ModelError(_parse_failure(parser, model, name, log))
    layers = layer_types(network)
    _expect_types(card, layers, model, name)
    config = builder.create_builder_config()
    _configure(trt, config, card, options, level)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for given, sizes in shapes.items():
            profile.set_shape(given, *sizes)
        if config.add_optimization_profile(profile) < 0:
            height, width = card.padded({name: sizes[2] for name, sizes in shapes.items()})
            size = f"{width}x{height}"
            raise log.failure(f"{model}: TensorRT refuses the shape {size}", f"the log is in {log.path}")
    timings = None if cache is None else _load_timings(config, cache)
    with BuildBars(shown=progress) as bars:
        config.progress_monitor = monitor = make_monitor(trt, bars)
        plan = builder.build_serialized_network(network, config)
    del monitor  # the builder is done with it
    if bars.interrupted:
        raise KeyboardInterrupt
    log.expect_written()
    if plan is None:
        raise _build_failure(model, options, log)
    if cache is not None and timings is not None:
        write_bytes(cache, bytes(memoryview(config.get_timing_cache().serialize())))
    return Serialized(bytes(memoryview(plan)), network.num_layers, layers, tuple(log.activations), log.weights)


def _configure(trt: Any, config: Any, card: ModelCard, options: BuildOptions, level: Any) -> None:
    config.builder_optimization_level = options.level
    if options.target == "rtx":
        set_architectures(trt, config, options.architectures_of(card.precision))
    else:
        config.hardware_compatibility_level = level
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default in every version
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def _expect_types(card: ModelCard, layers: Mapping[str, Mapping[str, int]], model: Path, name: str) -> None:
    """Refuse layers that would compute in another type than the precision of the card says.

    Raises:
        ModelError: names the kind of layer and the type.
    """
    narrow = NARROW[card.precision]
    body = card.precision in HALVES and narrow in layers.get(BODY_NORM, {})
    may_narrow = MAY_NARROW | OF_A_BODY if body else MAY_NARROW
    for kind, types in layers.items():
        for dtype in types:
            if dtype not in ({"FLOAT", narrow} if kind in may_narrow else {"FLOAT"}):
                raise ModelError(
                    f"{model}: {name} would compute {kind.lower()} layers in {dtype}, which a model in "
                    f"{card.precision} keeps out of them; export it again"
                )


def _build_failure(model: Path, options: BuildOptions, log: EngineLog) -> DeviceError | UsageError:
    """Why no engine was built; a limit that was given is what is too small, not the GPU's memory."""
    limited = any(NO_ROOM.search(message) for message in log.errors)
    turing = next((message for message in log.errors if TURING_LACKS.search(message)), None)
    if turing is not None:
        log.errors.clear()
        return UsageError(
            f"{model}: TensorRT for RTX cannot build the model for {TURING} ({turing[:300]}); leave it out of --gpu"
        )
    if options.workspace is None or not (limited or log.out_of_memory):
        return log.failure(f"{model}: TensorRT could not build the engine", f"the whole log is in {log.path}")
    asked = [int(found[1]) for message in log.errors if (found := REQUESTED.search(message))]
    need = f" of {mebibytes(max(asked))}" if asked else ""
    log.errors.clear()
    return UsageError(
        f"{model}: a workspace of {mebibytes(options.workspace)} is too small for the scratch memory{need} that the "
        f"model needs at these shapes; give a larger --workspace, or leave it out; the whole log is in {log.path}"
    )


def mebibytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 2**20:.1f} MiB"


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


def _parse_failure(parser: Any, model: Path, library: str, log: EngineLog) -> str:
    """The first node that TensorRT cannot take, why, and what to do, in one line."""
    if parser.num_errors == 0:
        return f"{model}: {library} cannot read the model; check it with `gloam check`"
    first = parser.get_error(0)
    name, operator = first.node_name(), first.node_operator()
    if not (name or operator) and log.node is not None:
        name, operator = log.node
    node = f"the node {name!r} ({operator})" if name or operator else "the model"
    more = f" and {parser.num_errors - 1} more" if parser.num_errors > 1 else ""
    said = first.desc()
    kept = [line for line in said.splitlines() if not line.startswith(CUDA_NOISE)]
    reason = " ".join(" ".join(kept or said.splitlines()).split())[:300]
    advice = "run the ONNX file, or update TensorRT"
    if any(sign in said for sign in OF_OLD_FILES):
        advice = "export the model again, with this gloam"
    return f"{model}: {library} cannot take {node}{more}: {reason}; {advice}"
