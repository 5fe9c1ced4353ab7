"""Scores of what lies on disk: descriptor stores, poses, translated images; each by its own options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gloam.workflows.evaluation.domains import DomainOptions
    from gloam.workflows.evaluation.localization import LocalizationOptions
    from gloam.workflows.evaluation.retrieval import RetrievalOptions
    from gloam.workflows.evaluation.translation import TranslationOptions


class Evaluation(Protocol):
    """Scores that came out."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, what has no finite value as None."""
        ...

    def to_text(self) -> str:
        """As a table for people."""
        ...


def evaluate(options: RetrievalOptions | LocalizationOptions | TranslationOptions | DomainOptions) -> Evaluation:
    """Score descriptors, poses or translated images, by what the options are.

    Args:
        options: :class:`~gloam.workflows.evaluation.retrieval.RetrievalOptions` (stores, a protocol, its ground truth),
            :class:`~gloam.workflows.evaluation.localization.LocalizationOptions` (kapture poses; thresholds in metres
            and degrees), :class:`~gloam.workflows.evaluation.translation.TranslationOptions` (folders of images;
            sizes in pixels) or :class:`~gloam.workflows.evaluation.domains.DomainOptions` (weak pairs and translators
            between many domains).

    Returns:
        the scores: ``to_dict()`` for programs, ``to_text()`` for people. mAP and recall are shares in [0, 1].

    Raises:
        DataError, IncompatibleError, StoreError: a file that cannot be used, descriptors that may not be compared.
        UsageError: options that do not go together, or of no kind named above.
    """
    from gloam.errors import UsageError
    from gloam.workflows.evaluation.domains import DomainOptions, evaluate_domains
    from gloam.workflows.evaluation.localization import LocalizationOptions, evaluate_localization
    from gloam.workflows.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
    from gloam.workflows.evaluation.translation import TranslationOptions, evaluate_translation

    if isinstance(options, RetrievalOptions):
        return evaluate_retrieval(options)
    if isinstance(options, LocalizationOptions):
        return evaluate_localization(options)
    if isinstance(options, TranslationOptions):
        return evaluate_translation(options)
    if isinstance(options, DomainOptions):
        return evaluate_domains(options)
    raise UsageError(
        f"evaluate: {type(options).__name__} says nothing of what to score; give RetrievalOptions, "
        "LocalizationOptions or TranslationOptions, or DomainOptions"
    )
