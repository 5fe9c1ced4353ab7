"""The whole files that fuzzing begins with, and what reads each of them in gloam."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gloam.errors import GloamError

Reader = Callable[[Path], None]
NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


@dataclass(frozen=True)
class Seed:
    """A folder of files, one of which is damaged.

    Attributes:
        target: the file that is damaged, relative to the folder.
        read: given the folder, reads it as gloam does; anything but a GloamError is a fault.
        files: content of every file by its relative path.
    """

    target: str
    read: Reader
    files: dict[str, bytes]


def seeds(folder: Path) -> dict[str, list[Seed]]:
    """Every kind's seeds; always the same files.

    Args:
        folder: an empty one, to make them in.
    """
    from gloam.runtime.descriptors.store import DescriptorStore

    folder.mkdir(parents=True, exist_ok=True)
    store, model = _store(folder)
    return {
        "images": _images(),
        "cards": _cards(model),
        "manifests": _manifests(folder, DescriptorStore.open(store)),
        "recipes": _recipes(),
        "ground_truths": _truths(),
        "kapture_texts": _kapture(folder),
        "tars": _tars(),
    }


def _each(*calls: Callable[[], Any]) -> None:
    """All of them, whatever the first refuses."""
    refused: list[GloamError] = []
    for call in calls:
        try:
            call()
        except GloamError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _loose(name: str, read: Callable[[Path], Any], content: bytes) -> Seed:
    """A file that is read alone."""

    def read_it(folder: Path) -> None:
        read(folder / name)

    return Seed(name, read_it, {name: content})


def _pixels(height: int = 48, width: int = 64) -> Any:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def _encoded(suffix: str, **options: Any) -> bytes:
    from PIL import Image

    image = Image.fromarray(_pixels())
    mode = options.pop("mode", "RGB")
    if mode == "I;16":
        image = Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64))
    buffer = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(buffer, suffix, **options)
    return buffer.getvalue()


def _images() -> list[Seed]:
    from PIL import ExifTags, Image, features

    from gloam.data.images import decode_image, header_size, stored_size

    def read(folder: Path) -> None:
        path = next(folder.iterdir())
        _each(
            lambda: decode_image(path),
            lambda: decode_image(path, max_side=40, fast=True, min_side=8),
            lambda: decode_image(path, stretch=(40, 32), upright=False),
            lambda: stored_size(path),
            lambda: header_size(path),
        )

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    made = {
        "jpg": _encoded("JPEG", exif=exif),
        "progressive.jpg": _encoded("JPEG", progressive=True),
        "grey.jpg": _encoded("JPEG", mode="L"),
        "mpo": _encoded("MPO", save_all=True, append_images=[Image.fromarray(_pixels())]),
        "png": _encoded("PNG", exif=exif),
        "palette.png": _encoded("PNG", mode="P"),
        "deep.png": _encoded("PNG", mode="I;16"),
        "webp": _encoded("WEBP"),
        "lossless.webp": _encoded("WEBP", lossless=True, mode="RGBA"),
        "tif": _encoded("TIFF", exif=exif),
        "lzw.tif": _encoded("TIFF", compression="tiff_lzw"),
        "deflate.tif": _encoded("TIFF", compression="tiff_adobe_deflate", mode="I;16"),
        "bmp": _encoded("BMP"),
        "gif": _encoded("GIF"),
        "ppm": _encoded("PPM"),
        "pgm": b"P2\n64 48\n255\n" + b" ".join(b"%d" % (value % 256) for value in range(48 * 64)),
        "jp2": _encoded("JPEG2000"),
    }
    if features.check("avif"):
        made["avif"] = _encoded("AVIF")
    return [Seed(f"image.{suffix}", read, {f"image.{suffix}": content}) for suffix, content in made.items()]


def _store(folder: Path) -> tuple[Path, bytes]:
    """A descriptor store of four images, and the model that made it."""
    from gloam.data.sources import find_images
    from gloam.runtime.bulk.extract import extract
    from gloam.runtime.models.embedder import Embedder
    from tests.tiny_models import write_tiny_embedder

    (folder / "in").mkdir(exist_ok=True)
    for row, name in enumerate(NAMES):
        (folder / "in" / name).write_bytes(_encoded("JPEG", quality=40 + row))
    write_tiny_embedder(folder / "model.onnx")
    extract(find_images(folder / "in"), Embedder.load(folder / "model.onnx"), folder / "store")
    return folder / "store", (folder / "model.onnx").read_bytes()


def _cards(model: bytes) -> list[Seed]:
    import onnx

    from gloam.model_card import METADATA_KEY
    from gloam.runtime.backends.selftest import run_selftest
    from gloam.runtime.models.embedder import Embedder

    def describe(path: Path) -> None:
        embedder = Embedder.load(path)
        _each(lambda: run_selftest(embedder.session), lambda: embedder([_pixels()]))

    def whole(folder: Path) -> None:
        describe(folder / "model.onnx")

    def card(folder: Path) -> None:
        proto = onnx.load_from_string(model)
        text = (folder / "card.json").read_bytes().decode("utf-8", "replace")
        next(entry for entry in proto.metadata_props if entry.key == METADATA_KEY).value = text
        (folder / "model.onnx").write_bytes(proto.SerializeToString())
        describe(folder / "model.onnx")

    text = next(entry.value for entry in onnx.load_from_string(model).metadata_props if entry.key == METADATA_KEY)
    spaced = json.dumps(json.loads(text), indent=1).encode()
    return [Seed("card.json", card, {"card.json": spaced})] * 3 + [Seed("model.onnx", whole, {"model.onnx": model})]


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _manifests(folder: Path, store: Any) -> list[Seed]:
    from gloam.data.published.pull import _read_lock
    from gloam.data.retrieval_sets.sets import read_retrieval_set
    from gloam.runtime.backends.tensorrt.engine_card import read_engine_card
    from gloam.runtime.backends.tuning import TuneProfile
    from gloam.runtime.bulk.picture_folder import PictureFolder, read_pictures
    from gloam.runtime.bulk.picture_sink import Failure
    from gloam.runtime.bulk.picture_tars import PictureTars
    from gloam.runtime.descriptors.shard_writer import ShardWriter
    from gloam.runtime.descriptors.store import DescriptorStore
    from gloam.runtime.descriptors.whitening import Whitening
    from gloam.runtime.search.asmk import AsmkIndex, Codebook
    from gloam.runtime.search.index import DescriptorIndex, build_index

    def read_store(place: Path) -> None:
        _each(
            lambda: list(DescriptorStore.open(place).blocks()),
            lambda: ShardWriter.reopen(place).finish(),
            lambda: list(DescriptorStore.open(place, allow_partial=True).blocks()),
        )

    def read_index(place: Path) -> None:
        DescriptorIndex.open(place).search(np.eye(6, dtype=np.float32)[:2], 3, space=store.space)

    def read_folder(place: Path) -> None:
        _each(lambda: read_pictures(place), lambda: PictureFolder(place, {"model": "x"}, ()))

    def read_tars(place: Path) -> None:
        PictureTars.begun(place, {"model": "x"}, 4, 2)

    build_index(store, folder / "index")
    PictureFolder(folder / "pictures", {"model": "x"}, ()).close_part(0, [Failure("a", "b")], [""])
    PictureTars.begun(folder / "tars", {"model": "x"}, 4, 2)
    Whitening(np.zeros(3), np.eye(3)).save(folder / "w.npz")
    features = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)
    book = Codebook.learn(features, 8, space="s")
    asmk = AsmkIndex(book)
    asmk.add("a.jpg", features[:20], "s")
    book.save(folder / "book.npz")
    asmk.save(folder / "asmk.npz")
    tuned = {
        "schema": 1, "model": "m", "fingerprint": "f", "onnx_sha256": "a", "cpu": "c", "cores": 2,
        "versions": {"a": "1"},
        "choice": {"backend": "onnxruntime", "cpu_precision": "f32", "threads": 2, "requests": 1},
        "images_per_second": 2.5, "default_images_per_second": 2.0, "allowed": [],
    }  # fmt: skip
    sets = {
        "format": "gloam retrieval set", "version": 1, "images_root": "images",
        "sets": {"train": {"images": list(NAMES), "clusters": [0, 0, 1, 1], "queries": [0, 2], "positives": [1, 3]}},
    }  # fmt: skip
    files = {name: json.dumps(value, indent=1).encode() for name, value in (("t.json", tuned), ("s.json", sets))}
    npz = {name: (folder / name).read_bytes() for name in ("w.npz", "book.npz", "asmk.npz")}
    stored, indexed = _tree(folder / "store"), _tree(folder / "index")
    return [
        *[Seed(name, read_store, stored) for name in stored],
        Seed("manifest.json", read_store, stored),
        Seed("index.json", read_index, indexed),
        Seed("index.json", read_index, indexed),
        Seed("names.txt", read_index, indexed),
        Seed("manifest.json", read_folder, _tree(folder / "pictures")),
        Seed("manifest.json", read_tars, _tree(folder / "tars")),
        _loose("w.npz", Whitening.load, npz["w.npz"]),
        _loose("book.npz", Codebook.load, npz["book.npz"]),
        _loose("asmk.npz", lambda path: AsmkIndex.load(path).search(features[:3]), npz["asmk.npz"]),
        _loose("t.json", TuneProfile.read, files["t.json"]),
        _loose("s.json", lambda path: read_retrieval_set("json", path=path), files["s.json"]),
        _loose("lock.json", _read_lock, b'{"a": {"sha256": "0"}}'),
        _loose(
            "model.json",
            lambda path: read_engine_card(path.with_suffix(".engine")),
            json.dumps({"schema": 1, "key_sha256": "0", "model": {"schema": 1}}).encode(),
        ),
    ]


def _recipes() -> list[Seed]:
    from gloam.record import fill_dataclass
    from gloam.training.edges.config import DetectorConfig
    from gloam.training.embedders.config import fill_metric_config
    from gloam.training.translators.config import fill_translator_config
    from gloam.training.typed_config import read_mapping

    def metric(folder: Path) -> None:
        fill_metric_config(read_mapping(folder / "recipe.yaml"), "recipe.yaml")

    def translator(folder: Path) -> None:
        fill_translator_config(read_mapping(folder / "recipe.yaml"), "recipe.yaml")

    def edges(folder: Path) -> None:
        fill_dataclass(DetectorConfig, read_mapping(folder / "recipe.yaml"), "recipe.yaml")

    import gloam.training.recipes as recipes

    place = Path(recipes.__path__[0])
    chosen = (("metric", metric), ("translators", translator), ("edges", edges))
    found = []
    for kind, read in chosen:
        for path in sorted((place / kind).glob("*.yaml"))[:6]:
            found.append(Seed("recipe.yaml", read, {"recipe.yaml": path.read_bytes()}))
    return found


def _truths() -> list[Seed]:
    from gloam.data.groups import read_groups
    from gloam.data.kapture_io import read_conditions, read_image_list
    from gloam.data.pairs import read_pairs
    from gloam.data.retrieval_sets.sets import read_retrieval_set
    from gloam.eval.retrieval.ground_truth import read_ground_truth_sets
    from gloam.eval.retrieval.places import read_place_table, read_vpr_bench
    from gloam.eval.retrieval.recall_distance import read_positions
    from gloam.eval.retrieval.tokyo import read_tokyo

    plain = {
        "imlist": list(NAMES),
        "qimlist": ["q1", "q2"],
        "gnd": [{"ok": [0, 1], "junk": [2], "bbx": [0, 0, 5.5, 7]}, {"ok": [3], "junk": []}],
        "conditions": {"night": ["q1"], "day": ["q2"]},
    }
    revisited = {**plain, "gnd": [{"easy": [0], "hard": [1], "junk": [2], "bbx": [0, 0, 5, 7]}] * 2}
    arrays = {**plain, "gnd": [{"ok": np.array([0, 1]), "junk": np.array([2])}, {"ok": np.array([3]), "junk": []}]}
    vpr = [[0, [0, 1]], [1, [2, -1]]]

    def truth(name: str, content: bytes) -> Seed:
        return _loose(name, read_ground_truth_sets, content)

    def sfm(path: Path) -> None:
        read_retrieval_set("sfm", path=path, images=path.parent)

    cids = [f"{row:02d}abcdef" for row in range(4)]
    sfm_sets = {"train": {"cids": cids, "cluster": [0, 0, 1, 1], "qidxs": [0, 2], "pidxs": [1, 3]}}
    text = json.dumps(plain, indent=1).encode()
    landmarks = b"id,url,landmark_id\n0a,u,1\n0b,u,1\n"
    return [
        truth("g.json", text),
        truth("g.json", json.dumps(revisited, indent=1).encode()),
        truth("g.json.gz", gzip.compress(text, mtime=0)),
        truth("g.pkl", pickle.dumps(arrays, 2)),
        truth("g.pkl", pickle.dumps(plain, 4)),
        truth("g.pkl", pickle.dumps(revisited, 0)),
        _loose("g.pkl", sfm, pickle.dumps(sfm_sets, 2)),
        _loose("v.json", lambda path: read_vpr_bench(path, ("q1", "q2"), NAMES), json.dumps(vpr).encode()),
        _loose("t.json", read_tokyo, text),
        _loose("p.csv", read_place_table, b"image,cluster\na.jpg,1\nb.jpg,1\nc.jpg,2\n"),
        _loose("x.csv", read_positions, b"image,x,y,z\na.jpg,1,2.5,3\nb.jpg,4,5,6e1\n"),
        _loose("g.csv", lambda path: read_groups(path, "camera"), b"image,camera\na.jpg,1\nb.jpg,front\n"),
        _loose("p.txt", read_pairs, b"a.jpg, b.jpg, 0.5\nq 1.jpg, b.jpg, 0.25\n# x\n"),
        _loose("l.txt", read_image_list, b'a.jpg\nb 1.jpg 800 600 1.5\n"#c.jpg"\n'),
        _loose("night.txt", lambda path: read_conditions(path.parent), b"a.jpg\nb.jpg\n"),
        _loose("c.csv", lambda path: read_retrieval_set("csv", path=path), b"image,cluster,condition\na,1,x\nb,1,y\n"),
        _loose("m.csv", lambda path: read_retrieval_set("gld_csv", path=path, images=path.parent), landmarks),
    ]


def _kapture(folder: Path) -> list[Seed]:
    from gloam.data.kapture_io import open_features, read_scene, write_global_features, write_scene
    from gloam.data.scene import Camera, Pose, Record, Scene
    from gloam.data.sources import find_images

    place = folder / "kapture"
    pose = Pose((1.0, 0.0, 0.0, 0.0), (0.5, -1.25, 3.0))
    write_scene(
        Scene(
            place,
            {"cam": Camera("OPENCV", 64, 48, (50.0, 50.0, 32.0, 24.0, 0.1, 0.0, 0.0, 0.0))},
            {name: Record("cam", row) for row, name in enumerate(NAMES)},
            dict.fromkeys(NAMES, pose),
        )
    )
    (place / "sensors" / "rigs.txt").write_text("# kapture format: 1.1\nrig, cam, 1, 0, 0, 0, 0, 0, 1\n")
    write_global_features(place, "gem", [(name, np.ones(4, np.float32)) for name in NAMES], 4)
    tree = _tree(place)

    def scene(root: Path) -> None:
        _each(
            lambda: read_scene(root),
            lambda: read_scene(root, need_poses=True, need_cameras=True),
            lambda: find_images(root),
        )

    def features(root: Path) -> None:
        found = open_features(root, "global_features")
        for name in found.names:
            found.array(name)

    texts = [name for name in tree if name.startswith("sensors/")]
    return [
        *[Seed(name, scene, {key: tree[key] for key in texts}) for name in texts],
        Seed("reconstruction/global_features/gem/global_features.txt", features, tree),
        Seed("reconstruction/global_features/gem/a.jpg.gfeat", features, tree),
    ]


def _tars() -> list[Seed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gloam.data.images import decode_image
    from gloam.data.sources import find_images

    def read(folder: Path) -> None:
        items = find_images(next(folder.iterdir()))
        for item in items[:64]:
            if item.problem is None:
                try:
                    decode_image(item.read())
                except GloamError:
                    continue

    content = _encoded("JPEG")

    def tar(form: int) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for name in ("day/" + "n" * 120 + ".jpg", *NAMES, "notes.json"):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    made = {"gnu.tar": tar(tarfile.GNU_FORMAT), "pax.tar": tar(tarfile.PAX_FORMAT)}
    cells = pa.array([{"bytes": content, "path": name} for name in NAMES])
    for name, table in {
        "plain.parquet": pa.table({"name": list(NAMES), "image": [content] * 4}),
        "cells.parquet": pa.table({"image": cells}),
    }.items():
        sink = io.BytesIO()
        pq.write_table(table, sink)
        made[name] = sink.getvalue()
    return [Seed(name, read, {name: value}) for name, value in made.items()]
