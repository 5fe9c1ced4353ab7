"""The profile that ``gloam bench --tune`` writes beside a model: what runs it fastest on this machine.

A profile holds for one model file, one processor and the versions that were measured; elsewhere it is left aside, and
that is said. Only choices that give the file's own numbers are in it, unless a reduced precision was allowed by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from gloam.errors import ModelError, UsageError
from gloam.files import read_json, sha256_file, write_json
from gloam.record import Written, fill_dataclass
from gloam.runtime.backends.placement import BACKENDS, CPU_PRECISIONS
from gloam.runtime.backends.processor import Processor, find_processor

SCHEMA = 1
SUFFIX = ".tune.json"
MEASURED = ("onnxruntime", "onnxruntime-gpu", "openvino")  # distributions whose versions a profile holds for


@dataclass(frozen=True)
class Choice(Written):
    """One way to run a model on a CPU.

    Attributes:
        backend: one of :data:`BACKENDS`.
        threads: of all runs together.
        requests: runs at once.
        cpu_precision: one of :data:`CPU_PRECISIONS`.
    """

    backend: str
    threads: int
    requests: int
    cpu_precision: str = "f32"

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        reduced = "" if self.cpu_precision == "f32" else f" {self.cpu_precision}"
        return f"{self.backend}{reduced}, {threads}, {self.requests} at once"


@dataclass(frozen=True)
class TuneProfile:
    """What was measured, and what came out best.

    Attributes:
        fingerprint, onnx_sha256: of the model; the second is compared, since it needs no reading of the graph.
        cpu, cores: the processor, and the cores that the measuring process might use.
        versions: of the backends' distributions.
        choice: the fastest.
        images_per_second, default_images_per_second: of the choice, and of ONNX Runtime with all cores.
        allowed: reduced precisions that were allowed.
    """

    fingerprint: str
    onnx_sha256: str
    cpu: str
    cores: int
    versions: Mapping[str, str]
    choice: Choice
    images_per_second: float
    default_images_per_second: float
    allowed: tuple[str, ...]

    def save(self, model: str | Path) -> Path:
        """Write the profile beside its model, atomically."""
        path = profile_path(model)
        write_json(path, {"schema": SCHEMA, **asdict(self)})
        return path

    @classmethod
    def read(cls, path: Path) -> TuneProfile:
        """Read a profile.

        Raises:
            ModelError: not a profile of this schema.
        """
        try:
            value = read_json(path)
            if value.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            profile = fill_dataclass(cls, value, "profile")
            profile._check()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise ModelError(
                f"{path}: not a readable tuning profile ({error!r:.100}); delete it, or run `gloam bench --tune` again"
            ) from error
        return profile

    def _check(self) -> None:
        if not all(0 < rate < float("inf") for rate in (self.images_per_second, self.default_images_per_second)):
            raise ValueError("rates that are not positive")
        choice = self.choice
        possible = choice.backend in BACKENDS and choice.cpu_precision in CPU_PRECISIONS
        if not possible or not 1 <= choice.requests <= choice.threads:
            raise ValueError(f"no such choice: {choice}")
        if choice.cpu_precision not in ("f32", *self.allowed):
            raise ValueError(f"{choice.cpu_precision} was not allowed")

    def mismatch(self, onnx_sha256: str, processor: Processor, versions: Mapping[str, str]) -> str | None:
        """What the profile is of instead, or None where it holds."""
        if self.onnx_sha256 != onnx_sha256:
            return "another model"
        if (self.cpu, self.cores) != (processor.model, processor.cores):
            return f"another machine ({self.cores} cores of {self.cpu})"
        for name in sorted({*self.versions, *versions}):
            if self.versions.get(name) != versions.get(name):
                return f"another version ({name} {self.versions.get(name, 'absent')})"
        return None


def profile_path(model: str | Path) -> Path:
    """``MODEL.tune.json`` beside the model."""
    file = Path(model)
    return file.with_name(file.name + SUFFIX)


def backend_versions() -> dict[str, str]:
    """Installed versions of the backends."""
    found = {}
    for name in MEASURED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def find_profile(
    model: str | Path, processor: Processor | None = None, versions: Mapping[str, str] | None = None
) -> tuple[TuneProfile | None, str]:
    """The profile beside a model, where there is one that holds here.

    Args:
        model: ``.onnx`` file.
        processor, versions: of this machine; looked up by default.

    Returns:
        the profile or None; and in words what was found, empty where no profile is there.

    Raises:
        ModelError: the profile is damaged.
    """
    path = profile_path(model)
    if not path.is_file() or not Path(model).is_file():
        return None, ""
    profile = TuneProfile.read(path)
    wrong = profile.mismatch(
        sha256_file(model), processor or find_processor(), backend_versions() if versions is None else versions
    )
    if wrong is not None:
        return None, f"{path.name} is of {wrong} and not used; run `gloam bench --tune` again"
    gain = profile.images_per_second / profile.default_images_per_second
    return profile, f"{path.name}: {profile.choice} was the fastest here, {gain:.2f}x the default"
