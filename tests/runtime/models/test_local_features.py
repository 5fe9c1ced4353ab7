"""The runtime keeps the strongest cells of all scales; the model here is a few lines of numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gloam.data.images import resize_image
from gloam.data.photometric import clahe
from gloam.errors import ImageError, ModelError, UsageError
from gloam.model_card import (
    KEYPOINT_OUTPUTS,
    LITERATURE,
    NATIVE,
    InputRule,
    KeypointRule,
    ModelCard,
    Photometric,
    TensorSpec,
)
from gloam.padding import PaddingProfile
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models import local_features
from gloam.runtime.models.local_features import LocalExtractor, LocalFeatures, strongest_first


class CellModel:
    """Cells of 8 x 8 pixels: mean colour as the feature, brightness as the attention."""

    fingerprint = "f"

    def __init__(self, kind: str = "local_features") -> None:
        names = ("features", "attention", "positions", "scales")
        self.card = ModelCard(
            kind=kind,
            name="cells",
            inputs=(TensorSpec("images", "uint8", ("batch", "height", "width", 3), ""),),
            outputs=tuple(TensorSpec(name, "float32", (), "") for name in names),
            profile=PaddingProfile.dynamic(),
            network={},
            mean=(0.0,),
            std=(1.0,),
            provenance={},
            dimension=3,
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        image = inputs["images"][0].astype(np.float32)
        rows, columns = image.shape[0] // 8, image.shape[1] // 8
        cells = image[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8, 3).mean((1, 3)).reshape(-1, 3)
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) * 8.0 + 100
        strengths = cells.sum(1)
        return {
            "features": cells[None],
            "attention": (strengths / strengths.max())[None],
            "positions": np.stack((x, y), 1).astype(np.float32),
            "scales": np.ones(len(cells), np.float32),
        }


class CornerModel:
    """Two keypoints of an image, its second row and column and its last but one, the brighter first, and room for five;
    the descriptor says which."""

    fingerprint = "f"

    def __init__(self, outputs: tuple[str, ...] = KEYPOINT_OUTPUTS) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.card = replace(
            CellModel().card,
            outputs=tuple(TensorSpec(name, "float32", (), "") for name in outputs),
            keypoints=KeypointRule(5),
            dimension=2,
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        pixels = inputs["images"]
        self.shapes.append(pixels.shape)
        height, width = pixels.shape[1:3]
        scores = pixels[0, [1, height - 2], [1, width - 2]].astype(np.float32).sum(1)
        order = np.argsort(-scores)
        points = np.array([(1, 1), (width - 2, height - 2)], np.float32)[order]
        padding = ((0, 3), (0, 0))
        return {
            "keypoints": np.pad(points, padding)[None],
            "scores": np.pad(scores[order], (0, 3))[None],
            "descriptors": np.pad(np.eye(2, dtype=np.float32)[order], padding)[None],
            "count": np.array([2]),
        }


def image(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_strongest_come_first_and_no_more_than_asked_for() -> None:
    pictures = [image(64, 80), image(40, 33, seed=1)]
    found = LocalExtractor(CellModel(), strongest=25)(pictures)  # type: ignore[arg-type]  # as much as is needed of one
    assert [len(item) for item in found] == [25, 20]
    whole = CellModel().run({"images": pictures[0][None]})
    order = np.argsort(-whole["attention"][0])[:25]
    assert np.array_equal(found[0].descriptors, whole["features"][0][order])
    assert (np.diff(found[0].attention) <= 0).all()
    assert found[0].positions.max(0).tolist() == [79, 63]  # never outside the image


def test_keypoints_are_those_of_the_image_as_given_and_no_more_than_there_are() -> None:
    bright_end = np.zeros((64, 80, 3), np.uint8)
    bright_end[62, 78] = 200
    found = LocalExtractor(CornerModel())([bright_end])[0]  # type: ignore[arg-type]  # as much as is needed of one
    assert type(found) is LocalFeatures
    assert found.keypoints.tolist() == [[78, 62], [1, 1]]
    assert found.scores.tolist() == [600, 0]
    assert found.descriptors.tolist() == [[0, 1], [1, 0]]
    assert (found.size, len(found)) == ((80, 64), 2)
    one = LocalExtractor(CornerModel(), strongest=1)([bright_end])[0]  # type: ignore[arg-type]  # as above
    assert one.keypoints.tolist() == [[78, 62]]


def test_fewer_keypoints_are_the_first_of_the_file_whatever_they_score_where_they_moved_to() -> None:
    class Moved(CornerModel):
        def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
            return {**super().run(inputs), "scores": np.array([[0.4, 0.5, 0, 0, 0]], np.float32)}

    bright_end = np.zeros((64, 80, 3), np.uint8)
    bright_end[62, 78] = 200
    one = LocalExtractor(Moved(), strongest=1)([bright_end])[0]  # type: ignore[arg-type]  # as above
    assert (one.keypoints.tolist(), one.scores.tolist()) == ([[78, 62]], [pytest.approx(0.4)])


def test_keypoints_of_a_reduced_image_are_given_in_its_own_pixels() -> None:
    picture = np.zeros((96, 200, 3), np.uint8)
    model = CornerModel()
    found = LocalExtractor(model, input_rule=InputRule(100))([picture])[0]  # type: ignore[arg-type]  # as above
    assert model.shapes == [(1, 48, 100, 3)]
    assert found.keypoints.tolist() == [[2.5, 2.5], [98 * 2 + 0.5, 46 * 2 + 0.5]]  # centres, not corners
    stretched = LocalExtractor(model, input_rule=InputRule(None, (50, 96), "area", True))  # type: ignore[arg-type]
    assert stretched([picture])[0].keypoints.tolist() == [[5.5, 1], [48 * 4 + 1.5, 94]]
    assert found.size == (200, 96)


def test_a_batch_of_mixed_sizes_is_one_by_one() -> None:
    pictures = [image(64, 80), image(40, 133, seed=1), image(33, 32, seed=2)]
    extractor = LocalExtractor(CornerModel())  # type: ignore[arg-type]  # as above
    for together, picture in zip(extractor(pictures), pictures, strict=True):
        alone = extractor([picture])[0]
        assert np.array_equal(together.keypoints, alone.keypoints)
        assert together.size == alone.size == (picture.shape[1], picture.shape[0])
    assert extractor([]) == []


def test_images_that_do_not_fit_into_memory_are_named() -> None:
    class Full(CornerModel):
        def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")

    with pytest.raises(ImageError, match=r"^80x64 does not fit into memory; use a smaller --max-side$"):
        LocalExtractor(Full())([image(64, 80)])  # type: ignore[arg-type]  # as above


def test_equal_cells_keep_their_order() -> None:
    assert strongest_first(np.array([0.5, 1.0, 0.5, 1.0]), 3).tolist() == [1, 3, 0]


def test_photometric_normalisation_is_applied_and_makes_another_space() -> None:
    plain = LocalExtractor(CellModel())  # type: ignore[arg-type]  # as above
    lit = LocalExtractor(CellModel(), photometric=Photometric("clahe"))  # type: ignore[arg-type]  # as above
    picture = image(64, 80) // 4
    assert np.array_equal(lit([picture])[0].descriptors, plain([clahe(picture)])[0].descriptors)
    assert lit.space != plain.space


def test_the_input_rule_is_followed_and_positions_stay_those_of_the_image_as_given() -> None:
    picture = image(96, 200)
    rule = InputRule(100)
    small = resize_image(picture, rule)
    plain = LocalExtractor(CellModel(), input_rule=NATIVE)([small])[0]  # type: ignore[arg-type]  # as above
    extractor = LocalExtractor(CellModel(), input_rule=rule)  # type: ignore[arg-type]  # as above
    found = extractor([picture])[0]
    assert np.array_equal(found.descriptors, plain.descriptors)
    assert (extractor.input_rule, extractor.space) != (LITERATURE, LocalExtractor(CellModel()).space)  # type: ignore[arg-type]
    assert found.positions.max(0).tolist() == [199, 95]  # the model here places its cells beyond the image

    class Left(CellModel):
        def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
            given = super().run(inputs)
            return {**given, "positions": given["positions"] - 100 + np.float32(3.5)}  # the cells' own centres

    reduced = LocalExtractor(Left(), input_rule=rule)([picture])[0]  # type: ignore[arg-type]  # as above
    strongest = plain.attention.argmax()
    row, column = divmod(int(np.argmax(Left().run({"images": small[None]})["attention"][0])), 100 // 8)
    assert reduced.positions[strongest].tolist() == [16 * column + 7.5, 16 * row + 7.5]  # a cell is 16 px there


def test_bad_input_is_one_line() -> None:
    extractor = LocalExtractor(CellModel())  # type: ignore[arg-type]  # as above
    with pytest.raises(ImageError, match=r"^31x64 is too small; 32 px a side at least$"):
        extractor([image(64, 31)])
    with pytest.raises(ImageError, match="must be uint8"):
        extractor([image(64, 64).astype(np.float32)])
    with pytest.raises(UsageError, match="ask for 1 or more"):
        LocalExtractor(CellModel(), strongest=0)  # type: ignore[arg-type]  # as above
    with pytest.raises(ModelError, match="'local_features' is needed here"):
        LocalExtractor(CellModel("embedder"))  # type: ignore[arg-type]  # as above


def test_shapes_that_are_no_image_are_named_and_the_smallest_is_one() -> None:
    extractor = LocalExtractor(CellModel())  # type: ignore[arg-type]  # as above
    for shape in ((64, 64), (64, 64, 4), (1, 64, 64, 3)):
        with pytest.raises(ImageError, match=r"must be uint8 \[H, W, 3\], not uint8 \[" + ", ".join(map(str, shape))):
            extractor([np.zeros(shape, np.uint8)])
    assert len(extractor([image(32, 32)])[0]) == 16
    with pytest.raises(ImageError, match="64x31 is too small"):
        extractor([image(31, 64)])


def test_features_are_float32_and_of_equal_ones_the_first_are_kept() -> None:
    class Doubled(CellModel):
        def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
            given = super().run(inputs)
            wide = {name: given[name].astype(np.float64) for name in ("features", "attention")}
            return {**given, **wide, "positions": given["positions"] - 103}  # beyond the border

    for rule in (NATIVE, InputRule(100)):
        found = LocalExtractor(Doubled(), input_rule=rule)([image(96, 200)])[0]  # type: ignore[arg-type]  # as above
        kept = {found.keypoints.dtype, found.scores.dtype, found.descriptors.dtype}
        assert kept == {np.dtype(np.float32)}
        assert found.keypoints.min(0).tolist() == [0, 0]
    assert strongest_first(np.ones(100), 60).tolist() == list(range(60))
    one = LocalExtractor(CellModel(), strongest=1)  # type: ignore[arg-type]  # as above
    assert (one.dimension, len(one([image(64, 64)])[0])) == (3, 1)


def test_what_a_file_is_loaded_with_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Any, ...]] = []
    sessions = [CellModel(), CellModel(), CellModel("embedder")]

    def open_tested(path: Path, placement: Placement | None, expect: Callable[[ModelCard, str], None]) -> CellModel:
        opened.append((path, placement))
        session = sessions.pop(0)
        expect(session.card, str(path))
        return session

    monkeypatch.setattr(local_features, "open_tested", open_tested)
    path, placement, lit, rule = tmp_path / "a.onnx", Placement("cpu"), Photometric("clahe"), InputRule(100)
    made = LocalExtractor.load(path, placement, strongest=7, photometric=lit, input_rule=rule)
    assert opened == [(path, placement)]
    assert (made.strongest, made.card.photometric, made.input_rule) == (7, lit, rule)
    plain = LocalExtractor.load(path)
    assert (plain.strongest, plain.card.photometric, plain.input_rule) == (1000, Photometric("none"), LITERATURE)
    assert plain.space == CellModel().card.space() != made.space
    with pytest.raises(ModelError, match=rf"{path}.*'local_features' is needed here"):
        LocalExtractor.load(path)
