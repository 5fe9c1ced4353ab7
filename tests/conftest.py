"""Shared fixtures, and a worker's share of the cores. Data packs are found through GLOAM_DATA alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

# Workers that run side by side share the cores: each takes its part of them, and so do the programs that it starts.
# Said before torch, OpenBLAS or OpenCV is loaded, for they read it then.
if "PYTEST_XDIST_WORKER" in os.environ:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(share))


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """No test reads or writes the caches of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="session")
def data_pack() -> Callable[[str], Path]:
    """``data_pack(name)`` is the folder of a data pack; skips where GLOAM_DATA is unset."""

    def find(name: str) -> Path:
        root = os.environ.get("GLOAM_DATA")
        if not root:
            pytest.skip("GLOAM_DATA is not set")
        folder = Path(root) / name
        assert folder.is_dir(), f"{folder} is missing"
        return folder

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where GLOAM_NO_SKIP is set (continuous integration), a skipped test is a failed one."""
    report = yield
    if os.environ.get("GLOAM_NO_SKIP") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where no test may be: {report.longrepr}"
    return report
