"""Small things that stand in for what a reader of the documentation has: photographs, a town, weights, stores.

Each is made when it is first asked for, from the town and from random weights, and lies in one folder from then on.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.shared.documented import ROOT
from benchmarks.shared.tiny import tar_of
from gloam.data.town.config import TownConfig

QUERIES = 12
TOWN = TownConfig(look=2, length=30.0, queries=QUERIES)
SHARDS = 100
WINDOW = 128  # pixels of a side


class StandIns:
    """Stand-ins by name.

    Args:
        folder: where they lie; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.makers: dict[str, Callable[[Path], None]] = {
            "checkout": self._checkout,
            "town": self._town,
            "photos": self._photos,
            "places": self._places,
            "images": self._images,
            "sfm": self._sfm,
            "project": self._project,
            "queries_with_intrinsics.txt": self._queries,
            "pairs.txt": self._pairs,
            "feats.h5": self._feats,
            "embedder.onnx": self._embedder,
            "theirs": self._theirs,
            "theirs.onnx": self._theirs_onnx,
            "weights.safetensors": self._weights,
            "day2night.safetensors": self._translator,
            "day2night.onnx": self._translator_onnx,
            "generator.pth": self._generator,
            "shards": self._shards,
            "stores": self._stores,
        }

    def get(self, name: str) -> Path:
        """The path of a stand-in, or of something inside one (``stores/map``)."""
        whole = name.split("/")[0]
        path = self.folder / whole
        if not path.exists():
            begun = self.folder / f"begun-{whole}"
            shutil.rmtree(begun, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self.makers[whole](begun)
            begun.rename(path)
        return self.folder / name

    def _checkout(self, path: Path) -> None:
        made = ("build", "dist", "runs", "*.egg-info", "gloam-demo", "__pycache__", ".*_cache", ".hypothesis")
        left_out = shutil.ignore_patterns(*made, ".git", ".venv", "node_modules")
        shutil.copytree(ROOT, path, ignore=left_out)

    def _town(self, path: Path) -> None:
        from gloam.data.town import write_town

        write_town(path, TOWN, 1)

    def _photographs(self) -> dict[str, list[Path]]:
        """Of the queries of the town, by condition, in the order of the poses."""
        query = self.get("town") / "query"
        return {
            condition: [
                query / "sensors/records_data" / name
                for name in (query / "conditions" / f"{condition}.txt").read_text().splitlines()
            ]
            for condition in ("day", "night")
        }

    def _photos(self, path: Path) -> None:
        for condition, files in self._photographs().items():
            for row, file in enumerate(files):
                _copy(file, path / condition / f"{row:03d}.jpg")

    def _places(self, path: Path) -> None:
        """A window of a photograph is a place: enough of them that some can be held out."""
        for condition, files in self._photographs().items():
            for row, file in enumerate(files):
                photograph = Image.open(file)
                for left, top in itertools.product(range(0, TOWN.width, WINDOW), range(0, TOWN.height, WINDOW)):
                    folder = path / f"place{row:02d}-{left}-{top}"
                    folder.mkdir(parents=True, exist_ok=True)
                    photograph.crop((left, top, left + WINDOW, top + WINDOW)).save(folder / f"{condition}.jpg")

    def _images(self, path: Path) -> None:
        for part in ("mapping", "query"):
            shutil.copytree(self.get("town") / part / "sensors/records_data", path, dirs_exist_ok=True)

    def _sfm(self, path: Path) -> None:
        from gloam.data.kapture_io import read_scene
        from gloam.eval.localization.pose_files import write_colmap_text

        write_colmap_text(path, read_scene(self.get("town") / "mapping"))

    def _project(self, path: Path) -> None:
        shutil.copytree(self.get("sfm"), path / "sparse/0")
        shutil.copytree(self.get("images"), path / "images")

    def _queries(self, path: Path) -> None:
        from gloam.data.kapture_io import read_scene

        scene = read_scene(self.get("town") / "query")
        lines = []
        for name in scene.names:
            camera = scene.cameras[scene.records[name].camera_id]
            numbers = " ".join(map(str, camera.params))
            lines.append(f"{name} {camera.model} {camera.width} {camera.height} {numbers}\n")
        path.write_text("".join(lines), encoding="utf-8")

    def _pairs(self, path: Path) -> None:
        from gloam.data.pairs import write_pairs
        from gloam.runtime.descriptors.store import DescriptorStore
        from gloam.runtime.search.pairs import retrieve_pairs

        stores = [DescriptorStore.open(self.get(f"stores/{part}")) for part in ("query", "map")]
        write_pairs(path, retrieve_pairs(*stores, k=3), "hloc")

    def _feats(self, path: Path) -> None:
        from gloam.data.hloc_io import ImageFeatures, write_hloc_features
        from gloam.data.kapture_io import read_scene
        from gloam.runtime.localization.features.sources import SiftFeatures

        sift = SiftFeatures(max_keypoints=512)
        scenes = [read_scene(self.get("town") / part) for part in ("mapping", "query")]
        found = ((name, sift.features(scene, name)) for scene in scenes for name in scene.names)
        images = (
            (name, ImageFeatures(each.keypoints, each.descriptors, each.scores, (TOWN.width, TOWN.height)))
            for name, each in found
        )
        write_hloc_features(path, "", "", images)

    def _embedder(self, path: Path) -> None:
        from gloam.workflows.demo_embedder import SHIPPED

        shutil.copy(SHIPPED[TOWN.look]["trained"], path)

    def _theirs(self, path: Path) -> None:
        """A plain export, and what its program makes of two photographs."""
        import torch

        from benchmarks.adopt import FREE, RGB, photographs
        from benchmarks.shared.plain_exports import Plain, export, network, references

        path.mkdir()
        module = Plain(network("gem_resnet18"))
        export(module, path / "theirs.onnx", torch.zeros(2, 3, 131, 163), FREE, traced=True)
        references(module, RGB, photographs(), path)

    def _theirs_onnx(self, path: Path) -> None:
        shutil.copy(self.get("theirs/theirs.onnx"), path)

    def _weights(self, path: Path) -> None:
        import torch

        from gloam.networks.checkpoints import save_checkpoint
        from gloam.networks.embedders import create_embedder

        torch.manual_seed(0)
        save_checkpoint(path, create_embedder("gem_resnet18", width=8), {"recipe": "none", "licence": "none"})

    def _translator(self, path: Path) -> None:
        import torch

        from gloam.networks.checkpoints import save_checkpoint
        from gloam.networks.translators import create_generator

        torch.manual_seed(0)
        generator = create_generator("resnet", norm="instance", width=8, blocks=1)
        save_checkpoint(path, generator, {"recipe": "none", "licence": "none"})

    def _translator_onnx(self, path: Path) -> None:
        from gloam.export.translator import export_translator
        from gloam.networks.checkpoints import load_generator

        export_translator(load_generator(self.get("day2night.safetensors")).model, path, provenance={})

    def _generator(self, path: Path) -> None:
        import torch

        from gloam.networks.translators import create_generator

        torch.manual_seed(0)
        torch.save(create_generator("resnet", norm="instance", width=8, blocks=9).state_dict(), path)

    def _shards(self, path: Path) -> None:
        path.mkdir()
        files = sorted((self.get("photos") / "day").iterdir())
        for number in range(SHARDS):
            one = path / "one"
            _copy(files[number % len(files)], one / f"{number:03d}.jpg")
            tar_of(one, path / f"train-{number:03d}.tar")
            shutil.rmtree(one)

    def _stores(self, path: Path) -> None:
        from gloam.data.sources import find_images
        from gloam.runtime.bulk.extract import extract
        from gloam.runtime.models.embedder import Embedder

        embedder = Embedder.load(self.get("embedder.onnx"))
        sources = {"map": "town/mapping", "query": "town/query", "more": "photos"}
        for name, source in sources.items():
            extract(find_images(self.get(source)), embedder, path / name)


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, to)
