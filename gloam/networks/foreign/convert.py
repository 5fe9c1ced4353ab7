"""A public checkpoint or whitening to a file of gloam's own, and what was decided on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.errors import IncompatibleError, UsageError, require
from gloam.runtime.descriptors.whitening import Whitening, WrittenWhitening

if TYPE_CHECKING:
    from gloam.networks.foreign.read import Imported


@dataclass(frozen=True)
class ImportRequest:
    """What to convert.

    Attributes:
        weights: file that another project published.
        output: ``.safetensors`` file to write; ``.npz`` for a whitening.
        family, decoder, direction, options, licence: see :func:`~gloam.networks.foreign.read.import_network`.
        whitening: of an embedder, written beside it as ``.npz``.
    """

    weights: Path
    output: Path
    family: str = "auto"
    decoder: Path | None = None
    direction: str = "a2b"
    options: Mapping[str, Any] = field(default_factory=dict)
    whitening: Path | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class ImportedFile:
    """A checkpoint that was written.

    Attributes:
        path: of the checkpoint.
        kind: ``embedder``, ``translator`` or ``edges``.
        found: the network, and what was left out.
        provenance: as the checkpoint states it.
        whitenings: files that were written beside it.
    """

    path: Path
    kind: str | None
    found: Imported
    provenance: Mapping[str, Any]
    whitenings: list[str]

    @property
    def parameters(self) -> int:
        """Learned values of the network."""
        return sum(parameter.numel() for parameter in self.found.model.parameters())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "checkpoint": str(self.path),
            "kind": self.kind,
            "network": self.found.model.name,
            "options": self.found.model.options,
            "parameters": self.parameters,
            "dropped": self.found.dropped,
            "notes": self.found.notes,
            "whitenings": self.whitenings,
            "source_sha256": self.provenance["source_sha256"],
            "weights_sha256": self.provenance["weights_sha256"],
        }

    def __str__(self) -> str:
        """Lines for people."""
        model = self.found.model
        said = ", ".join(f"{key}={value}" for key, value in model.options.items())
        lines = [
            f"{self.path}: {model.name}{f' ({said})' if said else ''}, {self.parameters:,} parameters",
            f"source  {self.provenance['source_sha256']}",
            f"weights {self.provenance['weights_sha256']}",
        ]
        if self.found.dropped:
            lines.append(f"left out (no use): {', '.join(self.found.dropped)}")
        lines += [f"note: {note}" for note in self.found.notes]
        lines += [f"whitening {path}" for path in self.whitenings]
        following = f"next: gloam export {self.path} -o {self.path.with_suffix('.onnx')}"
        if "photometric" in self.found.provenance:
            following += " --photometric clahe"
        if self.whitenings:  # learned from descriptors of several scales, as the papers evaluate
            chosen = next((path for path in self.whitenings if path.endswith("-ms.npz")), self.whitenings[-1])
            following += f" --scales 1,0.70710678,0.5 --whitening {chosen}"
        return "\n".join([*lines, following])


@dataclass(frozen=True)
class ImportedWhitening(WrittenWhitening):
    """A whitening from elsewhere."""

    def __str__(self) -> str:
        """Lines for people."""
        found = self.whitening
        return (
            f"{self.path}: whitening of {found.input_dimension} to {found.dimension} dimensions\nsha256 {found.sha256}"
        )


def import_weights(request: ImportRequest) -> ImportedFile | ImportedWhitening:
    """Convert a checkpoint, and the whitenings that come with it, or a whitening alone.

    Raises:
        ModelError: unreadable, of another architecture, or keys missing or unexpected; they are listed.
        IncompatibleError: the whitening takes descriptors of another dimension.
        UsageError: an output of another suffix, or options that do not belong to the family.
        MissingExtraError: torch or safetensors is not installed.
    """
    require("torch", "train", "convert a checkpoint")
    require("safetensors", "train", "write a checkpoint")
    from gloam.networks.foreign.embedders import load_whitening

    output = request.output
    if output.suffix == ".npz":
        whitening = load_whitening(request.weights)
        return ImportedWhitening(whitening.save(output), whitening)
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: gloam's checkpoints end in .safetensors, its whitenings in .npz")
    from gloam.networks.checkpoints import checkpoint_kind, save_checkpoint
    from gloam.networks.foreign.read import import_network

    found = import_network(
        request.weights,
        request.family,
        decoder=request.decoder,
        direction=request.direction,
        options=request.options,
        licence=request.licence,
    )
    whitenings = dict(found.whitenings)
    if request.whitening is not None:
        whitenings["lw"] = _whitening_for(found.model, request.whitening)
    provenance = save_checkpoint(output, found.model, found.provenance)
    written = [
        str(whitening.save(output.with_name(f"{output.stem}.{word}.npz"))) for word, whitening in whitenings.items()
    ]
    return ImportedFile(output, checkpoint_kind(output), found, provenance, written)


def _whitening_for(model: Any, path: Path) -> Whitening:
    from gloam.networks.foreign.embedders import load_whitening

    dimension = getattr(model, "dimension", None)
    if dimension is None:
        raise UsageError(f"--whitening is for embedders, but the weights are of {model.name}")
    whitening = load_whitening(path)
    if whitening.input_dimension != dimension:
        raise IncompatibleError(
            f"{path}: takes descriptors of {whitening.input_dimension} dimensions, but {model.name} gives {dimension}; "
            "take the whitening that was learned with these weights"
        )
    return whitening
