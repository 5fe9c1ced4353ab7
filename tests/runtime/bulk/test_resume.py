"""What a run goes on with: each image's content decides, a store that needs nothing is not touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gloam.cli.main import main
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, IncompatibleError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, Part, extract
from gloam.runtime.bulk.pictures import PictureSummary, run_images
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.formulas import LabInversion
from gloam.runtime.output_folder import names_sha256
from tests.runtime.bulk.test_extract import content, write_images
from tests.runtime.bulk.test_tasks import pack
from tests.tiny_models import write_tiny_embedder

OPTIONS = ExtractOptions(shard_size=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_tiny_embedder(path)
    return path


@pytest.fixture(scope="module")
def embedder(model: Path) -> Embedder:
    return Embedder.load(model, Placement(threads=1))


def picture(path: Path, seed: int, side: int = 40) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="png")


def made(store: Path) -> dict[str, bytes]:
    """The files of a store, but for the notes of where its images were found."""
    return {name: data for name, data in content(store).items() if not name.startswith("sources/")}


def fresh(folder: Path, embedder: Embedder, items: object) -> dict[str, bytes]:
    extract(items, embedder, folder / "fresh", OPTIONS)  # type: ignore[arg-type]  # as given
    found = made(folder / "fresh")
    shutil.rmtree(folder / "fresh")
    return found


def times(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def age(folder: Path) -> None:
    """As images are that were not written in the same moment as their descriptors."""
    for path in folder.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    read = ImageItem.read

    def noted(self: ImageItem) -> bytes:
        found.append(self.name)
        return read(self)

    monkeypatch.setattr(ImageItem, "read", noted)
    return found


def test_another_folder_of_the_same_names_gives_its_own_descriptors(tmp_path: Path, embedder: Embedder) -> None:
    for seed, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        for number in range(8):
            picture(tmp_path / folder / f"{number}.png", 100 * seed + number)
    for folder in ("a", "b"):
        age(tmp_path / folder)
    extract(tmp_path / "a", embedder, tmp_path / "out", OPTIONS)
    summary = extract(tmp_path / "b", embedder, tmp_path / "out", OPTIONS)
    assert (summary.changed, summary.reused, summary.described) == (8, 0, 8)
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, tmp_path / "b")


def test_changed_images_are_made_again_and_failed_ones_tried(
    tmp_path: Path, model: Path, embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in", 12)
    (tmp_path / "in" / "0001.png").write_bytes(b"no image")
    (tmp_path / "in" / "0010.png").write_bytes(b"no image, nor ever")
    words = ["extract", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(model), "--shard-size", "3"]
    assert main(words) == 0
    picture(tmp_path / "in" / "0001.png", 1)
    picture(tmp_path / "in" / "0004.png", 2)
    (tmp_path / "in" / "0005.png").write_bytes(b"broken since")
    before = times(tmp_path / "out" / "shards")
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [report[key] for key in ("described", "failed", "reused", "changed", "retried")] == [10, 2, 6, 2, 2]
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, tmp_path / "in")
    after = times(tmp_path / "out" / "shards")
    assert {Path(name).stem for name in after if before[name] != after[name]} == {"part-000000", "part-000001"}
    picture(tmp_path / "in" / "0007.png", 3)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "images of an earlier run: 1 changed since and made again; 2 failed before and tried again" in said


def test_a_complete_store_that_needs_nothing_is_not_touched(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "in", 8)
    (tmp_path / "in" / "0003.png").write_bytes(b"no image")
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    before = times(tmp_path / "out")

    def refuse(*given: object, **named: object) -> object:
        raise AssertionError(f"written: {given}")

    with monkeypatch.context() as patch:
        for module, name in ((tempfile, "mkstemp"), (os, "replace"), (os, "unlink"), (os, "mkdir")):
            patch.setattr(module, name, refuse)
        for options in ({}, {"verify_sources": True}, {"grow": True}, {"part": Part(1, 2)}):
            summary = extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS, **options)  # type: ignore[arg-type]
            assert summary.complete
    assert times(tmp_path / "out") == before


def test_images_are_read_again_where_their_stamp_is_another(
    tmp_path: Path, embedder: Embedder, reads: list[str]
) -> None:
    write_images(tmp_path / "in", 7)
    age(tmp_path / "in")
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    reads.clear()
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    assert reads == []
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS, verify_sources=True)
    assert len(reads) == 7
    reads.clear()
    path = tmp_path / "in" / "0002.png"
    os.utime(path, (1_500_000_000, 1_500_000_000))  # touched, nothing else
    assert extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS).reused == 7
    assert reads == ["0002.png"]
    data = bytearray(path.read_bytes())
    data[-20] ^= 1  # the size stays, and the time is put back
    path.write_bytes(data)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS).changed == 1
    shutil.rmtree(tmp_path / "out" / "sources")  # as of a store of before
    reads.clear()
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    assert len(reads) >= 7


def test_a_stamp_of_the_moment_of_reading_is_not_trusted(tmp_path: Path, embedder: Embedder, reads: list[str]) -> None:
    write_images(tmp_path / "in", 3)  # a file system of coarse times would not tell a change of now
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    reads.clear()
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    assert len(reads) == 3


def test_other_images_are_refused_until_the_store_may_grow(tmp_path: Path, model: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "in", 9)
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    before = times(tmp_path / "out")

    def check(reused: int) -> None:
        nonlocal before
        with pytest.raises(IncompatibleError, match=r"added, removed, renamed .* add --grow"):
            extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
        assert times(tmp_path / "out") == before
        summary = extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS, grow=True)
        assert (summary.reused, summary.complete) == (reused, True)
        assert made(tmp_path / "out") == fresh(tmp_path, embedder, tmp_path / "in")
        before = times(tmp_path / "out")

    picture(tmp_path / "in" / "z.png", 1)
    check(reused=9)
    (tmp_path / "in" / "0007.png").unlink()
    check(reused=6)
    (tmp_path / "in" / "0008.png").rename(tmp_path / "in" / "0007.png")
    check(reused=6)
    for name in ("0007.png", "z.png"):
        (tmp_path / "in" / name).unlink()
    check(reused=6)  # nothing is made, two shards remain
    with pytest.raises(IncompatibleError, match="images_sha256"):
        extract(list(find_images(tmp_path / "in"))[::-1], embedder, tmp_path / "out", OPTIONS)
    with pytest.raises(IncompatibleError, match="options"):
        extract(tmp_path / "in", embedder, tmp_path / "out", ExtractOptions(shard_size=4), grow=True)


def test_an_image_of_a_list_that_is_gone_is_not_forgotten_in_silence(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "in", 5)
    (tmp_path / "list.txt").write_text("".join(f"{number:04d}.png\n" for number in range(5)))
    extract(find_images(tmp_path / "list.txt", tmp_path / "in"), embedder, tmp_path / "out", OPTIONS)
    before = times(tmp_path / "out")
    shutil.move(tmp_path / "in" / "0004.png", tmp_path / "kept.png")
    items = find_images(tmp_path / "list.txt", tmp_path / "in")
    with pytest.raises(IncompatibleError, match=r"0004\.png: .*bring it back, or add --grow"):
        extract(items, embedder, tmp_path / "out", OPTIONS)
    assert times(tmp_path / "out") == before
    assert extract(items, embedder, tmp_path / "out", OPTIONS, grow=True).failed == 1
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, items)
    shutil.move(tmp_path / "kept.png", tmp_path / "in" / "0004.png")
    assert extract(items, embedder, tmp_path / "out", OPTIONS).failed == 0
    write_images(tmp_path / "other", 5, seed=9)
    elsewhere = find_images(tmp_path / "list.txt", tmp_path / "other")
    assert extract(elsewhere, embedder, tmp_path / "out", OPTIONS).changed == 5
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, elsewhere)


def test_a_tar_of_the_same_names_is_another_source(tmp_path: Path, embedder: Embedder, reads: list[str]) -> None:
    write_images(tmp_path / "in", 6)
    pack(tmp_path / "in", tmp_path / "tars", 4)
    age(tmp_path / "tars")
    extract(find_images(tmp_path / "tars"), embedder, tmp_path / "out", OPTIONS)
    reads.clear()
    assert extract(find_images(tmp_path / "tars"), embedder, tmp_path / "out", OPTIONS).reused == 6
    assert reads == []
    picture(tmp_path / "in" / "0005.png", 1)
    shutil.rmtree(tmp_path / "tars")
    pack(tmp_path / "in", tmp_path / "tars", 4)
    summary = extract(find_images(tmp_path / "tars"), embedder, tmp_path / "out", OPTIONS)
    assert (summary.changed, summary.reused) == (1, 3)
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, find_images(tmp_path / "tars"))
    with tarfile.open(tmp_path / "tars" / "000000.tar") as tar:
        assert len(tar.getnames()) == 4


def test_tasks_look_at_their_own_shards(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "in", 12)
    extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    for name in ("0000.png", "0005.png", "0010.png"):  # shards 0, 1 and 3
        picture(tmp_path / "in" / name, int(name[:4]))
    summaries = [extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS, part=Part(task, 2)) for task in (1, 0)]
    assert [(summary.changed, summary.complete) for summary in summaries] == [(2, True), (1, True)]
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, tmp_path / "in")
    picture(tmp_path / "in" / "z.png", 5)
    first = extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS, part=Part(1, 2), grow=True)
    assert (first.reused, first.complete) == (6, False)
    assert extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS, part=Part(0, 2)).complete
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, tmp_path / "in")


def test_memory_that_was_short_is_tried_again(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "in", 5)
    run_batch, calls = embedder.run_batch, [0]

    def short(images):  # type: ignore[no-untyped-def]  # as the method it stands for
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError
        return run_batch(images)

    with monkeypatch.context() as patch:
        patch.setattr(embedder, "run_batch", short)
        assert extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS).failed == 1
    assert "does not fit into memory" in (tmp_path / "out" / "failures.csv").read_text()
    summary = extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS)
    assert (summary.retried, summary.failed) == (1, 0)
    assert made(tmp_path / "out") == fresh(tmp_path, embedder, tmp_path / "in")


def test_a_descriptor_that_is_not_finite_is_a_row_that_stays(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "in", 4)
    run_batch = embedder.run_batch

    def broken(images):  # type: ignore[no-untyped-def]  # as the method it stands for
        found = run_batch(images)
        found[images[0].shape == first] = np.nan
        return found

    with Image.open(tmp_path / "in" / "0001.png") as image:
        first = (image.height, image.width, 3)
    monkeypatch.setattr(embedder, "run_batch", broken)
    assert extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS).failed == 1
    assert "0001.png,its descriptor is not finite" in (tmp_path / "out" / "failures.csv").read_text()
    before = times(tmp_path / "out")
    assert extract(tmp_path / "in", embedder, tmp_path / "out", OPTIONS).retried == 1
    assert times(tmp_path / "out") == before


@pytest.mark.parametrize("tar_size", [None, 3])
def test_pictures_are_those_of_their_sources(tmp_path: Path, tar_size: int | None) -> None:
    def run(folder: str = "out", **options: bool) -> PictureSummary:
        items = find_images(tmp_path / "in")
        return run_images(items, LabInversion(), tmp_path / folder, tar_size=tar_size, **options)  # type: ignore[arg-type]

    def same() -> bool:
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        run("fresh")
        return made(tmp_path / "out") == made(tmp_path / "fresh")

    write_images(tmp_path / "in", 9)
    (tmp_path / "in" / "0001.png").write_bytes(b"no image")
    (tmp_path / "in" / "0008.png").write_bytes(b"no image, nor ever")
    run()
    before = times(tmp_path / "out")
    assert run().retried == 2
    assert run(verify_sources=True).reused == 7
    assert times(tmp_path / "out") == before
    picture(tmp_path / "in" / "0001.png", 1)
    picture(tmp_path / "in" / "0004.png", 2)
    (tmp_path / "in" / "0005.png").write_bytes(b"broken since")
    summary = run()
    assert (summary.done, summary.failed, summary.changed, summary.retried) == (7, 2, 2, 2)
    assert summary.reused == (2 if tar_size else 5)
    assert same()
    for change in (
        lambda: (tmp_path / "in" / "0000.png").rename(tmp_path / "in" / "zzz.png"),
        lambda: picture(tmp_path / "in" / "0003a.png", 5),
        (tmp_path / "in" / "0003a.png").unlink,
    ):
        change()
        before = times(tmp_path / "out")
        with pytest.raises(IncompatibleError, match=r"removed.* add --grow"):
            run()
        assert times(tmp_path / "out") == before
        run(grow=True)
        assert same()
    before = times(tmp_path / "out")
    assert run(grow=True).reused == 7
    assert times(tmp_path / "out") == before


@pytest.mark.parametrize("tar_size", [None, 3])
def test_a_harmed_picture_is_named_and_made_again(tmp_path: Path, tar_size: int | None) -> None:
    write_images(tmp_path / "in", 5)
    items = find_images(tmp_path / "in")
    run_images(items, LabInversion(), tmp_path / "out", tar_size=tar_size)
    before = content(tmp_path / "out")
    for path in sorted(path for path in (tmp_path / "out").rglob("*") if path.suffix in (".png", ".tar", ".jsonl")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        summary = run_images(items, LabInversion(), tmp_path / "out", tar_size=tar_size)
        assert summary.damaged == [path.name]
        assert f"damaged and made again: {path.name}" in (summary.said_resumed() or "")
        assert content(tmp_path / "out") == before


@pytest.mark.parametrize("tar_size", [None, 3])
def test_a_source_of_a_list_that_is_gone_keeps_its_picture(tmp_path: Path, tar_size: int | None) -> None:
    write_images(tmp_path / "in", 4)
    (tmp_path / "list.txt").write_text("".join(f"{number:04d}.png\n" for number in range(4)))
    items = find_images(tmp_path / "list.txt", tmp_path / "in")
    run_images(items, LabInversion(), tmp_path / "out", tar_size=tar_size)
    before = times(tmp_path / "out")
    (tmp_path / "in" / "0003.png").unlink()
    with pytest.raises(IncompatibleError, match=r"0003\.png: .*bring it back, or add --grow"):
        run_images(items, LabInversion(), tmp_path / "out", tar_size=tar_size)
    assert times(tmp_path / "out") == before
    assert run_images(items, LabInversion(), tmp_path / "out", tar_size=tar_size, grow=True).failed == 1
    assert run_images(items, LabInversion(), tmp_path / "out", tar_size=tar_size).done == 3


def test_a_folder_of_before_that_does_not_state_its_list_is_carried_on(tmp_path: Path) -> None:
    def run(**options: bool) -> PictureSummary:
        return run_images(find_images(tmp_path / "in"), LabInversion(), tmp_path / "out", **options)  # type: ignore[arg-type]

    write_images(tmp_path / "in", 3)
    run()
    manifest = tmp_path / "out" / "manifest.json"
    value = json.loads(manifest.read_text())
    assert value["job"].pop("images_sha256") == names_sha256(find_images(tmp_path / "in"))
    manifest.write_text(json.dumps(value))
    before = manifest.read_bytes()
    assert run().reused == 3
    assert run(grow=True).reused == 3
    assert json.loads(manifest.read_text()) == json.loads(before)
    picture(tmp_path / "in" / "0003.png", 5)
    assert run().reused == 3
    (tmp_path / "in" / "0000.png").unlink()
    with pytest.raises(IncompatibleError, match=r"1 images that are not in the source, '0000\.png' first.* add --grow"):
        run()
    assert run(grow=True).reused == 3


def test_a_manifest_of_pictures_commands_no_file_elsewhere(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    run_images(find_images(tmp_path / "in"), LabInversion(), tmp_path / "out")
    (tmp_path / "precious.txt").write_text("mine")
    manifest = tmp_path / "out" / "manifest.json"
    value = json.loads(manifest.read_text())
    value["images"][0] |= {"image": "other.png", "output": "../../precious.txt"}
    manifest.write_text(json.dumps(value))
    run_images(find_images(tmp_path / "in"), LabInversion(), tmp_path / "out", grow=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


class Killed(BaseException):
    """A process that ends here."""


class Run:
    """A source and what is made of it, by extraction, or as pictures in a folder or tars."""

    def __init__(self, folder: Path, kind: str, embedder: Embedder) -> None:
        self.source, self.kind, self.embedder = folder / "in", kind, embedder
        self.out = folder / "out"
        self.source.mkdir()

    def __call__(self, out: Path | None = None) -> object:
        items, place = find_images(self.source), out or self.out
        if self.kind == "store":
            return extract(items, self.embedder, place, OPTIONS, grow=True, decode_threads=1)
        return run_images(
            items, LabInversion(), place, tar_size=3 if self.kind == "tars" else None, grow=True, threads=1
        )

    def sources(self, number: int) -> list[Path]:
        return one_of(self.source, number)

    def outputs(self, number: int) -> list[Path]:
        below = {"store": "shards", "tars": "", "folder": "images"}[self.kind]
        kinds = (".npy", ".parquet", ".tar", ".jsonl", ".png")
        return [path for path in one_of(self.out / below, number) if path.suffix in kinds]

    def change(self, number: int) -> None:
        for path in self.sources(number):
            picture(path, number)

    def smash(self, number: int) -> None:
        for path in self.sources(number):
            path.write_bytes(b"no image")

    def touch(self, number: int) -> None:
        for path in self.sources(number):
            os.utime(path)

    def add(self, number: int) -> None:
        picture(self.source / f"{number:02d}.png", number)

    def remove(self, number: int) -> None:
        for path in self.sources(number):
            if path.name != "zz.png":  # there is always one image
                path.unlink()

    def harm(self, number: int) -> None:
        """One bit, anywhere."""
        for path in self.outputs(number):
            data = bytearray(path.read_bytes())
            data[number * 7919 % len(data)] ^= 1 << number % 8
            path.write_bytes(data)

    def drop(self, number: int) -> None:
        for path in self.outputs(number):
            path.unlink()

    def kill(self, number: int) -> None:
        replace, left = os.replace, [number % 12]

        def stop(*given: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            replace(*given)  # type: ignore[arg-type]  # passed on

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", stop)
            self()


def one_of(folder: Path, number: int) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return found[number % len(found) :][:1] if found else []


KINDS = st.sampled_from(["store", "tars", "folder"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["change", "smash", "touch", "add", "remove", "harm", "drop", "kill"]), st.integers(0, 99)
    ),
    min_size=1,
    max_size=8,
)


def check_steps(embedder: Embedder, kind: str, steps: list[tuple[str, int]]) -> None:
    """Whatever happened, the next run ends with the bytes of a first one, and the one after it writes nothing."""
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), kind, embedder)
        for number in range(6):
            picture(run.source / f"{number:02d}.png", number)
        picture(run.source / "zz.png", 6)
        with contextlib.suppress(DataError):  # not one image is left that can be used
            run()
            for step, number in steps:
                getattr(run, step)(number)
            run()
            run(Path(name) / "fresh")
            assert made(run.out) == made(Path(name) / "fresh")
            before = times(run.out)
            run()
            assert times(run.out) == before


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=KINDS, steps=STEPS)
def test_a_few_sequences_of_changes(embedder: Embedder, kind: str, steps: list[tuple[str, int]]) -> None:
    check_steps(embedder, kind, steps)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=KINDS, steps=STEPS)
def test_many_sequences_of_changes(embedder: Embedder, kind: str, steps: list[tuple[str, int]]) -> None:
    check_steps(embedder, kind, steps)
