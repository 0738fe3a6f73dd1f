"""Measures what a real forward holds at once, storage by storage, apart from how a dry run counts it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


class LiveBytes(TorchDispatchMode):
    """The bytes of every storage that was made, or adopted, and is still alive; and the most at once."""

    def __init__(self, weights: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.peak = 0
        self.largest_real = 0
        self._known: dict[int, Any] = {tensor.untyped_storage()._cdata: None for tensor in weights}

    def adopt(self, values: object) -> None:
        for tensor in tree_leaves(values):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not ATTENTION:
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        made = func(*args, **(kwargs or {}))
        self.adopt(made)
        self.peak = max(self.peak, self.alive)
        return made

    def _follow(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        if not tensor.is_meta:
            self.largest_real = max(self.largest_real, size)
        self._known[key] = weakref.ref(storage, lambda _: self._end(key, size))
        self.alive += size

    def _end(self, key: int, size: int) -> None:
        del self._known[key]
        self.alive -= size
