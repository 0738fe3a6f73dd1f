"""The modules that stay on GPUs when some of those outside the main list have left."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain

from engine.plan.module import Module
from engine.plan.need import Need


class Row:
    """Modules in forward order, cut short behind any number of layers."""

    def __init__(self, need: Need, left_out: frozenset[str]) -> None:
        """Add up what does not depend on the number of layers.

        Args:
            need: of the model.
            left_out: names of modules outside the main list that lie elsewhere.
        """
        self._need = need
        self._left_out = left_out
        first = need.layers[0].name if need.layers else ""
        names = [module.name for module in need.modules]
        at = names.index(first) if first else len(names)
        stay = [module for module in need.modules if module.name not in left_out]
        self._before = [m.bytes for m in stay if m.layer is None and names.index(m.name) < at]
        self._after = [m.bytes for m in stay if m.layer is None and names.index(m.name) >= at]
        self._sizes = [layer.bytes + need.kv[layer.name] for layer in need.layers]
        self._weight_sums = list(accumulate((layer.bytes for layer in need.layers), initial=0))
        self._kv_sums = list(accumulate((need.kv[layer.name] for layer in need.layers), initial=0))
        self._widest = max((layer.plain_bytes for layer in need.layers), default=0)
        self._widest_out = max((m.plain_bytes for m in need.modules if m.name in left_out), default=0)

    def most_layers(self, room: int) -> int:
        """No more layers than this can be kept in so many bytes, whatever GPUs they are of."""
        outside = sum(self._before) + sum(self._after)
        return bisect_right(self._weight_sums, room - self._need.kv_bytes - outside) - 1

    def sums(self, layers: int) -> list[int]:
        """Bytes of the first 0, 1, 2 ... modules when so many layers are kept, with their KV cache."""
        return list(accumulate(chain(self._before, self._sizes[:layers], self._after), initial=0))

    def moved_kv_bytes(self, layers: int) -> int:
        """The KV cache of the layers behind."""
        return self._need.kv_bytes - self._kv_sums[layers]

    def buffer_bytes(self, layers: int) -> int:
        """The largest module that lies elsewhere, which is held while it is at work."""
        widest = self._widest if layers < len(self._need.layers) else 0
        return max(widest, self._widest_out)

    def parted(self, layers: int) -> tuple[Sequence[Module], Sequence[Module]]:
        """What is kept and what lies elsewhere, in forward order."""
        gone = self._left_out | {layer.name for layer in self._need.layers[layers:]}
        kept = [module for module in self._need.modules if module.name not in gone]
        return kept, [module for module in self._need.modules if module.name in gone]
