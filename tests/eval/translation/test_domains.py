"""Translation between many domains, judged domain by domain."""

from __future__ import annotations

import csv
import io
import statistics

import numpy as np
import pytest
from PIL import Image

from gloam.data.day_night.read import as_item
from gloam.errors import DataError, UsageError
from gloam.eval.translation.domains import DomainScore, DomainTable, JudgedDomain, judged_domains, score_domains
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.mmd import gaussian_discrepancy
from gloam.eval.translation.sift import pair_distance
from gloam.runtime.models.formulas import create_classic

DOMAINS = ("day", "night", "snow")
# FID and SIFT distance of the full model as the paper prints them, in its order, and the mean and deviation below them.
FINAL = (
    (62.675, 10.836), (53.637, 10.151), (77.133, 11.006), (54.092, 8.253), (53.806, 8.685), (65.945, 11.011),
    (89.235, 10.191), (54.354, 9.949), (53.578, 10.096), (79.426, 10.471), (65.490, 10.360),
)  # fmt: skip


def street(seed: int, domain: str) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (14, 16, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((160, 128), Image.Resampling.BICUBIC), np.float64)
    return (image * {"day": 1.0, "night": 0.3, "snow": 0.6}[domain] + (domain == "snow") * 100).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list:
    root = tmp_path_factory.mktemp("domains")
    found = []
    for label, domain in enumerate(DOMAINS):
        for place in range(4):
            (root / domain).mkdir(exist_ok=True)
            Image.fromarray(street(place, domain)).save(root / domain / f"{place}.png")
            found.append((as_item(f"{domain}/{place}.png", root), label))
    return found


PAIRS = [(place, 4 + place) for place in range(4)] + [(0, 8), (5, 9), (6, 10)]


class Colours:
    """Mean and deviation of the colours as features."""

    name, weights_sha256 = "colours", "0" * 64

    def features(self, images):
        return np.stack([np.r_[image.mean((0, 1)), image.std((0, 1))] for image in images])


def test_each_pair_gives_a_source_to_both_of_its_domains(images: list) -> None:
    judged = judged_domains(DOMAINS, images, PAIRS)
    assert [domain.name for domain in judged] == list(DOMAINS)
    snow = judged[2]
    assert [(pair.source.name, pair.origin, pair.target.name) for pair in snow.pairs] == [
        ("day/0.png", "day", "snow/0.png"),
        ("night/1.png", "night", "snow/1.png"),
        ("night/2.png", "night", "snow/2.png"),
    ]
    assert [item.name for item in snow.real] == [f"snow/{place}.png" for place in range(4)]
    only = judged_domains(DOMAINS, images, PAIRS, targets=["snow"], origins=["night"])
    assert [len(domain.pairs) for domain in only] == [2]


def test_a_limit_draws_the_same_for_one_seed(images: list) -> None:
    first, again, other = (judged_domains(DOMAINS, images, PAIRS, limit=2, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert all(len(domain.pairs) == 2 and len(domain.real) == 2 for domain in first)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"targets": ["rain"]}, UsageError, "unknown domain 'rain'; the images are of day, night, snow"),
        ({"origins": ["rain"]}, UsageError, "unknown domain 'rain'"),
        ({"limit": 1}, UsageError, "1 images of a domain: 2 or more"),
        ({"targets": ["night"], "origins": ["night"]}, DataError, "domain 'night' has no pairs with night"),
    ],
)
def test_bad_questions(images: list, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        judged_domains(DOMAINS, images, PAIRS, **options)


def test_figures_are_those_of_the_metrics_themselves(images: list) -> None:
    judged = judged_domains(DOMAINS, images, PAIRS, targets=["night"])
    moved: list[str] = []

    def towards(domain: str):
        moved.append(domain)
        return create_classic("gamma")

    methods = {"untouched": lambda domain: create_classic("none"), "gamma": towards}
    described = []
    table = score_domains(judged, methods, Colours(), (160, 128), described.append)
    assert moved == ["night"]
    assert sum(described) == 4 + 2 * 6
    pairs = [(street(place, "day"), street(place, "night")) for place in range(4)]
    pairs += [(street(1, "snow"), street(1, "night")), (street(2, "snow"), street(2, "night"))]
    real = Colours().features([street(place, "night") for place in range(4)])
    for name in ("none", "gamma"):
        made = create_classic(name)([source for source, _ in pairs])
        score = table.cells["untouched" if name == "none" else name]["night"]
        assert score.fid == pytest.approx(frechet_distance(real, Colours().features(made)))
        distances = [pair_distance(one, two) for one, (_, two) in zip(made, pairs, strict=True)]
        defined = [value for value in distances if value is not None]
        assert score.sift == pytest.approx(statistics.fmean(defined))
        assert score.undefined == pytest.approx(1 - len(defined) / 6)
        assert (score.images, score.real) == (6, 4)
        assert score.mmd is None
    assert "MMD" not in table.to_csv()
    assert table.sources == {"night": {"day": 4, "snow": 2}}


def test_mean_and_deviation_are_the_papers() -> None:
    scores = {f"d{row}": DomainScore(fid, sift, 0.0, 9, 9) for row, (fid, sift) in enumerate(FINAL)}
    table = DomainTable({"FINAL": scores}, {name: {"day": 9} for name in scores})
    assert round(table.mean("FINAL", "FID"), 3) == 64.488
    assert table.std("FINAL", "FID") == pytest.approx(12.504, abs=5e-4)
    assert round(table.mean("FINAL", "SIFT"), 3) == 10.092
    assert table.std("FINAL", "SIFT") == pytest.approx(0.886, abs=5e-4)


def test_a_figure_without_a_value_is_left_out_of_the_mean_and_seen() -> None:
    scores = {"a": DomainScore(10.0, None, 1.0, 4, 4), "b": DomainScore(20.0, 9.0, 0.25, 4, 4)}
    table = DomainTable({"m": scores}, {"a": {"b": 4}, "b": {"a": 4}}, {"images": "small"})
    assert (table.mean("m", "SIFT"), table.std("m", "SIFT")) == (9.0, None)
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows[1] == ["m", "a", "10", "", "1", "4", "4"]
    assert rows[3][:5] == ["m", "Mean", "15", "9", "0.625"]
    text = table.to_text()
    assert "Std has ddof 1" in text
    assert "images: small" in text
    assert [line.split() for line in text.splitlines()[2:6]] == [
        ["a", "10.000", "-", "100"],
        ["b", "20.000", "9.000", "25"],
        ["Mean", "15.000", "9.000", "62"],
        ["Std", "7.071", "-", "53"],
    ]
    assert table.to_dict()["methods"]["m"]["std"]["SIFT"] is None


def test_mmd_has_a_column_where_the_features_are_embeddings(images: list) -> None:
    class Embeddings(Colours):
        frechet = "FD of colours"

    (whole,) = judged_domains(DOMAINS, images, PAIRS, targets=["night"], origins=["day"])
    judged = [whole, JudgedDomain("few", whole.real[:1], whole.pairs)]
    table = score_domains(judged, {"untouched": lambda domain: create_classic("none")}, Embeddings(), (160, 128))
    described = [Colours().features([street(place, kind) for place in range(4)]) for kind in ("night", "day")]
    score = table.cells["untouched"]["night"]
    assert score.mmd == pytest.approx(gaussian_discrepancy(*described))
    assert table.cells["untouched"]["few"].mmd is None
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["MMD"] for row in rows] == [f"{score.mmd:.6g}", "", f"{score.mmd:.6g}", ""]
    lines = [line.split() for line in table.to_text().splitlines()[1:4]]
    assert lines[0] == ["FID", "SIFT", "no", "%", "MMD"]
    assert [line[-1] for line in lines[1:]] == [f"{score.mmd:.3f}", "-"]
    assert table.protocol["FID"] == "FD of colours, the Fréchet distance in the space of colours"
