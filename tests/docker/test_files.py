"""What the files of ``docker/`` say, and what ``run-benchmark`` asks of an engine; no engine is needed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def stages() -> dict[str, str]:
    """Each stage's instructions by its name."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_base_is_of_one_version_and_nobody_is_root() -> None:
    bases = dict(re.findall(r"^ARG (\w+_BASE)=(\S+)$", DOCKERFILE, re.M))
    assert bases.pop("BUILD_BASE") == "${CUDA:+$CUDA_BUILD_BASE}"
    assert set(bases) == {"CPU_BASE", "CUDA_BUILD_BASE", "CUDA_BASE"}
    assert [
        base for base in bases.values() if not re.search(r":\d+\.\d+\.\d+-[\w.-]+$|@sha256:[0-9a-f]{64}$", base)
    ] == []
    named = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M))
    assert named - set(stages()) == {"${BUILD_BASE:-$CPU_BASE}", "${BASE:-$CPU_BASE}"}
    place = stages()["place"]
    assert "USER 10001:10001" in place
    assert 'HEALTHCHECK --interval=1m --timeout=30s --retries=3 CMD ["gloam", "doctor"]' in place
    assert 'VOLUME ["/output", "/cache"]' in place
    assert {"runtime", "train", "bench"} <= set(stages())
    assert "torch" not in stages()["runtime"]
    assert "pip install" in stages()["built-runtime"]
    assert " torch" not in re.sub(r"#.*", "", stages()["built-runtime"])


def test_extras_and_copied_files_are_there() -> None:
    asked = ",".join(re.findall(r"_EXTRAS=(\S+)$", DOCKERFILE, re.M) + re.findall(r'"\.\[(.*?)\]"', DOCKERFILE))
    names = {name for name in asked.split(",") if "$" not in name}
    assert {"cpu", "gpu", "tensorrt", "train", "serve"} <= names <= set(EXTRAS)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, f"{source} is not in the build's context"


def test_constraints_are_within_what_the_project_asks_for() -> None:
    lines = (DOCKER / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    extras = [
        line
        for name in ("cpu", "openvino", "localization", "metrics", "remote", "train", "matlab", "ray")
        for line in EXTRAS[name]
    ]
    for line in [*PROJECT["dependencies"], *extras]:
        wanted = Requirement(line)
        version = pinned.get(re.sub(r"[-_.]+", "-", wanted.name).lower())
        assert version is not None, f"{wanted.name} has no constraint"
        assert wanted.specifier.contains(version), f"{wanted} is pinned to {version}"


def test_compose_serves_what_the_dockerfile_has() -> None:
    found = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    services: dict[str, Any] = found["services"]
    assert {profile for service in services.values() for profile in service["profiles"]} == {"cpu", "gpu"}
    for name, service in services.items():
        gpu = service["profiles"] == ["gpu"]
        assert service["build"]["target"] in stages()
        assert (DOCKER / service["build"]["context"]).resolve() == ROOT
        assert (service["build"].get("args", {}).get("CUDA") == "yes") == gpu == name.endswith("-gpu")
        assert ("deploy" in service) == gpu
        assert service["read_only"]
        assert service["user"].endswith("10001:10001}")
        mounts = [volume.rsplit(":/", 1)[1] for volume in service["volumes"]]
        assert mounts == ["data:ro", "output", "cache"]
    assert set(found["volumes"]) == {"data", "output", "cache"}


ENGINE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$SAID"
[ "$1" != from ] || echo box
[ "$1" != build ] || [ -z "${BREAKS-}" ]
"""


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A folder of engines that note what they are asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "podman", "buildah"):
        (folder / name).write_text(ENGINE)
        (folder / name).chmod(0o755)
    return folder


def bare(folder: Path) -> Path:
    """A folder of what the script itself calls, and of no engine, whatever is installed."""
    folder.mkdir()
    for name in ("sh", "cat", "chown", "dirname", "id", "mkdir"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def run_benchmark(tmp_path: Path, engines: Path | None, *words: str, **more: str) -> tuple[int, str, list[str]]:
    """Exit code, stderr, and what engines were asked for."""
    said = tmp_path / "said"
    said.unlink(missing_ok=True)
    path = f"{engines}:/usr/bin:/bin" if engines else str(bare(tmp_path / "bare"))
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG")}
    done = subprocess.run(
        ["sh", str(DOCKER / "run-benchmark"), *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**kept, "PATH": path, "SAID": str(said), **more},
    )
    return done.returncode, done.stderr, said.read_text().splitlines() if said.exists() else []


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_table_is_one_command(tmp_path: Path, engines: Path, engine: str) -> None:
    (tmp_path / "my data").mkdir()
    words = ["dark-side", "5", "--data", "my data", "-o", "out", "--rows", "CLAHE C", "--engine", engine]
    code, error, said = run_benchmark(tmp_path, engines, *words)
    assert (code, error) == (0, "")
    build, run = said
    assert build.startswith(f"{engine} build --build-arg CUDA= --target bench -t localhost/gloam:bench-cpu")
    assert f"--volume {tmp_path}/my data:/data:ro --volume {tmp_path}/out:/output" in run
    assert run.endswith("localhost/gloam:bench-cpu reproduce dark-side 5 --rows CLAHE C -o /output --data /data")
    for option in ("--read-only", "--cap-drop ALL", "--network none", "--security-opt no-new-privileges"):
        assert option in run
    assert re.search(r"--user [1-9]\d*:\d+", run)
    assert (tmp_path / "out").is_dir()


def test_buildah_leaves_no_container(tmp_path: Path, engines: Path) -> None:
    for name in ("docker", "podman"):
        (engines / name).unlink()
    code, error, said = run_benchmark(
        tmp_path, engines, "town", "--look", "1", GLOAM_BUILD_OPTIONS="--build-arg CPU_BASE=base"
    )
    assert (code, error) == (0, "")
    assert [line.split()[1] for line in said] == ["build", "from", "run", "rm"]
    assert "--build-arg CPU_BASE=base --build-arg CUDA= --target runtime" in said[0]
    assert said[2].endswith("box -- gloam demo --look 1 -o /output")
    assert said[3].endswith("rm box")


def test_the_gpu_has_its_own_image(tmp_path: Path, engines: Path) -> None:
    for engine, asked in (("docker", "--gpus all"), ("podman", "--device nvidia.com/gpu=all")):
        _, _, said = run_benchmark(tmp_path, engines, "dark-side", "3", "--gpu", "--engine", engine)
        assert "CUDA=yes --target bench -t localhost/gloam:bench-cuda" in said[0]
        assert asked in said[1]
    _, _, said = run_benchmark(tmp_path, engines, "town", "--image", "mine:1", "--engine", "docker")
    assert [line.split()[1] for line in said] == ["run"]
    assert said[0].endswith("mine:1 demo -o /output")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dark-side", "which table"),
        ("--data x", "give town, or PAPER TABLE, first"),
        ("dark-side 5 --data", "--data needs a value"),
        ("dark-side 5 --data absent", "--data absent: no such folder"),
        ("town --engine lxc", "--engine lxc: give docker, podman or buildah"),
        ("town -o file/out", "--output file/out: cannot be made"),
    ],
)
def test_what_cannot_work_is_said(tmp_path: Path, engines: Path, words: str, said: str) -> None:
    (tmp_path / "file").write_text("")
    code, error, asked = run_benchmark(tmp_path, engines, *shlex.split(words))
    assert code == 2
    assert said in error.splitlines()[-1]
    assert asked == []


def test_without_an_engine_or_with_a_build_that_fails(tmp_path: Path, engines: Path) -> None:
    code, error, _ = run_benchmark(tmp_path, None, "town")
    assert code == 2
    assert "neither docker nor podman nor buildah is here" in error
    (engines / "podman").unlink()
    path = f"{tmp_path / 'bare'}:{engines}"
    code, error, _ = run_benchmark(tmp_path, engines, "town", "--engine", "podman", PATH=path)
    assert code == 2
    assert "--engine podman: it is not here" in error
    code, error, asked = run_benchmark(tmp_path, engines, "town", "--engine", "docker", BREAKS="1")
    assert code == 2
    assert "the image could not be built" in error
    assert len(asked) == 1
    code, error, _ = run_benchmark(tmp_path, engines)
    assert code == 2
    assert error.startswith("usage:")
