"""Rotary positions: the tables that a model's own module gives, a stretch of positions at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.hf.native.library import Foreign

STRETCH = 256
POSITION_DEPENDENT = {"dynamic", "longrope"}
"""Kinds whose angles depend on how far the tokens of a step reach: each step has its own."""


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines [positions, rotated / 2], fp32 with the values that the model computes with."""

    cosines: torch.Tensor
    sines: torch.Tensor
    interleaved: bool


class RotaryTables:
    """Every kind of rotary positions that a model's layers use, over the same stretch of positions."""

    def __init__(self, module: Foreign, dtype: torch.dtype, *, interleaved: bool) -> None:
        """Begin with no kind.

        Args:
            module: the model's own.
            dtype: that the model computes in.
            interleaved: pairs are neighbours.
        """
        self._module = module
        self._sample = torch.empty(0, dtype=dtype)
        self._interleaved = interleaved
        self._tables: dict[str | None, Rotary] = {}
        self._stretch = STRETCH
        self._first = self._end = 0

    def of(self, kind: str | None) -> Rotary:
        """Return the table of one kind of layers; `row` fills it."""
        kind = kind if hasattr(self._module, f"{kind}_inv_freq") else None
        if kind not in self._tables:
            half = self._computed(kind, 0, 1)[0].shape[1]
            cosines, sines = torch.zeros(2, STRETCH, half)
            self._tables[kind] = Rotary(cosines, sines, self._interleaved)
            if self._rope_type(kind) in POSITION_DEPENDENT:
                self._stretch = 0
        return self._tables[kind]

    def row(self, position: int, tokens: int) -> int:
        """Return the row of a position, from which on the tables hold that of so many tokens."""
        if not self._stretch or position < self._first or position + tokens > self._end:
            self._fill(position, self._stretch or tokens)
        return position - self._first

    def _fill(self, first: int, positions: int) -> None:
        for kind, table in self._tables.items():
            cosines, sines = self._computed(kind, first, positions)
            table.cosines[:positions], table.sines[:positions] = cosines, sines
        self._first, self._end = first, first + positions

    def _computed(self, kind: str | None, first: int, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.arange(first, first + positions).unsqueeze(0)
        found = self._module(self._sample, ids, *([] if kind is None else [kind]))
        half = found[0].shape[-1] // 2
        cosines, sines = (table[0, :, :half].float() for table in found)
        return cosines, sines

    def _rope_type(self, kind: str | None) -> Foreign:
        named: Foreign = getattr(self._module, "rope_type", "default")
        return named if kind is None else named[kind]
