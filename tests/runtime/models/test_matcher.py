"""Features of two images to matches; the model here is a few lines of numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gloam.errors import DataError, GloamError, IncompatibleError, ModelError, UsageError
from gloam.model_card import FeatureRule, ModelCard, TensorSpec, matcher_inputs
from gloam.padding import PaddingProfile
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.local_features import LocalFeatures, OrientedFeatures
from gloam.runtime.models.matcher import FeatureMatcher, Matcher

TAKES = FeatureRule("aliked", 8)


def card(takes: FeatureRule = TAKES, profile: PaddingProfile | None = None) -> ModelCard:
    return ModelCard(
        kind="matcher",
        name="nearest",
        inputs=matcher_inputs(takes),
        outputs=tuple(TensorSpec(name, "", ("batch", "keypoints0"), "") for name in ("matches", "scores")),
        profile=profile or PaddingProfile.dynamic((1, 4)),
        network={},
        mean=(),
        std=(),
        provenance={},
        takes=takes,
    )


class Nearest:
    """Mutual neighbours of what is no padding, by a product; keeps what it was fed with."""

    fingerprint = "f"

    def __init__(self, made: ModelCard | None = None, device: str = "cpu") -> None:
        self.card = made or card()
        self.backend = BackendFacts("none", ("none",), "fp32", device=device)
        self.fed: list[Mapping[str, npt.NDArray[Any]]] = []

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        assert list(inputs) != []
        assert set(inputs) == {spec.name for spec in self.card.inputs}
        assert {spec.name: spec.dtype for spec in self.card.inputs} == {k: str(v.dtype) for k, v in inputs.items()}
        self.fed.append(inputs)
        shape = inputs["keypoints0"].shape[:2]
        matches, scores = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
        for row, (first, second) in enumerate(inputs["counts"]):
            likeness = inputs["descriptors0"][row, :first] @ inputs["descriptors1"][row, :second].T
            best = likeness.argmax(1)
            scores[row, :first] = likeness.max(1)
            mutual = likeness.argmax(0)[best] == np.arange(first)
            matches[row, :first] = np.where(mutual & (likeness.max(1) > 0.1), best, -1)
        return {"matches": matches, "scores": scores}


def features(count: int, seed: int = 0, **changes: Any) -> LocalFeatures:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    points = rng.uniform(0, 300, (count, 2)).astype(np.float32)
    scores = np.linspace(1, 0.1, count, dtype=np.float32)
    return dataclasses.replace(LocalFeatures(points, scores, descriptors, (400, 300), name="aliked"), **changes)


def oriented(count: int, seed: int = 0, **changes: Any) -> OrientedFeatures:
    plain = vars(features(count, seed, name="sift"))
    made = OrientedFeatures(**plain, scales=np.full(count, 3, np.float32), orientations=np.full(count, 2, np.float32))
    return dataclasses.replace(made, **changes)


def matcher(session: Nearest, **more: Any) -> Matcher:
    return Matcher(session, **more)  # type: ignore[arg-type]  # as much as is needed of one


def test_matches_and_their_scores() -> None:
    first, second = features(20), features(12, 1)
    session = Nearest()
    matches, scores = matcher(session)(first, second)
    plain, cosines = MutualMatcher()(first, second)
    kept = cosines > 0.1
    assert matches.dtype == plain.dtype == np.uint32
    assert np.array_equal(matches, plain[kept])
    assert scores.dtype == np.float32
    assert np.allclose(scores, cosines[kept])
    assert len(matches) >= 4
    assert session.fed[0]["sizes0"].tolist() == [[300, 400]]  # height first, as of every model
    assert session.fed[0]["counts"].tolist() == [[20, 12]]


def test_a_batch_is_each_pair_alone_in_the_order_given_and_padded_little() -> None:
    pairs = [(features(n, n), features(m, m + 100)) for n, m in ((20, 9), (3, 30), (0, 5), (21, 8), (1, 4), (19, 9))]
    session = Nearest()
    together = matcher(session, batch_size=3).match_pairs(pairs)
    assert [len(fed["counts"]) for fed in session.fed] == [3, 1]  # pairs of an image with 0 or 1 keypoint are not run
    assert session.fed[0]["keypoints0"].shape == (3, 20, 2)
    for pair, (matches, scores) in zip(pairs, together, strict=True):
        alone = matcher(Nearest())(*pair)
        assert np.array_equal(matches, alone[0])
        assert np.array_equal(scores, alone[1])
    assert [len(found[0]) for found in together][2] == [len(found[0]) for found in together][4] == 0
    assert together[2][0].shape == (0, 2)
    assert matcher(Nearest()).match_pairs([]) == []


def test_what_the_batch_is_by_default() -> None:
    assert matcher(Nearest()).batch_size == 1
    assert matcher(Nearest(device="cuda")).batch_size == 4  # the largest of the model's


def test_keypoints_of_another_origin_are_shifted_to_the_matchers() -> None:
    session = Nearest(card(FeatureRule("aliked", 8, origin=0.5)))
    first = features(5)
    matcher(session)(first, features(5, 1, origin=0.5))
    assert np.array_equal(session.fed[0]["keypoints0"][0], first.keypoints + np.float32(0.5))
    assert np.array_equal(session.fed[0]["keypoints1"][0], features(5, 1).keypoints)


def test_scales_and_orientations_go_in_where_they_are_asked_for() -> None:
    session = Nearest(card(FeatureRule("sift", 8, oriented=True)))
    matcher(session, batch_size=2).match_pairs([(oriented(5), oriented(5, 1))] * 2)
    assert session.fed[0]["scales1"].tolist() == [[3] * 5] * 2
    assert session.fed[0]["orientations0"].tolist() == [[2] * 5] * 2
    for wrong, words in (
        (features(5, name="sift"), "needs scales and orientations of the keypoints; give it OrientedFeatures"),
        (oriented(5, scales=np.ones(4, np.float32)), "4 scales of 5 keypoints"),
        (oriented(5, orientations=np.full(5, np.inf, np.float32)), "orientations that are not finite"),
    ):
        with pytest.raises(DataError, match=rf"^nearest: {words}"):
            matcher(session)(oriented(5), wrong)


def test_a_higher_score_can_be_asked_for_and_is_another_key() -> None:
    first, second = features(20), features(20, 1)
    plain, strict = matcher(Nearest()), matcher(Nearest(), min_score=0.7)
    matches, scores = plain(first, second)
    assert np.array_equal(strict(first, second)[0], matches[scores > 0.7])
    assert 0 < len(strict(first, second)[0]) < len(matches)
    assert len({plain.key, strict.key, MutualMatcher().key, MutualMatcher(0.8).key}) == 4


def test_a_fixed_profile_is_padded_to_its_numbers_and_refuses_more() -> None:
    session = Nearest(card(profile=PaddingProfile.fixed((256,), (256, 512), (1, 4))))
    matcher(session)(features(20), features(300, 1))
    assert session.fed[0]["descriptors0"].shape == (1, 256, 8)
    assert session.fed[0]["descriptors1"].shape == (1, 512, 8)
    with pytest.raises(UsageError, match=r"^nearest: 257 keypoints of an image, .* holds 256; keep fewer, or export"):
        matcher(session)(features(257), features(9))


@pytest.mark.parametrize(
    ("kind", "words", "wrong"),
    [
        (IncompatibleError, "is for aliked features of 8 values, but these are disk features of 8", {"name": "disk"}),
        (IncompatibleError, "these are unnamed features of 8", {"name": ""}),
        (IncompatibleError, "these are aliked features of 4", {"descriptors": np.full((5, 4), 0.5, np.float32)}),
        (IncompatibleError, r"features of \[5\]", {"descriptors": np.ones(5, np.float32)}),
        (DataError, "do not belong together", {"keypoints": np.zeros((4, 2), np.float32)}),
        (DataError, "do not belong together", {"keypoints": np.zeros((5, 4), np.float32)}),
        (DataError, "keypoints that are not finite", {"keypoints": np.full((5, 2), np.nan, np.float32)}),
        (DataError, "not of unit length", {"descriptors": np.ones((5, 8), np.float32)}),
        (DataError, "not of unit length", {"descriptors": np.full((5, 8), np.nan, np.float32)}),
        (DataError, "of an image of 0x300 px", {"size": (0, 300)}),
    ],
)
@pytest.mark.parametrize("at", [0, 1])
def test_features_that_are_not_for_it_are_one_line(
    kind: type[GloamError], words: str, wrong: dict[str, Any], at: int
) -> None:
    pair = [features(5), features(5, 1)]
    pair[at] = features(5, **wrong)
    with pytest.raises(kind, match=rf"^nearest: .*{words}") as caught:
        matcher(Nearest())(*pair)
    assert "\n" not in str(caught.value)


def test_bad_options_and_other_models_are_one_line() -> None:
    with pytest.raises(UsageError, match="a batch of 5 pairs; the model takes 1 to 4"):
        matcher(Nearest(), batch_size=5)
    with pytest.raises(UsageError, match="scores are probabilities"):
        matcher(Nearest(), min_score=1.0)
    image = TensorSpec("images", "uint8", ("batch", "height", "width", 3), "")
    other = dataclasses.replace(card(), kind="edges", inputs=(image,), takes=None)
    with pytest.raises(ModelError, match="'matcher' is needed here"):
        matcher(Nearest(other))
    with pytest.raises(UsageError, match=r"a ratio of 1.5; Lowe's test takes one above 0 and at most 1"):
        MutualMatcher(1.5)

    class Broken(Nearest):
        def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
            raise RuntimeError("first line\nsecond line")

    with pytest.raises(ModelError, match=r"failed on 1 pairs of 5 and 4 keypoints \(first line\)$"):
        matcher(Broken())(features(5), features(4))


def test_the_plain_control_has_the_same_face() -> None:
    faces: list[FeatureMatcher] = [matcher(Nearest()), MutualMatcher(), MutualMatcher(0.9)]
    pairs = [(features(9), features(7, 1)), (features(0), features(3))]
    for face in faces:
        for pair, (matches, scores) in zip(pairs, face.match_pairs(pairs), strict=True):
            assert np.array_equal(face(*pair)[0], matches)
            assert len(matches) == len(scores)
            assert (np.diff(matches[:, 0].astype(int)) > 0).all()
    with pytest.raises(IncompatibleError, match="descriptors of 8 values cannot be matched with those of 4"):
        MutualMatcher()(features(5), features(5, descriptors=np.full((5, 4), 0.5, np.float32)))
