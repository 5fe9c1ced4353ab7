"""The self-tests that travel inside a model: does it compute here what it computed where it was exported?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gloam.errors import GloamError, ModelError, StoreError
from gloam.files import sha256_json, user_cache, write_json
from gloam.model_card import ModelCard, SelfTest
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.processor import find_processor
from gloam.runtime.backends.selftest_formulas import selftest_digest, selftest_inputs
from gloam.runtime.backends.session import Session

WEIGHTS = (".safetensors", ".pth", ".pt")


def run_selftest(session: Session) -> tuple[float, float]:
    """Run the stored self-tests, one of a size and batch and, where the card holds it, one of others.

    Returns:
        the largest absolute difference found, and the tolerance of the model's precision.

    Raises:
        ModelError: the card holds no self-test, the model does not run on one, or its output has another shape.
    """
    found = selftest_differences(session)
    if not found:
        raise ModelError(f"{session.card.name}: the model card holds no self-test; export the model again")
    return max(found), float(session.card.selftests[0].tolerance.get(session.card.precision, 0.0))


def selftest_differences(session: Session) -> tuple[float, ...]:
    """Largest absolute difference of each self-test that the card holds, infinite where a value is not finite.

    Raises:
        ModelError: the model does not run on one, or its output has another shape.
    """
    return tuple(_difference(session, test) for test in session.card.selftests)


def _difference(session: Session, test: SelfTest) -> float:
    card = session.card
    if card.kind == "local_features" and len(card.outputs) < 2:
        raise ModelError(f"{card.name}: the card of local features states no attention; export the model again")
    inputs = selftest_inputs(card, test)
    try:
        outputs = session.run(inputs)
    except Exception as error:  # the backends' exceptions share no base class
        if isinstance(error, GloamError) and not isinstance(error, ModelError):
            raise  # of the device, not of the model
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{card.name}: does not run on {test.described(card.kind)} ({reason[:200]}); export the model again"
        ) from error
    found = selftest_digest(card.kind, [outputs[output.name] for output in card.outputs], card.keypoints)
    found = found.astype(np.float64)
    expected = np.asarray(test.output)
    if found.size != expected.size:
        raise ModelError(
            f"{card.name}: on {test.described(card.kind)} the self-test gave {found.size} values, {expected.size} are "
            "stored; export the model again"
        )
    difference = np.abs(found.reshape(-1) - expected)
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


def open_tested(path: str | Path, placement: Placement | None, expect: Callable[[ModelCard, str], None]) -> Session:
    """Load a model, as all do that run one: its self-test must pass here, see :func:`expect_selftest`.

    Args:
        path: ``.onnx`` file, engine folder, or ``.engine`` file.
        placement: where and how it runs; on the CPU by default.
        expect: refuses a card of a kind that the caller does not run; gets the card and the file.

    Raises:
        ModelError: unreadable, a checkpoint that was never exported, of another kind, or its self-test failed.
        DeviceError: the device is not active.
        UsageError: an unknown device, backend or precision.
    """
    file = Path(path)
    if file.suffix in WEIGHTS:
        raise ModelError(
            f"{file}: weights, where an exported model is needed; run `gloam export {file} -o {file.stem}.onnx`"
        )
    session = open_session(path, placement)
    expect(session.card, str(path))
    expect_selftest(session, str(path))
    return session


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
    identity = [session.fingerprint, [test.output for test in session.card.selftests], runs_on, find_processor().model]
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
