"""What stands for the rows of the papers' tables on procedural streets: networks, recipes and generators of minutes.

VGG16 is a VGG of 13 convolutions of 16 to 64 channels, ResNet-101 a ResNet-18 of a quarter of its width, and HOW is on
such a one, too. The thesis's four sets are streets of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gloam.workflows.reproduce.published import THESIS_FID
from gloam.workflows.reproduce.rows import row_source

SMALL_VGG = [[16, 2], [32, 2], [64, 3], [64, 3], [64, 3]]
STREET = {"places": 16, "views_per_place": 6, "size": [128, 96]}
# Real pairs of night and day: a place has one view of each, so that its pairs are of both.
NIGHT_AND_DAY = {
    "kind": "town",
    "seeds": [105, 106],
    "places": 48,
    "views_per_place": 2,
    "conditions": ["night", "day"],
    "size": [128, 96],
}

NETWORKS: dict[str, Mapping[str, Any]] = {
    "VGG16": {"network": "gem_vgg16", "network_options": {"stages": SMALL_VGG}},
    "R101": {},
    "R18 HOW": {
        "network": "how_resnet18",
        "network_options": {"width": 16, "dimension": 32},
        "whiten_images": 200,
        "photometric": "none",
    },
    "R101 CIConv": {"network": "ciconv_resnet18", "network_options": {"width": 16}},
    "EdgeMAC": {"network": "edgemac_vgg16", "network_options": {"stages": SMALL_VGG}},
}
EDGES = {"HEDMAC": "hedmac_vgg16", "HEDN-MAC": "hedmac_vgg16", "RCFN-MAC": "rcfmac_vgg16"}
STANDS_FOR = (
    "Here VGG16 is a VGG of 16 to 64 channels, ResNet-101 a ResNet-18 of a quarter of its width and HOW on such a one; "
    "real pairs of night and day are of two streets of their own; nothing is whitened; views are described at one "
    "scale."
)


@dataclass(frozen=True)
class Generator:
    """A generator of the miniature.

    Attributes:
        recipe: of translators.
        changes: keys of it replaced.
        detector: of edges, trained first; "" for none.
        published: its row in the paper's table of costs, where it has one.
    """

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    detector: str = ""


_SMALL = {  # of town_cyclegan, for trainers that it is not of
    "epochs": 22,
    "decay_epochs": 11,
    "learning_rate": 4e-4,
    "average_decay": 0.998,
    "generator": "unet",
    "generator_options": {"levels": 6, "width": 32, "norm": "instance", "noise": 0.1, "residual": True},
    "discriminator_options": {"norm": "instance", "width": 32},
}
# Recipes add the noise of the first look to nights; cameras of the second denoise, as those of photographs do.
NO_NOISE: dict[str, Any] = {"generator_options": {"noise": 0.0}}
# The streets that stand for a set of the thesis.
SETS = {"Aachen": [101, 102], "RobotCar": [103, 104], "SfM": [105, 106], "Transattr": [101, 103, 105]}

GENERATORS: dict[str, Generator] = {
    "CycleGAN": Generator("town_cyclegan"),
    "CUT": Generator("town_cut"),
    "CyEDA": Generator("town_cyclegan", {"trainer": "cyeda", "options": _SMALL}),
    "HEDGAN": Generator("town_hedngan", {"options": {"student": False}}, "hed"),
    "HEDNGAN": Generator("town_hedngan", {}, "hed"),
    "RCFNGAN": Generator("town_hedngan", {"options": {"detector": "rcf"}}, "rcf"),
    **{
        f"CycleGAN {name}": Generator(
            "town_cyclegan", {"options": {"gan_loss": "cross_entropy"}, "data": {"seeds": seeds}}
        )
        for name, seeds in SETS.items()
    },
    "pix2pix Transattr": Generator(
        "town_cyclegan",
        {
            "trainer": "pix2pix",
            "options": {**_SMALL, "gan_loss": "cross_entropy"},
            "data": {"kind": "town_paired", "seeds": SETS["Transattr"]},
        },
    ),
}


@dataclass(frozen=True)
class TownRow:
    """A row of the miniature.

    Attributes:
        recipe: of metric learning; "" for untrained weights.
        maker: a generator of :data:`GENERATORS`, trained first; "" for the recipe's own.
        changes: keys of the recipe replaced.
        beside: a row whose descriptor stands beside this one's.
        label: of its folder, where the names of the changes do not tell rows apart.
        detector: in front of the embedder: a kind of edge detector, trained first, or a generator whose student it is.
        to_day: a generator whose way back translates queries by night.
        reason: why it cannot be; then it is left empty.
    """

    recipe: str = ""
    maker: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    beside: str = ""
    label: str = ""
    detector: str = ""
    to_day: str = ""
    reason: str = ""


def _row(network: str, recipe: str, maker: str = "", real: float = 0.0, label: str = "", **changes: Any) -> TownRow:
    """A row of a network, perhaps with real pairs of night and day."""
    own = {**NETWORKS[network], **changes}
    if real:
        own |= {"real_share": real, "data": {"real": NIGHT_AND_DAY}}
    parts = (network, "ND" if real else "", label)
    return TownRow(recipe, maker, own, label="-".join(part for part in parts if part))


_ALL_IMAGES = {"mode": "per_image", "share": 0.15, "roles": ["anchor", "positive", "negative"]}
_VGG = {
    "VGG16 GeM": _row("VGG16", "town_day"),
    "CLAHE C": _row("VGG16", "town_clahe"),
    "N/D C": _row("VGG16", "town_clahe", real=0.25),
    "HEDNGAN CD": _row("VGG16", "town_diverse", "HEDNGAN"),
    "CycleGAN CD": _row("VGG16", "town_diverse", "CycleGAN"),
}
_HOW = {
    "R18 HOW": _row("R18 HOW", "town_day"),
    "R18 HOW N/D": _row("R18 HOW", "town_day", real=0.25),
    **{f"R18 HOW {name} CD": _row("R18 HOW", "town_diverse", name) for name in ("HEDNGAN", "CycleGAN")},
}
_EDGES = {
    "EdgeMAC": _row("EdgeMAC", "town_day"),
    **{
        name: TownRow(
            "town_day",
            changes={"network": network, "network_options": {"stages": SMALL_VGG}},
            label=name,
            detector=detector,
        )
        for (name, network), detector in zip(EDGES.items(), ("hed", "HEDNGAN", "RCFNGAN"), strict=True)
    },
}
ACROSS = ("day>day", "night>day")
SIX = ("day>dusk", "dusk>day", "dusk>night", "night>dusk", "day>night", "night>day")

# Columns and rows by table of the Dark Side paper and of the thesis; names are those of the papers.
TOWN_TABLES: dict[tuple[str, str], tuple[tuple[str, ...], dict[str, TownRow]]] = {
    ("dark-side", "1"): (
        ACROSS,
        {
            "VGG16 GeM": _VGG["VGG16 GeM"],
            "VGG16 GeM N/D": _row("VGG16", "town_day", real=0.25),
            "VGG16 CIConv": TownRow(reason=row_source("dark-side", "1", "VGG16 CIConv").how),
            "VGG16 GeM CLAHE C": _VGG["CLAHE C"],
            "VGG16 GeM CLAHE N/D C": _VGG["N/D C"],
            "VGG16 HEDNGAN CD": _VGG["HEDNGAN CD"],
            "VGG16 CycleGAN CD": _VGG["CycleGAN CD"],
            "R101 GeM": _row("R101", "town_day"),
            "R101 CIConv": _row("R101 CIConv", "town_day"),
            "R101 HEDNGAN CD": _row("R101", "town_diverse", "HEDNGAN"),
            "R101 CycleGAN CD": _row("R101", "town_diverse", "CycleGAN"),
            **_HOW,
            "untrained weights": TownRow(),
        },
    ),
    ("dark-side", "4"): (
        ACROSS,
        {
            **_EDGES,
            **{
                f"{edges} + {name}": TownRow(row.recipe, row.maker, row.changes, edges, row.label)
                for edges, name, row in (
                    ("HEDMAC", "GeM", _VGG["VGG16 GeM"]),
                    ("HEDN-MAC", "GeM", _VGG["VGG16 GeM"]),
                    ("HEDN-MAC", "HEDNGAN", _VGG["HEDNGAN CD"]),
                    ("HEDN-MAC", "CycleGAN", _VGG["CycleGAN CD"]),
                )
            },
        },
    ),
    ("dark-side", "5"): (
        ACROSS,
        {
            "CLAHE C": _VGG["CLAHE C"],
            "CLAHE CD": _row("VGG16", "town_clahe", label="diverse", anchors="diverse"),
            "N/D C": _VGG["N/D C"],
            "N/D CD": _row("VGG16", "town_clahe", real=0.25, label="diverse", anchors="diverse"),
            "HEDNGAN": _row("VGG16", "town_night25", "HEDNGAN", label="no-CLAHE", photometric="none"),
            "HEDNGAN C": _row("VGG16", "town_night25", "HEDNGAN"),
            "HEDNGAN CD": _VGG["HEDNGAN CD"],
        },
    ),
    ("dark-side", "6"): (
        SIX,
        {
            "CLAHE C": _VGG["CLAHE C"],
            "N/D C": _VGG["N/D C"],
            "HEDNGAN C": _row("VGG16", "town_night25", "HEDNGAN"),
            "HEDNGAN CD": _VGG["HEDNGAN CD"],
        },
    ),
    ("dark-side", "7"): (
        ACROSS,
        {
            "DRIT": TownRow(reason="gloam imports DRIT and does not train it"),
            "CUT": _row("VGG16", "town_diverse", "CUT"),
            **{
                f"CyEDA-{name}": TownRow(reason=f"its generator is its authors' of {name}, which no town can train")
                for name in ("BDD", "GTA")
            },
            **{name: _row("VGG16", "town_diverse", name) for name in ("CyEDA", "RCFNGAN", "HEDGAN")},
            "HEDNGAN": _VGG["HEDNGAN CD"],
            "CycleGAN": _VGG["CycleGAN CD"],
            **{  # shares as in the paper's recipes: as many made as real nights
                f"CycleGAN + N/D{more}": _row(
                    "VGG16", "town_diverse", "CycleGAN", real, f"made{made:.3f}", night={"share": made}
                )
                for more, real, made in (("", 1 / 8, 1 / 7), (" 50 %", 1 / 4, 1 / 3))
            },
            "Lab inversion": _row("VGG16", "town_lab", label="no-CLAHE", photometric="none"),
            "night to day, ToDayGAN": TownRow(reason="gloam imports ToDayGAN and does not train it"),
            "night to day, CycleGAN": TownRow("town_day", changes=NETWORKS["VGG16"], label="VGG16", to_day="CycleGAN"),
        },
    ),
    ("dark-side", "8"): (
        ("minutes", "steps/s", "parameters, M"),
        {
            "DRIT": TownRow(reason="gloam imports DRIT and does not train it"),
            **{name: TownRow(maker=name) for name in ("CycleGAN", "CUT", "CyEDA", "RCFNGAN", "HEDNGAN", "HEDGAN")},
        },
    ),
    ("thesis", "5.1"): (
        ("FID", *ACROSS),
        {
            "baseline": _VGG["VGG16 GeM"],
            **{name: _row("VGG16", "town_day", name, label="all-images", night=_ALL_IMAGES) for name in THESIS_FID},
        },
    ),
    ("thesis", "figure5.1"): (
        ("FID", "F_8 recall", "F_1/8 precision"),
        {name: TownRow(maker=name) for name in THESIS_FID},
    ),
}
