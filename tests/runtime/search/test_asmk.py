"""ASMK against a plain twin: loops over words and features, bits as booleans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gloam.errors import DataError, GloamError, IncompatibleError, ModelError, UsageError
from gloam.eval.retrieval.ground_truth import parse_ground_truth
from gloam.eval.retrieval.scores import evaluate_scores
from gloam.runtime.search.asmk import AsmkIndex, Codebook, pack
from tests.damage import named_or_harmless

Floats = npt.NDArray[np.float32]


def places(count: int, dimension: int, seed: int = 0) -> tuple[Codebook, list[Floats], list[Floats]]:
    """A codebook, and two noisy views of every place."""
    rng = np.random.default_rng(seed)
    codebook = Codebook(rng.normal(size=(40, dimension)).astype(np.float32))
    base = [rng.normal(size=(rng.integers(5, 60), dimension)) for _ in range(count)]
    views = [[(b + rng.normal(size=b.shape) * 0.4).astype(np.float32) for b in base] for _ in range(2)]
    return codebook, views[0], views[1]


def twin_aggregate(codebook: Codebook, features: Floats, count: int) -> dict[int, npt.NDArray[np.bool_]]:
    sums: dict[int, npt.NDArray[np.float64]] = {}
    for feature in features.astype(np.float64):
        distance = ((codebook.centroids.astype(np.float64) - feature) ** 2).sum(1)
        for word in np.argsort(distance)[:count]:
            sums[word] = sums.get(word, 0.0) + feature - codebook.centroids[word]
    return {word: total > 0 for word, total in sums.items()}


def twin_score(query: dict[int, npt.NDArray[np.bool_]], image: dict[int, npt.NDArray[np.bool_]], bits: int) -> float:
    score = 0.0
    for word in query.keys() & image.keys():
        similarity = 1 - 2 * float((query[word] != image[word]).sum()) / bits
        score += similarity**3 if similarity >= 0 else 0.0
    return float(score / np.sqrt(len(image)) / np.sqrt(len(query)))


@pytest.mark.parametrize("dimension", [128, 32, 20])
def test_scores_are_those_of_the_plain_twin(dimension: int) -> None:
    codebook, database, queries = places(12, dimension)
    index = AsmkIndex(codebook)
    for row, features in enumerate(database):
        index.add(f"{row}.jpg", features)
    images = [twin_aggregate(codebook, features, 1) for features in database]
    bits = -(-dimension // 32) * 32
    for features in queries:
        query = twin_aggregate(codebook, features, 5)
        expected = [twin_score(query, image, bits) for image in images]
        np.testing.assert_allclose(index.search(features), expected, rtol=0, atol=1e-9)


def test_the_other_view_of_a_place_comes_first() -> None:
    codebook, database, queries = places(30, 64)
    index = AsmkIndex(codebook)
    for row, features in enumerate(database):
        index.add(f"{row}.jpg", features)
    ranks, scores = index.rank(queries, top=3)
    assert ranks.shape == scores.shape == (30, 3)
    assert (ranks[:, 0] == np.arange(30)).mean() > 0.9
    assert (np.diff(scores, axis=1) <= 0).all()


def test_an_image_scores_highest_with_itself_and_one_under_single_assignment() -> None:
    codebook, database, _ = places(6, 64)
    index = AsmkIndex(codebook)
    for row, features in enumerate(database):
        index.add(f"{row}.jpg", features)
    scores = np.stack([index.search(features, count=1) for features in database])
    np.testing.assert_allclose(np.diag(scores), 1.0, atol=1e-12)
    np.testing.assert_allclose(scores, scores.T, atol=1e-12)


def test_bits_are_packed_from_the_highest_and_padded_with_zeros() -> None:
    signs = np.zeros((1, 40), bool)
    signs[0, [0, 31, 32]] = True
    assert pack(signs).tolist() == [[0x80000001, 0x80000000]]


def test_assignment_is_the_nearest_words_in_order() -> None:
    codebook, database, _ = places(1, 16)
    features = database[0]
    distance = np.linalg.norm(features[:, None].astype(np.float64) - codebook.centroids, axis=2)
    assert np.array_equal(codebook.assign(features, 5), np.argsort(distance, axis=1)[:, :5])
    assert codebook.assign(features, 10**6).shape == (len(features), codebook.words)


def test_images_can_be_added_after_a_search_and_after_loading(tmp_path: Path) -> None:
    codebook, database, queries = places(9, 32)
    whole, parts = AsmkIndex(codebook), AsmkIndex(codebook)
    for row, features in enumerate(database):
        whole.add(f"{row}.jpg", features)
        parts.add(f"{row}.jpg", features)
        if row == 4:
            parts.search(queries[0])
            parts.save(tmp_path / "index.npz")
            parts = AsmkIndex.load(tmp_path / "index.npz")
    assert parts.names == whole.names
    for features in queries:
        assert np.array_equal(parts.search(features), whole.search(features))


def test_an_image_without_features_is_never_found() -> None:
    codebook, database, queries = places(2, 32)
    index = AsmkIndex(codebook)
    index.add("empty.jpg", np.empty((0, 32), np.float32))
    assert index.search(queries[0]).tolist() == [0.0]
    index.add("full.jpg", database[0])
    assert index.search(queries[0])[0] == 0 < index.search(queries[0])[1]
    assert index.search(np.empty((0, 32), np.float32)).tolist() == [0.0, 0.0]


def test_a_learned_codebook_finds_the_clusters_and_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 16)) * 10
    features = (np.repeat(centres, 50, axis=0) + rng.normal(size=(400, 16)) * 0.1).astype(np.float32)
    codebook = Codebook.learn(features, 40, space="s")  # more words than clusters, so that each cluster gets one
    again = Codebook.learn(features, 40, space="s")
    assert np.array_equal(codebook.centroids, again.centroids)
    distance = np.linalg.norm(features - codebook.centroids[codebook.assign(features)[:, 0]], axis=1)
    assert np.median(distance) < 1 < np.linalg.norm(features, axis=1).min()
    codebook.save(tmp_path / "codebook.npz")
    loaded = Codebook.load(tmp_path / "codebook.npz")
    assert loaded.space == "s"
    assert np.array_equal(loaded.centroids, codebook.centroids)


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    codebook, database, _ = places(1, 32)
    index = AsmkIndex(Codebook(codebook.centroids, space="a" * 64))
    broken = database[0].copy()
    broken[3, 0] = np.nan
    codebook.save(tmp_path / "words.npz")
    index.save(tmp_path / "nan.npz")
    for path in (tmp_path / "words.npz", tmp_path / "nan.npz"):
        with np.load(path) as kept:
            arrays = dict(kept)
        arrays["centroids"][0, 0] = np.nan
        np.savez(path, **arrays)
    refusals: list[tuple[type[GloamError], str, object]] = [
        (DataError, "a.jpg: ASMK: local feature 3 is not finite", lambda: index.add("a.jpg", broken)),
        (IncompatibleError, "words have 32 dimensions", lambda: index.add("a.jpg", database[0][:, :20])),
        (IncompatibleError, "query: descriptors of space bbb", lambda: index.search(database[0], space="b" * 64)),
        (DataError, "900 words need at least as many", lambda: Codebook.learn(database[0], 900)),
        (DataError, "codebook: local feature 3 is not finite", lambda: Codebook.learn(broken, 2)),
        (ModelError, "must be finite", lambda: Codebook(np.full((2, 2), np.nan, np.float32))),
        (ModelError, r"words\.npz: codebook: .* must be finite", lambda: Codebook.load(tmp_path / "words.npz")),
        (ModelError, r"nan\.npz: codebook: .* must be finite", lambda: AsmkIndex.load(tmp_path / "nan.npz")),
        (UsageError, "needs alpha > 0", lambda: AsmkIndex(codebook, alpha=0)),
        (ModelError, "no such file", lambda: AsmkIndex.load(tmp_path / "absent.npz")),
    ]
    (tmp_path / "text.npz").write_text("no archive")
    refusals.append((ModelError, "not a readable codebook file", lambda: Codebook.load(tmp_path / "text.npz")))
    np.savez(tmp_path / "objects.npz", header=np.array([{"kind": "asmk"}], object))
    refusals.append((ModelError, "not a readable asmk file", lambda: AsmkIndex.load(tmp_path / "objects.npz")))
    codebook.save(tmp_path / "codebook.npz")
    refusals.append((ModelError, "'asmk' is needed here", lambda: AsmkIndex.load(tmp_path / "codebook.npz")))
    for kind, words, call in refusals:
        with pytest.raises(kind, match=words) as caught:
            call()  # type: ignore[operator]
        assert "\n" not in str(caught.value)
    assert len(index) == 0


def test_an_index_whose_parts_do_not_fit_is_refused(tmp_path: Path) -> None:
    codebook, database, _ = places(2, 32)
    index = AsmkIndex(codebook)
    index.add("a.jpg", database[0])
    index.save(tmp_path / "index.npz")
    with np.load(tmp_path / "index.npz") as content:
        arrays = dict(content)
    arrays["images"] = arrays["images"] + 5
    np.savez(tmp_path / "index.npz", **arrays)
    with pytest.raises(ModelError, match="do not fit together"):
        AsmkIndex.load(tmp_path / "index.npz")


def test_a_flipped_bit_of_a_file_is_named(tmp_path: Path) -> None:
    codebook, first, _ = places(4, 8)
    index = AsmkIndex(codebook)
    for number, features in enumerate(first):
        index.add(f"{number}.jpg", features)
    index.save(tmp_path / "index.npz")
    codebook.save(tmp_path / "codebook.npz")

    def read_index() -> object:
        found = AsmkIndex.load(tmp_path / "index.npz")
        arrays = (found.codebook.centroids, found._offsets, found._images, found._codes, found._norms)
        return found.names, found.alpha, found.threshold, [array.tobytes() for array in arrays]

    assert named_or_harmless(tmp_path / "index.npz", read_index, 60) > 40
    read = lambda: Codebook.load(tmp_path / "codebook.npz").centroids.tobytes()  # noqa: E731  # one line
    assert named_or_harmless(tmp_path / "codebook.npz", read, 60) > 40


def test_images_of_the_map_that_failed_are_kept_with_the_index(tmp_path: Path) -> None:
    features = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)
    index = AsmkIndex(Codebook.learn(features, 4))
    index.add("a.jpg", features[:9])
    index.save(tmp_path / "whole.npz")
    index.failures = {"b.jpg": "truncated"}
    index.save(tmp_path / "failed.npz")
    assert AsmkIndex.load(tmp_path / "whole.npz").failures == {}
    loaded = AsmkIndex.load(tmp_path / "failed.npz")
    assert loaded.failures == {"b.jpg": "truncated"}
    truth = parse_ground_truth({"imlist": ["a.jpg", "b.jpg"], "qimlist": ["q"], "gnd": [{"ok": [0, 1], "junk": []}]})
    found = evaluate_scores({"q": loaded.search(features[:9])}, loaded.names, truth, failed=loaded.failures)
    assert (found.failed_map, found.mAP) == (1, pytest.approx(0.5))


def plain_score(index: list[dict[int, Floats]], query: dict[int, Floats], image: dict[int, Floats], idf: bool) -> float:
    """Sum of residuals as unit vectors, their cosine to the third power, words by the square of ln(N / n)."""
    having = {word: sum(word in other for other in index) for word in query.keys() | image.keys()}
    weight = {word: np.log(len(index) / max(count, 1)) ** 2 if idf else 1.0 for word, count in having.items()}
    score = sum(weight[word] * max(float(query[word] @ image[word]), 0.0) ** 3 for word in query.keys() & image.keys())
    norms = [sum(weight[word] for word in words) for words in (query, image)]
    return float(score / np.sqrt(norms[0] * norms[1])) if min(norms) > 0 else 0.0


def unit_sums(codebook: Codebook, features: Floats, count: int) -> dict[int, Floats]:
    found: dict[int, Floats] = {}
    for feature in features.astype(np.float64):
        distance = ((codebook.centroids.astype(np.float64) - feature) ** 2).sum(1)
        for word in np.argsort(distance)[:count]:
            found[word] = found.get(word, 0.0) + feature - codebook.centroids[word]
    return {word: total / np.linalg.norm(total) for word, total in found.items()}


@pytest.mark.parametrize("idf", [False, True])
def test_real_valued_scores_are_those_of_the_plain_twin(idf: bool, tmp_path: Path) -> None:
    codebook, database, queries = places(10, 20)
    index = AsmkIndex(codebook, real_valued=True, idf=idf)
    for row, features in enumerate(database):
        index.add(f"{row}.jpg", features)
    index.save(tmp_path / "index.npz")
    images = [unit_sums(codebook, features, 1) for features in database]
    for found in (index, AsmkIndex.load(tmp_path / "index.npz")):
        assert (found.real_valued, found.idf) == (True, idf)
        for features in queries[:4]:
            query = unit_sums(codebook, features, 5)
            expected = [plain_score(images, query, image, idf) for image in images]
            np.testing.assert_allclose(found.search(features), expected, rtol=0, atol=1e-6)
    alone = np.stack([index.search(features, count=1) for features in database])
    np.testing.assert_allclose(np.diag(alone), 1.0, atol=1e-6)


def test_words_that_all_images_have_count_for_nothing_with_idf() -> None:
    codebook = Codebook(np.eye(3, dtype=np.float32) * 10)
    common, rare, other = (np.eye(3, dtype=np.float32)[row] * 10 + np.float32(0.5) for row in range(3))
    plain, weighted = AsmkIndex(codebook), AsmkIndex(codebook, idf=True)
    for name, features in (("a", [common, rare]), ("b", [common]), ("c", [common, other])):
        for index in (plain, weighted):
            index.add(name, np.stack(features))
    query = np.stack([common, rare])
    assert plain.search(query, count=1).tolist() == pytest.approx([1.0, 0.5**0.5, 0.5])
    assert weighted.search(query, count=1).tolist() == [pytest.approx(1.0), 0.0, 0.0]


def test_an_index_without_the_new_options_is_written_as_before(tmp_path: Path) -> None:
    codebook, database, _ = places(2, 32)
    index = AsmkIndex(codebook)
    index.add("a.jpg", database[0])
    index.save(tmp_path / "index.npz")
    with np.load(tmp_path / "index.npz") as content:
        header = content["header"].tobytes().decode()
    assert "real_valued" not in header
    assert "idf" not in header
