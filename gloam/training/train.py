"""Training of any kind by one call: a recipe, the changes of it, a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from gloam.errors import UsageError, require_all
from gloam.heartbeat import Say

if TYPE_CHECKING:
    from gloam.training.edges.train import DetectorSummary
    from gloam.training.embedders.config import MetricConfig
    from gloam.training.embedders.train import MetricSummary
    from gloam.training.translators.train import TranslatorSummary

    TrainSummary: TypeAlias = MetricSummary | TranslatorSummary | DetectorSummary

PACKAGES = {
    **dict.fromkeys(("embedder", "metric", "edges"), ("torch", "yaml", "safetensors")),
    "translator": ("torch", "yaml", "safetensors", "lightning_fabric", "torch.utils.tensorboard"),
}
KINDS = ("embedder", "metric", "translator", "edges")
VIEWS_FOLDER = "views"


@overload
def train(
    kind: Literal["embedder", "metric"],
    recipe: str,
    changes: Mapping[str, Any] | None,
    folder: str | Path,
    *,
    data: str | Path | None = ...,
    nights: str | Path | None = ...,
    views: str | Path | None = ...,
    changes_from: str | None = ...,
    say: Say | None = ...,
) -> MetricSummary: ...
@overload
def train(
    kind: Literal["translator"],
    recipe: str,
    changes: Mapping[str, Any] | None,
    folder: str | Path,
    *,
    epochs: int | None = ...,
    views: str | Path | None = ...,
    say: Say | None = ...,
) -> TranslatorSummary: ...
@overload
def train(
    kind: Literal["edges"],
    recipe: str,
    changes: Mapping[str, Any] | None,
    folder: str | Path,
    *,
    changes_from: str | None = ...,
    say: Say | None = ...,
) -> DetectorSummary: ...
def train(
    kind: str,
    recipe: str,
    changes: Mapping[str, Any] | None,
    folder: str | Path,
    *,
    epochs: int | None = None,
    data: str | Path | None = None,
    nights: str | Path | None = None,
    views: str | Path | None = None,
    changes_from: str | None = None,
    say: Say | None = None,
) -> TrainSummary:
    """Train a model from a recipe; the same call carries on after a kill, and a finished run is only read.

    Args:
        kind: of :data:`KINDS`: ``embedder`` (on procedural streets of all hours) and ``metric`` (on any image set, with
            made nights), ``translator`` (day to night), ``edges`` (a detector on procedural streets).
        recipe: of that kind; see ``gloam.training.recipes``.
        changes: keys of the recipe replaced, nested as in the recipe; ``{"night": {"share": 0.5}}``.
        folder: output folder, created where it is missing: weights, ``train.json`` and the state.
        epochs: of a translator; the learning rate falls in the same share of them.
        data: what ``{root}`` in the paths of a ``metric`` recipe stands for.
        nights: folder that keeps made nights, to be shared by runs; ``folder/nights`` by default.
        views: folder that keeps rendered streets of embedders and translators, likewise; ``folder/views`` by default.
        changes_from: what the changes come from, for messages about a detector's or an embedder's.
        say: gets one line per stage and epoch.

    Returns:
        what the run gave: :class:`~gloam.training.embedders.train.MetricSummary`,
        :class:`~gloam.training.translators.train.TranslatorSummary` or
        :class:`~gloam.training.edges.train.DetectorSummary`.

    Raises:
        UsageError: no such kind or recipe, a key or value that is refused, or a device or maker that is missing.
        DataError: an image set that cannot be read or trained on.
        ModelError: no such network, or weights of another.
        StoreError: the folder holds another run, or cannot be written.
        DivergenceError: a value of training is not finite.
        MissingExtraError: an optional package is absent.
    """
    require_all(PACKAGES.get(kind, ()), "train")
    if kind in ("embedder", "metric"):
        from gloam.training.embedders.config import read_metric_recipe

        config = read_metric_recipe(recipe, changes, kind=kind, where=changes_from)
        return _train_embedder(config, recipe, folder, data, nights, views, say)
    if kind == "translator":
        from gloam.training.translators.config import read_translator_recipe, with_epochs
        from gloam.training.translators.train import train_translator

        translator = read_translator_recipe(recipe, changes)
        if epochs is not None:
            translator = with_epochs(translator, epochs)
        return train_translator(translator, folder, recipe=recipe, views=views, say=say)
    if kind == "edges":
        from gloam.training.edges.config import read_detector_recipe
        from gloam.training.edges.train import train_detector

        return train_detector(read_detector_recipe(recipe, changes, changes_from), folder, recipe=recipe, say=say)
    raise UsageError(f"no training of kind {kind!r}; choose one of {', '.join(KINDS)}")


def _train_embedder(
    config: MetricConfig,
    recipe: str,
    folder: str | Path,
    data: str | Path | None,
    nights: str | Path | None,
    views: str | Path | None,
    say: Say | None,
) -> MetricSummary:
    """Open what the recipe names, then train; what can be refused is refused before anything is rendered."""
    from gloam.training.embedders.config import rooted
    from gloam.training.embedders.image_sets import open_set, origin_of
    from gloam.training.embedders.nights import open_night_maker
    from gloam.training.embedders.train import device_of, initial_model, train_metric

    weights, maker = rooted(config.weights, data), rooted(config.maker, data)
    detector = rooted(config.detector_weights, data)
    if config.night.active and maker is None:
        raise UsageError(f"recipe {recipe} makes nights; name what makes them with --maker MODEL")
    if weights is None:
        initial_model(config, None, detector)  # a wrong name is refused before minutes of rendering
    place = views if views is not None else Path(folder) / VIEWS_FOLDER
    named = {"train": config.data.train, "validation": config.data.validation}
    if config.real_share > 0:
        named["real"] = config.data.real or {}
    for label, source in named.items():
        if not source:
            raise UsageError(f"recipe {recipe} names no data.{label}; give --{label} SET.json")
    sources = {label: rooted(source, data) for label, source in named.items()}
    night = None
    if maker is not None and config.night.active:
        noise = config.seed if config.maker_noise == "drawn" else None
        night = open_night_maker(maker, device_of(config.device), config.maker_domain, noise)
    sets = {label: open_set(source, place, say) for label, source in sources.items()}
    return train_metric(
        config,
        sets["train"],
        sets["validation"],
        folder,
        night=night,
        weights=weights,
        detector=detector,
        real=sets.get("real"),
        nights=nights,
        recipe=recipe,
        origin=origin_of(config.data.train) if weights is None and night is None and "real" not in sets else None,
        say=say,
    )
