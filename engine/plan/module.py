"""One module of a footprint."""

from __future__ import annotations

from engine.values import Value


class Module(Value, frozen=True, kw_only=True):
    """One module that is placed as a whole.

    Attributes:
        name: as accelerate's device_map wants it.
        bytes: its weights and buffers once loaded, quantized where that was asked for.
        plain_bytes: the same without quantizing on load.
        rewritten_bytes: of plain_bytes, what the disk tier cannot read in place.
        layer: its index in the main list; None outside of it.
        tied_to: the module whose weights it shares; empty for none.
        active_share: the part of its bytes that one token reads.
        tensors: number of its tensors, tied ones not counted.
        matrices: of those, the weights of linear layers outside of experts.
        widest_elements: elements of the largest matrix that quantizing on load would pack; 0 for none.
        is_computed: it holds buffers that the model computes, and nothing of the checkpoint.
    """

    name: str
    bytes: int
    plain_bytes: int
    rewritten_bytes: int = 0
    layer: int | None = None
    tied_to: str = ""
    active_share: float = 1.0
    tensors: int = 0
    matrices: int = 0
    widest_elements: int = 0
    is_computed: bool = False
