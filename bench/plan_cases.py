"""Which models are planned, loaded and talked to: every family, and every way to load one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from bench.models import make
from engine.values import Quantization

CONTEXTS = (512, 4096)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
LAYERS = {
    "llama": 10,
    "qwen3": 10,
    "gemma2": 12,
    "gpt2": 14,
    "gptj": 12,
    "bloom": 14,
    "gpt_neox": 10,
    "phi3": 10,
    "stablelm": 10,
    "mixtral": 4,
    "qwen3_moe": 4,
    "falcon_h1": 10,
    "llama_large": 16,
}
"""In bf16, for 0.35 to 0.55 GB; half as many in fp32. The large one takes 2.2 GB."""
_VARIANTS = tuple((context, dtype) for context in CONTEXTS for dtype in DTYPES)
_KINDS = (Quantization.NONE, Quantization.INT8, Quantization.NF4)


class Case(NamedTuple):
    """One planned load.

    Attributes:
        family: of the model.
        dtype: as stored and computed ("bf16").
        context_window: tokens.
        quantization: on load.
        ram_share: of what the plan needs when everything lies in RAM; under 1 moves layers to the disk.
    """

    family: str
    dtype: str
    context_window: int
    quantization: Quantization = Quantization.NONE
    ram_share: float = 0.0

    @property
    def model(self) -> str:
        """Names the checkpoint."""
        return f"{self.family}-{self.dtype}"

    @property
    def name(self) -> str:
        """Names the case in a table."""
        less = f" ram x{self.ram_share:g}" if self.ram_share else ""
        return f"{self.model} {self.context_window} {self.quantization}{less}"


def covering() -> Iterator[Case]:
    """Every family three ways, and every combination of context, dtype and quantization three times.

    Behind them, larger models and budgets that move layers to the disk.
    """
    families = [family for family in LAYERS if family != "llama_large"]
    for number, family in enumerate(families):
        for shift, kind in enumerate(_KINDS):
            context, dtype = _VARIANTS[(number + shift) % len(_VARIANTS)]
            yield Case(family, dtype, context, kind)
    yield Case("llama_large", "bf16", 512)
    yield Case("llama_large", "bf16", 4096, Quantization.INT8)
    yield Case("llama_large", "bf16", 4096, ram_share=0.6)
    for family, dtype, context in (("llama", "bf16", 512), ("gpt2", "fp32", 512), ("mixtral", "bf16", 512)):
        yield Case(family, dtype, context, ram_share=0.75)


def quick() -> Iterator[Case]:
    """Eight cases of eight families."""
    families = ("llama", "qwen3", "gemma2", "gptj", "bloom", "phi3", "mixtral", "falcon_h1")
    for number, family in enumerate(families):
        context, dtype = _VARIANTS[number % len(_VARIANTS)]
        yield Case(family, dtype, context, _KINDS[number % len(_KINDS)])


class Shelf:
    """Makes each checkpoint at its first use, and removes it after its last."""

    def __init__(self, parent: Path, cases: list[Case]) -> None:
        """Take a scratch folder, and all cases in their order."""
        self._parent = parent
        self._last = {case.model: number for number, case in enumerate(cases)}

    def folder(self, case: Case) -> Path:
        """The checkpoint of a case."""
        folder = self._parent / case.model
        if not folder.exists():
            layers = LAYERS[case.family] // (2 if case.dtype == "fp32" else 1)
            make(case.family, max(2, layers), DTYPES[case.dtype], folder)
        return folder

    def done(self, case: Case, number: int) -> None:
        """Remove a checkpoint that no later case uses."""
        if self._last[case.model] == number:
            shutil.rmtree(self._parent / case.model, ignore_errors=True)
