"""The self-tests that travel inside a model: does it compute here what it computed where it was exported?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import GloamError, ModelError, StoreError
from gloam.files import sha256_json, user_cache, write_json
from gloam.model_card import FeatureRule, ModelCard, SelfTest, selftest_digest, selftest_images
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.processor import find_processor
from gloam.runtime.backends.session import Session

FEATURES = 67  # different ones in a matcher's self-test; a prime, so that the second image's order has them all
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


def selftest_inputs(card: ModelCard, test: SelfTest) -> dict[str, npt.NDArray[Any]]:
    """What a self-test feeds, by the names of the graph's inputs."""
    if card.takes is not None:
        return selftest_features(card.takes, test.shape, test.sizes)
    images = selftest_images(test.shape, test.sizes)[..., : int(card.inputs[0].shape[3])]
    return {"images": images} | ({"sizes": np.asarray(test.sizes, np.int32)} if len(card.inputs) > 1 else {})


def selftest_features(
    takes: FeatureRule, shape: tuple[int, int, int], sizes: Sequence[tuple[int, int]]
) -> dict[str, npt.NDArray[Any]]:
    """The features of a matcher's self-test by closed formula, the same in any language.

    Feature g of :data:`FEATURES` lies in the first image at ``x = (g*g*3 + g*7 + 31*b) % 440 + 20`` and
    ``y = (g*g*5 + g*11 + 17*b) % 420 + 20``, in the second 3 px further right and 2 px further up. Value j of its
    descriptor is ``(g*g*3 + j*j*5 + g*j*7 + g*g*j*j + 37*b) // 3 % 97 - 48``, in the second image a tenth of the one
    of feature ``g + 1`` added; both to unit length. Its scale is ``2 + g % 7``, its orientation ``g % 11 - 5`` tenths
    of pi. Keypoint i of the first image is feature i, of the second feature ``(7*i + 2) % FEATURES``. The padding holds
    9999 throughout, so that a model that reads it fails the test.

    Args:
        takes: what the matcher is for.
        shape: pairs, and padded numbers of keypoints of the first and the second image.
        sizes: numbers of keypoints of each pair, at most :data:`FEATURES`.

    Returns:
        arrays by the names and dtypes of ``matcher_inputs``.
    """
    pairs = shape[0]
    b, g, j = np.ogrid[:pairs, :FEATURES, : takes.dimension]
    places = np.stack(
        np.broadcast_arrays((g * g * 3 + g * 7 + 31 * b) % 440 + 20, (g * g * 5 + g * 11 + 17 * b) % 420 + 20), -1
    ).reshape(pairs, FEATURES, 2)
    values = ((g * g * 3 + j * j * 5 + g * j * 7 + g * g * j * j + 37 * b) // 3 % 97 - 48).astype(np.float64)
    number = np.arange(FEATURES)
    inputs: dict[str, npt.NDArray[Any]] = {}
    for at in (0, 1):
        order = number if at == 0 else (7 * number + 2) % FEATURES
        seen = values if at == 0 else values + 0.1 * np.roll(values, -1, 1)
        rows = {
            "keypoints": places + ((0, 0), (3, -2))[at] + takes.origin,
            "descriptors": seen / np.linalg.norm(seen, axis=2, keepdims=True),
        }
        if takes.oriented:
            rows["scales"] = np.broadcast_to(2 + number % 7, (pairs, FEATURES))
            rows["orientations"] = np.broadcast_to((number % 11 - 5) * np.pi / 10, (pairs, FEATURES))
        for name, each in rows.items():
            padded = np.full((pairs, shape[1 + at], *each.shape[2:]), 9999, np.float32)
            for pair, counts in enumerate(sizes):
                padded[pair, : counts[at]] = each[pair, order[: counts[at]]]
            inputs[f"{name}{at}"] = padded
        inputs[f"sizes{at}"] = np.broadcast_to(np.array(((480, 640), (500, 490))[at], np.int32), (pairs, 2)).copy()
    return inputs | {"counts": np.asarray(sizes, np.int32)}


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
        raise ModelError(f"{card.name}: the self-test gave {found.size} values, {expected.size} are stored")
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
