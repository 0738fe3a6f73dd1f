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
    try:
        with _CPU_INFO.open(encoding="ascii", errors="replace") as file:
            return "amx_tile" in file.read(_FIRST_CORE).split()
    except OSError:
        return False
