"""How night-like the nights of the miniature's generators are, on a street that nothing was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gloam.data.retrieval_sets.sets import read_retrieval_set
from gloam.eval.translation.features import EmbedderFeatures
from gloam.eval.translation.images import ImageSet, Resize
from gloam.eval.translation.scores import Partners, score_translation
from gloam.files import write_bytes
from gloam.heartbeat import Say
from gloam.runtime.models.embedder import Embedder
from gloam.workflows.demo_embedder import SHIPPED
from gloam.workflows.reproduce.town.run import JUDGED

PLACES, VIEWS = 16, 4  # of the judged street; half of the views by day, half by night
SIZE = (256, 192)
CONTROL = "day as it is"


def score_generators(files: Mapping[str, Path], place: Path, look: int, say: Say) -> dict[str, dict[str, float]]:
    """Metrics of each generator's nights, and of the untouched days as a control.

    Features are those of the demo's embedder, which saw none of these streets.

    Args:
        files: weights from day to night, by name.
        place: folder for the pictures.
        look: of the street.
        say: gets one line per set.

    Returns:
        by name, values by metric; metrics without a value are left out.
    """
    from gloam.training.embedders.nights import open_night_maker

    seed = {"seeds": list(JUDGED[:1]), "places": PLACES, "views_per_place": VIEWS, "size": SIZE, "look": look}
    views = read_retrieval_set("town", **seed, conditions=("day", "night"))
    days, nights = place / "day", place / "night"
    for row, (item, condition) in enumerate(zip(views.images, views.conditions or (), strict=True)):
        _write(days if condition == "day" else nights, item.name, views.image(row))
    resize = Resize(None)
    day = ImageSet.open("day", days, resize)
    sets = []
    for name, weights in files.items():
        say(f"{name}: nights of {len(day)} views by day")
        maker, folder = open_night_maker(weights), place / name
        for row, item in enumerate(day.items):
            _write(folder, item.name, maker([day.read(row)])[0])
        sets.append(ImageSet.open(name, folder, resize))
    sets.append(ImageSet.open(CONTROL, days, resize))
    scores = score_translation(
        ImageSet.open("real nights", nights, resize),
        sets,
        EmbedderFeatures(Embedder.load(SHIPPED[look]["trained"])),
        Partners(day=day),
    )
    return {
        name: {metric: figure.value for metric, figure in figures.items() if figure.value is not None}
        for name, figures in scores.sets.items()
    }


def _write(folder: Path, name: str, pixels: np.ndarray) -> None:
    """A picture as PNG under its name."""
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    write_bytes((folder / name).with_suffix(".png"), content.getvalue())
