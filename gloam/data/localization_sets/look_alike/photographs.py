"""The photographs of a look-alike, rendered in processes; a lens that bends is laid over the town's straight one."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.localization_sets.look_alike.views import PlannedStreet, View
from gloam.data.plain_opencv import plain_opencv
from gloam.data.scene import Camera
from gloam.data.town.looks import open_street
from gloam.data.town.street import Street
from gloam.errors import StoreError
from gloam.files import write_bytes

LOOK, TEXELS, QUALITY = 2, 16, 95
JOB = 1_200_000  # pixels that one process renders of one street before it asks for more


_open: dict[PlannedStreet, Street] = {}


@dataclass(frozen=True)
class Job:
    """Photographs of one street."""

    street: PlannedStreet
    views: tuple[tuple[View, Camera, Path], ...]


def photograph(street: Street, view: View, camera: Camera) -> npt.NDArray[np.uint8]:
    """Take one photograph, uint8 RGB ``[h, w, 3]``; ``camera`` is PINHOLE or SIMPLE_RADIAL."""
    noise = zlib.crc32(view.name.encode())
    if camera.model == "PINHOLE":
        return street.render(view.pose, view.light, camera, noise, view.visit).image
    focal, cx, cy, distortion = camera.params
    x, y = np.meshgrid(np.arange(camera.width) + 0.5 - cx, np.arange(camera.height) + 0.5 - cy)
    radius = np.hypot(x, y) / focal
    factor = _straight(radius, distortion) / np.maximum(radius, 1e-12)
    reach = [math.ceil(float(np.abs(side * factor).max())) + 2 for side in (x, y)]
    wide = Camera("PINHOLE", 2 * reach[0], 2 * reach[1], (focal, focal, float(reach[0]), float(reach[1])))
    image = street.render(view.pose, view.light, wide, noise, view.visit).image
    columns = (x * factor + reach[0] - 0.5).astype(np.float32)
    rows = (y * factor + reach[1] - 0.5).astype(np.float32)
    with plain_opencv():
        return np.asarray(cv2.remap(image, columns, rows, cv2.INTER_CUBIC), np.uint8)


def _straight(radius: npt.NDArray[np.float64], distortion: float) -> npt.NDArray[np.float64]:
    """Where rays of distorted radii come from, in focal lengths: ``r`` of ``r (1 + k r^2)``, by Newton's method."""
    found = radius.copy()
    for _ in range(12):
        found -= (found * (1 + distortion * found**2) - radius) / (1 + 3 * distortion * found**2)
    return np.asarray(found)


def jobs(streets: Mapping[int, PlannedStreet], wanted: list[tuple[View, Camera, Path]]) -> Iterator[Job]:
    """Photographs to take, a street after another."""
    by_street: dict[int, list[tuple[View, Camera, Path]]] = {}
    for item in wanted:
        by_street.setdefault(item[0].street, []).append(item)
    for index in sorted(by_street):
        part: list[tuple[View, Camera, Path]] = []
        pixels = 0
        for item in sorted(by_street[index], key=lambda item: (item[0].light, item[0].visit, item[0].name)):
            part.append(item)
            pixels += item[1].width * item[1].height
            if pixels >= JOB:
                yield Job(streets[index], tuple(part))
                part, pixels = [], 0
        if part:
            yield Job(streets[index], tuple(part))


def _street(planned: PlannedStreet) -> Street:
    """The street, which stays open until another is asked for."""
    if planned not in _open:
        _open.clear()  # before the next is opened, or both would be held
        _open[planned] = open_street(planned.seed, planned.length, TEXELS, LOOK)
    return _open[planned]


def take(job: Job) -> int:
    """Render and write photographs one by one, each whole or absent; their number."""
    for view, camera, path in job.views:
        image = photograph(_street(job.street), view, camera)
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.suffix == ".jpg" else []
        done, encoded = cv2.imencode(path.suffix, image[..., ::-1], options)
        if not done:
            raise StoreError(f"{path}: the image could not be encoded")
        write_bytes(path, encoded.tobytes())
    return len(job.views)
