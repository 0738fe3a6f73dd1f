"""Translate a model's decoder layers into operations, by their modules' names and shapes.

Nothing here knows a family by name. What a translation gets wrong shows when its logits are compared
with the model's own, which happens before it is ever used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from engine.hf.native.library import FORMATS, Flag, Foreign, Format, Kernels, Kind, Room
from engine.hf.native.matrix import matrix_of
from engine.hf.native.program import Matrix, Program, scratch_width
from engine.hf.native.rotary import Rotary

ACTIVATIONS = {
    "SiLUActivation": 0,
    "SiLU": 0,
    "GELUActivation": 1,
    "GELU": 1,
    "GELUTanh": 2,
    "PytorchGELUTanh": 2,
    "NewGELUActivation": 2,
    "ReLU": 3,
}


class Untranslatable(Exception):  # noqa: N818 -- no error: the model's own code runs instead
    """A module is not one of those that operations exist for."""


@dataclass(frozen=True)
class Heads:
    """The shape of one layer's attention.

    Attributes:
        queries: query heads.
        keys: key-value heads.
        width: of a query or key.
        value_width: of a value.
        splits: into how many stretches the cache may be cut for the threads.
        window: tokens that one sees, itself among them; 0 for all.
    """

    queries: int
    keys: int
    width: int
    value_width: int
    splits: int
    window: int


@dataclass(frozen=True)
class State:
    """The buffers that a layer's operations share.

    Attributes:
        hidden: the residual stream.
        normed: behind a norm.
        part: what attention or the feed-forward adds.
    """

    hidden: torch.Tensor
    normed: torch.Tensor
    part: torch.Tensor


class LayerWriter:
    """Appends one decoder layer's operations to a program."""

    def __init__(self, program: Program, state: State, kernels: Kernels) -> None:
        """Keep where to write and the buffers to write with."""
        self._program = program
        self._state = state
        self._kernels = kernels

    def write(self, layer: Foreign, heads: Heads, rotary: Rotary, room: Room) -> None:
        """Append a layer.

        Raises:
            Untranslatable: some module is unknown.
        """
        state = self._state
        attention = _child(layer, "self_attn", "attention")
        self._program.norm(_child(layer, "input_layernorm"), state.hidden, state.normed)
        attended = self._attend(attention, heads, rotary, room)
        output = self._matrix(_child(attention, "o_proj", "dense"))
        if getattr(layer, "use_parallel_residual", False):
            self._parallel(layer, output, attended)
        elif hasattr(layer, "post_feedforward_layernorm"):
            self._sandwiched(layer, output, attended)
        else:
            self._program.linear(output, attended, state.hidden, state.hidden)
            self._program.norm(_child(layer, "post_attention_layernorm"), state.hidden, state.normed)
            self._feed_forward(layer, state.hidden, state.hidden)

    def _parallel(self, layer: Foreign, output: Matrix, attended: torch.Tensor) -> None:
        """Attention and feed-forward start from the same hidden state."""
        state = self._state
        if getattr(layer, "post_attention_layernorm", None) is not None:
            raise Untranslatable("parallel residual with two norms")
        self._program.linear(output, attended, state.hidden, state.hidden, flags=Flag.GOES_ON)
        self._feed_forward(layer, state.hidden, state.hidden)

    def _sandwiched(self, layer: Foreign, output: Matrix, attended: torch.Tensor) -> None:
        """Norms before and behind both halves."""
        state, program = self._state, self._program
        program.linear(output, attended, state.part)
        program.norm(_child(layer, "post_attention_layernorm"), state.part, state.part)
        self._add_part()
        program.norm(_child(layer, "pre_feedforward_layernorm"), state.hidden, state.normed)
        self._feed_forward(layer, state.part, None)
        program.norm(_child(layer, "post_feedforward_layernorm"), state.part, state.part)
        self._add_part()

    def _add_part(self) -> None:
        state = self._state
        width = state.hidden.shape[1]
        self._program.add(Kind.ADD, columns=width, input=state.hidden, other=state.part, output=state.hidden)

    def _attend(self, attention: Foreign, heads: Heads, rotary: Rotary, room: Room) -> torch.Tensor:
        program = self._program
        queries = program.buffer("queries", heads.queries * heads.width)
        keys = program.buffer("keys", heads.keys * heads.width)
        values = program.buffer("values", heads.keys * heads.value_width)
        self._project(attention, (queries, keys, values))
        for norm, buffer, count in (("q_norm", queries, heads.queries), ("k_norm", keys, heads.keys)):
            if getattr(attention, norm, None) is not None:
                self._head_norm(getattr(attention, norm), buffer, count, heads.width)
        for buffer, count in ((queries, heads.queries), (keys, heads.keys)):
            self._rotate(buffer, count, heads, rotary, goes_on=buffer is queries)
        return self._look_up(attention, heads, room, (queries, keys, values))

    def _project(self, attention: Foreign, buffers: tuple[torch.Tensor, ...]) -> None:
        if hasattr(attention, "qkv_proj"):
            whole = self._matrix(attention.qkv_proj)
            matrices = _split(whole, [buffer.shape[1] for buffer in buffers])
        else:
            matrices = [self._matrix(_child(attention, name)) for name in ("q_proj", "k_proj", "v_proj")]
        for matrix, buffer in zip(matrices, buffers, strict=True):
            if matrix.rows != buffer.shape[1]:
                raise Untranslatable("heads of other widths")
            last = buffer is buffers[-1]
            self._program.linear(matrix, self._state.normed, buffer, flags=0 if last else Flag.GOES_ON)

    def _head_norm(self, norm: Foreign, buffer: torch.Tensor, count: int, width: int) -> None:
        if norm.weight.shape != (width,):
            raise Untranslatable("a norm over all heads")
        self._program.norm(norm, buffer, buffer, groups=count)

    def _rotate(
        self, buffer: torch.Tensor, count: int, heads: Heads, rotary: Rotary, *, goes_on: bool
    ) -> None:
        flags = (Flag.GOES_ON if goes_on else 0) | (Flag.INTERLEAVED if rotary.interleaved else 0)
        self._program.add(
            Kind.ROTATE, flags=flags, columns=heads.width, rows=count, head_width=2 * rotary.cosines.shape[1],
            output=buffer, cosines=rotary.cosines, sines=rotary.sines,
        )  # fmt: skip

    def _look_up(
        self, attention: Foreign, heads: Heads, room: Room, buffers: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        program = self._program
        queries, keys, values = buffers
        shape = {
            "format": FORMATS[program.dtype], "heads": heads.queries, "kv_heads": heads.keys, "cache": room,
            "head_width": heads.width, "value_width": heads.value_width, "splits": heads.splits,
            "window": heads.window,
            "scale": float(attention.scaling),
            "softcap": getattr(attention, "attn_logit_softcapping", None) or 0.0,
            "scratch": program.buffer(
                "scratch", scratch_width(heads.queries, heads.value_width, heads.splits)
            ),
        }  # fmt: skip
        attended = program.buffer("attended", heads.queries * heads.value_width)
        program.add(Kind.STORE, input=keys, other=values, **shape)
        program.add(Kind.ATTEND, input=queries, output=attended, **shape)
        program.add(Kind.JOIN, input=queries, output=attended, **shape)
        return attended

    def _feed_forward(self, layer: Foreign, result: torch.Tensor, residual: torch.Tensor | None) -> None:
        mlp = _child(layer, "mlp")
        if hasattr(mlp, "experts"):
            self._experts(mlp, residual)
            return
        if hasattr(mlp, "gate_up_proj"):
            whole = self._matrix(mlp.gate_up_proj)
            gate, up = _split(whole, [whole.rows // 2] * 2)
        else:
            gate, up = self._matrix(_child(mlp, "gate_proj")), self._matrix(_child(mlp, "up_proj"))
        inner = self._gated(gate, up, _activation(mlp))
        self._program.linear(self._matrix(_child(mlp, "down_proj")), inner, result, residual)

    def _gated(self, gate: Matrix, up: Matrix, activation: int, **fields: Foreign) -> torch.Tensor:
        """Append activation(gate x) * (up x) and return its buffer."""
        program = self._program
        gated, inner = program.buffer("gated", gate.rows), program.buffer("inner", up.rows)
        program.linear(gate, self._state.normed, gated, flags=Flag.GOES_ON, **fields)
        program.linear(up, self._state.normed, inner, **fields)
        program.add(
            Kind.ACTIVATE, columns=gate.rows, activation=activation, input=gated, other=inner, output=inner
        )
        return inner

    def _experts(self, mlp: Foreign, residual: torch.Tensor | None) -> None:
        """Append a router and the experts that it chooses; merged weights [experts, rows, columns]."""
        if residual is None or any(
            getattr(mlp, name, None) is not None for name in ("shared_expert", "shared_experts")
        ):
            raise Untranslatable("shared experts")
        program, state = self._program, self._state
        router, experts = _child(mlp, "gate", "router"), mlp.experts
        gate_up, down = _stacked(experts, "gate_up_proj"), _stacked(experts, "down_proj")
        choices = int(router.top_k)
        logits, weights = program.buffer("router", gate_up.shape[0]), program.buffer("choices", choices)
        chosen = torch.zeros(8 * choices, dtype=torch.int32)
        program.linear(_plain(router.weight), state.normed, logits)
        normalized = getattr(router, "norm_topk_prob", True)
        program.add(
            Kind.ROUTE, columns=gate_up.shape[0], choices=choices, flags=Flag.NORMALIZED if normalized else 0,
            input=logits, output=weights, selected=chosen,
        )  # fmt: skip
        half = gate_up.shape[1] // 2
        for slot in range(choices):
            pick: dict[str, Foreign] = {"selected": chosen, "choices": choices, "slot": slot}
            first = {"expert_bytes": gate_up[0].nbytes, **pick}
            inner = self._gated(
                _plain(gate_up[0, :half]), _plain(gate_up[0, half:]), _activation(experts), **first
            )
            result = program.buffer("expert", down.shape[1])
            program.linear(_plain(down[0]), inner, result, expert_bytes=down[0].nbytes, **pick)
            program.add(
                Kind.MIX, columns=down.shape[1], choices=choices, slot=slot,
                input=result, other=weights, output=state.part,
            )  # fmt: skip
        self._add_part()

    def _matrix(self, module: Foreign) -> Matrix:
        matrix = matrix_of(module, self._kernels)
        if matrix is None:
            raise Untranslatable(f"weights of {type(module).__name__}")
        return matrix


def _child(module: Foreign, *names: str) -> Foreign:
    for name in names:
        found = getattr(module, name, None)
        if isinstance(found, nn.Module):
            return found
    raise Untranslatable(f"{type(module).__name__} without {names[0]}")


def _split(whole: Matrix, widths: list[int]) -> list[Matrix]:
    if whole.scales is not None or sum(widths) != whole.rows:
        raise Untranslatable("quantized weights that were merged")
    starts = [sum(widths[:i]) for i in range(len(widths))]
    return [whole.part(start, width) for start, width in zip(starts, widths, strict=True)]


def _plain(weight: torch.Tensor) -> Matrix:
    weight = weight.detach()
    if weight.dtype not in FORMATS or not weight.is_contiguous():
        raise Untranslatable("weights of another type")
    return Matrix(Format(FORMATS[weight.dtype]), weight.shape[0], weight.shape[1], weight)


def _stacked(experts: Foreign, name: str) -> torch.Tensor:
    weight = getattr(experts, name, None)
    if not isinstance(weight, torch.Tensor) or weight.dim() != 3:  # noqa: PLR2004 -- [experts, rows, columns]
        raise Untranslatable(f"experts without {name}")
    return weight.detach()


def _activation(module: Foreign) -> int:
    named: Callable[..., object] | None = getattr(module, "act_fn", None) or getattr(
        module, "activation_fn", None
    )
    name = type(named).__name__
    if name not in ACTIVATIONS:
        raise Untranslatable(f"activation {name}")
    return ACTIVATIONS[name]
