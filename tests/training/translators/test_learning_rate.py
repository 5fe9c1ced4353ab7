import pytest

from gloam.errors import UsageError
from gloam.training.translators.learning_rate import linear_factor


@pytest.mark.parametrize(
    ("epoch", "epochs", "decay", "factor"),
    [
        (0, 50, 25, 1.0),
        (24, 50, 25, 1.0),
        (25, 50, 25, 0.9615),
        (26, 50, 25, 0.9231),
        (48, 50, 25, 0.0769),
        (49, 50, 25, 0.0385),
        (50, 100, 50, 50 / 51),
        (99, 100, 50, 1 / 51),
        (199, 200, 0, 1.0),
        (0, 1, 1, 0.5),
    ],
)
def test_golden_factors(epoch, epochs, decay, factor):
    assert linear_factor(epoch, epochs, decay) == pytest.approx(factor, abs=5e-5)


@pytest.mark.parametrize("epoch", [-1, 10])
def test_no_epoch_outside_the_run(epoch):
    with pytest.raises(UsageError, match="epochs 0 to 9"):
        linear_factor(epoch, 10, 5)
