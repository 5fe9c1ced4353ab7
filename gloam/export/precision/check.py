"""A model checked on this machine: its stored self-test, and each shape and batch against its PyTorch original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.errors import ModelError, UsageError, require_all
from gloam.model_card import ModelCard
from gloam.record import to_json
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.descriptors.whitening import Whitening

if TYPE_CHECKING:
    from gloam.export.precision.release_check import Agreement
    from gloam.networks.embedders import EmbedderNetwork
    from gloam.runtime.backends.session import Session

OF_WEIGHTS = ("network", "whitening", "padding")


@dataclass(frozen=True)
class CheckRequest:
    """What to check, and against what.

    Attributes:
        model: embedder, translator or edge detector: ``.onnx`` file or engine folder.
        weights: those it was exported from; None for the self-test alone.
        network, padding: of weights that do not say it themselves, instead of what the model's card says.
        whitening: file of the whitening that the model was exported with.
        placement: where the model runs.

    Raises:
        UsageError: something of weights, without weights.
    """

    model: Path
    weights: Path | None = None
    network: str | None = None
    whitening: Path | None = None
    padding: str | None = None
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        given = next((name for name in OF_WEIGHTS if getattr(self, name) is not None), None)
        if self.weights is None and given is not None:
            raise UsageError(f"--{given} goes with --against WEIGHTS")


@dataclass(frozen=True)
class Checked:
    """How a check came out.

    Attributes:
        request: what was checked.
        card, fingerprint, backend: of the model.
        difference, tolerance: of the self-test, largest absolute difference of a value.
        agreements: with the original, batch by batch; None where no weights were given.
    """

    request: CheckRequest
    card: ModelCard
    fingerprint: str
    backend: BackendFacts
    difference: float
    tolerance: float
    agreements: Sequence[Agreement] | None

    @property
    def selftest_passed(self) -> bool:
        """Whether the model still gives what its card says."""
        return self.difference <= self.tolerance

    @property
    def passed(self) -> bool:
        """Whether the self-test and every batch did."""
        return self.selftest_passed and all(map(self.agrees, self.agreements or ()))

    def agrees(self, agreement: Agreement) -> bool:
        """Whether a batch is as near to the original as the model's precision and self-test allow."""
        return agreement.within(self.card.precision, self.tolerance)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        card = self.card
        found: dict[str, Any] = {
            "model": str(self.request.model),
            "kind": card.kind,
            "name": card.name,
            "dimension": card.dimension,
            "profile": card.profile.kind,
            "precision": card.precision,
            "input_rule": to_json(card.reads) if card.describes else None,
            **({} if card.takes is None else {"takes": to_json(card.takes)}),
            "space": card.space(),
            "fingerprint": self.fingerprint,
            "backend": self.backend.to_dict(),
            "provenance": dict(card.provenance),
            "selftest": {"max_abs": self.difference, "tolerance": self.tolerance, "passed": self.selftest_passed},
            "passed": self.passed,
        }
        if self.agreements is not None:
            batches = [row.to_dict() | {"passed": self.agrees(row)} for row in self.agreements]
            found["against"] = {"weights": str(self.request.weights), "batches": batches}
        return found

    def __str__(self) -> str:
        """Lines for people."""
        card = self.card
        size = "" if card.dimension is None else f" {card.dimension}-D,"
        verdict = "passed" if self.selftest_passed else "FAILED"
        lines = [
            f"{self.request.model}: {card.name} ({card.kind}),{size} {card.profile.kind}, {card.precision}",
            *([f"images      {card.described_input()}"] if card.describes else []),
            *([] if card.takes is None else [f"takes       {card.takes}"]),
            f"space       {card.space()}",
            f"fingerprint {self.fingerprint}",
            f"self-test   {verdict}: max abs {self.difference:.2e}, tolerance {self.tolerance:.0e}",
        ]
        for row in self.agreements or ():
            sizes = " ".join(f"{width}x{height}" for height, width in row.shapes)
            loss = "" if row.cosine is None else f", 1 - cosine {1 - row.cosine:.1e}"
            verdict = "agrees" if self.agrees(row) else "DIFFERS"
            lines.append(f"{sizes:34s} {verdict}: max abs {row.max_abs:.2e}{loss}")
        return "\n".join(lines)


def check_model(request: CheckRequest) -> Checked:
    """Run the stored self-test; then, with weights, the numeric step of the release check.

    Raises:
        ModelError: a model or weights that cannot be read, or of a kind that cannot be compared.
        IncompatibleError: the model was exported from other weights, or with other scales or another whitening.
        MissingExtraError: an optional package is absent.
    """
    if request.weights is not None:
        require_all(("torch",), "compare a model with its weights")
    session = open_session(request.model, request.placement)
    difference, tolerance = run_selftest(session)
    agreements = None if request.weights is None else _compare(request, request.weights, session)
    return Checked(request, session.card, session.fingerprint, session.backend, difference, tolerance, agreements)


def _compare(request: CheckRequest, weights: Path, session: Session) -> list[Agreement]:
    card = session.card
    if card.prepares:
        raise ModelError(
            f"{request.model}: has a translator or a resizing in front, which the weights do not; compare the "
            "embedder and the translator as they were exported alone"
        )
    if card.kind == "embedder":
        from gloam.export.precision.release_check import compare
        from gloam.runtime.models.embedder import Embedder

        whitening = None if request.whitening is None else Whitening.load(request.whitening)
        original = load_original(weights, card, network=request.network, padding=request.padding, whitening=whitening)
        return compare(original, Embedder(session))
    from gloam.export.precision.image_check import compare_maps
    from gloam.networks.checkpoints import load_detector, load_generator
    from gloam.runtime.models.image_model import ImageModel

    if card.kind not in ("translator", "edges"):
        raise ModelError(f"{request.model}: models of kind '{card.kind}' cannot be compared with their weights yet")
    load = load_generator if card.kind == "translator" else load_detector
    return compare_maps(load(weights).model, ImageModel(session))


def load_original(
    weights: str | Path,
    card: ModelCard,
    *,
    network: str | None = None,
    padding: str | None = None,
    whitening: Whitening | None = None,
) -> EmbedderNetwork:
    """The embedder that a model was exported from; what its weights do not say of the network, the card does.

    Args:
        weights: native ``.safetensors``, or a ``.pth``/``.pt`` state dict.
        card: of the model.
        network, padding: of a state dict, instead of the card's.
        whitening: the one that the model was exported with.

    Raises:
        ModelError: unreadable, or not the weights of such a network.
        IncompatibleError: the model has a whitening that is not the one given.
    """
    from gloam.export.precision.release_check import as_exported
    from gloam.networks.checkpoints import checkpoint_kind, load_checkpoint

    options: dict[str, Any] = {}
    if checkpoint_kind(weights) is None:
        stated = dict(card.network)
        own = stated.pop("name", card.name)
        network = network or own
        options = {"mean": card.mean, "std": card.std} | (stated if network == own else {})
        if (card.pooling or {}).get("name") == "gem":
            options["p"] = (card.pooling or {}).get("p", 3.0)
    if padding is not None:
        options["padding"] = padding
    return as_exported(load_checkpoint(weights, network, **options).model, card, whitening)
