"""The self-test that travels inside a model: does it compute here what it computed where it was exported?"""

from __future__ import annotations

import numpy as np

from gloam.errors import ModelError
from gloam.model_card import selftest_digest, selftest_images
from gloam.runtime.backends.session import Session


def run_selftest(session: Session) -> tuple[float, float]:
    """Run the stored self-test.

    Returns:
        the largest absolute difference found, and the tolerance of the model's precision.

    Raises:
        ModelError: the card holds no self-test, or the output has another shape.
    """
    card = session.card
    test = card.selftest
    if test is None:
        raise ModelError(f"{card.name}: the model card holds no self-test; export the model again")
    channels = card.inputs[0].shape[3]
    inputs = {"images": selftest_images(test.shape, test.sizes)[..., : int(channels)]}
    if len(card.inputs) > 1:
        inputs["sizes"] = np.asarray(test.sizes, np.int32)
    outputs = session.run(inputs)
    found = selftest_digest(card.kind, [outputs[output.name] for output in card.outputs]).astype(np.float64)
    expected = np.asarray(test.output)
    if found.size != expected.size:
        raise ModelError(f"{card.name}: the self-test gave {found.size} values, {expected.size} are stored")
    difference = np.abs(found.reshape(-1) - expected)
    worst = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return worst, float(test.tolerance.get(card.precision, 0.0))
