"""Commands that a user may get wrong, in a folder with a little of everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.tiny_models import write_tiny_embedder

BAD = (
    "",
    "fly",
    "export",
    "export w.safetensors -o m.onnx",
    "export text.txt -o m.onnx",
    "export broken.safetensors -o m.onnx",
    "export --random-init 0 -o m.onnx",
    "export --random-init 0 --network gem_resnet19 -o m.onnx",
    "export --random-init 0 --network gem_resnet18 --option wide=3 -o m.onnx",
    "export w.safetensors --random-init 0 -o m.onnx",
    "export w.safetensors -o m.onnx --photometric clahe --bake-clahe",
    "export w.safetensors -o m.onnx --tolerance 0.1",
    "export w.safetensors -o m.onnx --option width=3",
    "export w.safetensors -o m.onnx --resize 512 --profile fixed",
    "export w.safetensors -o m.onnx --resize 512 --photometric clahe",
    "export tiny.onnx -o m.onnx",
    "export tiny.onnx -o m.onnx --precision fp16 --p 3",
    "export --random-init 0 --network resnet --p 3 -o m.onnx",
    "check missing.onnx",
    "check text.txt",
    "check tiny.onnx --against missing.safetensors",
    "extract images -o out --model missing.onnx",
    "extract images -o out --model text.txt",
    "extract missing -o out --model tiny.onnx",
    "extract empty -o out --model tiny.onnx",
    "extract images -o occupied --model tiny.onnx",
    "extract images -o out --model tiny.onnx --batch-size 0",
    "extract images -o out --model tiny.onnx --device tpu",
    "extract images -o out --model tiny.onnx --backend openvino --device cuda",
    "extract images -o out --model tiny.onnx --shard-index 1",
    "translate images -o out --model tiny.onnx",
    "translate images -o out --model gamma:dark",
    "translate images -o out --model nothing",
    "edges images -o out --model tiny.onnx",
    "index missing -o index",
    "index empty -o index",
    "search missing --store empty",
    "pairs --query missing --map missing -k 5 -o pairs.txt",
    "asmk build missing -o asmk --model tiny.onnx",
    "localize --mapping missing --query missing --pairs text.txt -o poses",
    "eval retrieval --query missing --map missing --ground-truth text.txt",
    "eval localization --results missing --ground-truth missing",
    "eval translation images missing --features tiny.onnx",
    "train",
    "train embedder --recipe toun -o run",
    "train embedder --recipe town --config text.txt -o run",
    "train metric",
    "train metric --recipe town_clehe -o run",
    "train metric --recipe town_night25 -o run",
    "train metric --set nigth.share=0.5 -o run",
    "train metric --set epochs -o run",
    "train metric --recipe dark_side_vgg16 -o run",
    "train translator --recipe fastcut -o run",
    "train translator --recipe fastcut --set data.root=missing -o run",
    "train translator --recipe town_hedngan -o run",
    "train translator --set train.stepz=3 -o run",
    "train edges --set learning_rate=fast -o run",
    "train whitening missing -o w.npz",
    "import text.txt --as resnet -o w.safetensors",
    "import missing.pth --as resnet -o w.safetensors",
    "dataset build empty -o set.json",
    "dataset check text.txt",
    "pull gl99",
    "reproduce thesis 9",
    "reproduce nobody 1",
    "reproduce dark-side 1 --weights row",
    "bench missing.onnx",
    "engine missing.onnx -o engine",
    "engine tiny.onnx -o engine --heights 100",
)


def prepare(folder: Path) -> None:
    """Two pictures, a tiny model, a text, a damaged file, an empty and an occupied folder."""
    (folder / "images").mkdir()
    for index in range(2):
        Image.fromarray(np.full((40, 50, 3), 40 * index + 20, np.uint8)).save(folder / f"images/{index}.png")
    (folder / "empty").mkdir()
    (folder / "occupied").mkdir()
    (folder / "occupied/letter.txt").write_text("mine\n")
    (folder / "text.txt").write_text("no model\n")
    (folder / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    write_tiny_embedder(folder / "tiny.onnx")
