"""Without an optional package every verb works or is one line that names the extra, before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli import main as cli
from gloam.data.town import TownConfig, write_town
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder
from tests.cli.test_main import leaves
from tests.tiny_models import write_tiny_embedder

# Every verb and sub-verb; OUT is a path that a refusal must leave absent.
COMMANDS = (
    "demo -o OUT --workers 1",
    "demo -o OUT --train",
    "train embedder --list",
    "train embedder -o OUT",
    "train metric --list",
    "train metric -o OUT",
    "train metric -o OUT --set epochs=1",
    "train translator --list",
    "train translator -o OUT",
    "train edges --list",
    "train edges -o OUT",
    "train whitening store -o OUT.npz --kind pca",
    "train whitening store -o OUT.safetensors --kind pca",
    "import w.safetensors --as resnet -o OUT.safetensors",
    "export w.safetensors -o OUT.onnx",
    "export --random-init 0 --network gem_resnet18 --option width=4 -o OUT.onnx",
    "export tiny.onnx -o OUT.onnx --precision fp16",
    "export tiny.onnx -o OUT.onnx --resize 64",
    "check tiny.onnx",
    "check tiny.onnx --backend openvino",
    "check tiny.onnx --against w.safetensors",
    "engine tiny.onnx -o OUT",
    "bench tiny.onnx --repeats 1",
    "translate images -o OUT --model gamma:0.3",
    "edges images -o OUT --model tiny.onnx",
    "extract images -o OUT --model tiny.onnx",
    "extract images -o OUT --model tiny.onnx --backend openvino",
    "extract images -o OUT --model tiny.onnx --on ray",
    "index store -o OUT",
    "index --add store -o index",
    "search index --store store",
    "pairs --query store --map store -k 1 -o OUT.txt",
    "asmk build images -o OUT.npz --model tiny.onnx",
    "asmk search OUT.npz images --model tiny.onnx",
    "localize --mapping town/mapping --query town/query --stores store store -o OUT",
    "eval retrieval --query store --map store --ground-truth town/ground_truth.json",
    "eval localization --results town/query --ground-truth town/query",
    "eval translation images images --features tiny.onnx",
    "eval translation images images --features inception",
    "dataset build images -o OUT.json",
    "dataset check OUT.json",
    "pull no-such-name",
    "reproduce thesis 5.1 -o OUT",
    "reproduce dark-side 1 -o OUT",
    "reproduce dark-side 5 --town -o OUT",
    "town OUT --length 30 --queries 1 --workers 1",
    "doctor",
)
EXTRA = {
    **dict.fromkeys(("torch", "onnx", "onnxscript", "safetensors", "yaml", "lightning_fabric"), "train"),
    **{"onnxruntime": "cpu", "faiss": "cpu", "kapture": "localization", "pycolmap": "localization"},
    **{name: name for name in ("openvino", "ray", "tensorrt")},
    "cv2": "opencv-python-headless",
}
# In one process, so that what one verb needs is loaded once; stops each work at the first of it that is not refusing.
LOOP = """
import contextlib, io, json, sys, traceback
from pathlib import Path
gone, commands = sys.argv[1].split(","), json.loads(sys.argv[2])
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in gone:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
from gloam.cli.main import main
found = {}
for command in commands:
    said, errors = io.StringIO(), io.StringIO()
    before = {*Path().iterdir()}
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        try:
            code = main(command.split())
        except SystemExit as end:
            code = end.code
        except BaseException:
            code = "traceback: " + traceback.format_exc()
    found[command] = [code, errors.getvalue(), sorted(str(path) for path in set(Path().iterdir()) - before)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("missing")
    (place / "images").mkdir()
    for index in range(2):
        picture = np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(picture).save(place / f"images/{index}.png")
    write_tiny_embedder(place / "tiny.onnx")
    write_town(place / "town", TownConfig(seed=5, length=30.0, width=64, height=48, queries=1, texels=8, spacing=12.0))
    torch.manual_seed(0)
    save_checkpoint(place / "w.safetensors", create_embedder("gem_resnet18", width=4), {"recipe": "test"})
    from gloam.data.sources import find_images
    from gloam.runtime.bulk.extract import extract
    from gloam.runtime.descriptors.store import DescriptorStore
    from gloam.runtime.models.embedder import Embedder
    from gloam.runtime.search.index import build_index

    extract(find_images(place / "images"), Embedder.load(place / "tiny.onnx"), place / "store")
    build_index(DescriptorStore.open(place / "store"), place / "index")
    return place


def run_without(packages: tuple[str, ...], folder: Path, commands: tuple[str, ...]) -> dict[str, list]:
    code = [sys.executable, "-u", "-c", LOOP, ",".join(packages), json.dumps(commands)]
    done = subprocess.run(code, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, list] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_list_has_every_verb() -> None:
    said = [tuple(command.split()) for command in COMMANDS]
    assert not [path for path in leaves(cli.build_parser()) if not any(words[: len(path)] == path for words in said)]
