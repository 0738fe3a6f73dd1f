"""Let linear layers and attention of any architecture use the kernels, a few tokens at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from engine.hf.native.chunks import ChunkAttention
from engine.hf.native.library import FORMATS, MAX_TOKENS, Foreign, Kernels, Kind, Room
from engine.hf.native.matrix import matrix_of
from engine.hf.native.program import Buffers, Matrix, Program, scratch_width, splits_for

ATTENTION = "vramble"


class NativeLinear:
    """Stands in for a linear layer's forward; what it was not made for goes to the layer's own."""

    def __init__(
        self, module: Foreign, matrix: Matrix, kernels: Kernels, buffers: Buffers | None = None
    ) -> None:
        """Write the program of one operation.

        Args:
            module: the layer.
            matrix: its weights.
            kernels: to compute with.
            buffers: shared by the layers of a model.
        """
        self._own: Callable[[torch.Tensor], torch.Tensor] = module.forward
        self._rows = matrix.rows
        self._kernels = kernels
        self._writer = Program(torch.float32, buffers)
        self._input = self._writer.buffer("input", matrix.columns)
        self._output = self._writer.buffer("output", matrix.rows)
        self._writer.linear(matrix, self._input, self._output)
        self._program = self._writer.finished()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for x [..., columns]."""
        tokens = x.numel() // x.shape[-1]
        served = 0 < tokens <= MAX_TOKENS and x.dtype in FORMATS and x.device.type == "cpu"
        if not served or torch.is_grad_enabled():
            return self._own(x)
        self._program[0].rounding = FORMATS[x.dtype]
        self._input[:tokens].copy_(x.reshape(tokens, -1))
        self._kernels.run(self._program, (0,) * tokens)
        return (
            self._output.view(-1)[: tokens * self._rows]
            .to(x.dtype, copy=True)
            .view(*x.shape[:-1], self._rows)
        )


class NativeLinears:
    """Linear layers of a model that have our forward; `undo` gives them their own again.

    Attributes:
        count: how many there are.
    """

    def __init__(self, model: Foreign, kernels: Kernels) -> None:
        """Give every linear layer in RAM our forward."""
        buffers = Buffers()
        self._modules: list[Foreign] = []
        for module in model.modules():
            matrix = matrix_of(module, kernels)
            if matrix is not None:
                module.forward = NativeLinear(module, matrix, kernels, buffers)
                self._modules.append(module)
        self.count = len(self._modules)

    def undo(self) -> None:
        """Take our forward away again."""
        for module in self._modules:
            del module.forward
        self._modules.clear()


class NativeAttention:
    """Attention of new tokens over a cache, in the signature of transformers' AttentionInterface."""

    def __init__(self, kernels: Kernels) -> None:
        """Keep what to compute with."""
        self._kernels = kernels
        self._of_chunks = ChunkAttention(kernels)
        self._programs: dict[tuple[object, ...], _Lookup] = {}

    def __call__(
        self, module: Foreign, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        attention_mask: torch.Tensor | None, **kwargs: float | bool | torch.Tensor | None,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        """Return attention [batch, tokens, heads, width]; several tokens have a kernel of their own."""
        if not _is_served(query, key, value, attention_mask, kwargs):
            return self._of_chunks(module, query, key, value, attention_mask, **kwargs)
        scaling = kwargs.get("scaling")
        scale = float(scaling) if isinstance(scaling, float) else query.shape[-1] ** -0.5
        shape = (
            query.dtype,
            query.shape[1],
            *key.shape[1::2],
            value.shape[-1],
            torch.get_num_threads(),
            scale,
        )
        if shape not in self._programs:
            self._programs[shape] = _Lookup(query, key, value, scale)
        return self._programs[shape].run(self._kernels, query, key, value), None


class _Lookup:
    """The program for one shape of heads."""

    def __init__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> None:
        writer = Program(query.dtype)
        heads, kv_heads = query.shape[1], key.shape[1]
        splits = splits_for(kv_heads)
        self._room = Room()
        self._query = writer.buffer("queries", heads * key.shape[-1])
        self._result = writer.buffer("attended", heads * value.shape[-1])
        shape = {
            "format": FORMATS[query.dtype], "heads": heads, "kv_heads": kv_heads, "cache": self._room,
            "head_width": key.shape[-1], "value_width": value.shape[-1], "splits": splits, "scale": scale,
            "scratch": writer.buffer("scratch", scratch_width(heads, value.shape[-1], splits)),
            "input": self._query, "output": self._result,
        }  # fmt: skip
        writer.add(Kind.ATTEND, **shape)
        writer.add(Kind.JOIN, **shape)
        self._writer = writer
        self._program = writer.finished()

    def run(
        self, kernels: Kernels, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Return [1, 1, heads, width] for a query [1, heads, 1, width] over [1, kv_heads, tokens, width]."""
        self._room.keys, self._room.values = key.data_ptr(), value.data_ptr()
        self._room.capacity, self._room.length = key.stride(1) // key.shape[-1], key.shape[2] - 1
        self._query[0].copy_(query.reshape(-1))
        kernels.run(self._program)
        return self._result[0].to(query.dtype, copy=True).view(1, 1, query.shape[1], -1)


def _is_served(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: Mapping[str, object],
) -> bool:
    plain = mask is None and query.shape[0] == 1 and query.shape[2] == 1 and key.shape[2] > 0
    extra = any(kwargs.get(name) is not None for name in ("softcap", "position_bias", "cache", "s_aux"))
    right = query.dtype == key.dtype == value.dtype and query.dtype in FORMATS and query.device.type == "cpu"
    return plain and right and not extra and not torch.is_grad_enabled() and _lies_alike(key, value)


def _lies_alike(key: torch.Tensor, value: torch.Tensor) -> bool:
    """Both are rooms of the same capacity with their numbers side by side."""
    width, value_width = key.shape[-1], value.shape[-1]
    rows = key.stride()[2:] == (width, 1) and value.stride()[2:] == (value_width, 1)
    alike = key.stride(1) * value_width == value.stride(1) * width and key.stride(1) % max(width, 1) == 0
    return rows and alike


def use_attention(model: Foreign, attend: Callable[..., object]) -> bool:
    """Let a model attend by a function of ours; False where it has attention code of its own.

    Args:
        model: of transformers.
        attend: in the signature of AttentionInterface; it takes the masks that sdpa takes.
    """
    if getattr(model.config, "_attn_implementation", None) not in ("sdpa", ATTENTION):
        return False
    AttentionInterface.register(ATTENTION, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)
    return True


def use_own_attention(model: Foreign) -> None:
    """Let a model attend by torch again."""
    if model.config._attn_implementation == ATTENTION:
        model.set_attn_implementation("sdpa")
