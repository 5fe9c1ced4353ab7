"""A map and queries from whatever states them: kapture datasets, COLMAP models, hloc's lists of queries."""

from __future__ import annotations

from pathlib import Path

from gloam.data.kapture_io import read_scene
from gloam.data.query_list import read_query_list
from gloam.data.scene import Scene
from gloam.errors import DataError
from gloam.runtime.localization.maps.colmap_model import ColmapModel, is_colmap_model, read_colmap_model


def read_map(path: Path, images: Path | None = None) -> tuple[Scene, ColmapModel | None]:
    """Images with intrinsics and poses, and the model where they are COLMAP's.

    Args:
        path: kapture dataset or folder of a COLMAP model.
        images: folder of the model's images; needed where features are found in them.

    Raises:
        DataError: what cannot be read.
        MissingExtraError: pycolmap is not installed, for a COLMAP model.
    """
    if _is_colmap(path):
        model = read_colmap_model(path, _images(path, images))
        return model.scene, model
    return read_scene(path, need_poses=True, need_cameras=True), None


def read_queries(path: Path, images: Path | None = None) -> Scene:
    """Images with intrinsics; see :func:`read_map`.

    Args:
        path: kapture dataset, COLMAP model, or a text list of ``name MODEL width height parameters``.
        images: folder of the images of a model or list.
    """
    if path.is_file():
        return read_query_list(path, _images(path, images))
    if _is_colmap(path):
        return read_colmap_model(path, _images(path, images)).scene
    return read_scene(path, need_cameras=True)


def read_poses(path: Path) -> Scene:
    """Images with poses, of a kapture dataset or a COLMAP model."""
    if _is_colmap(path):
        return read_colmap_model(path, _images(path, None)).scene
    return read_scene(path, need_poses=True)


def expect_images(scene: Scene) -> None:
    """Refuse a model or list of which an image's file is not there; a kapture dataset says so when one is needed.

    Raises:
        DataError: the first of them is named.
    """
    if scene.images is None:
        return
    missing = [name for name in scene.names if not scene.image_path(name).is_file()]
    if missing:
        raise DataError(
            f"{scene.images}: {len(missing)} of the {len(scene.records)} images of {scene.root} are not there, first "
            f"{missing[0]!r}; give their folder by --images"
        )


def _is_colmap(path: Path) -> bool:
    """Whether a folder is a COLMAP model and no kapture dataset; a workspace of models is refused by naming one."""
    if (path / "sensors").is_dir() or is_colmap_model(path):
        return not (path / "sensors").is_dir()
    models = [path / inner for inner in ("sparse/0", "sparse", "0") if is_colmap_model(path / inner)]
    if models:
        raise DataError(f"{path}: is neither a kapture dataset nor a COLMAP model, but holds one; give {models[0]}")
    return False


def _images(path: Path, images: Path | None) -> Path:
    """The folder that was given, or ``images`` beside a model or list, or a folder above as in COLMAP's workspaces."""
    if images is not None:
        return images
    beside = [folder / "images" for folder in (path.absolute().parent, path.absolute().parent.parent)]
    return next((folder for folder in beside if folder.is_dir()), beside[0])
