"""The self-test that travels inside a model: does it compute here what it computed where it was exported?"""

from __future__ import annotations

import contextlib

import numpy as np

from gloam.errors import ModelError, StoreError
from gloam.files import sha256_json, user_cache, write_json
from gloam.model_card import block_means, selftest_images, weighted_mean
from gloam.runtime.backends.processor import find_processor
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
    found = outputs[card.outputs[0].name].astype(np.float64)
    if card.kind in ("translator", "edges"):
        found = block_means(found)
    if card.kind == "local_features":
        found = weighted_mean(found, outputs[card.outputs[1].name])
    expected = np.asarray(test.output)
    if found.size != expected.size:
        raise ModelError(f"{card.name}: the self-test gave {found.size} values, {expected.size} are stored")
    difference = np.abs(found.reshape(-1) - expected)
    worst = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return worst, float(test.tolerance.get(card.precision, 0.0))


def expect_selftest(session: Session, where: str) -> None:
    """Refuse a model that does not compute here what it computed where it was exported.

    A model is tested once on a backend and processor: that it passed stands in the user's folder of caches, where that
    can be written. A model without a self-test is taken as it is.

    Args:
        session: a loaded model.
        where: the file, for messages.

    Raises:
        ModelError: the self-test failed.
    """
    if session.card.selftest is None:
        return
    facts = session.backend
    runs_on = [facts.backend, facts.version, facts.device, facts.precision, facts.inference_precision]
    identity = [session.fingerprint, session.card.selftest.output, runs_on, find_processor().model]
    name = f"{sha256_json(identity)}.json"
    with contextlib.suppress(StoreError, OSError):
        if (user_cache() / "selftests" / name).is_file():
            return
    difference, tolerance = run_selftest(session)
    if not difference <= tolerance:
        raise ModelError(
            f"{where}: its self-test failed on {facts.backend}, max abs {difference:.2e} where {tolerance:.0e} is "
            "allowed; run `gloam check` on it, and export it again or choose another backend"
        )
    with contextlib.suppress(StoreError):  # it is run again by the next command
        write_json(user_cache() / "selftests" / name, {"model": session.card.name, "max_abs": difference})
