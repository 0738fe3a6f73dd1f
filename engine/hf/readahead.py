"""Brings a checkpoint's bytes into the page cache in file order, where they fit."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from engine.checkpoint import StoredTensor
from engine.hf.progress import Progress
from engine.plan.loading import READ_AHEAD_SHARE
from engine.ram import read_ram
from engine.values import LoadStage

BLOCK_BYTES = 8 << 20


def read_ahead(tensors: Iterable[StoredTensor], progress: Progress) -> None:
    """Read every file that holds one of the tensors; they are mapped later, and then found in RAM.

    Skipped where the files would take more than READ_AHEAD_SHARE of the RAM that is free under every
    ceiling: what is read first would be gone again. Raises LoadCancelled within one block.
    """
    files = sorted({tensor.file for tensor in tensors})
    total = sum(file.stat().st_size for file in files)
    ram = read_ram()
    if total > READ_AHEAD_SHARE * (ram.total_bytes - ram.ram_used):
        return
    progress.begin(LoadStage.READ, total)
    done = 0
    for file in files:
        done += _read(file, done, progress)


def _read(file: Path, before: int, progress: Progress) -> int:
    block = bytearray(BLOCK_BYTES)
    done = 0
    with file.open("rb", buffering=0) as source:
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := source.readinto(block):
            done += count
            progress.reach(before + done)
    return done
