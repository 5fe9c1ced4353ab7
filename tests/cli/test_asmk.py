"""``gloam asmk``: index a folder by local features, search it, and say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli.main import main
from gloam.eval.retrieval.ground_truth import parse_ground_truth
from gloam.eval.retrieval.scores import evaluate, evaluate_scores
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("how")
    weights = folder / "how.safetensors"
    torch.manual_seed(0)
    save_checkpoint(weights, create_embedder("how_resnet18", width=8, dimension=32), {"recipe": "test"})
    path = folder / "how.onnx"
    assert main(["export", str(weights), "-o", str(path), "--local-features", "--scales", "1"]) == 0
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for place in range(3):
        coarse = random.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        base = np.asarray(Image.fromarray(coarse).resize((256, 192), Image.Resampling.BICUBIC))
        for view in range(2):
            noisy = np.clip(base + random.normal(0, 4, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"place{place}-{view}.png")
    return folder


@pytest.mark.slow  # the export
def test_an_indexed_folder_finds_itself(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    index, codebook = tmp_path / "index.npz", tmp_path / "words.npz"
    build = ["asmk", "build", str(photos), "--model", str(model), "--words", "16", "--codebook", str(codebook)]
    assert main([*build, "-o", str(index)]) == 0
    assert "no features: broken.jpg" in capsys.readouterr().out
    names = sorted(path.name for path in photos.glob("*.png"))
    truth = {
        "imlist": names,
        "qimlist": names,
        "gnd": [
            {"ok": [at for at, other in enumerate(names) if other[:6] == name[:6] and other != name],
             "junk": [names.index(name)]}
            for name in names
        ],
    }  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    ranking = tmp_path / "ranking.json"
    search = ["asmk", "search", str(index), str(photos), "--model", str(model), "--ground-truth"]
    assert main([*search, str(tmp_path / "truth.json"), "-o", str(ranking), "-k", "2", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]
    assert scores["mAP"] == 1
    assert scores["chance"]["mAP"] < 0.5
    found = json.loads(ranking.read_text())["ranking"]
    assert all({row[0][:6] for row in rows} == {name[:6]} for name, rows in found.items())  # its own place first
    assert {len(rows) for rows in found.values()} == {2}
    assert main([*build, "-o", str(tmp_path / "again.npz")]) == 0  # with the kept codebook
    assert (tmp_path / "again.npz").read_bytes() == index.read_bytes()
    kept = codebook.read_bytes()
    for words, reason in (
        (["-o", str(codebook)], "is the codebook; name another file for the index"),
        (["-o", str(photos / "place0-0.png")], "place0-0.png: an index is written as .npz"),
        (["-o", str(tmp_path / "more.npz"), "--words", "8"], "has 16 words, and --words 8 are asked for"),
    ):
        capsys.readouterr()
        assert main([*(build if "--words" not in words else [*build[:5], "--codebook", str(codebook)]), *words]) == 2
        assert reason in capsys.readouterr().err
    assert codebook.read_bytes() == kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["build", "PHOTOS", "--model", "MODEL", "-o", "OUT.npz"], "65536 words need at least as many local features"),
        (["search", "MODEL", "PHOTOS", "--model", "MODEL", "-o", "x.json"], "how.onnx"),
        (
            ["build", "PHOTOS", "--model", "MODEL", "-o", "OUT.npz", "--device", "cuda", "--backend", "openvino"],
            "ask for --device cpu",
        ),
        (["search", "MODEL", "PHOTOS", "--model", "MODEL"], "give -o FILE.json, --ground-truth FILE, or both"),
    ],
)
def test_refusals_are_one_line(
    words: list[str], reason: str, model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"PHOTOS": str(photos), "MODEL": str(model), "OUT.npz": str(tmp_path / "out.npz")}
    assert main(["asmk", *(places.get(word, word) for word in words)]) == 2
    said = capsys.readouterr().err.strip()
    assert reason in said
    assert len(said.splitlines()) == 1


def test_scores_given_and_scores_of_descriptors_agree() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(20, 8)).astype(np.float32)
    names = [f"i{row}" for row in range(20)]
    gnd = [{"ok": [int(ok) for ok in random.permutation(15)[:4]], "junk": [15 + query]} for query in range(5)]
    truth = parse_ground_truth({"imlist": names, "qimlist": names[15:], "gnd": gnd})
    similar = {name: rows[15 + at] @ rows.T for at, name in enumerate(names[15:])}
    assert evaluate_scores(similar, names, truth) == evaluate(names, rows, names, rows, truth)
