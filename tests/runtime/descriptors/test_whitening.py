import json

import numpy as np
import pytest

from gloam.errors import DataError, IncompatibleError, ModelError, UsageError
from gloam.runtime.descriptors.whitening import Whitening
from tests.damage import named_or_harmless


def whitening(rows=4, columns=6, seed=0):
    random = np.random.default_rng(seed)
    return Whitening(random.normal(size=columns), random.normal(size=(rows, columns)), "pca", {"images": 7})


def test_apply_is_centre_project_normalise(monkeypatch):
    found, x = whitening(), np.random.default_rng(1).normal(size=(5, 6))
    expected = np.stack([found.projection @ (row - found.mean) for row in x])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.apply(x), expected, atol=2e-6)
    assert found.apply(x).dtype == np.float32
    whole = found.apply(x)
    monkeypatch.setattr("gloam.runtime.descriptors.whitening.BLOCK_ROWS", 2)
    np.testing.assert_allclose(found.apply(x), whole, atol=1e-7)
    assert found.apply(x[:0]).shape == (0, 4)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_keep_everything(tmp_path, suffix):
    made = whitening()
    read = Whitening.load(made.save(tmp_path / f"w{suffix}"))
    assert (read.sha256, read.name, read.provenance) == (made.sha256, "pca", {"images": 7})
    assert np.array_equal(read.mean, made.mean)
    assert np.array_equal(read.projection, made.projection)


def test_identity_changes_with_every_part():
    made = whitening()
    others = [
        Whitening(made.mean, made.projection, "lw"),
        Whitening(made.mean + 1e-9, made.projection, "pca"),
        made.reduced(3),
    ]
    assert len({made.sha256, *(other.sha256 for other in others)}) == 4


def test_reduction_is_the_first_values_normalised_again():
    made, x = whitening(), np.random.default_rng(2).normal(size=(3, 6))
    full = (x - made.mean) @ made.projection.T
    np.testing.assert_allclose(
        made.reduced(2).apply(x), full[:, :2] / np.linalg.norm(full[:, :2], axis=1)[:, None], atol=2e-6
    )
    with pytest.raises(UsageError, match="dimension 5 is not among 1 to 4"):
        made.reduced(5)


def test_descriptors_of_another_dimension_are_refused():
    with pytest.raises(IncompatibleError, match=r"takes descriptors of dimension 6, not of shape \[2, 5\]") as raised:
        whitening().apply(np.zeros((2, 5)))
    assert "\n" not in str(raised.value)


def test_descriptors_that_are_not_finite_are_refused():
    x = np.zeros((3, 6))
    x[1, 2] = np.nan
    with pytest.raises(DataError, match="descriptor 1 is not finite"):
        whitening().apply(x)


@pytest.mark.parametrize(
    ("mean", "projection", "message"),
    [
        (np.zeros(3), np.zeros((2, 4)), "do not fit"),
        (np.zeros(3), np.zeros((4, 3)), "do not fit"),
        (np.zeros(3), np.zeros(3), "do not fit"),
        (np.full(2, np.nan), np.zeros((1, 2)), "not finite"),
    ],
)
def test_what_is_no_whitening_is_refused(mean, projection, message):
    with pytest.raises(ModelError, match=message):
        Whitening(mean, projection)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no such whitening file"):
        Whitening.load(tmp_path / "w.npz")
    with pytest.raises(UsageError, match="ends in"):
        Whitening.load(tmp_path / "w.pkl")
    for suffix in (".npz", ".safetensors"):
        (tmp_path / f"bad{suffix}").write_bytes(b"nothing of the kind")
        with pytest.raises(ModelError, match="not a whitening"):
            Whitening.load(tmp_path / f"bad{suffix}")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ModelError, match="not a whitening"):
        Whitening.load(tmp_path / "other.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_flipped_bit_of_a_file_is_named(tmp_path, suffix):
    rng = np.random.default_rng(0)
    path = tmp_path / f"w{suffix}"
    Whitening(rng.normal(size=4), rng.normal(size=(3, 4)), "lw", {"space": "a" * 64}).save(path)

    def read():
        found = Whitening.load(path)
        return found.sha256, found.provenance, found.name

    assert named_or_harmless(path, read, 100) > 30


def test_a_file_of_before_is_read(tmp_path):
    said = json.dumps({"name": "pca", "provenance": {}})
    np.savez(tmp_path / "w.npz", description=np.array(said), mean=np.zeros(3), projection=np.eye(3))
    assert Whitening.load(tmp_path / "w.npz").name == "pca"
