"""Layers that rest in RAM and compute on the GPU: copied there while the layers before them compute."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import Module, Parameter

from engine.hf.protocols import CausalModel
from engine.hf.tiers.blob import host_block, layout_of
from engine.hf.tiers.link import TensorLink, link_to
from engine.hf.tiers.moved import bring_cache, moved
from engine.hf.tiers.schedule import StreamSchedule
from engine.hf.tiers.seat import Seat

BUFFERS = 2
RAM = torch.device("cpu")

MakeLink = Callable[[Sequence[torch.Tensor]], TensorLink]


def refusal(model: CausalModel, layers: Iterable[Module]) -> str:
    """Say in one sentence why these layers cannot be streamed; empty where they can."""
    uses: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    for layer in layers:
        for name, parameter in layer.named_parameters():
            reason = _refusal(parameter, uses.get(id(parameter), 1))
            if reason:
                return f"Its {name} {reason}: accelerate copies these layers."
    return ""


def _refusal(parameter: Parameter, uses: int) -> str:
    if type(parameter) is not Parameter:
        return f"is stored as {type(parameter).__name__}"
    if parameter.is_meta:
        return "is not in RAM"
    if not parameter.is_contiguous():
        return "is not stored row by row"
    return "is shared with another module" if uses > 1 else ""


class StreamTier:
    """Layers of one model whose weights rest in blocks of RAM; engine thread only.

    While such a layer is entered, its parameters are views of a buffer on the device; at all other
    times they are views of RAM, so that whoever looks at the model sees true weights, and where they rest.
    """

    def __init__(self, layers: Mapping[int, Module], device: torch.device, buffers: int = BUFFERS) -> None:
        """Prepare; `attach` does the work."""
        self.device = device
        self._layers = dict(sorted(layers.items()))
        self._layouts = {index: layout_of(layer.parameters()) for index, layer in self._layers.items()}
        self._count = min(buffers, len(self._layers))
        self._seats: dict[int, Seat] = {}
        self._entered: Seat | None = None
        self._hooks: list[Any] = []
        self._buffers: list[torch.Tensor] = []
        self._link: TensorLink | None = None
        self._streamed: frozenset[int] = frozenset()
        self._moves_cache = False

    @classmethod
    def attach(
        cls,
        layers: Mapping[int, Module],
        device: torch.device,
        *,
        buffers: int = BUFFERS,
        note: Callable[[int], None] = lambda _: None,
        make_link: MakeLink = link_to,
    ) -> StreamTier:
        """Stream these layers from now on.

        Args:
            layers: by their place in the model, which is their place in its cache, too; with weights in
                RAM that `refusal` has nothing against.
            device: where they compute.
            buffers: on the device, each as large as the largest layer.
            note: is told the bytes taken so far, and may raise to stop.
            make_link: the way to the device.
        """
        with torch.inference_mode(mode=False), torch.no_grad(), contextlib.ExitStack() as undo:
            tier = cls(layers, device, buffers)
            undo.callback(tier.close)
            tier._take(make_link, note)
            undo.pop_all()
        return tier

    @property
    def ram_bytes(self) -> int:
        """Page-locked bytes in RAM."""
        return sum(layout.nbytes for layout in self._layouts.values())

    @property
    def refused(self) -> int:
        """Layers whose pages the driver does not lock: their copies are slow."""
        return self._link.refused if self._link else 0

    @property
    def device_bytes(self) -> int:
        """Bytes of the buffers on the device."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def follow(self, streamed: Collection[int]) -> None:
        """From the next forward on stream only these of the layers; the CPU computes the others in RAM.

        A prompt streams all of them; single tokens may be cheaper where the weights are. Hidden states
        and what a layer keeps in the KV cache move with the place of its computing.
        """
        self._streamed = frozenset(streamed)
        self._moves_cache = True
        self._schedule.follow([index for index in self._layers if index in self._streamed])

    def close(self) -> None:
        """Free the blocks and the buffers; the layers have no weights any more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._link is not None:
            self._link.close()
            self._link = None
        for seat in self._seats.values():
            seat.clear()
        self._seats.clear()
        self._entered = None
        self._buffers.clear()

    def _take(self, make_link: MakeLink, note: Callable[[int], None]) -> None:
        longest = max(layout.nbytes for layout in self._layouts.values())
        self._buffers += [
            torch.empty(longest, dtype=torch.uint8, device=self.device) for _ in range(self._count)
        ]
        self._link = make_link(self._buffers)
        taken = 0
        for index, layer in self._layers.items():
            layout = self._layouts[index]
            block = host_block(layout.nbytes)
            self._seats[index] = Seat(layer, layout, block, self._buffers)
            self._link.hold(index, block)
            taken += layout.nbytes
            note(taken)
        self._streamed = frozenset(self._layers)
        self._schedule = StreamSchedule(list(self._layers), self._count, self._link)
        self._schedule.begin()
        for index, layer in self._layers.items():
            self._watch(index, layer)

    def _watch(self, index: int, layer: Module) -> None:
        def before(_: Module, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - whatever the family passes
            return self._before(index, args, kwargs)

        def after(_: Module, __: Any, output: Any) -> Any:  # noqa: ANN401 - likewise
            return self._after(index, output)

        self._hooks += [
            layer.register_forward_pre_hook(before, with_kwargs=True),
            layer.register_forward_hook(after),
        ]

    def _before(self, index: int, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - whatever the family passes
        """Also ends the visit of a layer whose forward was left halfway."""
        self._rest()
        streams = index in self._streamed
        place = self.device if streams else RAM
        if streams:
            self._entered = self._seats[index]
            self._entered.enter(self._schedule.enter(index))
        if self._moves_cache:
            bring_cache((*args, *kwargs.values()), index, place)
        return moved(args, place), moved(kwargs, place)

    def _after(self, index: int, output: Any) -> Any:  # noqa: ANN401 - whatever the family returns
        if index not in self._streamed:
            return moved(output, self.device)
        self._rest()
        self._schedule.leave()
        return output

    def _rest(self) -> None:
        if self._entered is not None:
            self._entered.leave()
            self._entered = None
