"""An engine is built as asked, used again where its key is the same, and what cannot be built is named in one line."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from gloam import heartbeat
from gloam.cli.main import main
from gloam.errors import DeviceError, ModelError, StoreError, UsageError
from gloam.export.engine import build
from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.export.engine.progress import BuildBars
from gloam.model_card import KeypointRule, TensorSpec
from gloam.padding import PaddingProfile
from gloam.runtime.backends.cuda.device import DeviceMemoryError
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.tensorrt.engine_card import read_engine_card
from tests.fakes.cuda import FakeDevice
from tests.fakes.tensorrt import FakeTensorRT
from tests.runtime.localization.bright_points import card
from tests.tiny_models import write_tiny_embedder


def one_line(error: BaseException) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600


def test_one_profile_per_padded_shape_with_a_range_of_batches(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path
) -> None:
    built = build_engine(onnx_file, tmp_path / "e", BuildOptions(widths=(512,), batch=(1, 4, 8)))
    (config,) = trt.configs
    assert [shapes["images"] for shapes in config.profiles] == [
        [[rows, height, 512, 3] for rows in (1, 4, 8)] for height in (256, 512)
    ]
    assert all(shapes["sizes"] == [[1, 2], [4, 2], [8, 2]] for shapes in config.profiles)
    assert built.card.key.fingerprint == OrtSession(onnx_file).fingerprint
    assert {path.name for path in (tmp_path / "e").iterdir()} == {
        "model.engine",
        "model.json",
        "build.log",
        "timing.cache",
    }
    assert "[INFO] built" in (tmp_path / "e" / "build.log").read_text()


def test_options_reach_the_builder(trt: FakeTensorRT, onnx_file: Path, tmp_path: Path) -> None:
    build_engine(onnx_file, tmp_path / "plain")
    build_engine(
        onnx_file,
        tmp_path / "rich",
        BuildOptions(tf32=True, workspace=123, level=5, hardware="ampere-plus", version_compatible=True),
    )
    plain, rich = trt.configs
    assert plain.flags == set()  # TF32 is on in TensorRT unless cleared
    assert rich.flags == {"TF32", "VERSION_COMPATIBLE"}
    assert (plain.pools, rich.pools) == ({}, {"WORKSPACE": 123})
    assert (plain.builder_optimization_level, rich.builder_optimization_level) == (3, 5)
    assert plain.hardware_compatibility_level.name == "NONE"
    assert rich.hardware_compatibility_level.name == "AMPERE_PLUS"


def test_an_engine_is_used_again_only_with_the_same_complete_key(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "e"

    def reused(options: BuildOptions | None = None, device: FakeDevice | None = None) -> bool:
        before = trt.built
        built = build_engine(onnx_file, folder, options, device=device)
        assert built.reused == (trt.built == before)
        assert not list(folder.glob(".tmp-*"))
        return built.reused

    assert not reused()
    assert reused()
    assert reused(BuildOptions(heights=(512, 256)))  # all of them, whatever the order
    for change in (
        BuildOptions(tf32=True),
        BuildOptions(level=2),
        BuildOptions(workspace=5),
        BuildOptions(hardware="ampere-plus"),
        BuildOptions(version_compatible=True),
        BuildOptions(widths=(256,)),
        BuildOptions(batch=(1, 1, 2)),
    ):
        assert not reused(change)
        assert reused(change)
    for device in (FakeDevice("NVIDIA Other"), FakeDevice(capability="8.9")):
        assert not reused(device=device)
    other = FakeDevice()
    other.info = other.info.__class__(other.info.name, "9.0", other.info.memory, "590.0")
    assert not reused(device=other)  # another driver
    trt.__version__ = trt.__version__.replace(".0.1", ".0.2")
    assert not reused()
    assert reused()
    write_tiny_embedder(onnx_file, PaddingProfile.fixed((256, 512), (256, 512), batch=(1, 8)), gain=0.02)
    assert not reused()  # another model


@pytest.mark.parametrize("torn", ["model.engine", "model.json"])
def test_a_torn_engine_is_built_again(trt: FakeTensorRT, onnx_file: Path, tmp_path: Path, torn: str) -> None:
    build_engine(onnx_file, tmp_path)
    content = (tmp_path / torn).read_bytes()
    (tmp_path / torn).write_bytes(content[: len(content) // 2])
    assert not build_engine(onnx_file, tmp_path).reused
    assert build_engine(onnx_file, tmp_path).reused
    (tmp_path / torn).unlink()
    assert not build_engine(onnx_file, tmp_path).reused


def test_timings_are_kept_between_builds_and_a_broken_cache_is_begun_anew(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "shared.cache"
    build_engine(onnx_file, tmp_path / "a", timing_cache=cache)
    build_engine(onnx_file, tmp_path / "b", timing_cache=cache)
    cache.write_bytes(b"of another GPU")
    build_engine(onnx_file, tmp_path / "c", timing_cache=cache)
    assert trt.timings == [b"", b"timings", b""]
    assert cache.read_bytes() == b"timings"


def test_a_node_that_tensorrt_cannot_take_is_named(trt: FakeTensorRT, onnx_file: Path, tmp_path: Path) -> None:
    proto = onnx.load(onnx_file)
    for node in proto.graph.node:
        node.name = f"the_{node.op_type}"
    onnx.save(proto, onnx_file)
    trt.unsupported = {"LpNormalization", "MatMul"}
    with pytest.raises(ModelError, match=r"node 'the_MatMul' \(MatMul\) and 1 more: no importer registered") as caught:
        build_engine(onnx_file, tmp_path / "e")
    one_line(caught.value)
    assert not (tmp_path / "e" / "model.engine").exists()


@pytest.mark.parametrize(
    ("message", "kind"),
    [("Internal error:\nno implementation", DeviceError), ("[defaultAllocator] out of memory", DeviceMemoryError)],
)
def test_a_failed_build_says_why_and_keeps_the_engine_that_was_there(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path, message: str, kind: type[Exception]
) -> None:
    build_engine(onnx_file, tmp_path)
    before = (tmp_path / "model.engine").read_bytes()
    trt.build_failure = message
    with pytest.raises(kind, match=r"could not build the engine .*; the whole log is in .*build.log") as caught:
        build_engine(onnx_file, tmp_path, BuildOptions(level=0))
    one_line(caught.value)
    assert message.splitlines()[-1] in (tmp_path / "build.log").read_text()
    assert (tmp_path / "model.engine").read_bytes() == before


@pytest.mark.parametrize("count", [3840, 3841])
def test_more_keypoints_than_tensorrt_finds_are_refused(count: int) -> None:
    model, options = Path("points.onnx"), BuildOptions(heights=(64,), widths=(96,))
    bright = card(keypoints=KeypointRule(count))
    bright = replace(bright, outputs=tuple(replace(spec, shape=("batch",)) for spec in bright.outputs))
    if count == 3840:
        assert build._shapes(bright, options, model)[:2] == ((64,), (96,))
        return
    with pytest.raises(
        UsageError, match=r"room for 3841 keypoints, and TensorRT finds 3840 at most; .* --keypoints 3840"
    ):
        build._shapes(bright, options, model)


def test_an_adopted_file_is_built_for_sizes_that_are_named() -> None:
    adopted = replace(card(), profile=PaddingProfile.dynamic(), provenance={"recipe": "adopted"})
    with pytest.raises(UsageError, match=r"name those of your images, e\.g\. --heights 576 --widths 1024"):
        build._shapes(adopted, BuildOptions(), Path("ours.onnx"))


def test_what_has_no_fixed_shapes_is_refused_with_what_to_do(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path
) -> None:
    write_tiny_embedder(tmp_path / "dynamic.onnx")
    with pytest.raises(UsageError, match="export it with `gloam export --profile fixed`") as caught:
        build_engine(tmp_path / "dynamic.onnx", tmp_path / "e")
    one_line(caught.value)
    for options, reason in (
        (BuildOptions(heights=(1024,)), "heights 1024 are asked for, but the model has 256, 512"),
        (BuildOptions(widths=()), "widths none are asked for"),
        (BuildOptions(batch=(1, 8, 16)), "the model takes 1 to 8"),
        (BuildOptions(hardware="any"), "unknown hardware compatibility 'any'"),
    ):
        with pytest.raises(UsageError, match=reason) as caught:
            build_engine(onnx_file, tmp_path / "e", options)
        one_line(caught.value)
    for bad in ({"level": 6}, {"batch": (4, 2, 8)}, {"workspace": 0}):
        with pytest.raises(UsageError):
            BuildOptions(**bad)  # type: ignore[arg-type]
    assert trt.built == 0


def test_an_axis_without_a_meaning_is_refused(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    card = OrtSession(onnx_file).card
    odd = dataclasses.replace(card, inputs=(card.inputs[0], TensorSpec("sizes", "int32", ("batch", "labels"), "")))
    monkeypatch.setattr("gloam.export.engine.build.read_card", lambda path: odd)
    with pytest.raises(ModelError, match="the axis 'labels' of 'sizes'"):
        build_engine(onnx_file, tmp_path / "e")


def test_a_level_that_this_version_lacks_is_refused(trt: FakeTensorRT, onnx_file: Path, tmp_path: Path) -> None:
    del trt.enums["HardwareCompatibilityLevel"]._members["SAME_COMPUTE_CAPABILITY"]
    with pytest.raises(UsageError, match="update TensorRT"):
        build_engine(onnx_file, tmp_path, BuildOptions(hardware="compute-capability"))


def test_ctrl_c_stops_the_builder_and_no_exception_crosses_it(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: BuildBars, name: str, step: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BuildBars, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_engine(onnx_file, tmp_path / "e")
    assert not (tmp_path / "e" / "model.engine").exists()


def test_progress_is_shown_where_asked(
    trt: FakeTensorRT,
    onnx_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "bars_shown", lambda: True)  # as on a terminal
    build_engine(onnx_file, tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    build_engine(onnx_file, tmp_path / "shown", progress=True)
    assert "Building" in capsys.readouterr().err
    with BuildBars(False) as bars, contextlib.redirect_stderr(io.StringIO()):
        bars.step("never begun", 3)
        bars.start("never ended", 2)


def test_a_folder_that_cannot_be_written_is_named(trt: FakeTensorRT, onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        build_engine(onnx_file, tmp_path / "file" / "e")


def test_the_command_builds_reuses_and_reports(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["engine", str(onnx_file), "-o", str(tmp_path / "e"), "--heights", "256", "--batch", "1,2,4"]
    assert main([*command, "--workspace", "0.5"]) == 0
    assert "built in" in capsys.readouterr().out
    assert main([*command, "--workspace", "0.5", "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["reused"] is True
    assert report["shapes"] == ["256x256", "512x256"]
    assert report["options"]["workspace"] == 1 << 29
    assert report["key"] == read_engine_card(tmp_path / "e" / "model.engine").key.digest()
    assert main([*command[:-1], "1,2"]) == 2
    assert capsys.readouterr().err == "gloam engine: --batch is MIN,OPT,MAX, e.g. 1,16,64, not 1,2\n"


def test_check_and_extract_take_an_engine(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_engine(onnx_file, tmp_path / "e")
    assert main(["check", str(tmp_path / "e")]) == 2
    assert "runs on a GPU alone" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "e"), "--device", "auto"]) == 2  # the tiny fixed model holds no self-test
    assert "no self-test" in capsys.readouterr().err


def test_without_a_driver_the_command_says_so(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gloam.runtime.backends.cuda.driver import Driver

    no_driver: Callable[[], Driver] = lambda: Driver(None, [], "no NVIDIA driver")  # noqa: E731
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", no_driver)
    assert main(["engine", str(onnx_file), "-o", str(tmp_path / "e")]) == 2
    assert "no NVIDIA driver" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_the_command_offers_what_the_builder_knows() -> None:
    from gloam.cli.engine import HARDWARE as OFFERED
    from gloam.runtime.backends.tensorrt.api import HARDWARE

    assert set(OFFERED) == set(HARDWARE)
