"""Images of tuples as the network sees them: decoded, made night where asked for, normalised, kept in memory.

Every image is prepared once per state (as it is, or as night) while the memory lasts; descriptors of both states come
in batches of equal size instead of one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gloam.data.photometric import apply_photometric
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import DataError, DivergenceError, UsageError
from gloam.heartbeat import Heartbeat, Say
from gloam.model_card import Photometric
from gloam.networks.embedders import EmbedderNetwork
from gloam.training.embedders.nights import NightCache

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
CHUNK_BATCHES = 8  # images of so many batches are loaded together, so that most batches have images of one size


class TupleImages:
    """The images of one or more sets, counted through.

    Args:
        sets: whose images are counted one set after the other.
        photometric: normalisation of every image, made nights included.
        side: longer side of images in files, pixels.
        night: makes nights; None where none are asked for.
        room: bytes of prepared images to keep.
        workers: threads that decode and normalise; 0 does it in the caller's.

    Attributes:
        names: of all images.
        starts: first row of each set.
    """

    def __init__(
        self,
        sets: Sequence[RetrievalSet],
        photometric: Photometric,
        side: int,
        night: NightCache | None = None,
        room: int = 1 << 31,
        workers: int = 0,
    ) -> None:
        self._sets, self._photometric, self._side, self._night = list(sets), photometric, side, night
        self.starts = np.cumsum([0, *(len(part) for part in sets)])
        self.names = [name for part in sets for name in part.names]
        self._room, self._kept = room, dict[tuple[int, bool], Pixels]()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode") if workers else None
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="ahead") if workers else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads."""
        for pool in (self._ahead, self._pool):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def load(self, rows: Rows, night: Flags) -> list[Pixels]:
        """Prepared images, uint8 ``[h, w, 3]`` each.

        Args:
            rows: of images, int64 ``[n]``.
            night: which of them are made night, bool ``[n]``.

        Raises:
            DataError: an image that cannot be read; it is named.
        """
        wanted = list(zip(rows.tolist(), night.tolist(), strict=True))
        new = [key for key in dict.fromkeys(wanted) if key not in self._kept]
        raw = self._map(self._decode, [row for row, _ in new])
        nights = [place for place, (_, made) in enumerate(new) if made]
        if nights:
            if self._night is None:
                raise UsageError("images are to be made night, and nothing that makes nights is given; give a maker")
            for place, made in zip(nights, self._night([raw[place] for place in nights]), strict=True):
                raw[place] = made
        fresh = dict(zip(new, self._map(self._normalise, raw), strict=True))
        for key, image in fresh.items():
            if image.nbytes <= self._room:
                self._room -= image.nbytes
                self._kept[key] = image
        return [fresh[key] if key in fresh else self._kept[key] for key in wanted]

    def batches(self, requests: Iterable[tuple[Rows, Flags]]) -> Iterator[list[Pixels]]:
        """What :meth:`load` gives for each request, the next one prepared while the caller works."""
        if self._ahead is None:
            for rows, night in requests:
                yield self.load(rows, night)
            return
        waiting: Future[list[Pixels]] | None = None
        for rows, night in requests:
            following = self._ahead.submit(self.load, rows, night)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()

    def _decode(self, row: int) -> Pixels:
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        image = self._sets[part].image(row - int(self.starts[part]), max_side=self._side)
        if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8:
            raise DataError(
                f"{self.names[row]}: an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}"
            )
        return image if image.shape[2] == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)

    def _normalise(self, image: Pixels) -> Pixels:
        return apply_photometric(image, self._photometric)

    def _map(self, function: Callable[..., Pixels], values: Sequence[object]) -> list[Pixels]:
        if self._pool is None or len(values) < 2:
            return [function(value) for value in values]
        return list(self._pool.map(function, values))


class Described:
    """Descriptors of images in the states asked for, each computed once.

    Args:
        model: put in eval mode.
        images: whose rows are meant.
        device: of the model.
        batch: images per forward.
        say: gets a line now and then where it takes long.
    """

    def __init__(
        self,
        model: EmbedderNetwork,
        images: TupleImages,
        device: torch.device,
        batch: int,
        say: Say | None = None,
    ) -> None:
        self._model, self._images, self._device, self._batch = model.eval(), images, device, batch
        self._say, self._found = say, dict[tuple[int, bool], int]()
        self._descriptors = np.empty((0, model.dimension), np.float32)

    def __call__(self, rows: Rows, night: Flags) -> npt.NDArray[np.float32]:
        """Unit descriptors, float32 ``[n, D]``, of images as they are or made night.

        Raises:
            DivergenceError: a descriptor is not finite; its image is named.
        """
        wanted = list(zip(rows.tolist(), night.tolist(), strict=True))
        new = [key for key in dict.fromkeys(wanted) if key not in self._found]
        if new:
            chunk = self._batch * CHUNK_BATCHES
            parts = [new[start : start + chunk] for start in range(0, len(new), chunk)]
            requests = [(np.array([row for row, _ in part]), np.array([made for _, made in part])) for part in parts]
            made, beat = [], Heartbeat(self._say, "describing images", len(new))
            for pixels in self._images.batches(requests):
                made.append(self._describe(pixels))
                beat.update(len(pixels))
            found = np.concatenate(made)
            finite = np.isfinite(found).all(axis=1)
            if not finite.all():
                name = self._images.names[new[int(np.argmin(finite))][0]]
                raise DivergenceError(f"the descriptor of {name} is not finite; try a lower learning_rate")
            self._found.update({key: len(self._descriptors) + place for place, key in enumerate(new)})
            self._descriptors = np.concatenate([self._descriptors, found])
        picked: npt.NDArray[np.float32] = self._descriptors[[self._found[key] for key in wanted]]
        return picked

    @torch.inference_mode()
    def _describe(self, pixels: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        return np.asarray(describe_images(self._model, pixels, self._device, self._batch).cpu().numpy(), np.float32)


def describe_images(
    model: EmbedderNetwork, pixels: Sequence[Pixels], device: torch.device, batch: int | None = None
) -> Tensor:
    """Unit descriptors of images of any sizes, float ``[n, D]`` in the order given; images of one size run together.

    Args:
        model: an embedder on ``device``; batch norm on its running statistics, or else sizes would mix.
        pixels: uint8 RGB ``[h, w, 3]`` each.
        device: of the model.
        batch: most images per forward; all of one size by default.
    """
    buckets: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(pixels):
        buckets.setdefault(image.shape, []).append(row)
    order: list[int] = []
    found: list[Tensor] = []
    for rows in buckets.values():
        step = batch or len(rows)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            stacked = torch.from_numpy(np.stack([pixels[row] for row in part])).to(device, non_blocking=True)
            found.append(model(model.normalize(stacked)))
            order.extend(part)
    joined = torch.cat(found)
    if order == list(range(len(order))):
        return joined
    place = torch.empty(len(order), dtype=torch.int64)
    place[torch.tensor(order)] = torch.arange(len(order))
    return joined.index_select(0, place.to(device))
