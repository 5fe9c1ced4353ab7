"""An exported model to a TensorRT engine: one optimisation profile per padded shape, a card, and a log.

A file of the dynamic profile becomes an engine for images of stated sizes, those of a camera, and is proved at the
first of them: the answer of ONNX Runtime is the engine's self-test.

The network is strongly typed: precision is what the ONNX file says, on every version of TensorRT. An engine whose key
(model, TensorRT, GPU and driver or architectures, shapes, options) is the one asked for is used again.

TensorRT builds on the GPU that the engine is for. TensorRT for RTX builds ahead of time, on any machine, for the
architectures that are named; kernels are compiled where the engine is first loaded.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gloam import __version__
from gloam.errors import ModelError, StoreError, UsageError
from gloam.export.engine.options import BuildOptions
from gloam.export.engine.serialize import Shapes, mebibytes, serialize
from gloam.files import atomic_write, sha256_bytes, write_failure
from gloam.model_card import ModelCard, SelfTest
from gloam.runtime.backends.cuda.device import Device
from gloam.runtime.backends.cuda.open import open_device
from gloam.runtime.backends.onnx_file import model_sha256, read_card
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest_formulas import selftest_digest, selftest_inputs
from gloam.runtime.backends.tensorrt.api import EngineLog, hardware_level, load_rtx, load_tensorrt
from gloam.runtime.backends.tensorrt.engine_card import NAMES, PLAN, EngineCard, EngineKey, read_engine_card, read_plan

LOG, TIMING_CACHE = "build.log", "timing.cache"
PREFERRED_BATCH = 16  # what gloam's own callers give at once
MOST_KEYPOINTS = 3840  # of TensorRT's TopK


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
            "target": key.target,
            "reused": self.reused,
            "key": key.digest(),
            "fingerprint": key.fingerprint,
            "tensorrt": key.tensorrt,
            "gpu": key.gpu,
            "compute_capability": key.compute_capability,
            "driver": key.driver,
            "architectures": list(key.architectures),
            "shapes": self.shapes,
            "batch": list(key.batch),
            "options": dict(key.options),
            "plan_bytes": self.card.plan_bytes,
            "seconds": self.card.build["seconds"],
            "memory": self.card.build.get("memory", {}),
            "layers": self.card.build.get("layers", {}),
        }

    def __str__(self) -> str:
        """Lines for people."""
        key, card = self.card.key, self.card
        how = "there already" if self.reused else f"built in {card.build['seconds']} s"
        lines = [
            f"{self.plan}: {how}, {card.plan_bytes / 2**20:.1f} MiB, {card.model.name} {card.model.precision}",
            f"for {key.gpu} (compute capability {key.compute_capability}), TensorRT {key.tensorrt}, "
            f"driver {key.driver}",
            f"shapes {' '.join(self.shapes)}; batch {key.batch[0]} to {key.batch[2]}, preferring {key.batch[1]}",
        ]
        if key.target == "rtx":
            lines[1] = (
                f"for GPUs of {' '.join(key.architectures)}, {NAMES['rtx']} {key.tensorrt}: runs on all of them with "
                "this version; kernels are compiled at the first load there and kept beside the engine"
            )
        memory = card.build.get("memory", {})
        if memory.get("activations"):
            sizes = ", ".join(f"{shape} {mebibytes(size)}" for shape, size in memory["activations"].items())
            weights = "" if memory["weights"] is None else f"; weights {mebibytes(memory['weights'])}"
            lines.append(f"GPU memory for a batch of {key.batch[2]}: {sizes}{weights}")
        return "\n".join([*lines, f"key {key.digest()}"])


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
        onnx_path: exported model.
        out: folder to write: ``model.engine``, its card ``model.json``, ``build.log``, and ``timing.cache``, which
            RTX has no use for.
        options: of the build.
        device: the GPU to build for and on; the first one by default. RTX needs none.
        timing_cache: timings of earlier builds, read and written; ``out / timing.cache`` by default.
        progress: show bars on stderr.

    Raises:
        UsageError: a dynamic profile without stated sizes, shapes and batches that the model does not have, more than
            :data:`MOST_KEYPOINTS` keypoints, or a workspace in which no layer of the model finds room.
        ModelError: TensorRT cannot take a node, which is named; or layers would compute in another type than the
            model's precision says.
        DeviceError: no driver, no memory, or the build failed; the log has the rest.
        MissingExtraError: TensorRT or a CUDA package is not installed.
    """
    options = options or BuildOptions()
    model, folder = Path(onnx_path), Path(out)
    card = read_card(model)
    heights, widths, batch = _shapes(card, options, model)
    rtx = options.target == "rtx"
    if rtx and timing_cache is not None:
        raise UsageError("TensorRT for RTX times nothing when it builds; leave out --timing-cache")
    trt = load_rtx() if rtx else load_tensorrt()
    if not rtx and device is None:
        device = open_device()
    level = None if rtx else hardware_level(trt, options.hardware)
    onnx_sha256 = model_sha256(model)
    gpu = None if rtx or device is None else device.info
    key = EngineKey(
        fingerprint=card.fingerprint(onnx_sha256),
        tensorrt=trt.__version__,
        gpu="" if gpu is None else gpu.name,
        compute_capability="" if gpu is None else gpu.compute_capability,
        driver="" if gpu is None else gpu.driver,
        heights=heights,
        widths=widths,
        batch=batch,
        options=options.deciding(),
        target=options.target,
        architectures=options.architectures_of(card.precision),
    )
    plan = folder / PLAN
    found = _reusable(plan, key)
    if found is not None:
        return BuiltEngine(plan, found, True)
    began = time.perf_counter()
    cache = None if rtx else folder / TIMING_CACHE if timing_cache is None else Path(timing_cache)
    with _log_file(folder / LOG) as log, contextlib.nullcontext() if device is None else device.current():
        made = serialize(trt, model, card, profiles_of(card, key, model), options, log, level, cache, progress)
    with atomic_write(plan) as handle:
        handle.write(made.plan)
    memory = made.memory if len(made.memory) == len(heights) * len(widths) else ()  # another version's log may differ
    shapes = [f"{width}x{height}" for height, width in itertools.product(heights, widths)]
    built = EngineCard(
        key=key,
        model=card if card.profile.kind != "dynamic" else _proved_at(card, model, heights[0], widths[0]),
        onnx_sha256=onnx_sha256,
        plan_sha256=sha256_bytes(made.plan),
        plan_bytes=len(made.plan),
        build={
            "seconds": round(time.perf_counter() - began, 1),
            "gloam": __version__,
            "layers": made.layers,
            "memory": {"activations": dict(zip(shapes, memory, strict=False)), "weights": made.weights},
        },
    )
    built.write(plan)
    return BuiltEngine(plan, built, False)


def profiles_of(card: ModelCard, key: EngineKey, model: Path) -> list[Shapes]:
    """The optimisation profiles of an engine: every height with every width."""
    return [
        {spec.name: [spec.sized(size, height, width, str(model)) for size in key.batch] for spec in card.inputs}
        for height, width in itertools.product(key.heights, key.widths)
    ]


def _shapes(
    card: ModelCard, options: BuildOptions, model: Path
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int]]:
    """Heights, widths and batch range to build."""
    profile = card.profile
    if card.keypoints is not None and card.keypoints.count > MOST_KEYPOINTS:
        raise UsageError(
            f"{model}: has room for {card.keypoints.count} keypoints, and TensorRT finds {MOST_KEYPOINTS} at most; "
            f"export it with `gloam export --keypoints {MOST_KEYPOINTS}`"
        )
    if profile.kind == "dynamic":
        options = _native(card, options, model)
        profile = replace(profile, heights=options.heights or (), widths=options.widths or ())
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
    if card.kind == "local_features" and options.batch is None:
        most = least  # whoever extracts runs each image alone
    batch = options.batch or (least, max(least, min(PREFERRED_BATCH, most)), most)
    if batch[0] < least or batch[2] > profile.batch[1]:
        raise UsageError(
            f"{model}: a batch of {batch[0]} to {batch[2]} is asked for, but the model takes {least} to "
            f"{profile.batch[1]}"
        )
    return (
        tuple(sorted(set(options.heights or profile.heights))),
        tuple(sorted(set(options.widths or profile.widths))),
        batch,
    )


def _native(card: ModelCard, options: BuildOptions, model: Path) -> BuildOptions:
    """Options with the sizes for which a file of any size is built."""
    profile = card.profile
    if options.heights is None or options.widths is None:
        what = f"{model}: a model of the {profile.kind} profile takes any size, and an engine needs fixed shapes"
        adopted = card.provenance.get("recipe") == "adopted"
        if adopted or card.kind in ("edges", "local_features", "appearance"):  # which have no fixed profile
            raise UsageError(f"{what}; name those of your images, e.g. --heights 576 --widths 1024")
        raise UsageError(f"{what}; export it with `gloam export --profile fixed`")
    alone = next((spec.name for spec in card.outputs if spec.shape[0] != "batch"), None)
    if alone is not None:
        raise UsageError(f"{model}: its output {alone!r} is not one row an image, which an engine must give")
    multiple = profile.multiple if profile.reflects else profile.cell
    wrong = [side for side in (*options.heights, *options.widths) if side < profile.minimum or side % multiple]
    if wrong:
        of = f" and multiples of {multiple}" if multiple > 1 else ""
        raise UsageError(
            f"{model}: a side of {wrong[0]} px; the model takes sides of at least {profile.minimum} px{of}"
        )
    return replace(options, heights=tuple(sorted(set(options.heights))), widths=tuple(sorted(set(options.widths))))


def _proved_at(card: ModelCard, model: Path, height: int, width: int) -> ModelCard:
    """The card with a self-test of one image of a size, whose answer is ONNX Runtime's; bf16, which that does not run
    on a CPU, has none."""
    if card.selftest is None or card.precision == "bf16":
        return replace(card, selftest=None, selftest_larger=None)
    fed = SelfTest((1, height, width), ((height, width),), (0.0,), card.selftest.tolerance)
    outputs = OrtSession(model).run(selftest_inputs(card, fed))
    digest = selftest_digest(card.kind, [outputs[spec.name] for spec in card.outputs], card.keypoints)
    return replace(card, selftest=replace(fed, output=tuple(map(float, digest.reshape(-1)))), selftest_larger=None)


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


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[EngineLog]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "w", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise StoreError(write_failure(path, error)) from error
    log = EngineLog(handle)
    try:
        yield log
    finally:
        with contextlib.suppress(OSError):  # a full disk, which the log has remembered
            handle.close()


def _listed(sides: tuple[int, ...]) -> str:
    return ", ".join(map(str, sides)) or "none"
