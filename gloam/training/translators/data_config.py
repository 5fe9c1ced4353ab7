"""What a translator is trained on, as a recipe says it."""

from __future__ import annotations

from dataclasses import dataclass

from gloam.data.day_night.crops import Transform, create_transform
from gloam.data.town.config import LOOKS, conditions_of
from gloam.errors import UsageError

PAIRED_KINDS = ("town_paired", "transient", "paired_folders", "paired_csv")
DOMAIN_KINDS = ("weak_pairs", "domain_folders")
KINDS = ("town", "folders", "lists", "aachen", "robotcar", "sfm", "idx", *PAIRED_KINDS, *DOMAIN_KINDS)


@dataclass(frozen=True)
class DataConfig:
    """What a translator is trained on; ``data:`` of a recipe.

    Attributes:
        kind: where the images come from. ``town`` and ``town_paired`` render streets; ``folders`` (day/ and night/, or
            trainA/ and trainB/, at any depth of ``root``); ``lists`` (a folder or text list for each domain);
            ``aachen``, ``robotcar``, ``sfm``, ``transient`` (the papers' sources); ``paired_folders``, ``paired_csv``;
            ``idx`` (two files of MNIST's format, ``day`` and ``night``); ``weak_pairs`` (the file ``day`` that
            ``gloam pair`` writes, its part ``test`` held out); ``domain_folders`` (a folder of ``root`` for each domain
            of the options, in which images of one name show one place).
        root: folder of the images; for ``lists``, ``sfm`` and ``paired_csv`` what the names are relative to, and for
            ``weak_pairs`` where it is not the file's own.
            Environment variables and ``~`` are replaced in all paths.
        day, night: a folder, list or file for each domain, where the kind has such; ``paired_csv`` has its table in
            ``day``.
        groups: of ``folders``: folders directly below ``root`` to train on, e.g. cameras; empty is all others.
        held_out_groups: of ``folders``: folders never trained on.
        held_out_share: share of the images never trained on, where no groups are held out; by a hash of the name, so
            that added images move none. Pairs are held out with all pairs that share an image with them.
        test_day, test_night: images never trained on, in place of a share: folders by their name beside those to train
            on (of ``folders``: ``testA`` and ``testB``), or files of ``idx``.
        transform: name in ``gloam.data.day_night.crops``; ``size``: side of the training images, pixels;
            ``scale``: of scalecrop.
        flip: mirror every second image; None is what the transform's paper does.
        shared: one crop for both images of a pair; always so for kinds of pairs, and for ``scalecrop``.
        plain_from_epoch: from this epoch on (0-based) images are only stretched, as CUT does in its second half; 0
            is never.
        channels: 3, or 1 for grey.
        background: RGB that shows where a picture of a file is transparent; empty drops the transparency.
        min_side: images of files with a shorter side are left out and counted, pixels; 0 is none.
        max_side: longer side that images are reduced to when they are read; 0 keeps them as they are.
        images_per_epoch: what an epoch counts as; 0 is the larger domain. The papers' epochs are 10 000.
        check: ``decode`` every image before training, read its ``header`` only, or ``none``.
        cache_mb: memory for decoded images.
        workers: threads that decode; the next batch is then prepared beside the current step.
        seeds: of the town's training streets; held_out_seed: of its other street; reserved_seeds: streets kept for
            judging, refused here.
        look: of the town, see ``gloam town``.
        views: photographs per street and condition; held_out_views: of the held-out street.
        day_conditions, night_conditions: of the town's two domains.
    """

    kind: str = "town"
    root: str | None = None
    day: str | None = None
    night: str | None = None
    groups: tuple[str, ...] = ()
    held_out_groups: tuple[str, ...] = ()
    held_out_share: float = 0.05
    test_day: str | None = None
    test_night: str | None = None
    transform: str = "scalecrop"
    size: int = 256
    scale: tuple[float, ...] = (0.8, 1.0)
    flip: bool | None = None
    shared: bool = False
    plain_from_epoch: int = 0
    channels: int = 3
    background: tuple[int, ...] = ()
    min_side: int = 0
    max_side: int = 0
    images_per_epoch: int = 0
    check: str = "decode"
    cache_mb: int = 1024
    workers: int = 0
    seeds: tuple[int, ...] = (101, 102, 103, 104, 105, 106)
    held_out_seed: int = 201
    reserved_seeds: tuple[int, ...] = ()
    look: int = 1
    views: int = 40
    held_out_views: int = 16
    day_conditions: tuple[str, ...] = ("day",)
    night_conditions: tuple[str, ...] = ("night",)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained on, before anything is read.

        Raises:
            UsageError: naming the value and what it may be.
        """
        if self.kind not in KINDS:
            raise UsageError(f"data kind {self.kind!r}: must be one of {', '.join(KINDS)}")
        if len(self.scale) != 2:
            raise UsageError(f"scale {list(self.scale)}: must be two numbers")
        self.make_transform()
        fine = {
            f"channels {self.channels}: must be 1 or 3": self.channels in (1, 3),
            f"background {list(self.background)}: must be three numbers from 0 to 255": not self.background
            or (len(self.background) == 3 and all(0 <= value <= 255 for value in self.background)),
            f"check {self.check!r}: must be decode, header or none": self.check in ("decode", "header", "none"),
            f"held_out_share {self.held_out_share}: must be 0 or more, and under 1": 0 <= self.held_out_share < 1,
            f"max_side {self.max_side}: must be 0 or at least 32": self.max_side == 0 or self.max_side >= 32,
        }
        for name in ("min_side", "plain_from_epoch", "images_per_epoch", "cache_mb", "workers", "held_out_seed"):
            fine[f"{name} {getattr(self, name)}: must be 0 or more"] = getattr(self, name) >= 0
        if self.kind in ("town", "town_paired"):
            fine |= self._town_checks()
        elif self.kind in ("lists", "sfm", "idx"):
            fine[f"data kind {self.kind!r} needs both day and night"] = bool(self.day and self.night)
        if self.kind == "paired_csv":
            fine["data kind 'paired_csv' needs its table as day"] = bool(self.day)
        elif self.kind == "weak_pairs":
            fine["data kind 'weak_pairs' needs its file as day"] = bool(self.day)
        elif self.kind not in ("town", "town_paired", "lists", "idx"):
            fine[f"data kind {self.kind!r} needs root"] = bool(self.root)
        given = self.test_day is not None or self.test_night is not None
        fine["test_day and test_night: give both, or neither"] = bool(self.test_day) == bool(self.test_night)
        fine[f"data kind {self.kind!r} takes no test_day and test_night; folders and idx do"] = (
            not given
            or self.kind
            in (
                "folders",
                "idx",
            )
        )
        fine["test_day and held_out_groups: both say what is held out; choose"] = not (given and self.held_out_groups)
        both = sorted(set(self.groups) & set(self.held_out_groups))
        fine[f"group {both[:1]} is trained on and held out; choose"] = not both
        for message, well in fine.items():
            if not well:
                raise UsageError(message)

    def _town_checks(self) -> dict[str, bool]:
        streets = (*self.seeds, self.held_out_seed)
        taken = sorted(set(streets) & set(self.reserved_seeds))
        chosen = (*self.day_conditions, *self.night_conditions)
        known = conditions_of(self.look)
        unknown = sorted(set(chosen) - set(known))
        return {
            f"seeds {list(self.seeds)}: at least one, each once, none negative": bool(self.seeds)
            and len(set(self.seeds)) == len(self.seeds)
            and min(streets) >= 0,
            f"held_out_seed {self.held_out_seed} is a training street; choose another": self.held_out_seed
            not in self.seeds,
            f"street seed {taken[:1]} is reserved for judging; choose another": not taken,
            f"look {self.look}: choose from {', '.join(map(str, LOOKS))}": self.look in LOOKS,
            f"views {self.views} and held_out_views {self.held_out_views}: must be at least 1": min(
                self.views, self.held_out_views
            )
            >= 1,
            f"condition {unknown[:1]} is unknown; choose from {', '.join(known)}": not unknown,
            "day_conditions and night_conditions: at least one each": bool(self.day_conditions)
            and bool(self.night_conditions),
        }

    @property
    def shown_behind(self) -> tuple[int, int, int] | None:
        """The background, where there is one."""
        red, green, blue = self.background or (0, 0, 0)
        return (red, green, blue) if self.background else None

    @property
    def paired(self) -> bool:
        """Whether the day and the night image of an item show the same view."""
        return self.kind in PAIRED_KINDS or self.kind in DOMAIN_KINDS

    def make_transform(self) -> Transform:
        """The training transform."""
        scale = (self.scale[0], self.scale[1])
        return create_transform(self.transform, self.size, scale, self.flip, self.shared or self.paired)
