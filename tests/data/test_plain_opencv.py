"""A street is photographed the same, and SIFT finds the same, whatever instructions the processor has."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from gloam.data.plain_opencv import plain_opencv
from gloam.runtime.localization.features.sources import STEP

# An older processor, by the switches of NumPy, OpenCV, OpenBLAS and the C library; unknown names change nothing.
OLDER = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,AVX,FP16,SSE4.1,SSE4.2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-AVX2_Usable,-FMA_Usable",
}
PHOTOGRAPHS = """
import dataclasses, hashlib, tempfile
from pathlib import Path
from gloam.data.town.dataset import scene_of, plan_shots, write_shot
from gloam.data.town import TownConfig, open_street
from gloam.model_card import Photometric
from gloam.runtime.localization.features.sources import SiftFeatures
config = TownConfig(seed=5, length=30.0, width=128, height=96, texels=16, queries=1, spacing=12.0)
second = dict(look=2, conditions=("dusk", "night-rain"), spacing=20.0, motion_blur=3.0, defocus=2.0)
found = hashlib.sha256()
for config in (config, dataclasses.replace(config, **second)):
  street, shots = open_street(config.seed, config.length, config.texels, config.look, config.optics), plan_shots(config)
  with tempfile.TemporaryDirectory() as folder:
      for shot in shots:
          write_shot(street, Path(folder), config, shot)
      for split in ("mapping", "query"):
          scene = scene_of(Path(folder), split, shots, config)
          for name in scene.names:
              light = Photometric("none" if config.look == 1 else "clahe")
              features = SiftFeatures(photometric=light).features(scene, name)
              found.update(repr(scene.poses[name]).encode() + scene.image_path(name).read_bytes())
              found.update(features.keypoints.tobytes() + features.descriptors.tobytes())
print(found.hexdigest())
"""


def photographs(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PHOTOGRAPHS], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_older_processor_sees_the_same_town() -> None:
    assert photographs(OLDER) == photographs({})


def test_the_switch_goes_back_when_the_last_one_leaves() -> None:
    before = cv2.useOptimized(), cv2.getNumThreads()
    try:
        for state, threads in ((True, 3), (False, 2)):
            cv2.setUseOptimized(state)
            cv2.setNumThreads(threads)
            with plain_opencv():
                with plain_opencv():
                    pass
                assert (cv2.useOptimized(), cv2.getNumThreads()) == (False, 1)
            assert (cv2.useOptimized(), cv2.getNumThreads()) == (state, threads)
    finally:
        cv2.setUseOptimized(before[0])
        cv2.setNumThreads(before[1])


def test_sift_finds_the_same_each_time_whatever_the_threads() -> None:
    grey = np.random.default_rng(0).integers(0, 255, (300, 400), np.uint8)
    grey = cv2.GaussianBlur(grey, (0, 0), 2)

    @plain_opencv()
    def found() -> bytes:
        points, descriptors = cv2.SIFT.create(300, contrastThreshold=0.001).detectAndCompute(grey, None)
        return np.array([(*point.pt, point.response) for point in points]).tobytes() + descriptors.tobytes()

    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        assert len({found() for _ in range(4)}) == 1
        with ThreadPoolExecutor(4) as pool:
            assert {item.result() for item in [pool.submit(found) for _ in range(4)]} == {found()}
    finally:
        cv2.setNumThreads(before)


def test_products_of_rounded_descriptors_are_exact() -> None:
    rng = np.random.default_rng(0)
    rooted = np.sqrt(rng.dirichlet(np.full(128, 0.3), 200))
    whole = np.round(rooted / STEP).astype(np.int64)
    rounded = whole.astype(np.float32) * np.float32(STEP)
    assert np.array_equal((rounded @ rounded.T).astype(np.float64) / STEP**2, whole @ whole.T)
