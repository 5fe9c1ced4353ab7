"""The town: a procedural street from a seed, with exact poses and depth, by day, dusk, night and in rain."""

from gloam.data.town.config import CONDITIONS, LOOKS, Optics, TownConfig
from gloam.data.town.dataset import TownDataset, write_town
from gloam.data.town.looks import open_street
from gloam.data.town.street import RenderedView, Street, pinhole
from gloam.data.town.training_views import TrainingViews, render_training_views, sample_places

__all__ = [
    "CONDITIONS",
    "LOOKS",
    "Optics",
    "RenderedView",
    "Street",
    "TownConfig",
    "TownDataset",
    "TrainingViews",
    "open_street",
    "pinhole",
    "render_training_views",
    "sample_places",
    "write_town",
]
