"""What the processor can do, read from descriptions of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.runtime.backends.processor import find_processor

X86 = (
    "processor\t: 0\nmodel name\t: {}\nflags\t\t: fpu avx2 {}\n\nprocessor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n"
)


@pytest.mark.parametrize(
    ("text", "model", "bf16", "int8"),
    [
        (X86.format("AMD EPYC", ""), "AMD EPYC", False, False),
        (X86.format("Cascade Lake", "avx512_vnni"), "Cascade Lake", False, True),
        (X86.format("Genoa", "avx512_bf16 avx512_vnni"), "Genoa", True, True),
        (X86.format("Sapphire", "amx_bf16 amx_int8"), "Sapphire", True, True),
        ("processor : 0\nFeatures : fp asimd asimddp i8mm bf16\n", None, True, True),
        ("", None, False, False),
    ],
)
def test_flags_decide(tmp_path: Path, text: str, model: str | None, bf16: bool, int8: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    found = find_processor(tmp_path / "cpuinfo")
    assert (found.bf16, found.int8) == (bf16, int8)
    assert found.model == model or model is None
    assert found.cores >= 1


def test_elsewhere_than_linux_the_flags_are_not_known(tmp_path: Path) -> None:
    assert find_processor(tmp_path / "absent").flags == frozenset()
