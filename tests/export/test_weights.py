"""A request that cannot be met is refused when it is made, before torch or any file is touched."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gloam.errors import ModelError, UsageError
from gloam.export.weights import ExportRequest, export_weights
from gloam.model_card import NATIVE, InputRule
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.record import to_json
from gloam.runtime.backends.onnx_file import read_card

OUT, WEIGHTS, EXPORTED = Path("m.onnx"), Path("absent.safetensors"), Path("absent.onnx")
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "give either a weights file or --random-init"),
    ({"weights": WEIGHTS, "random_init": 0}, "give either a weights file or --random-init"),
    ({"weights": WEIGHTS, "bake_clahe": True, "photometric": "clahe"}, "not both"),
    ({"weights": WEIGHTS, "tolerance": 0.1}, "--tolerance goes with --precision"),
    ({"weights": WEIGHTS, "calibrate": Path("a")}, "--calibrate goes with --precision"),
    ({"weights": WEIGHTS, "accept_loss": True}, "--accept-loss goes with --precision"),
    ({"weights": WEIGHTS, "options": {"width": 8}}, "--option goes with --random-init"),
    ({"weights": EXPORTED, "precision": "fp16", "options": {"width": 8}}, "--option goes with --random-init"),
    ({"weights": EXPORTED}, "is exported already; give --precision"),
    ({"weights": EXPORTED, "precision": "fp16", "scales": (1.0, 0.5)}, "give --scales when its weights are exported"),
    ({"weights": WEIGHTS, "resize": 512, "photometric": "clahe"}, "take --bake-clahe"),
    ({"weights": WEIGHTS, "resize": 512, "local_features": True}, "not for --local-features"),
    ({"weights": WEIGHTS, "resize": 512, "profile": "fixed"}, "--resize goes with the dynamic profile"),
    ({"weights": WEIGHTS, "resize": 512, "max_side": 0}, "leave out --max-side and --stretch"),
    ({"weights": WEIGHTS, "max_side": 512, "stretch": (64, 64)}, "exclude each other"),
    ({"weights": WEIGHTS, "max_side": 16}, "image sides must be 32 pixels or more"),
    ({"weights": EXPORTED, "precision": "fp16", "max_side": 0}, "give --max-side when its weights are exported"),
    (
        {"weights": WEIGHTS, "profile": "fixed", "sides": (256, 512), "max_side": 1024},
        "larger than the fixed profile's largest shape 512x512; give --max-side 512, or larger --sides",
    ),
    ({"weights": EXPORTED, "precision": "fp16", "keypoints": 9}, "give --keypoints when its weights are exported"),
    ({"weights": EXPORTED, "precision": "fp16", "threshold": 0.0}, "give --threshold when its weights are exported"),
    ({"weights": WEIGHTS, "profile": "fixed", "sides": (256,), "stretch": (257, 64)}, "--stretch: images of exactly"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_go_together_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportRequest(OUT, **given)


def test_refusals_load_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from gloam.errors import UsageError\n"
        "from gloam.export.weights import ExportRequest\n"
        "try: ExportRequest(Path('m.onnx'))\n"
        "except UsageError: sys.exit(str({'torch', 'onnx', 'cv2', 'onnxruntime'} & set(sys.modules) or 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "0"), done.stderr


def test_the_record_says_what_the_file_is(tmp_path: Path) -> None:
    request = ExportRequest(tmp_path / "m.onnx", random_init=0, network="gem_resnet18", options={"width": 8})
    exported = export_weights(request)
    assert exported.output.is_file()
    assert exported.card.provenance["recipe"] == "random weights, seed 0"
    assert exported.to_dict()["fingerprint"] == exported.fingerprint
    assert exported.card.space() in exported.to_text()


RULES: list[tuple[dict[str, Any], InputRule]] = [
    ({}, InputRule(1024)),
    ({"stretch": (320, 256)}, InputRule.of(stretch=(320, 256))),
    ({"profile": "fixed", "sides": (256, 512)}, InputRule(512)),
]
MORE_RULES: list[tuple[dict[str, Any], InputRule]] = [
    ({"max_side": 512}, InputRule(512)),
    ({"max_side": 0}, NATIVE),
    ({"profile": "fixed", "sides": (1024, 2048)}, InputRule(1024)),
    ({"resize": 64}, NATIVE),
]


@pytest.mark.parametrize(
    ("given", "rule"), [*RULES, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE_RULES)], ids=str
)
def test_the_card_states_the_input_rule(tmp_path: Path, given: dict[str, Any], rule: InputRule) -> None:
    wanted: dict[str, Any] = {"random_init": 0, "network": "gem_vgg16", "options": {"stages": ((4, 1), (4, 1))}}
    exported = export_weights(ExportRequest(tmp_path / "m.onnx", **wanted, **given))
    stated = read_card(exported.output)
    assert (stated.input_rule, stated.reads) == (rule, rule)
    assert exported.to_dict()["input_rule"] == to_json(rule)
    assert str(rule) in exported.to_text()
    card = replace(stated, input_rule=None)
    assert (card.space() == stated.space()) == (rule == InputRule(1024) or "resize" in given)


def test_only_embedders_have_an_input_rule(tmp_path: Path) -> None:
    for given in ({"max_side": 0}, {"stretch": (64, 64)}):
        with pytest.raises(UsageError, match="is for embedders, but"):
            export_weights(
                ExportRequest(tmp_path / "m.onnx", random_init=0, network="hed", options={"width": 4}, **given)
            )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_diverged_are_named_before_anything_is_traced(tmp_path: Path, value: float) -> None:
    model = create_embedder("gem_resnet18", width=4)
    model.state_dict()["features.4.0.conv1.weight"].view(-1)[5] = value
    save_checkpoint(tmp_path / "m.safetensors", model, {})
    with pytest.raises(
        ModelError, match=r"m\.safetensors: features\.4\.0\.conv1\.weight holds values that are not fin"
    ):
        export_weights(ExportRequest(tmp_path / "m.onnx", tmp_path / "m.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
