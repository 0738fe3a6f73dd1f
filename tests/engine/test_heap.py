"""Freed memory is taken again, not fetched anew from the kernel."""

from __future__ import annotations

import subprocess
import sys

COUNT_MAPPED = """
import ctypes, sys
from engine.heap import reuse_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = (ctypes.c_size_t,)
fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
Info = type("Info", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in fields]})
libc.mallinfo2.restype = Info
if sys.argv[1] == "reuse":
    reuse_freed_memory()
before = libc.mallinfo2().hblks
libc.malloc(24 << 20)
print(libc.mallinfo2().hblks - before)
"""


def mapped_blocks(mode: str) -> int:
    """How many blocks of their own the kernel gave for 24 MiB."""
    command = [sys.executable, "-c", COUNT_MAPPED, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_large_block_comes_from_the_heap_where_freed_memory_is_reused() -> None:
    assert (mapped_blocks("left alone"), mapped_blocks("reuse")) == (1, 0)
