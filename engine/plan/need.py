"""What every module of one footprint needs at one context window."""

from __future__ import annotations

from engine.plan.footprint import Footprint
from engine.plan.module import Module

KEPT_STATES = 2
"""Copies that the KV cache keeps of layers which cannot be cropped, to go back to."""
_ENDLESS = 1 << 40


class Need:
    """Bytes by module: weights, cache, and what a device that computes holds beside them."""

    def __init__(self, footprint: Footprint, context_window: int) -> None:
        """Add up what does not depend on the placement.

        Args:
            footprint: what the model needs.
            context_window: tokens the KV cache is reserved for.
        """
        self.footprint = footprint
        self.context_window = context_window
        self.modules = [module for module in footprint.modules if not module.tied_to]
        self.layers = [module for module in self.modules if module.layer is not None]
        self.kv = {m.name: cached_bytes(footprint, m, context_window) for m in self.modules}
        self.kv_bytes = sum(self.kv.values())
        self.activation_bytes = footprint.activation_bytes(context_window)
        self.gpu_activation_bytes = (
            footprint.activation_bytes(context_window, gpu=True) or self.activation_bytes
        )


def cached_bytes(footprint: Footprint, module: Module, context_window: int) -> int:
    """Bytes of one module's cache at the full window, with the kept copies of what cannot be cropped.

    A sliding window is kept whole; of linear attention, the state of constant size.
    """
    size = footprint.module_kv_bytes(module, context_window)
    longest = footprint.module_kv_bytes(module, _ENDLESS)
    forgets = longest == footprint.module_kv_bytes(module, 2 * _ENDLESS)
    return size + KEPT_STATES * (size if forgets else footprint.module_kv_bytes(module, 0))
