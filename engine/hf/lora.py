"""LoRA adapters, merged into a checkpoint's weights one by one as transformers takes them."""

from __future__ import annotations

from typing import cast

import torch
from transformers.pytorch_utils import Conv1D

from engine.checkpoint import Verdict
from engine.checkpoint.files import shown
from engine.checkpoint.verdict import LoraPair
from engine.errors import DamagedCheckpoint, UnsupportedModel
from engine.hf.adapted import mapped_file, native_weights, view_of
from engine.hf.protocols import CausalModel
from engine.hf.tiers.direct import aligned_memory

BLOCK_BYTES = 32 << 20
"""Of float32, computed at once."""
_SINGLE = torch.float32.itemsize


def merged_weights(verdict: Verdict, skeleton: CausalModel) -> dict[str, object]:
    """Return a state dict of a base model with its adapter merged in.

    A weight that the adapter leaves alone is a view of its mapped file. Every other one is computed when
    transformers takes it, in memory of its own; packing and copies to a GPU come after that.

    Args:
        verdict: with an adapter.
        skeleton: the base model on no device.

    Raises:
        DamagedCheckpoint: the adapter holds infinite numbers.
        UnsupportedModel: its weight's layer is of a kind that is not known to be right here.
    """
    weights = native_weights(verdict)
    pairs, wholes = (verdict.adapter.pairs, verdict.adapter.wholes) if verdict.adapter else ((), ())
    mapped = {file: mapped_file(file) for file in {pair.a.file for pair in pairs}}
    modules = dict(cast("torch.nn.Module", skeleton).named_modules())
    weights |= {whole.target: view_of(whole.tensor, mapped[whole.tensor.file]) for whole in wholes}
    for pair in pairs:
        a, b = (view_of(tensor, mapped[tensor.file]) for tensor in (pair.a, pair.b))
        if not (a.isfinite().all() and b.isfinite().all()):
            raise DamagedCheckpoint(
                f"The adapter's matrices of {shown(pair.path)} are not finite.", "Get the adapter again."
            )
        is_turned = pair.is_embedding or _is_turned(modules, skeleton.base_model_prefix, pair)
        left, right = (a.T, b.T) if is_turned else (b, a)
        weights[pair.target] = Merged(cast("torch.Tensor", weights[pair.target]), left, right, pair.scale)
    return weights


def _is_turned(modules: dict[str, torch.nn.Module], prefix: str, pair: LoraPair) -> bool:
    """Say whether a layer keeps its weight as [columns, rows]. Raises UnsupportedModel for other layers."""
    names = (pair.path, f"{prefix}.{pair.path}", pair.path.removeprefix(f"{prefix}."))
    module = next((modules[name] for name in names if name in modules), None)
    if module is None or isinstance(module, torch.nn.Linear):
        return False
    if isinstance(module, Conv1D):
        return True
    raise UnsupportedModel(
        f"The adapter changes {shown(pair.path)}, a {type(module).__name__}, which is not merged here.",
        "Merge it into its base model (peft: merge_and_unload), and load that.",
    )


class Merged:
    """A weight with an adapter's share; it is computed when somebody asks for all of it."""

    def __init__(self, base: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
        """Take a weight, and the product left @ right of the same shape with its factor."""
        self._base = base
        self._left = left
        self._right = right
        self._scale = scale
        self.dtype = base.dtype

    def __getitem__(self, everything: object) -> torch.Tensor:
        """Return the merged weight; the sum is rounded once, from float32."""
        base, right = self._base, self._right.float()
        if base.shape != (len(self._left), right.shape[1]):
            message = "The adapter's matrices lie the other way round than its base model's weights."
            raise UnsupportedModel(message, "See whether it is the right base model.")
        merged = torch.frombuffer(aligned_memory(base.nbytes), dtype=base.dtype, count=base.numel())
        merged = merged.view(base.shape)
        step = max(1, BLOCK_BYTES // (_SINGLE * base.shape[1]))
        for first in range(0, len(base), step):
            rows = slice(first, first + step)
            share = self._left[rows].float() @ right
            merged[rows] = base[rows].float().add_(share, alpha=self._scale)
        return merged

    def is_floating_point(self) -> bool:
        """Tell, as a tensor does."""
        return self._base.is_floating_point()
