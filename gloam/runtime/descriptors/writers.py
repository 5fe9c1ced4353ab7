"""Descriptors in the formats of other programs: kapture's ``.gfeat`` and hloc's ``.h5``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.data.hloc_io import Group, write_groups
from gloam.data.kapture_io import write_global_features
from gloam.errors import IncompatibleError
from gloam.files import bad_name, inside, read_json, write_json
from gloam.runtime.descriptors.source import DescriptorSource, failures_of
from gloam.runtime.descriptors.store import DescriptorStore

BLOCK = 4096
IDENTITY = "gloam.json"  # beside kapture's features


def write_formats(
    folder: str | Path, kapture: Path | None = None, hloc: Path | None = None, feature_type: str = ""
) -> list[str]:
    """Write a complete store in the formats that are asked for.

    Args:
        folder: of the store.
        kapture: dataset to write ``.gfeat`` files into.
        hloc: ``.h5`` file to write.
        feature_type: kapture's name for the features.

    Returns:
        a line for people of each format.

    Raises:
        StoreError: not a complete store, or a file cannot be written.
    """
    if kapture is None and hloc is None:
        return []
    store, lines = DescriptorStore.open(folder), []
    if kapture is not None:
        write_kapture(store, kapture, feature_type)
        lines.append(f"kapture features in {kapture}")
    if hloc is not None:
        write_hloc(store, hloc)
        lines.append(f"hloc features in {hloc}")
    return lines


def write_kapture(store: DescriptorSource, root: str | Path, feature_type: str) -> int:
    """Write a store as kapture global features below ``root/reconstruction/global_features/<feature_type>``.

    Each ``.gfeat`` is D little-endian float32 values; ``global_features.txt``, which makes the type exist for a
    reader, is written last, and ``gloam.json`` beside it, which says whose they are, first. What an earlier run wrote
    of images that failed since is removed.

    Returns:
        number of descriptors written.

    Raises:
        IncompatibleError: features of another model are there; a reader would take both for one set.
    """
    folder = inside(Path(root) / "reconstruction" / "global_features", feature_type)
    identity = {"space": store.space, "metric": store.metric, "dimension": store.dimension}
    if folder.is_dir() and any(folder.iterdir()):
        try:
            found = read_json(folder / IDENTITY)
        except (OSError, ValueError):
            found = None
        if found != identity:
            raise IncompatibleError(
                f"{folder}: holds features of another model, or does not say of which; give --feature-type another "
                "name, or remove the folder"
            )
    write_json(folder / IDENTITY, identity)
    failed = (name for name in failures_of(store) if bad_name(name) is None)
    return write_global_features(root, feature_type, _rows(store), store.dimension, without=failed)


def write_hloc(store: DescriptorSource, path: str | Path, dtype: str = "float16") -> int:
    """Write a store as hloc reads it: a group per image name, holding ``global_descriptor`` ``[D]``.

    A ``/`` in a name nests groups, as in hloc's own files. The file appears only when it is whole.

    Args:
        store: the descriptors.
        path: ``.h5`` file.
        dtype: ``float16`` (hloc's default) or ``float32``.

    Returns:
        number of descriptors written.

    Raises:
        DataError: one image's name is the folder of another's.
        StoreError: the file cannot be written.
    """
    rows: Iterator[Group] = (
        (name, {"global_descriptor": descriptor.astype(dtype)}, {}) for name, descriptor in _rows(store)
    )
    return write_groups(path, {"space": store.space, "fingerprint": store.fingerprint}, rows, sums=False)


def _rows(store: DescriptorSource) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    for names, block in store.blocks(BLOCK):
        yield from zip(names, block, strict=True)
