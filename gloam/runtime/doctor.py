"""What of an installation works, what is missing for what, and what stands in its own way.

Nothing that can crash is imported: packages are looked up by their metadata, and the NVIDIA driver by ``ctypes``.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from gloam.runtime.backends.cuda.driver import Driver, find_driver
from gloam.runtime.backends.processor import Processor, find_processor, usable_cores
from gloam.runtime.backends.tensorrt.api import ARCHITECTURES

# What each extra is for, in the words of the table that `gloam doctor` prints.
PURPOSES = {
    "train": "train embedders, export to ONNX",
    "fidelity": "FID and KID by Inception features as published",
    "cpu": "run models and search indexes on the CPU",
    "gpu": "run models and search indexes on an NVIDIA GPU",
    "pycuda": "reach the GPU without cuda-python; a CUDA toolkit builds it",
    "tensorrt": "TensorRT 10 engines, also under ONNX Runtime",
    "tensorrt11": "TensorRT 11 engines",
    "tensorrt-rtx": "engines of TensorRT for RTX, built on any machine",
    "tensorrt-rtx-plugin": "TensorRT for RTX under ONNX Runtime",
    "localization": "kapture datasets, maps and poses",
    "openvino": "run models quicker on many a CPU, in bf16 where it has it",
    "ray": "bulk runs on a cluster",
    "milvus": "descriptors in a collection of Milvus",
    "remote": "images behind URLs",
    "metrics": "the state of a bulk run for Prometheus",
    "rerun": "pictures of a map and of what was localized in it",
    "serve": "embed, search and localize over HTTP",
    "completion": "completion of verbs and options in a shell",
    "matlab": "import NetVLAD's own .mat weights",
    "timm": "timm backbones for embedders",
    "docs": "the documentation as a site",
    "dev": "tests, lint, types",
}
RTX = ("tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx")
# Wheels that install the same module: the one installed last overwrites the other, and removing one breaks both.
EXCLUSIVE = (
    ("onnxruntime", "onnxruntime-gpu"),
    ("faiss-cpu", "faiss-gpu"),
    ("faiss-cpu", "faiss-gpu-cuvs"),
    ("tensorrt-rtx-cu12", "tensorrt-rtx-cu13"),
    ("onnxruntime-ep-nv-tensorrt-rtx-cu12", "onnxruntime-ep-nv-tensorrt-rtx-cu13"),
    ("opencv-python", "opencv-python-headless"),
    ("opencv-contrib-python", "opencv-python-headless"),
)

Versions = Mapping[str, str]  # normalised distribution name -> version


@dataclass(frozen=True)
class Extra:
    """One extra of gloam: what it is for, the versions of its packages, and those that are absent."""

    name: str
    purpose: str
    installed: dict[str, str]
    missing: list[str]

    @property
    def complete(self) -> bool:
        """Whether every package of the extra is installed; an extra that gloam's metadata lack, from before it was
        there, is not."""
        return bool(self.installed) and not self.missing


@dataclass(frozen=True)
class Diagnosis:
    """All that :func:`diagnose` found.

    Attributes:
        machine: versions of gloam and Python, platform, cores of this process.
        driver: the NVIDIA driver.
        backends: name -> what it can run on here, or why it cannot.
        extras: of gloam, in the order of :data:`PURPOSES`.
        problems: what is broken, each with its cure.
        notes: what is worth knowing.
    """

    machine: dict[str, Any]
    driver: Driver
    backends: dict[str, str]
    extras: list[Extra]
    problems: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = asdict(self) | {"healthy": not self.problems}
        for entry, extra in zip(found["extras"], self.extras, strict=True):
            entry["complete"] = extra.complete
        return found

    def __str__(self) -> str:
        """Lines for people."""
        machine, driver = self.machine, self.driver
        lines = [
            f"gloam {machine['gloam']}, Python {machine['python']}, {machine['platform']}, {machine['cores']} cores",
            "",
            "devices",
            *(f"  {gpu.name}, compute capability {gpu.compute_capability}" for gpu in driver.gpus),
        ]
        lines.append(f"  driver for CUDA {driver.cuda}" if driver.gpus else f"  CPU alone: {driver.problem}")
        wide = max(map(len, self.backends), default=0) + 1
        lines += ["", "backends", *(f"  {name:{wide}s} {state}" for name, state in self.backends.items()), "", "extras"]
        wide = max((len(extra.name) for extra in self.extras), default=0) + 1
        for extra in self.extras:
            lines.append(f"  {'yes' if extra.complete else 'no ':3s} {extra.name:{wide}s} {extra.purpose}")
            if extra.missing:
                indent = " " * (wide + 6)
                lines.append(f"{indent} missing {', '.join(extra.missing)}; pip install 'gloam[{extra.name}]'")
        if self.notes:
            lines += ["", "notes", *(f"  {note}" for note in self.notes)]
        broken = [f"BROKEN: {problem}" for problem in self.problems]
        return "\n".join([*lines, "", *(broken or ["nothing broken"])])


def diagnose(versions: Versions | None = None, driver: Driver | None = None) -> Diagnosis:
    """Look at this installation.

    Args:
        versions: installed distributions; looked up by default.
        driver: the NVIDIA driver; looked up by default.
    """
    found = installed_versions() if versions is None else versions
    gpu = find_driver() if driver is None else driver
    problems = conflicts(found)
    notes: list[str] = []
    torch_notes(found, gpu, problems, notes)
    machine = {
        "gloam": metadata.version("gloam"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": usable_cores(),
    }
    return Diagnosis(machine, gpu, backends(found, gpu), extras(found), problems, notes)


def installed_versions() -> dict[str, str]:
    """Distributions that Python sees, by normalised name."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(normalise(name), distribution.version)
    return found


def normalise(name: str) -> str:
    """A distribution's name as indexes compare it: lower case, runs of ``-_.`` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def conflicts(versions: Versions) -> list[str]:
    """Distributions that overwrite each other's module, each with its cure."""
    return [
        f"{first} {versions[first]} and {second} {versions[second]} are both installed and overwrite each other; "
        f"pip uninstall {first} {second}, then install the one you need"
        for first, second in EXCLUSIVE
        if first in versions and second in versions
    ]


def extras(versions: Versions, requirements: list[str] | None = None) -> list[Extra]:
    """gloam's extras, by the requirements in its own metadata."""
    lines = (metadata.requires("gloam") or []) if requirements is None else requirements
    wanted: dict[str, list[str]] = {name: [] for name in PURPOSES}
    for line in lines:
        requirement, _, marker = line.partition(";")
        package = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if package and extra and extra[1] in wanted:
            wanted[extra[1]].append(normalise(package[0]))
    return [
        Extra(
            name,
            PURPOSES[name],
            {package: versions[package] for package in packages if _present(package, name, versions)},
            [package for package in packages if not _present(package, name, versions)],
        )
        for name, packages in wanted.items()
    ]


def _present(package: str, extra: str, versions: Versions) -> bool:
    """Whether a package is installed; the two TensorRT extras want different versions of one package."""
    major = {"tensorrt": "10.", "tensorrt11": "11."}.get(extra, "") if package == "tensorrt" else ""
    return package in versions and versions[package].startswith(major)


def backends(versions: Versions, driver: Driver, processor: Processor | None = None) -> dict[str, str]:
    """What can run a model or a search here; the processor is looked up by default."""
    gpu = f"on {driver.gpus[0].name}" if driver.gpus else f"CUDA not usable: {driver.problem or 'no GPU'}"
    state = {}
    for label, packages in (
        ("ONNX Runtime", ("onnxruntime", "onnxruntime-gpu")),
        ("FAISS", ("faiss-cpu", "faiss-gpu")),
    ):
        plain, cuda = packages
        if cuda in versions:
            # The wheel lists its CUDA provider even where no driver is, so the driver decides.
            state[label] = f"{cuda} {versions[cuda]}, {gpu}"
        elif plain in versions:
            state[label] = f"{plain} {versions[plain]}, CPU"
        else:
            state[label] = "not installed; pip install 'gloam[cpu]' or 'gloam[gpu]'"
    for label, package, extra in (("TensorRT", "tensorrt", "tensorrt"), ("OpenVINO", "openvino", "openvino")):
        if package not in versions:
            state[label] = f"not installed; pip install 'gloam[{extra}]'"
        elif package == "tensorrt":
            # Without a driver TensorRT aborts the process, so it is not even imported.
            state[label] = f"{versions[package]}, {gpu}"
        else:
            state[label] = f"{versions[package]}, CPU; {_low_precision(processor or find_processor())}"
    state["TensorRT for RTX"] = _rtx(versions, driver)
    state["PyTorch"] = versions.get("torch", "not installed; pip install 'gloam[train]'")
    return state


def _rtx(versions: Versions, driver: Driver) -> str:
    """Whether TensorRT for RTX builds here, and whether it runs on the first GPU: not on every one."""
    version = next((versions[name] for name in RTX if name in versions), None)
    if version is None:
        return "not installed; pip install 'gloam[tensorrt-rtx]'"
    if not driver.gpus:
        return f"{version}, builds engines; runs none here, CUDA not usable: {driver.problem or 'no GPU'}"
    gpu = driver.gpus[0]
    own = f"sm{gpu.compute_capability.replace('.', '')}"
    if own not in ARCHITECTURES:
        return f"{version}, builds engines; runs none on {gpu.name}, which is {own}"
    return f"{version}, builds engines and runs those for {own} on {gpu.name}"


def _low_precision(processor: Processor) -> str:
    """What the processor gives in bf16 and int8, by its own flags: OpenVINO is not imported for it."""
    if not processor.flags:
        return "bf16 and int8 are not known of this processor"
    bf16 = "bf16" if processor.bf16 else "no bf16"
    int8 = "VNNI for int8" if processor.int8 else "no VNNI for int8"
    return f"{bf16}, {int8} in this processor"


def torch_notes(versions: Versions, driver: Driver, problems: list[str], notes: list[str]) -> None:
    """Add what is to be said of the installed builds of torch, torchvision and TensorRT."""
    torch, vision = versions.get("torch"), versions.get("torchvision")
    if torch is not None:
        cuda = torch_cuda_version() if "+" not in torch else torch.partition("+")[2]
        on_cpu = cuda is None or cuda == "cpu"
        if not on_cpu and not driver.gpus:
            notes.append(f"torch {torch} is a CUDA build (gigabytes of libraries) and no GPU is usable here")
        if on_cpu and driver.gpus:
            notes.append(f"torch {torch} is a CPU build although {driver.gpus[0].name} is here")
        if vision is not None and on_cpu and not vision.endswith("+cpu"):
            problems.append(
                f"torchvision {vision} does not import beside the CPU build torch {torch}; gloam needs no torchvision, "
                "pip uninstall torchvision, or install its +cpu build"
            )
    if versions.get("tensorrt", "").startswith("11.") and "onnxruntime-gpu" in versions:
        notes.append("ONNX Runtime's TensorRT provider links TensorRT 10; the installed 11 serves engines alone")


def torch_cuda_version() -> str | None:
    """The CUDA version that torch was built for, read from its ``version.py`` without importing it."""
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None
