"""The verdicts of the benchmark: missed, met, or not judged because the processor lacks what is needed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.precision_cpu import EMBEDDERS, GENERATOR, Abilities, interleaved, judged

WHOLE = Abilities(None, None)


def detail(**changed: float) -> dict[str, Any]:
    """Numbers that meet every target, but for those that are changed."""
    value = {"fp32": 1.4, "bf16": 2.4, "int8": 4.4, "generator": 2.7, "cosine": 0.9995, "mAP": 0.555} | changed
    rows = {name: {"ratio": value[name], "worst_cosine": value["cosine"]} for name in ("int8",)}
    rows |= {name: {"ratio": value[name], "worst_cosine": 1.0} for name in ("fp32", "bf16")}
    return {
        **{name: dict(rows) for name in EMBEDDERS},
        GENERATOR: {"fp32": {"ratio": 1.3}, "bf16": {"ratio": value["generator"]}},
        "int8 retrieval": {"mAP": {"fp32": 0.56, "int8, onnxruntime": value["mAP"]}},
    }


@pytest.mark.parametrize(
    "changed",
    [{"fp32": 1.2}, {"bf16": 2.1}, {"int8": 3.9}, {"generator": 2.4}, {"cosine": 0.99}, {"mAP": 0.54}],
    ids=lambda changed: next(iter(changed)),
)
def test_each_number_is_judged(changed: dict[str, float]) -> None:
    good, bad = judged(detail(), EMBEDDERS, WHOLE), judged(detail(**changed), EMBEDDERS, WHOLE)
    assert (good.met, bad.met) == (True, False)
    assert good.value == 2.4


def test_the_worse_network_counts() -> None:
    numbers = detail()
    numbers[EMBEDDERS[1]]["bf16"] = {"ratio": 2.3, "worst_cosine": 1.0}
    assert judged(numbers, EMBEDDERS, WHOLE).value == 2.3


def test_without_bf16_nothing_is_claimed_and_fp32_is_judged() -> None:
    numbers = detail(fp32=1.1, int8=0.3)
    for name in (*EMBEDDERS, GENERATOR):
        del numbers[name]["bf16"]
    found = judged(numbers, EMBEDDERS, Abilities("no AVX512_BF16", "no VNNI"))
    assert (found.value, found.met) == (None, None)
    assert [found.detail[f"{name}_met"] for name in ("fp32", "bf16", "int8")] == [False, None, None]
    assert found.detail["int8_worst_ratio"] == 0.3


def test_without_vnni_alone_bf16_is_judged() -> None:
    found = judged(detail(int8=0.3), EMBEDDERS, Abilities(None, "no VNNI"))
    assert (found.met, found.detail["int8_met"]) == (True, None)


def test_the_first_round_counts_for_nothing() -> None:
    order: list[tuple[str, int]] = []
    calls = {name: lambda number, name=name: order.append((name, number)) for name in ("a", "b")}
    seconds = interleaved(calls, 2)
    assert order == [(name, number) for number in range(3) for name in ("a", "b")]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
