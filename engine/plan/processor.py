"""What this machine's CPU can do, as the kernel tells."""

from __future__ import annotations

import functools
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_FIRST_CORE = 16384
"""Characters; the first core's entry, with its flags, is shorter."""


@functools.cache
def has_matrix_units() -> bool:
    """Whether it multiplies tiles (AMX), for which torch's attention packs keys and values anew."""
    return "amx_tile" in _flags()


@functools.cache
def has_bf16_products() -> bool:
    """Whether it multiplies bf16 (AVX512-BF16), for which bitsandbytes arranges packed weights anew."""
    return "avx512_bf16" in _flags()


def _flags() -> list[str]:
    """Words of the first core's entry; none where the kernel does not tell."""
    try:
        with _CPU_INFO.open(encoding="ascii", errors="replace") as file:
            return file.read(_FIRST_CORE).split()
    except OSError:
        return []
