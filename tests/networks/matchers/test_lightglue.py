"""LightGlue against a twin in numpy, and batches of unequal pairs against each pair alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gloam.errors import ModelError
from gloam.export.random_weights import settle_random_matcher
from gloam.networks.matchers import LightGlue, MatcherNetwork, Side, create_matcher

Values = npt.NDArray[np.float64]
SMALL = {"layers": 3, "width": 16, "heads": 2}


def small(name: str = "lightglue_aliked", **options: Any) -> LightGlue:
    """A matcher that matches what is alike."""
    torch.manual_seed(0)
    model = create_matcher(name, **(SMALL | options))
    assert isinstance(model, LightGlue)
    settle_random_matcher(model)
    for layer in model.transformers:  # attention says more than a control's
        layer.cross_attn.ffn[3].weight.data.mul_(5)
        layer.self_attn.ffn[3].weight.data.mul_(5)
    return model.eval()


def features(model: MatcherNetwork, count: int, seed: int, alike: Side | None = None) -> Side:
    """Of one image; half of them those of another image, a little changed."""
    rng = np.random.default_rng(seed)
    described = rng.normal(size=(count, model.takes.dimension))
    if alike is not None:
        known = alike.descriptors[0, : count // 2].numpy()
        described[: len(known)] = known * 5 + 0.1 * described[: len(known)]
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    oriented = [torch.from_numpy(rng.uniform(0, 3, (1, count)).astype(np.float32)) for _ in range(2)]
    return Side(
        torch.from_numpy(rng.uniform(0, 300, (1, count, 2)).astype(np.float32)),
        torch.from_numpy(described[None].astype(np.float32)),
        torch.tensor([[300 + 7 * seed, 400]], dtype=torch.int32),
        *(oriented if model.takes.oriented else ()),
    )


def plain_log_assignment(model: LightGlue, first: Side, second: Side) -> Values:
    """The paper's equations for one pair, float64, written without the network's code."""
    weights = {key: value.numpy().astype(np.float64) for key, value in model.state_dict().items()}
    heads, width = model.options["heads"], model.options["width"]

    def linear(name: str, x: Values) -> Values:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)

    def softmax(x: Values, axis: int) -> Values:
        e = np.exp(x - x.max(axis, keepdims=True))
        out: Values = e / e.sum(axis, keepdims=True)
        return out

    def updated(name: str, x: Values, message: Values) -> Values:
        hidden = linear(f"{name}.ffn.0", np.concatenate((x, message), 1))
        hidden = (hidden - hidden.mean(1, keepdims=True)) / np.sqrt(hidden.var(1, keepdims=True) + 1e-5)
        hidden = hidden * weights[f"{name}.ffn.1.weight"] + weights[f"{name}.ffn.1.bias"]
        gelu = 0.5 * hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        return x + linear(f"{name}.ffn.3", gelu)

    def rotated(x: Values, angles: Values) -> Values:
        out = np.empty_like(x)
        for pair in range(x.shape[1] // 2):
            a, b = x[:, 2 * pair], x[:, 2 * pair + 1]
            cosine, sine = np.cos(angles[:, pair]), np.sin(angles[:, pair])
            out[:, 2 * pair], out[:, 2 * pair + 1] = a * cosine - b * sine, b * cosine + a * sine
        return out

    states, angles = [], []
    for side in (first, second):
        x = side.descriptors[0].numpy().astype(np.float64)
        states.append(linear("input_proj", x) if "input_proj.weight" in weights else x)
        h, w = side.size[0].tolist()
        points = [(side.keypoints[0].numpy().astype(np.float64) - (w / 2, h / 2)) / (max(w, h) / 2)]
        if side.scales is not None and side.orientations is not None:
            points += [side.scales[0].numpy()[:, None], side.orientations[0].numpy()[:, None]]
        angles.append(linear("posenc.Wr", np.concatenate(points, 1)))
    size = width // heads
    for layer in range(model.options["layers"]):
        name = f"transformers.{layer}.self_attn"
        for at in (0, 1):
            packed = linear(f"{name}.Wqkv", states[at]).reshape(-1, heads, size, 3)
            messages = []
            for head in range(heads):
                q, k, v = (packed[:, head, :, part] for part in range(3))
                q, k = rotated(q, angles[at]), rotated(k, angles[at])
                messages.append(softmax(q @ k.T / math.sqrt(size), 1) @ v)
            states[at] = updated(name, states[at], linear(f"{name}.out_proj", np.concatenate(messages, 1)))
        name = f"transformers.{layer}.cross_attn"
        qk, v = ([linear(f"{name}.{part}", x) for x in states] for part in ("to_qk", "to_v"))
        to: list[list[Values]] = [[], []]
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            similarity = qk[0][:, part] @ qk[1][:, part].T / math.sqrt(size)
            to[0].append(softmax(similarity, 1) @ v[1][:, part])
            to[1].append(softmax(similarity, 0).T @ v[0][:, part])
        states = [
            updated(name, x, linear(f"{name}.to_out", np.concatenate(messages, 1)))
            for x, messages in zip(states, to, strict=True)
        ]
    last = f"log_assignment.{model.options['layers'] - 1}"
    projected = [linear(f"{last}.final_proj", x) / width**0.25 for x in states]
    similarity = projected[0] @ projected[1].T
    z = [linear(f"{last}.matchability", x)[:, 0] for x in states]
    certain = -np.log1p(np.exp(-z[0]))[:, None] - np.log1p(np.exp(-z[1]))[None]
    both: Values = np.log(softmax(similarity, 1)) + np.log(softmax(similarity, 0)) + certain
    return both


CASES = [
    ("lightglue_aliked", {}),
    ("lightglue_sift", {}),
    ("lightglue_disk", {"width": 128, "layers": 1}),  # no projection of its input
    ("lighterglue", {"heads": 1}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_assignment_is_the_papers(name: str, options: dict[str, Any]) -> None:
    model = small(name, **options)
    first = features(model, 20, 1)
    second = features(model, 15, 2, first)
    expected = plain_log_assignment(model, first, second)
    with torch.no_grad():
        found = model.log_assignments(first, second)[0].numpy()
        matches, scores = (values[0].numpy() for values in model.match_pair(first, second))
    assert np.abs(found - expected).max() <= 1e-3
    best = expected.argmax(1)
    mutual = expected.argmax(0)[best] == np.arange(20)
    wanted = np.where(mutual & (np.exp(expected.max(1)) > model.threshold), best, -1)
    assert matches.tolist() == wanted.tolist()
    assert (matches >= 0).sum() >= 5
    assert np.abs(scores - np.exp(expected.max(1))).max() <= 1e-3


def padded(sides: list[Side], count: int) -> Side:
    """A batch; what is behind the keypoints is not a number."""

    def rows(values: list[torch.Tensor]) -> torch.Tensor:
        out = torch.full((len(values), count, *values[0].shape[2:]), float("nan"))
        for row, each in enumerate(values):
            out[row, : each.shape[1]] = each[0]
        return out

    oriented = [(side.scales, side.orientations) for side in sides if side.scales is not None]
    more = [rows([pair[at] for pair in oriented if pair[at] is not None]) for at in (0, 1)] if oriented else []  # type: ignore[misc]
    return Side(
        rows([side.keypoints for side in sides]),
        rows([side.descriptors for side in sides]),
        torch.cat([side.size for side in sides]),
        *more,
    )


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_batch_of_unequal_pairs_is_each_pair_alone(name: str, options: dict[str, Any]) -> None:
    model = small(name, **options)
    counts = [(12, 9), (0, 5), (25, 31), (7, 0), (1, 8), (2, 2), (8, 1), (30, 4)]
    firsts = [features(model, first, seed) for seed, (first, _) in enumerate(counts)]
    seconds = [features(model, second, 50 + seed, firsts[seed]) for seed, (_, second) in enumerate(counts)]
    with torch.no_grad():
        matches, scores = model.match_batch(padded(firsts, 33), padded(seconds, 32), torch.tensor(counts))
        for row, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            count = counts[row][0]
            alone = model.match_pair(first, second)
            assert matches[row, :count].tolist() == alone[0][0].tolist()
            assert np.abs((scores[row, :count] - alone[1][0]).numpy()).max(initial=0) <= 1e-4
            assert (matches[row, count:] == -1).all()
            assert (scores[row, count:] == 0).all()
            if min(counts[row]) < 2:
                assert (matches[row] == -1).all()
    assert (matches >= 0).sum() >= 8


def test_more_keypoints_than_there_are_would_be_another_result() -> None:
    model = small()
    first = features(model, 12, 1)
    second = features(model, 10, 2, first)
    both = [padded([side], 20) for side in (first, second)]
    zeros = [Side(side.keypoints.nan_to_num(0), side.descriptors.nan_to_num(0), side.size) for side in both]
    with torch.no_grad():
        right = model.match_batch(zeros[0], zeros[1], torch.tensor([(12, 10)]))[1]
        wrong = model.match_batch(zeros[0], zeros[1], torch.tensor([(20, 20)]))[1]
    assert (right - wrong)[0, :12].abs().max() > 1e-3


def test_names_and_options_that_are_none() -> None:
    with pytest.raises(ModelError, match=r"unknown matcher 'lightglue_alike'; did you mean lightglue_aliked\?"):
        create_matcher("lightglue_alike")
    with pytest.raises(ModelError, match="a head has an even number of values"):
        create_matcher("lighterglue", heads=5)
    with pytest.raises(ModelError, match="a threshold of 1"):
        create_matcher("lighterglue", threshold=1.0)
    assert {name: len(create_matcher(name).state_dict()) for name in ("lightglue_disk", "lighterglue")} == {
        "lightglue_disk": 253,
        "lighterglue": 169,
    }
