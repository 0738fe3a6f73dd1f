"""Have the kernels compiled while models are being chosen, and hand them out once they are trusted."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from engine.hf.native.build import Missing, builds_folder, built_library
from engine.hf.native.chunks import attended
from engine.hf.native.library import FORMATS, Kernels
from engine.hf.native.linears import NativeLinear
from engine.hf.native.matrix import matrix_of
from engine.hf.native.products import LARGEST_ERROR, is_served, multiplied

LONGEST_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.05


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
    right = all(_multiplies(found, dtype) and _attends(found, dtype) for dtype in FORMATS)
    return found if right and _multiplies_chunks(found) else Missing.TRUST


@torch.inference_mode()
def _multiplies(found: Kernels, dtype: torch.dtype) -> bool:
    layer = _layer(83, 37, dtype)
    x = torch.linspace(-1, 1, 3 * 83).view(3, 83).to(dtype)
    matrix = matrix_of(layer, found)
    if matrix is None:
        return False
    return _are_close(NativeLinear(layer, matrix, found)(x), layer(x))


@torch.inference_mode()
def _attends(found: Kernels, dtype: torch.dtype) -> bool:
    query = _waves(1, 6, 7, 21).to(dtype)
    key, value = _waves(1, 2, 131, 21).to(dtype), _waves(1, 2, 131, 13).to(dtype)
    mask = torch.ones(1, 1, 7, 131, dtype=torch.bool).tril(124)
    ours = attended(found, (query, key, value), mask, 0.5)
    own = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.5, enable_gqa=True)
    return _are_close(ours, own.transpose(1, 2))


@torch.inference_mode()
def _multiplies_chunks(found: Kernels) -> bool:
    layer = _layer(608, 37, torch.bfloat16)
    matrix = matrix_of(layer, found)
    if matrix is None or not is_served(matrix, found):
        return True
    x = torch.linspace(-1, 1, 13 * 608).view(13, 608).to(torch.bfloat16)
    return _are_close(multiplied(found, matrix, x), layer(x))


def _layer(columns: int, rows: int, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(columns, rows, device="meta").to_empty(device="cpu").to(dtype)
    for parameter in layer.parameters():
        parameter.copy_(_waves(*parameter.shape))
    return layer


def _waves(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape)).sin().view(shape)


def _are_close(ours: torch.Tensor, own: torch.Tensor) -> bool:
    return bool((ours - own).float().abs().max() <= LARGEST_ERROR * own.float().abs().max())
