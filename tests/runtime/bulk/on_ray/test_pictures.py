"""Tars on Ray: the bytes of a local run, whoever makes a tar."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gloam.cli.main import main
from gloam.data.sources import find_images
from gloam.errors import DataError, IncompatibleError, ModelError, UsageError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.on_ray import run as ray_run
from gloam.runtime.bulk.on_ray import worker as ray_worker
from gloam.runtime.bulk.on_ray.cluster import Cluster
from gloam.runtime.bulk.on_ray.pictures import run_images_on_ray
from gloam.runtime.bulk.on_ray.worker import ShardReport
from gloam.runtime.bulk.picture_run import PictureRequest, run_pictures
from gloam.runtime.bulk.pictures import PictureOptions, run_images
from gloam.runtime.models.formulas import LabInversion, create_classic
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.translator import Translator
from tests.fakes.ray import FakeRay
from tests.runtime.bulk.test_pictures import content, write_images
from tests.tiny_translators import write_tiny_translator

OPTIONS = PictureOptions(64)


def load(model: Path) -> ImageOperation:
    return Translator.load(model, Placement(threads=1))


def gamma(mean: float) -> ImageOperation:
    found = create_classic(f"gamma:{mean}")
    assert found is not None
    return found


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()

    @contextlib.contextmanager
    def connect(cluster: Cluster) -> Iterator[FakeRay]:
        yield fake

    monkeypatch.setattr(ray_run, "connected", connect)
    monkeypatch.setattr(ray_worker, "import_ray", lambda: fake)
    monkeypatch.setattr("gloam.runtime.bulk.picture_run.import_ray", lambda: fake)
    monkeypatch.setattr(ray_run, "SETTLE_SECONDS", 0.0)
    return fake


def images(folder: Path) -> Path:
    """Sources of which one is no image, and one would overwrite another's picture."""
    write_images(folder / "in", 17)
    (folder / "in" / "005.png").write_bytes(b"no image")
    shutil.copy(folder / "in" / "006.png", folder / "in" / "007.jpg")
    return folder / "in"


def test_the_tars_are_those_of_a_local_run(tmp_path: Path, ray: FakeRay) -> None:
    items = find_images(images(tmp_path))
    write_tiny_translator(tmp_path / "m.onnx")
    for form in ("png", "jpg"):
        options, told = PictureOptions(64, form), list[ShardReport]()  # type: ignore[arg-type]  # one of the two
        local = run_images(items, load(tmp_path / "m.onnx"), tmp_path / f"whole-{form}", options, tar_size=5)
        run = run_images_on_ray(
            items,
            partial(load, tmp_path / "m.onnx"),
            tmp_path / f"out-{form}",
            options,
            tar_size=5,
            threads=3,
            on_shard=told.append,
        )
        assert content(tmp_path / f"out-{form}") == content(tmp_path / f"whole-{form}")
        found = run.summary
        assert (found.done, found.failed, found.reduced) == (local.done, local.failed, local.reduced)
        assert found.failed >= 2
        assert (found.workers, found.reused, found.backend) == (2, 0, local.backend)
        assert [said.shard for said in told] == list(range(4))
    again = run_images_on_ray(
        items, partial(load, tmp_path / "m.onnx"), tmp_path / "out-png", OPTIONS, tar_size=5
    ).summary
    assert (again.reused, again.done, again.workers) == (local.done, local.done, 0)


def test_only_missing_changed_and_damaged_tars_are_given_out(tmp_path: Path, ray: FakeRay) -> None:
    source = images(tmp_path)
    run_images(find_images(source), LabInversion(), tmp_path / "out", OPTIONS, tar_size=3)
    tar = tmp_path / "out" / "part-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-9])
    (tmp_path / "out" / "part-000003.jsonl").unlink()
    shutil.copy(source / "000.png", source / "016.png")
    summary = run_images_on_ray(find_images(source), LabInversion, tmp_path / "out", OPTIONS, tar_size=3).summary
    assert ray.scheduled == [1, 3, 5]
    assert (summary.damaged, summary.changed) == (["part-000001.tar"], 1)
    run_images(find_images(source), LabInversion(), tmp_path / "whole", OPTIONS, tar_size=3)
    for folder in ("out", "whole"):
        shutil.rmtree(tmp_path / folder / "sources")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_what_a_worker_cannot_do_is_said(tmp_path: Path, ray: FakeRay) -> None:
    items = find_images(images(tmp_path))
    with pytest.raises(ModelError, match=r"^node .*absent\.onnx: no such model file$"):
        run_images_on_ray(items, partial(load, tmp_path / "absent.onnx"), tmp_path / "out", OPTIONS, tar_size=3)
    with pytest.raises(UsageError, match="--tar-size must be 1 or more"):
        run_images_on_ray(items, LabInversion, tmp_path / "out", OPTIONS, tar_size=0)
    with pytest.raises(DataError, match="no images to work on"):
        run_images_on_ray([], LabInversion, tmp_path / "out", OPTIONS, tar_size=3)
    broken = [item for item in items if item.name == "005.png"]
    with pytest.raises(DataError, match=r"none of 1 images could be used.*failures\.csv"):
        run_images_on_ray(broken, LabInversion, tmp_path / "broken", OPTIONS, tar_size=3)
    run_images_on_ray(items, partial(gamma, 0.2), tmp_path / "out", OPTIONS, tar_size=3)
    with pytest.raises(IncompatibleError, match="another fingerprint"):
        run_images_on_ray(items, partial(gamma, 0.3), tmp_path / "out", OPTIONS, tar_size=3)


def test_the_command_gives_tars_to_workers_and_folders_to_none(
    tmp_path: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["translate", str(images(tmp_path)), "--model", "lab-inversion", "--tar-size", "5", "--on", "ray"]
    assert main([*words, "-o", str(tmp_path / "out"), "--tar", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["done"], said["failed"], said["workers"]) == (16, 2, 2)
    assert main([*words, "-o", str(tmp_path / "out"), "--tar"]) == 0
    assert "by 0 Ray workers" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--on ray gives whole tars to the workers; add --tar"):
        run_pictures(PictureRequest(tmp_path / "in", tmp_path / "folder"), LabInversion, Cluster())
    for more, reason in (
        (["--on", "local", "--workers", "2", "--tar"], "--workers goes with --on ray"),
        (["--grid"], "--on ray is of a folder of pictures"),
    ):
        assert main([*words, "-o", str(tmp_path / "x.png"), *more]) == 2
        assert reason in capsys.readouterr().err
