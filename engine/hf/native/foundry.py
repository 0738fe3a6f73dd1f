"""Have the kernels compiled while models are being chosen, and hand them out once they are trusted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from engine.hf.native.build import Missing, builds_folder, built_library
from engine.hf.native.library import FORMATS, Kernels
from engine.hf.native.linears import NativeLinear
from engine.hf.native.matrix import matrix_of

LONGEST_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.05
LARGEST_ERROR = 0.02
"""Of the largest result: more than the rounding of bf16, which has eight bits."""


class Foundry:
    """Builds in a thread of its own, in which no torch is called."""

    def __init__(self) -> None:
        """Begin to build, where the person did not switch the kernels off."""
        self._library: Path | Missing = Missing.ASKED
        self._kernels: Kernels | Missing | None = None
        folder = builds_folder()
        self._thread = threading.Thread(target=self._build, args=(folder,), name="kernels", daemon=True)
        self._thread.start()

    def _build(self, folder: Path | None) -> None:
        if folder is not None:
            self._library = built_library(folder)

    def kernels(self, check: Callable[[], None], *, waits: bool = True) -> Kernels | Missing:
        """Return the kernels, or why there are none; on the thread that will run them.

        Args:
            check: called while a build is waited for; what it raises ends the wait.
            waits: for a build that is under way.
        """
        give_up_at = time.monotonic() + (LONGEST_WAIT_SECONDS if waits else 0.0)
        while self._thread.is_alive() and time.monotonic() < give_up_at:
            check()
            self._thread.join(POLL_SECONDS)
        if self._thread.is_alive():
            return Missing.LATE
        if self._kernels is None:
            self._kernels = self._library if isinstance(self._library, Missing) else trusted(self._library)
        return self._kernels


def trusted(library: Path) -> Kernels | Missing:
    """Load kernels and compare them with torch on shapes that nothing divides."""
    try:
        found = Kernels(library)
    except (OSError, AttributeError):
        return Missing.BUILD
    return found if all(_multiplies(found, dtype) for dtype in FORMATS) else Missing.TRUST


@torch.inference_mode()
def _multiplies(found: Kernels, dtype: torch.dtype) -> bool:
    layer = nn.Linear(83, 37, device="meta").to_empty(device="cpu").to(dtype)
    for parameter in layer.parameters():
        parameter.copy_(torch.arange(parameter.numel()).sin().view(parameter.shape))
    x = torch.linspace(-1, 1, 3 * 83).view(3, 83).to(dtype)
    matrix = matrix_of(layer, found)
    if matrix is None:
        return False
    ours, own = NativeLinear(layer, matrix, found)(x), layer(x)
    return bool((ours - own).float().abs().max() <= LARGEST_ERROR * own.float().abs().max())
