"""The fastest agreeing way is found, by sessions and a clock that are only pretended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.errors import DeviceError, ModelError, UsageError
from gloam.runtime.backends.open import open_choice
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.processor import Processor
from gloam.runtime.backends.tuning import Choice
from gloam.runtime.bench import compare as bench
from gloam.runtime.bench.compare import Row, best, candidates, compare_choices, generated_images, interleave, tune
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_translator

ORT, HALF = Choice("onnxruntime", 2, 1), Choice("onnxruntime", 1, 1)
FAST, OFF, REDUCED = Choice("openvino", 2, 1), Choice("openvino", 1, 1), Choice("openvino", 2, 1, "bf16")
SECONDS = {ORT: 2.0, HALF: 3.0, FAST: 1.0, OFF: 0.5, REDUCED: 0.25}
NOISE = {ORT: 0.0, HALF: 0.0, FAST: 0.3, OFF: 1e-4, REDUCED: 1e-4}  # only of a descriptor's length, for FAST


class Clock:
    """Moves only when a pretended session runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pretended:
    """The real session's answers, a little off, in a time of its own."""

    def __init__(self, path: Any, choice: Choice, clock: Clock) -> None:
        inner = open_choice(path, HALF)
        self.card, self.fingerprint = inner.card, inner.fingerprint
        self.backend = replace(inner.backend, threads=choice.threads, requests=choice.requests)
        self._inner, self._choice, self._clock = inner, choice, clock

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self._clock.now += SECONDS[self._choice]
        found = self._inner.run(inputs)
        off = NOISE[self._choice]
        if self._choice == FAST:
            return {name: value * np.float32(1 + off) for name, value in found.items()}
        wave = np.cos(np.arange(6, dtype=np.float32))
        return {name: value + np.float32(off * 100) * wave for name, value in found.items()}


def pretended(clock: Clock) -> Any:
    return lambda path, choice: Pretended(path, choice, clock)


def test_every_round_begins_with_another() -> None:
    clock, order = Clock(), []

    def work(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            clock.now += seconds

        return run

    found = interleave([work("a", 1), work("b", 2), work("c", 4)], 4, clock)
    assert "".join(order) == "abcbcacababc"
    assert found == [[1.0] * 4, [2.0] * 4, [4.0] * 4]


@pytest.mark.parametrize(("cores", "threads"), [(1, None), (2, None), (16, None), (16, 3)])
def test_candidates_are_possible_and_the_default_is_the_first(cores: int, threads: int | None) -> None:
    found = candidates(cores, ["onnxruntime", "openvino"], True, threads)
    assert found[0] == Choice("onnxruntime", cores, 1)
    assert len(set(found)) == len(found)
    assert all(1 <= choice.requests <= choice.threads <= cores for choice in found)
    assert {choice.threads for choice in found[1:]} <= {threads or cores, threads or max(1, cores // 2)}
    assert {choice.backend for choice in found if choice.cpu_precision == "bf16"} == {"openvino"}
    assert {choice.backend for choice in candidates(cores, [], False)} == {"onnxruntime"}
    if cores > 1:
        assert any(choice.requests == 2 and choice.threads == (threads or cores) for choice in found)


def test_rates_and_losses_are_of_the_sessions(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "m.onnx")
    clock = Clock()
    images = generated_images()
    choices = [ORT, HALF, FAST, OFF, REDUCED]
    found = compare_choices(tmp_path / "m.onnx", images, choices, 3, open_session=pretended(clock), clock=clock)
    assert [row.rate for row in found.rows] == pytest.approx([1 / SECONDS[choice] for choice in choices])
    assert all(len(row.rates) == 3 for row in found.rows)
    assert found.rows[2].loss < 1e-6  # the cosine does not see a length
    assert [row.agrees for row in found.rows] == [True, True, True, False, False]
    assert found.unit == "1 - cosine"
    assert best(found.rows).choice == FAST  # not OFF, which is quicker and wrong
    profile = tune(tmp_path / "m.onnx", found, (), Processor("a CPU", 7))
    assert (profile.choice, profile.cpu, profile.cores) == (FAST, "a CPU", 7)
    assert profile.images_per_second / profile.default_images_per_second == pytest.approx(2)
    assert profile.fingerprint == found.fingerprint == open_choice(tmp_path / "m.onnx", HALF).fingerprint


def test_reduced_precision_must_be_allowed() -> None:
    rows = [Row(ORT, [1.0], 0.0, True), Row(REDUCED, [3.0], 1e-5, True), Row(FAST, [1.2], 0.0, True)]
    assert best(rows).choice == FAST
    assert best(rows, ["bf16"]).choice == REDUCED
    assert best([rows[0], Row(REDUCED, [3.0], 1e-1, False)], ["bf16"]).choice == ORT


def test_what_is_faster_by_noise_alone_is_not_chosen() -> None:
    rows = [Row(ORT, [1.0], 0.0, True), Row(FAST, [1.02], 0.0, True), Row(HALF, problem="no")]
    assert best(rows).choice == ORT
    assert best(rows[:1]).choice == ORT


def test_a_choice_that_cannot_run_is_a_row_and_the_default_must(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "m.onnx")
    clock = Clock()

    def opened(path: Any, choice: Choice) -> Any:
        if choice.backend == "openvino":
            raise DeviceError("no such lamp")
        return Pretended(path, choice, clock)

    images = generated_images()[:1]
    found = compare_choices(tmp_path / "m.onnx", images, [ORT, FAST, HALF], 1, open_session=opened, clock=clock)
    assert [row.problem for row in found.rows] == [None, "no such lamp", None]
    assert [len(row.rates) for row in found.rows] == [1, 0, 1]
    with pytest.raises(DeviceError, match="lamp"):
        compare_choices(tmp_path / "m.onnx", images, [FAST, ORT], 1, open_session=opened, clock=clock)
    with pytest.raises(UsageError, match="an image and a round"):
        compare_choices(tmp_path / "m.onnx", [], [ORT], 1)
    write_tiny_embedder(tmp_path / "local.onnx", kind="local_features")
    with pytest.raises(UsageError, match="'local_features' cannot be measured"):
        compare_choices(tmp_path / "local.onnx", images, [HALF], 1)


def test_threads_that_the_backend_does_not_give_are_left_out(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "m.onnx")
    clock = Clock()

    def opened(path: Any, choice: Choice) -> Any:
        session = Pretended(path, choice, clock)
        given = min(choice.threads, 1) if choice == FAST else choice.threads
        session.backend = replace(session.backend, threads=given)
        return session

    found = compare_choices(
        tmp_path / "m.onnx", generated_images()[:1], [ORT, FAST], 1, open_session=opened, clock=clock
    )
    assert [row.choice for row in found.rows] == [ORT]
    assert "left out" in found.notes[0]


def test_image_models_are_compared_pixel_by_pixel(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx")
    found = compare_choices(tmp_path / "m.onnx", generated_images()[:2], [HALF, OFF], 1)
    assert found.unit == "absolute difference"
    assert found.rows[1].agrees
    assert found.rows[1].loss < 1e-5


def test_bf16_by_name_is_refused_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "capabilities", lambda: ["FP32"])
    with pytest.raises(ModelError, match="bf16 cannot be measured here"):
        bench.here(Placement(cpu_precision="bf16"))
    choices, notes = bench.here()
    assert {choice.cpu_precision for choice in choices} == {"f32"}
    assert "bf16 is not measured: this processor does not compute in it" in notes
    monkeypatch.setattr(bench, "capabilities", lambda: ["FP32", "BF16"])
    assert any(choice.cpu_precision == "bf16" for choice in bench.here()[0])
    assert all(choice.cpu_precision == "f32" for choice in bench.here(Placement(cpu_precision="f32"))[0])
    assert all(choice.backend == "onnxruntime" for choice in bench.here(Placement(backend="onnxruntime"))[0])


def test_made_images_fit_the_model() -> None:
    assert {image.shape for image in generated_images()} == {(384, 512, 3), (512, 384, 3), (341, 512, 3), (480, 360, 3)}
    assert all(image.shape[0] <= 256 and image.shape[1] <= 300 for image in generated_images((256, 300)))
    assert all(image.std() > 20 for image in generated_images())
