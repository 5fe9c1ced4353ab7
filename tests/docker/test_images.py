"""The CPU images built by buildah and run, on a base of Debian's own packages; where an image is, it is used.

``GLOAM_CPU_BASE`` names another base. What this machine trusts and where its pip looks is given to the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/gloam-base"
GIVEN = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")

pytestmark = [pytest.mark.container, pytest.mark.timeout(3600)]


def buildah(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of buildah's, in a chroot where nothing else was chosen."""
    return subprocess.run(["buildah", *words], capture_output=True, text=True, env=environment())


def environment() -> dict[str, str]:
    options = [f"--volume={path}:{path}:ro" for path in GIVEN if Path(path).is_file()]
    options += [f"--build-arg=CPU_BASE={os.environ.get('GLOAM_CPU_BASE', BASE)}", *extra_build_options()]
    isolated = {"BUILDAH_ISOLATION": "chroot", "BUILDAH_FORMAT": "docker"}
    return {**isolated, **os.environ, "GLOAM_BUILD_OPTIONS": " ".join(options)}


def extra_build_options() -> list[str]:
    return os.environ.get("GLOAM_BUILD_OPTIONS", "").split()


@pytest.fixture(scope="module", autouse=True)
def base() -> None:
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    if "GLOAM_CPU_BASE" in os.environ or buildah("inspect", "--type", "image", BASE).returncode == 0:
        return
    if shutil.which("debootstrap") is None or os.getuid():
        pytest.skip("no base: set GLOAM_CPU_BASE, or be root where debootstrap is")
    subprocess.run([str(ROOT / "docker" / "debian-base"), BASE], check=True, env=environment())


@pytest.fixture(scope="module")
def runtime(base: None) -> Generator[str]:
    """A container of the target ``runtime``, built anew."""
    words = ["build", *environment()["GLOAM_BUILD_OPTIONS"].split(), "--target", "runtime"]
    built = buildah(*words, "-t", "localhost/gloam:runtime-cpu", "-f", str(ROOT / "docker" / "Dockerfile"), str(ROOT))
    assert built.returncode == 0, built.stderr[-3000:]
    container = buildah("from", "localhost/gloam:runtime-cpu").stdout.strip()
    yield container
    buildah("rm", container)


def inside(container: str, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return buildah("run", *options, container, "--", *words)


def test_the_image_is_healthy_and_has_no_torch(runtime: str) -> None:
    done = inside(runtime, "gloam", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    complete = {extra["name"] for extra in found["extras"] if extra["complete"]}
    assert {"cpu", "openvino", "localization"} <= complete
    assert found["healthy"]
    assert inside(runtime, "python", "-c", "import torch").returncode == 1
    stated = json.loads(buildah("inspect", "--type", "image", "localhost/gloam:runtime-cpu").stdout)["Docker"]["config"]
    assert stated["Healthcheck"]["Test"] == ["CMD", "gloam", "doctor"]
    assert stated["User"] == "10001:10001"


def test_nobody_in_particular_writes_where_a_volume_is(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_text("a photograph")
    tmp_path.chmod(0o755)
    data = (f"--volume={tmp_path}:/data:ro",)
    assert inside(runtime, "id", "-u").stdout.strip() == "10001"
    assert inside(runtime, "cat", "/data/photo.txt", options=data).stdout == "a photograph"
    script = (
        "for folder in /data /opt/gloam / /output /cache; do (: > $folder/x) 2>/dev/null && echo $folder; done; true"
    )
    assert inside(runtime, "sh", "-c", script, options=data).stdout.split() == ["/output", "/cache"]
    other = inside(runtime, "sh", "-c", "gloam doctor >/dev/null && : > /output/y", options=("--user=4242:4242",))
    assert other.returncode == 0, other.stderr


def test_the_town_has_the_documented_table(runtime: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    words = ["town", "-o", "out", "--engine", "buildah", "--image", "localhost/gloam:runtime-cpu"]
    done = subprocess.run(
        [str(ROOT / "docker" / "run-benchmark"), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))]
    tables = [table for page in pages for table in re.findall(r"```text\n(Retrieval: .*?)```", page, re.S)]
    assert tables, "no page shows the demo's table"
    for line in filter(None, tables[0].splitlines()):
        assert line in done.stdout.splitlines()
    assert (tmp_path / "out" / "report.html").is_file()
