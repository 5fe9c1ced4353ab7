"""Typed configuration of metric learning; every default is the Dark Side paper's VGG16 as its code runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gloam.errors import UsageError
from gloam.record import fill_dataclass, to_json
from gloam.training.embedders.night_rule import NightRule
from gloam.training.typed_config import recipe_mapping

RECIPES = {"metric": "gloam.training.recipes.metric", "embedder": "gloam.training.recipes"}  # by kind of training
BATCH_ALONE = ("negatives_from", "batch_places", "images_per_place", "augment")
OF_ASMK = ("asmk_words", "asmk_images", "asmk_features")
OF_MAKER = ("maker", "maker_domain", "maker_noise")  # which the identity of what makes nights holds
FILES = ("data", "weights", "detector_weights")  # named by their content elsewhere
UNTRACED = (*OF_MAKER, *FILES, "threads", "device", "workers", "cache_mib", "max_minutes", "forward_images")


@dataclass(frozen=True)
class MetricData:
    """Where the images come from: arguments of ``gloam.data.retrieval_sets.sets.read_retrieval_set``,
    ``kind`` among them.

    Attributes:
        train, validation: the two sets; ``{root}`` in a text stands for the folder given with ``--data``.
        real: real pairs of night and day to be mixed in, or None.
        reserved_seeds: streets kept for testing; training or validating on one of them is refused.
    """

    train: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    real: Mapping[str, Any] | None = None
    reserved_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse streets that must not be trained on.

        Raises:
            UsageError: naming the seed.
        """
        train, validation = _seeds(self.train), _seeds(self.validation)
        if train & validation:
            raise UsageError(f"validation seed {min(train & validation)} is a training street; choose another")
        taken = (train | validation) & set(self.reserved_seeds)
        if taken:
            raise UsageError(f"street seed {min(taken)} is reserved for testing; choose another")


@dataclass(frozen=True)
class MetricConfig:
    """A run of metric learning on tuples of an anchor, its positives and hard negatives.

    Attributes:
        network, network_options: of ``create_embedder``.
        weights: initial weights; None for random ones. Ignored where they are given otherwise.
        detector_weights: native checkpoint of the edge detector of ``hedmac_vgg16`` or ``rcfmac_vgg16``, which is not
            trained; needed where ``weights`` do not hold one. Ignored where it is given otherwise.
        maker: what makes nights, see ``open_night_maker``; ignored where it is given otherwise. In this,
            ``weights`` and ``detector_weights`` ``{root}`` stands for the folder given with ``--data``.
        maker_domain: of a maker of several domains, the one that images are translated into; its own choice by default.
        maker_noise: what a maker that takes noise is given: ``drawn`` for each image from ``seed`` and its pixels, the
            same whenever the image is made night, or ``zeros``.
        data: the image sets of the command line; ignored where sets are given otherwise.
        seed: of initial weights and of every choice.
        epochs: each mines anew.
        tuples: per epoch, at most as many as there are pairs.
        batch: tuples per optimiser step; what is left of an epoch is dropped, unless it is all.
        negatives_from: ``pool``: mined once per epoch among many images, and each tuple is a pair of the set with its
            negatives. ``batch``: mined at each step among the images of that very step, and every image is the anchor
            of a tuple with all other images of its place as positives; nights, real pairs, ``anchors`` and ``batch``
            are for pools.
        batch_places, images_per_place: places of a step and images of each, where negatives come from the batch.
        augment: crop and exposure of every image, and mirroring of whole places, where negatives come from the batch.
        negatives: per tuple.
        loss: ``contrastive``, ``triplet`` or ``multi_similarity``, see ``gloam.training.embedders.losses``. The last
            takes all pairs of a step where negatives come from the batch, and mines among them itself.
        margin: of the loss: of a distance (contrastive), of a difference of squared ones (triplet; 0.1 is usual), or of
            the similarities that count (multi_similarity; 0.1 is usual).
        learning_rate, learning_rate_decay: of Adam, and its factor per epoch.
        weight_decay: L2 added to the gradient; GeM's p has none.
        pool_learning_rate_factor: GeM's p learns this much faster.
        whiten_images: HOW alone: training images whose cells give ``dim_reduction`` its PCA whitening before the first
            epoch, the first of the set; 0 keeps the initial weights'.
        cluster_images: NetVLAD alone: training images, drawn by the seed, whose cells' k-means gives the centres before
            the first epoch; 0 keeps the initial weights'.
        freeze_batch_norm: keep running statistics, as for pretrained weights; random ones need their own.
        anchors: ``random`` pairs, ``diverse`` ones of a random pool, or ``all``.
        anchor_pool: pairs from which diverse anchors are chosen.
        diverse_window: shares of the remaining candidates, from the most similar, between which the next one lies.
        negative_pool: images among which negatives are mined.
        night: which images are made night.
        real_share: of the tuples, from the real pairs of night and day.
        photometric, clahe_clip, clahe_grid: normalisation of every image, made nights included.
        image_side: longer side, pixels; larger images in files are reduced. Those in memory stay as they are.
        validate_every: epochs; the last one is always validated.
        select: what the best epoch is chosen by: the ``loss`` of validation tuples, the ``mAP``, or, of HOW alone, the
            mAP by ``ASMK``, as in its paper.
        asmk_words, asmk_images, asmk_features: of ``ASMK``: the codebook's words, the training images that it is
            learned from, and local features of an image; the paper's by default.
        query_condition, map_condition: restrict the validation's mAP to queries and database of these conditions.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of torch; None leaves them.
        workers: threads that decode and normalise ahead of training.
        cache_mib: decoded and normalised images kept in memory.
        describe_batch: images per forward of mining and validation.
        forward_images: images that take part in one backward, by whole tuples; less memory for the same gradient.
        max_minutes: no epoch starts after this time; None for no limit.
    """

    network: str = "gem_vgg16"
    network_options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    detector_weights: str | None = None
    maker: str | None = None
    maker_domain: str | None = None
    maker_noise: Literal["drawn", "zeros"] = "drawn"
    data: MetricData = field(default_factory=MetricData)
    seed: int = 0
    epochs: int = 40
    tuples: int = 2000
    batch: int = 5
    negatives_from: Literal["pool", "batch"] = "pool"
    batch_places: int = 12
    images_per_place: int = 4
    augment: bool = False
    negatives: int = 5
    loss: Literal["contrastive", "triplet", "multi_similarity"] = "contrastive"
    margin: float = 0.75
    learning_rate: float = 5e-7
    learning_rate_decay: float = 0.99
    weight_decay: float = 5e-4
    pool_learning_rate_factor: float = 10.0
    whiten_images: int = 0
    cluster_images: int = 0
    freeze_batch_norm: bool = True
    anchors: Literal["random", "diverse", "all"] = "random"
    anchor_pool: int = 10000
    diverse_window: tuple[float, float] = (0.2, 0.8)
    negative_pool: int = 22000
    night: NightRule = field(default_factory=NightRule)
    real_share: float = 0.0
    photometric: Literal["none", "clahe"] = "clahe"
    clahe_clip: float = 1.0
    clahe_grid: int = 8
    image_side: int = 362
    validate_every: int = 5
    select: Literal["loss", "mAP", "ASMK"] = "loss"
    asmk_words: int = 65536
    asmk_images: int = 20000
    asmk_features: int = 1000
    query_condition: str | None = None
    map_condition: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    workers: int = 4
    cache_mib: int = 2048
    describe_batch: int = 32
    forward_images: int = 35
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: naming the value and what it may be.
        """
        least = {
            "anchor_pool": 1,
            "negative_pool": 1,
            "image_side": 32,
            "workers": 0,
            "cache_mib": 0,
            "whiten_images": 0,
            "cluster_images": 0,
            "clahe_grid": 1,
            "images_per_place": 2,
            **dict.fromkeys(OF_ASMK, 1),
        }
        counts = ("epochs", "tuples", "batch", "negatives", "validate_every", "describe_batch", "forward_images")
        for name, low in (*((name, 1) for name in counts), *least.items()):
            if getattr(self, name) < low:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least {low}")
        for name in ("margin", "learning_rate", "learning_rate_decay", "pool_learning_rate_factor", "clahe_clip"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name)}: must be positive")
        if not self.weight_decay >= 0:
            raise UsageError(f"weight_decay {self.weight_decay}: must not be negative")
        if not 0 <= self.real_share <= 1:
            raise UsageError(f"real_share {self.real_share}: is a share of the tuples; give a number from 0 to 1")
        if self.negatives_from == "batch":
            self._check_batch()
        close, far = self.diverse_window
        if not 0 <= close < far <= 1:
            raise UsageError(f"diverse_window {close} to {far}: shares of 0 <= low < high <= 1 are needed")
        if (self.query_condition is None) != (self.map_condition is None):
            raise UsageError("query_condition and map_condition: give both, or neither")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise UsageError(f"max_minutes {self.max_minutes}: must be positive")

    def _check_batch(self) -> None:
        negatives = 1 if self.loss == "multi_similarity" else self.negatives
        if self.batch_places <= negatives:
            raise UsageError(f"batch_places {self.batch_places}: {negatives} negatives need more places than that")
        if self.night.active or self.real_share > 0 or self.anchors != "random":
            raise UsageError("negatives_from batch: nights, real pairs and chosen anchors need negatives_from pool")

    def to_dict(self) -> dict[str, Any]:
        """JSON form; :func:`fill_metric_config` reads it back."""
        found: dict[str, Any] = to_json(self)
        return found

    def trajectory(self) -> dict[str, Any]:
        """What the weights depend on: all but device, speed, and what is named by content elsewhere.

        ``epochs`` is not among it: a run with more of them carries on.
        """
        silent = (*UNTRACED, "epochs", *(BATCH_ALONE if self.negatives_from == "pool" else ()))
        silent += () if self.cluster_images else ("cluster_images",)  # runs of before it carry on
        silent += () if self.select == "ASMK" else OF_ASMK  # likewise
        silent += () if self.loss != "contrastive" else ("loss",)  # likewise
        return {key: item for key, item in self.to_dict().items() if key not in silent}


def fill_metric_config(value: Mapping[str, Any], where: str, base: MetricConfig | None = None) -> MetricConfig:
    """Put values over the defaults, or over ``base``.

    Raises:
        UsageError: an unknown key (the nearest is named) or a value that is refused.
    """
    return fill_dataclass(MetricConfig, value, where, base)


def read_metric_recipe(
    name: str, changes: Mapping[str, Any] | None = None, *, kind: str = "metric", where: str | None = None
) -> MetricConfig:
    """A recipe that comes with gloam, with some keys replaced.

    Args:
        name: a file of :data:`RECIPES`.
        changes: keys of :class:`MetricConfig`; another ``network`` than the recipe's has its own default options.
        kind: of :data:`RECIPES`.
        where: what the changes come from, for messages.

    Raises:
        UsageError: there is none of that name, or a key or value is refused.
    """
    base = fill_metric_config(recipe_mapping(RECIPES[kind], name), f"recipe {name}")
    if not changes:
        return base
    if changes.get("network", base.network) != base.network:
        changes = {"network_options": {}, **changes}
    return fill_metric_config(changes, where or f"recipe {name}, changed", base)


def rooted(value: Any, root: str | Path | None) -> Any:
    """``value`` with ``{root}`` in every text replaced by the folder.

    Raises:
        UsageError: a text asks for the folder and there is none.
    """
    if isinstance(value, Mapping):
        return {key: rooted(item, root) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rooted(item, root) for item in value]
    if not isinstance(value, str) or "{root}" not in value:
        return value
    if root is None:
        raise UsageError(f"{value}: give the folder that {{root}} stands for with --data DIR")
    return value.replace("{root}", str(root))


def _seeds(source: Mapping[str, Any]) -> set[Any]:
    """Of the streets that a source renders."""
    seeds = source.get("seeds", ()) if source.get("kind") == "town" else ()
    return set(seeds) if isinstance(seeds, Sequence) else set()
