"""An exported matcher gives torch's matches on every backend, for any numbers of keypoints, and has its self-tests."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from gloam import load
from gloam.cli.main import main
from gloam.errors import ModelError
from gloam.export.matcher import FIRST, LARGER, export_matcher
from gloam.export.random_weights import settle_random_matcher
from gloam.model_card import FeatureRule, ModelCard
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.matchers import MatcherNetwork, Side, create_matcher
from gloam.padding import PaddingProfile
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.openvino import OpenVinoSession
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.backends.selftest_formulas import matched_scores, selftest_features
from gloam.runtime.models.local_features import LocalExtractor, OrientedFeatures
from gloam.runtime.models.matcher import Matcher
from tests.damage import without_checksum

SMALL = {"layers": 1, "width": 64, "heads": 2}


def small(name: str = "lightglue_sift") -> MatcherNetwork:
    torch.manual_seed(0)
    model = create_matcher(name, **SMALL)
    settle_random_matcher(model)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With scales and orientations, so that every input is there."""
    path = tmp_path_factory.mktemp("export") / "matcher.onnx"
    export_matcher(small(), path, profile=PaddingProfile.dynamic((1, 8)), provenance={"recipe": "test"})
    return path


def pairs(takes: FeatureRule, counts: list[tuple[int, int]]) -> list[tuple[OrientedFeatures, OrientedFeatures]]:
    rng = np.random.default_rng(0)

    def image(count: int, like: OrientedFeatures | None = None) -> OrientedFeatures:
        values = rng.normal(size=(count, takes.dimension))
        if like is not None:
            known = min(count, len(like)) // 2
            values[:known] = 5 * like.descriptors[:known] + 0.1 * values[:known]
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return OrientedFeatures(
            rng.uniform(0, 400, (count, 2)).astype(np.float32),
            np.ones(count, np.float32),
            values.astype(np.float32),
            (int(rng.integers(401, 600)), 480),
            rng.uniform(2, 9, count).astype(np.float32),
            rng.uniform(-3, 3, count).astype(np.float32),
            name=takes.name,
        )

    firsts = [image(count) for count, _ in counts]
    return [(first, image(count, first)) for first, (_, count) in zip(firsts, counts, strict=True)]


def side(features: OrientedFeatures) -> Side:
    values = (features.keypoints, features.descriptors, np.array(features.size[::-1], np.int32))
    return Side(*(torch.from_numpy(each)[None] for each in (*values, features.scales, features.orientations)))


@pytest.mark.parametrize("open_session", [OrtSession, OpenVinoSession])
def test_any_numbers_of_keypoints_alone_and_together_as_in_torch(
    exported: Path, open_session: Callable[..., Any]
) -> None:
    counts = [(50, 40), (2, 90), (300, 3), (7, 7), (0, 9), (1, 1), (64, 128), (33, 2)]
    given = pairs(small().takes, counts)
    alone, together = (Matcher(open_session(exported), batch_size=size).match_pairs(given) for size in (1, 8))
    total = 0
    for (first, second), one, batched in zip(given, alone, together, strict=True):
        with torch.inference_mode():
            matches, scores = (values[0].numpy() for values in small().match_pair(side(first), side(second)))
        rows = np.flatnonzero(matches >= 0)
        for found, probability in (one, batched):
            assert found.tolist() == np.stack((rows, matches[rows]), 1).tolist()
            assert np.abs(probability - scores[rows]).max(initial=0) <= 1e-4
        total += len(rows)
    assert total >= 40


def test_the_card_says_what_goes_in_and_the_selftests_are_of_two_sizes(exported: Path) -> None:
    card = read_card(exported)
    assert card.takes == FeatureRule("sift", 128, oriented=True)
    assert [spec.name for spec in card.inputs][-4:] == ["scales0", "scales1", "orientations0", "orientations1"]
    assert [(test.shape, test.sizes) for test in card.selftests] == [((1, 61, 47), FIRST), ((3, 67, 66), LARGER)]
    matched = np.reshape(card.selftests[0].output, (2, 61))
    assert (matched[1] > 0).sum() >= 20  # matches, not only scores
    for open_session in (OrtSession, OpenVinoSession):
        difference, tolerance = run_selftest(open_session(exported))
        assert difference <= tolerance == 2e-3
    assert isinstance(load(exported), Matcher)
    assert ModelCard.from_json(card.to_json()) == card
    other = dataclasses.replace(card, takes=FeatureRule("doghardnet", 128, oriented=True))
    assert other.space() != card.space()


def test_the_padding_of_the_selftest_is_rubbish_and_its_features_alike() -> None:
    given = selftest_features(FeatureRule("sift", 16, oriented=True), (2, 70, 50), ((67, 5), (4, 40)))
    assert (given["keypoints0"][1, 4:] == 9999).all()
    assert (given["descriptors1"][0, 5:] == 9999).all()
    assert np.abs(np.linalg.norm(given["descriptors0"][0, :67], axis=1) - 1).max() < 1e-6
    order = [(7 * row + 2) % 67 for row in range(5)]  # of the second image's keypoints among the first's
    likeness = given["descriptors1"][0, :5] @ given["descriptors0"][0, :67].T
    assert likeness.argmax(1).tolist() == order
    assert np.array_equal(given["keypoints1"][0, :5], given["keypoints0"][0, order] + np.float32((3, -2)))


def test_scores_and_rows_both_stand_in_what_a_selftest_keeps() -> None:
    kept = matched_scores(np.array([[1, -1]]), np.array([[0.5, 0.25]]))
    assert kept.tolist() == [[[0.5, 0.25], [0.5, 0.0]]]
    assert matched_scores(np.array([[0, -1]]), np.array([[0.5, 0.25]])).tolist() != kept.tolist()


@pytest.mark.slow
def test_a_graph_without_its_masks_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gloam.networks.matchers.lightglue.MASKED", 0.0)
    with pytest.raises(
        ModelError, match=r"not written, because the graph differs .* on a batch of 3 pairs of 67 and 66"
    ):
        export_matcher(small("lighterglue"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_a_fixed_profile_is_numbers_of_keypoints(tmp_path: Path) -> None:
    checkpoint, path = tmp_path / "matcher.safetensors", tmp_path / "model.onnx"
    save_checkpoint(checkpoint, small("lighterglue"), {"recipe": "test", "licence": "none"})
    more = ["--profile", "fixed", "--sides", "256,512", "--max-batch", "2"]
    assert main(["export", str(checkpoint), "-o", str(path), *more]) == 0
    card = read_card(path)
    assert [test.shape for test in card.selftests] == [(1, 256, 256), (2, 512, 512)]
    takes = FeatureRule("xfeat", 64)
    assert card.takes == takes
    model = Matcher.load(path, batch_size=2)
    found = model.match_pairs(pairs(takes, [(50, 300), (256, 40)]))
    assert min(len(matches) for matches, _ in found) >= 20
    assert main(["check", str(path)]) == 0


def test_what_cannot_be_is_one_line(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match="Linear: is no matcher"):
        export_matcher(torch.nn.Linear(1, 1), path)  # type: ignore[arg-type]  # the mistake
    spoilt = small("lighterglue")
    next(spoilt.parameters()).data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        export_matcher(spoilt, path)
    for arguments, words in (
        (["export", str(exported), "--precision", "fp16", "-o", str(path)], "models of kind 'matcher' stay in float32"),
        (["engine", str(exported), "-o", str(tmp_path / "engine")], "export it with `gloam export --profile fixed`"),
    ):
        assert main(arguments) != 0
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    with pytest.raises(ModelError, match="'local_features' is needed here"):
        LocalExtractor.load(exported)
    weights = tmp_path / "lighterglue.safetensors"
    save_checkpoint(weights, small("lighterglue"), {})
    for more, words in (
        (["--precision", "fp16"], "lighterglue is a matcher, and stays float32"),
        (["--scales", "1,0.5"], "--scales is for embedders, but lighterglue is of kind 'matcher'"),
        (["--network", "lightglue_disk"], "the checkpoint says its network itself"),
    ):
        assert main(["export", str(weights), "-o", str(path), *more]) == 2
        assert words in capsys.readouterr().err
    assert not path.exists()


def test_a_card_that_lacks_the_features_or_an_input_is_refused(exported: Path, tmp_path: Path) -> None:
    card = json.loads(read_card(exported).to_json())
    for change, words in (
        ({"takes": None}, "does not state which features it takes"),
        ({"inputs": card["inputs"][:-1]}, "a matcher of sift takes keypoints0, keypoints1"),
        ({"kind": "edges", "selftest_formula": None}, "images go in as"),
    ):
        with pytest.raises(ModelError, match=words):
            ModelCard.from_json(json.dumps({**card, **change}))
    proto = onnx.load(exported)
    proto.graph.output.pop()
    spoilt = tmp_path / "spoilt.onnx"
    onnx.save(without_checksum(proto), spoilt)
    with pytest.raises(ModelError, match="the card names the output 'scores'"):
        OrtSession(spoilt)


def test_random_weights_match_what_is_alike() -> None:
    model = create_matcher("lightglue_superpoint", layers=2, width=64)
    settle_random_matcher(model)
    given = pairs(model.takes, [(60, 60)])[0]
    sides = [dataclasses.replace(side(each), scales=None, orientations=None) for each in given]
    with torch.inference_mode():
        matches = model.eval().match_pair(*sides)[0][0].numpy()
    assert np.array_equal(matches[:30], np.arange(30))
