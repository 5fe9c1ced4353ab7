"""Every kind of exported file, in every profile and precision, is built by the real builder, or was never written."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from benchmarks.engine_build import PROFILES, VARIANTS, Case, rows_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="TensorRT for RTX is not installed; pip install 'gloam[tensorrt-rtx]'",
    ),
]
# Every kind by itself, and all that can stand in front of one or behind it; the benchmark goes through every family.
FAMILIES = (
    *("gem_resnet18", "netvlad_vgg16", "hedmac_vgg16", "dinov2_vits14", "dinov2_vits14_reg"),
    *("resnet", "unet", "hed", "lightglue_sift", "lighterglue"),
)
CASES = [
    *((family, profile, "plain") for family in FAMILIES for profile in PROFILES),
    *(("gem_resnet18", profile, variant) for profile in PROFILES for variant in VARIANTS if variant != "plain"),
    *(("how_resnet18", profile, "local-features") for profile in PROFILES),
    ("hedmac_vgg16", "dynamic", "translate"),  # sizes behind a crop and four poolings
]
# All that `gloam export` may say instead of writing a file; docs/engines.md has them in its table.
REFUSALS = (
    r"padding would change an edge detector's maps; use the dynamic profile",
    r"--[a-z-]+ is for embedders, but \w+ is of kind",
    r"--local-features is for HOW networks, not for",
    r"--resize goes with the dynamic profile; a fixed profile has its sizes already",
    r"models of kind '(local_features|matcher)' stay in float32",
    r"is not padding-exact, so a fixed profile would change its descriptors; use dynamic",
    r"padding would change local features of several scales; use the dynamic profile",
    r"takes sides that are multiples of 14 px, which scaled images have not; one scale of 1 is possible",
    r"takes images whose sides are multiples of 14 px, .*; nothing can stand in front of it inside the graph",
)


@pytest.mark.parametrize(("family", "profile", "variant"), CASES)
def test_it_is_built_or_refused_by_the_export(family: str, profile: str, variant: str, tmp_path: Path) -> None:
    rows = rows_of(Case(family, profile, variant), tmp_path)
    for row in rows:
        assert "problem" not in row, row
        if "refused" in row:
            assert any(re.search(sentence, row["refused"]) for sentence in REFUSALS), row
        else:
            assert row["layers"] > 0
            assert row["MB"] > 0
    if variant == "plain" and profile == "dynamic":
        assert "refused" not in rows[0]
