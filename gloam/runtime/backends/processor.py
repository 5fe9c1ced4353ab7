"""The processor of this machine: its name, its cores, and the instructions that low precision is quick with."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BF16 = frozenset(("avx512_bf16", "amx_bf16", "bf16"))  # x86; Arm's is plain bf16
DOT_PRODUCTS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"))  # of int8


@dataclass(frozen=True)
class Processor:
    """What decides how fast a model runs here.

    Attributes:
        model: as the maker names it.
        cores: that this process may use.
        flags: instruction sets as Linux names them; empty where it is not Linux.
    """

    model: str
    cores: int
    flags: frozenset[str] = frozenset()

    @property
    def bf16(self) -> bool:
        """Whether it multiplies bfloat16."""
        return bool(self.flags & BF16)

    @property
    def int8(self) -> bool:
        """Whether it sums products of int8 in one instruction (VNNI); without, int8 gains little, or loses."""
        return bool(self.flags & DOT_PRODUCTS)


def find_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """Read the processor from Linux's ``cpuinfo``; elsewhere only its name is known."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found: dict[str, str] = {}
    for line in lines:
        key, separator, value = line.partition(":")
        if separator:
            found.setdefault(key.strip().lower(), value.strip())
    flags = frozenset((found.get("flags") or found.get("features") or "").split())
    return Processor(found.get("model name") or platform.processor() or platform.machine(), usable_cores(), flags)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
