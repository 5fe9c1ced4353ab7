"""A request that cannot be met is refused when it is made, before torch or any file is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gloam.errors import UsageError
from gloam.export.weights import ExportRequest, export_weights

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
