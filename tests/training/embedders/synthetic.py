"""Places as smooth random colour patterns: enough to learn from in seconds."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.town.training_views import TrainingViews


@dataclass(frozen=True)
class PlaceImages:
    """Images uint8 ``[n, H, W, 3]`` with the place, the condition and a name of each."""

    images: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int64]
    conditions: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self):
        return len(self.images)


def pattern_places(seed, places=8, views=2, conditions=("day", "night"), width=64, height=64):
    random = np.random.default_rng(seed)
    images, labels, lights, names = [], [], [], []
    for place in range(places):
        pattern = cv2.resize(random.uniform(0, 255, (6, 8, 3)), (width + 8, height + 8), interpolation=cv2.INTER_CUBIC)
        for view in range(views):
            x, y = random.integers(0, 8, 2)
            seen = pattern[y : y + height, x : x + width]
            for light in conditions:
                image = seen * (0.3 if light == "night" else 1.0) + random.normal(0, 6, seen.shape)
                images.append(np.clip(image, 0, 255).astype(np.uint8))
                labels.append(place)
                lights.append(light)
                names.append(f"{seed}/{place}-{view}-{light}")
    return PlaceImages(np.stack(images), np.array(labels), tuple(lights), tuple(names))


def pattern_views(seed, places, views_per_place, conditions, size, look=1):
    """Stands in for ``render_training_views``, which takes seconds a street."""
    found = pattern_places(seed, places, -(-views_per_place // len(conditions)), conditions, *size)
    return TrainingViews(list(found.images), found.places, list(found.conditions), [])
