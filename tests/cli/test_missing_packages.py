"""Without an optional package every verb works or is one line that names the extra, before anything is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli import main as cli
from gloam.data.hloc_io import ImageFeatures, write_hloc_features
from gloam.data.sources import find_images
from gloam.data.town import TownConfig, write_town
from gloam.errors import missing_package
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.padding import PaddingProfile
from gloam.runtime.bulk.extract import extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import build_index
from tests.cli.test_main import leaves
from tests.foreign_files import Shape, write_foreign
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
    "train vocabulary w.safetensors images -o OUT.safetensors",
    "train calibration --index index --store store --matches feats.h5 --ground-truth g.json -o OUT.json",
    "import w.safetensors --as resnet -o OUT.safetensors",
    "export w.safetensors -o OUT.onnx",
    "export --random-init 0 --network gem_resnet18 --option width=4 -o OUT.onnx",
    "export tiny.onnx -o OUT.onnx --precision fp16",
    "export tiny.onnx -o OUT.onnx --resize 64",
    "adopt theirs.onnx -o OUT.onnx",
    "check tiny.onnx",
    "check tiny.onnx --backend openvino",
    "check tiny.onnx --against w.safetensors",
    "engine fixed.onnx -o OUT",
    "bench tiny.onnx --rounds 1 --threads 1 --backend onnxruntime",
    "translate images -o OUT --model gamma:0.3",
    "edges images -o OUT --model tiny.onnx",
    "extract images -o OUT --model tiny.onnx",
    "extract images -o OUT --model tiny.onnx --backend openvino",
    "extract images -o OUT --model tiny.onnx --on ray",
    "store verify store",
    "whiten store -o OUT --exponent 0 --dimension 1",
    "index store -o OUT",
    "index --add store -o index",
    "search index --store store",
    "index store --milvus OUT.db",
    "search --milvus http://127.0.0.1:1 --store store",
    "serve --model tiny.onnx --host 192.0.2.1",
    "pair town/query -o OUT.json",
    "pairs --query store --map store -k 1 -o OUT.txt",
    "asmk build images -o OUT.npz --model tiny.onnx",
    "asmk search OUT.npz images --model tiny.onnx",
    "features town/mapping -o OUT --model tiny.onnx",
    "match town/mapping town/query --pairs pairs.txt --features feats.h5 -o OUT.db",
    "match --pairs pairs.txt --features feats.h5 -o OUT.h5",
    "localize --mapping town/mapping --query town/query --pairs pairs.txt -o OUT",
    "localize --mapping rigged --query town/query --pairs pairs.txt -o OUT",
    "eval retrieval --query store --map store --ground-truth town/ground_truth.json",
    "eval localization --results town/query --ground-truth town/query",
    "eval submission pairs.txt --data town",
    "eval calibration OUT.json --index index --store store --matches feats.h5 --ground-truth g.json",
    "eval translation images images --features tiny.onnx",
    "eval translation images images --features w.safetensors",
    "eval translation images images --features inception",
    "eval domains pairs.csv --features tiny.onnx",
    "dataset build images -o OUT.json",
    "dataset check OUT.json",
    "data check auto town",
    "data look-alike robotcar-v1 -o OUT --no-images",
    "pull no-such-name",
    "reproduce thesis 5.1 -o OUT",
    "reproduce thesis figure5.1 -o OUT",
    "reproduce cyclegan-study 1 -o OUT",
    "reproduce dark-side 1 -o OUT",
    "reproduce weakly-paired 2 -o OUT",
    "reproduce weakly-paired figure7 -o OUT",
    "reproduce mduit figure3 -o OUT",
    "reproduce mduit figure4 -o OUT",
    "reproduce dark-side 5 --town -o OUT",
    "town OUT --length 30 --queries 1 --workers 1",
    "doctor",
)
EXTRA = {
    **dict.fromkeys(("torch", "onnx", "onnxscript", "safetensors", "yaml", "lightning_fabric"), "train"),
    **{"onnxruntime": "cpu", "faiss": "cpu", "kapture": "localization", "pycolmap": "localization"},
    **{name: name for name in ("openvino", "ray")},
    **dict.fromkeys(("fastapi", "uvicorn"), "serve"),
    "pymilvus": "milvus",
    "cv2": "opencv-python-headless",
}
# Seconds; the others load torch.
QUICK = ("torch", "faiss", "kapture", "pycolmap", "openvino", "ray", "fastapi", "pymilvus")
# In one process, so that what several verbs need is loaded once.
LOOP = """
import contextlib, io, json, sys, traceback
from pathlib import Path
gone, commands = sys.argv[1], json.loads(sys.argv[2])
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == gone:
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
    write_foreign(place / "theirs.onnx", Shape(scaled="bytes"))
    write_tiny_embedder(place / "fixed.onnx", PaddingProfile.fixed((256,), (256,), (1, 1)))
    town = write_town(
        place / "town", TownConfig(seed=5, length=30.0, width=64, height=48, queries=1, texels=8, spacing=12.0)
    )
    pairs = [f"{query} {image}\n" for query in town.query.names for image in town.mapping.names[:2]]
    shutil.copytree(place / "town/query", place / "rigged")
    (place / "rigged/sensors/rigs.txt").write_text("rig, cam0, 1, 0, 0, 0, 0, 0, 0\n")
    poses = place / "rigged/sensors/trajectories.txt"
    poses.write_text(poses.read_text().replace(", cam0,", ", rig,"))
    (place / "pairs.txt").write_text("".join(pairs))
    one = ImageFeatures(np.ones((4, 2), np.float32), np.eye(4, dtype=np.float32), np.ones(4, np.float32), (64, 48))
    names = [*town.query.names, *town.mapping.names]
    write_hloc_features(place / "feats.h5", "made", "", ((name, one) for name in names))
    torch.manual_seed(0)
    save_checkpoint(place / "w.safetensors", create_embedder("gem_resnet18", width=4), {"recipe": "test"})

    extract(find_images(place / "images"), Embedder.load(place / "tiny.onnx"), place / "store")
    build_index(DescriptorStore.open(place / "store"), place / "index")
    return place


def run_without(package: str, folder: Path, commands: list[str]) -> dict[str, list[Any]]:
    """By command: exit code, what was said on stderr, and what is new in the folder."""
    code = [sys.executable, "-c", LOOP, package, json.dumps(commands)]
    done = subprocess.run(code, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_list_has_every_verb() -> None:
    said = [tuple(command.split()) for command in COMMANDS]
    assert not [path for path in leaves(cli.build_parser()) if not any(words[: len(path)] == path for words in said)]


# By command, the packages without which it is refused; what is not named works, or is refused for another reason.
TRAINING = ("torch", "yaml", "safetensors", "cv2")
EXPORT = ("torch", "onnx", "onnxscript")
DEMO = ("onnxruntime", "faiss", "pycolmap", "cv2")
NEEDS = {
    "demo -o OUT --workers 1": DEMO,
    "demo -o OUT --train": (*DEMO, *EXPORT, *TRAINING),
    "train embedder -o OUT": TRAINING,
    "train metric -o OUT": TRAINING,
    "train metric -o OUT --set epochs=1": TRAINING,
    "train translator -o OUT": (*TRAINING, "lightning_fabric"),
    "train edges -o OUT": TRAINING,
    "train vocabulary w.safetensors images -o OUT.safetensors": ("torch", "safetensors", "faiss"),
    "import w.safetensors --as resnet -o OUT.safetensors": ("torch", "safetensors"),
    "export w.safetensors -o OUT.onnx": (*EXPORT, "safetensors"),
    "export --random-init 0 --network gem_resnet18 --option width=4 -o OUT.onnx": EXPORT,
    "export tiny.onnx -o OUT.onnx --precision fp16": ("onnx", "onnxruntime"),
    "adopt theirs.onnx -o OUT.onnx": ("onnx", "onnxruntime", "cv2"),
    "check tiny.onnx": ("onnxruntime",),
    "check tiny.onnx --backend openvino": ("openvino",),
    "check tiny.onnx --against w.safetensors": ("onnxruntime", "torch"),
    "extract images -o OUT --model tiny.onnx": ("onnxruntime", "cv2"),
    "extract images -o OUT --model tiny.onnx --backend openvino": ("openvino", "cv2"),
    "extract images -o OUT --model tiny.onnx --on ray": ("ray",),
    "serve --model tiny.onnx --host 192.0.2.1": ("fastapi", "uvicorn", "cv2"),
    "translate images -o OUT --model gamma:0.3": ("cv2",),
    "index store -o OUT": ("faiss",),
    "index --add store -o index": ("faiss",),
    "search index --store store": ("faiss",),
    "index store --milvus OUT.db": ("pymilvus",),
    "search --milvus http://127.0.0.1:1 --store store": ("pymilvus",),
    "eval translation images images --features w.safetensors": ("torch", "safetensors"),
    "train calibration --index index --store store --matches feats.h5 --ground-truth g.json -o OUT.json": ("faiss",),
    "features town/mapping -o OUT --model tiny.onnx": ("onnxruntime", "cv2"),
    "match town/mapping town/query --pairs pairs.txt --features feats.h5 -o OUT.db": ("pycolmap", "cv2"),
    "match --pairs pairs.txt --features feats.h5 -o OUT.h5": ("cv2",),
    "localize --mapping town/mapping --query town/query --pairs pairs.txt -o OUT": ("pycolmap",),
    "localize --mapping rigged --query town/query --pairs pairs.txt -o OUT": ("kapture",),
    "reproduce dark-side 5 --town -o OUT": ("torch", "onnx", "onnxscript", "safetensors", "yaml", "onnxruntime", "cv2"),
    "data look-alike robotcar-v1 -o OUT --no-images": ("cv2",),
    "town OUT --length 30 --queries 1 --workers 1": ("cv2",),
}
LONG = ("demo", "train", "reproduce dark-side 5", "extract images -o OUT --model tiny.onnx --on ray")


@pytest.mark.parametrize(
    "package", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in EXTRA]
)
def test_without_a_package_every_verb_works_or_is_refused_before_it_works(package: str, folder: Path) -> None:
    refused = [command for command in COMMANDS if package in NEEDS.get(command, ())]
    quick = [command for command in COMMANDS if not command.startswith(LONG) or "--list" in command]
    chosen = refused + [command for command in quick if command not in refused] * (package in ("torch", "cv2"))
    runs = [command.replace("OUT", f"{package}-{number}") for number, command in enumerate(chosen)]
    answers = run_without(package, folder, runs)
    for command, run in zip(chosen, runs, strict=True):
        code, said, made = answers[run]
        assert code in (0, 1, 2), f"{command}: {code}"
        if command in refused:
            assert code == 2, f"{command}: {said}"
        if code == 2:
            assert said.count("\n") == 1, f"{command}: {said}"
        if command in refused:
            assert not made, f"{command}: made {made} before it was refused"
            assert package in said, said
            assert EXTRA[package] in said.rpartition("pip install")[2], said


def test_an_import_that_is_no_package_of_gloam_s_stays_a_fault() -> None:
    assert missing_package(ImportError("cannot import name 'x' from 'gloam.files'", name="gloam.files")) is None
    assert missing_package(ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")) is None
    said = str(missing_package(ModuleNotFoundError("No module named 'faiss'", name="faiss.swigfaiss")))
    assert said.endswith("pip install 'gloam[cpu]'")


def test_a_recipe_is_read_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from gloam.training.embedders.config import read_metric_recipe\n"
        "print(read_metric_recipe('town_night25').night.share, read_metric_recipe('town', kind='embedder').epochs)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["0.25", "12"], done.stderr
