import numpy as np
import pytest

from gloam.errors import DataError, UsageError
from gloam.training.embedders import whitening
from gloam.training.embedders.whitening import expect_memory, learn_lw, learn_pca


def places(seed=0, places=60, views=4, columns=12):
    """Unit descriptors whose first half says the place and whose second half the view."""
    random = np.random.default_rng(seed)
    place = np.repeat(random.normal(size=(places, columns)), views, axis=0)
    place[:, columns // 2 :] *= 0.05
    view = random.normal(size=(places * views, columns))
    view[:, : columns // 2] *= 0.05
    x = place + view + 0.3
    labels = np.repeat(np.arange(places), views)
    queries = np.arange(places * views)
    positives = queries // views * views + (queries + 1) % views
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels, queries, positives


def plain_lw(x, q, p):
    """The definition, with inverses and a general eigensolver, columns as descriptors."""
    columns = x.T.astype(np.float64)
    m = columns[:, q].mean(axis=1, keepdims=True)
    difference = columns[:, q] - columns[:, p]
    s = difference @ difference.T / difference.shape[1]
    p0 = np.linalg.inv(np.linalg.cholesky(s))
    y = p0 @ (columns - m)
    values, vectors = np.linalg.eig(y @ y.T)
    return m[:, 0], vectors[:, np.argsort(values.real)[::-1]].real.T @ p0


def plain_pca(x, k):
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eig(centred.T @ centred / len(x))
    order = np.argsort(values.real)[::-1]
    values, vectors = values.real[order], vectors.real[:, order]
    if k is not None:
        values = (1 - values[k - 1]) * values + values[k - 1]
    return np.diag(values**-0.5) @ vectors.T


def same_up_to_signs(found, expected):
    signs = np.sign((found * expected).sum(axis=1))
    np.testing.assert_allclose(found * signs[:, None], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("block", [7, 4096])
def test_lw_is_its_definition(monkeypatch, block):
    monkeypatch.setattr("gloam.training.embedders.whitening.BLOCK_ROWS", block)
    x, _, q, p = places()
    found = learn_lw(x, q, p)
    mean, projection = plain_lw(x, q, p)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    same_up_to_signs(found.projection, projection)
    assert found.name == "lw"
    assert found.provenance["ridge"] == 0.0


def test_lw_makes_differences_of_pairs_white():
    x, _, q, p = places()
    y = (x - x[q].mean(axis=0)) @ learn_lw(x, q, p).projection.T
    difference = y[q] - y[p]
    np.testing.assert_allclose(difference.T @ difference / len(q), np.eye(x.shape[1]), atol=1e-9)
    variances = (y**2).sum(axis=0)
    assert (np.diff(variances) <= 1e-9 * variances[0]).all()


def test_lw_brings_views_of_a_place_together():
    x, labels, q, p = places()
    x32 = x.astype(np.float32)

    def right(descriptors):
        scores = descriptors @ descriptors.T
        np.fill_diagonal(scores, -np.inf)
        return float((labels[scores.argmax(axis=1)] == labels).mean())

    whitening = learn_lw(x32, q, p, dimension=6)
    assert right(whitening.apply(x32)) > 0.95 > 0.6 > right(x32)


def test_pairs_of_an_image_with_itself_change_nothing():
    x, _, q, p = places()
    with_itself = learn_lw(x, np.append(q, [3, 3]), np.append(p, [3, 3]))
    assert with_itself.sha256 == learn_lw(x, q, p).sha256


def test_a_ridge_makes_few_pairs_enough():
    x, _, q, p = places()
    found = learn_lw(x, q[:5], p[:5])
    assert found.provenance["ridge"] > 0
    assert np.isfinite(found.projection).all()


@pytest.mark.parametrize("k", [None, 1, 5])
def test_pca_is_its_definition(k):
    x = places()[0]
    same_up_to_signs(learn_pca(x, shrinkage=k).projection, plain_pca(x, k))


def test_pca_makes_descriptors_white_and_exponent_0_only_rotates():
    x = places()[0]
    found = learn_pca(x)
    y = (x - found.mean) @ found.projection.T
    np.testing.assert_allclose(y.T @ y / len(x), np.eye(x.shape[1]), atol=1e-9)
    turn = learn_pca(x, exponent=0.0).projection
    np.testing.assert_allclose(turn @ turn.T, np.eye(x.shape[1]), atol=1e-12)


def test_pca_of_directions_without_variance_is_refused_and_shrinkage_allows_it():
    x = np.random.default_rng(0).normal(size=(5, 8))
    with pytest.raises(DataError, match="vary in 4 directions only, 8 are asked for"):
        learn_pca(x)
    assert learn_pca(x, 4).dimension == 4
    assert learn_pca(x, shrinkage=2).dimension == 8


@pytest.mark.parametrize("learn", ["pca", "lw"])
def test_fewer_descriptors_than_values_give_the_same_in_the_space_that_they_span(monkeypatch, learn):
    x, _, q, p = places(places=20, columns=200)
    call = (lambda: learn_pca(x, 15)) if learn == "pca" else (lambda: learn_lw(x, q, p, 15))
    found = call()
    monkeypatch.setattr(whitening, "_spanned", lambda *_: False)
    plain = call()
    np.testing.assert_allclose(found.mean, plain.mean, atol=1e-15)
    same_up_to_signs(found.projection, plain.projection)
    assert found.provenance == plain.provenance


def test_descriptors_of_netvlad_are_learned_from_without_a_matrix_of_all_their_values(monkeypatch):
    x = np.random.default_rng(0).normal(size=(40, 32768)).astype(np.float32)
    assert expect_memory(40, 32768, 16, False, 2**30) < 2**25
    turned = learn_pca(x, 16)
    y = (x - turned.mean) @ turned.projection.T
    np.testing.assert_allclose(y.T @ y / len(x), np.eye(16), atol=1e-9)
    assert learn_lw(x, np.arange(39), np.arange(1, 40), 16).projection.shape == (16, 32768)
    with pytest.raises(DataError, match="40 descriptors vary in 3 directions only, 16 are asked for"):
        learn_lw(np.repeat(x[:4], 10, axis=0), np.arange(39), np.arange(1, 40), 16)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            (1000, 32768, None, False),
            "some 48 GiB of memory, and this machine has 24; give --dimension 999 or less",
        ),
        ((1000, 32768, 512, True), "--dimension 999 or less without --shrinkage"),
        ((90_000, 32768, None, False), "this machine has 24; learn on a larger one"),
    ],
)
def test_what_no_machine_holds_is_said_before_it_starts(asked, said):
    with pytest.raises(UsageError, match=said):
        expect_memory(*asked, 24 * 2**30)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: learn_lw(x, [], []), DataError, "no pairs"),
        (lambda x: learn_lw(x, [2], [2]), DataError, "no pairs"),
        (lambda x: learn_lw(x, [0, 1], [1]), DataError, "2 queries and 1 positives"),
        (lambda x: learn_lw(x, [0], [999]), DataError, "outside 0..239"),
        (lambda x: learn_lw(x, [0], [1], 13), UsageError, "dimension 13 is not among 1 to 12"),
        (lambda x: learn_pca(x, shrinkage=0), UsageError, "shrinkage 0"),
        (lambda x: learn_pca(x, exponent=-1), UsageError, "exponent -1"),
        (lambda x: learn_pca(x[:0]), DataError, "needs descriptors"),
        (lambda x: learn_pca(np.where(np.arange(12) == 3, np.nan, x)), DataError, "descriptor 0 is not finite"),
    ],
)
def test_bad_input_is_one_line(call, error, message):
    with pytest.raises(error, match=message) as raised:
        call(places()[0])
    assert "\n" not in str(raised.value)


def test_a_store_that_memory_cannot_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    class Store:
        dimension, space = 32768, "s"

        def __len__(self):
            return 10**9

        def load(self):
            raise AssertionError("it was read")

    monkeypatch.setattr(whitening.DescriptorStore, "open", lambda *_, **__: Store())
    with pytest.raises(UsageError, match="learn on a larger one"):
        whitening.learn_whitening(whitening.WhiteningRequest(tmp_path, tmp_path / "w.npz", kind="pca"))
