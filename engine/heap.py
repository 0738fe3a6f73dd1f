"""How this process's heap keeps what is freed: a KV cache is copied to new memory for every token."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""glibc's numbers of the parameters."""
KEPT_BYTES = 256 << 20
GROWTH_BYTES = 48 << 20
"""Taken by live data or left in gaps, before the engine trims the heap again."""
LARGEST_REUSED_BYTES = 32 << 20
"""glibc takes no more; larger blocks come from the kernel, and go back to it."""


def reuse_freed_memory() -> None:
    """Let blocks of up to 32 MiB be taken from the heap, and keep some that are freed.

    Left alone, glibc maps large blocks anew: each page of them costs a fault, and with them a token
    at 4,096 tokens of context took 2 to 3 times as long. Called before other threads allocate;
    without effect where the C library is not glibc.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is None:
        return
    set_parameter(_ARENA_MAX, 1)
    set_parameter(_MMAP_THRESHOLD, LARGEST_REUSED_BYTES)
    set_parameter(_TRIM_THRESHOLD, KEPT_BYTES)
