"""What a session runs on, for people and for JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from gloam.runtime.backends.facts import BackendFacts

PLAIN = BackendFacts("onnxruntime", ("CPUExecutionProvider",), "fp32", device="cpu", threads=2, why="asked for")


def test_json_holds_what_is_known_and_gives_the_same_facts_back() -> None:
    assert PLAIN.to_dict() == {
        "backend": "onnxruntime",
        "providers": ["CPUExecutionProvider"],
        "precision": "fp32",
        "device": "cpu",
        "threads": 2,
        "why": "asked for",
    }
    cut = replace(PLAIN, reduced={"512x256": 2}, tf32=False, gpu={"name": "a"}, convolutions={"u8": 20})
    assert cut.to_dict()["tf32"] is False  # known, and not the same as not known
    assert BackendFacts.from_dict(json.loads(json.dumps(cut.to_dict()))) == cut


def test_the_line_for_people() -> None:
    assert str(PLAIN) == "backend onnxruntime on CPUExecutionProvider, 2 threads, fp32"
    many = replace(PLAIN, requests=2, why="a profile")
    assert str(many) == "backend onnxruntime on CPUExecutionProvider, 2 threads, 2 runs at once, fp32\na profile"
    assert (PLAIN.runs_at_once, many.runs_at_once) == (1, 2)
