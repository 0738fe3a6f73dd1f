"""The disk tier: modules whose weights rest in the safetensors files, read ahead of their forward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch.utils.hooks import RemovableHandle

from engine.hf.heap import release_pages
from engine.hf.mapped import Region, mapped_regions
from engine.hf.protocols import CausalModel
from engine.hf.tiers.direct import FileReader
from engine.hf.tiers.images import Image, image_of
from engine.hf.tiers.residency import PageCache
from engine.hf.tiers.ring import Ring
from engine.plan.in_place import SLOTS


class _Member(NamedTuple):
    """One module of the tier, and where its weights lie."""

    module: torch.nn.Module
    image: Image


class DiskTier:
    """Feeds a model's modules from its files; engine thread only.

    Outside of its forward a parameter is a view of the mapped file: correct, and slow. Embeddings
    stay so, since a forward needs a few rows of them. Pages that were used where they are mapped leave
    the process behind their forward: it never holds more of the tier than the plan reserves.

    Attributes:
        names: of the parameters that rest on disk.
        buffer_bytes: RAM that the ring may take.
    """

    def __init__(
        self, whole: torch.nn.Module, members: Sequence[_Member], names: frozenset[str], slots: int
    ) -> None:
        """Hook a model and its members, in forward order; use `attach`."""
        self.names = names
        self._reader = FileReader()
        self._cache = PageCache()
        streamed = [member for member in members if not isinstance(member.module, torch.nn.Embedding)]
        images = [member.image for member in streamed]
        self._ring = Ring(images, self._reader, self._cache, slots, _let_go)
        self.buffer_bytes = self._ring.buffer_bytes
        self._hooks: list[RemovableHandle] = [whole.register_forward_pre_hook(self._begin)]
        for index, member in enumerate(streamed):
            self._hooks.append(member.module.register_forward_pre_hook(partial(self._enter, index)))
            self._hooks.append(member.module.register_forward_hook(self._leave))
        for member in members:
            if isinstance(member.module, torch.nn.Embedding):
                self._hooks.append(member.module.register_forward_hook(partial(_let_go, member.image)))

    @classmethod
    def attach(cls, model: CausalModel, paths: Iterable[str], slots: int = SLOTS) -> DiskTier | None:
        """Serve modules from the files; None, and nothing changed, where their tensors are no views of them.

        Args:
            model: loaded on the CPU, its parameters still mapped.
            paths: of the modules on disk, in forward order; what they share with others is not theirs.
            slots: buffers of the ring.
        """
        modules = dict(model.named_modules())
        chosen = [modules[path] for path in paths if path in modules]
        kept = _parameters_beside(model, chosen)
        regions = mapped_regions()
        members = [_member(module, kept, regions) for module in chosen]
        sound = [member for member in members if member is not None]
        if len(sound) < len(members):
            return None
        full = [member for member in sound if member.image.views]
        served = {id(view.parameter) for member in full for view in member.image.views}
        named = model.named_parameters(remove_duplicate=False)
        return cls(
            modules[""], full, frozenset(name for name, tensor in named if id(tensor) in served), slots
        )

    def rest(self) -> None:
        """Stop reading ahead; the next forward begins anew."""
        self._ring.rest()

    def close(self) -> None:
        """End the threads, and give buffers and files back; the model still works, from mapped files."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._ring.close()
        self._reader.close()
        self._cache.close()

    def _begin(self, *_: object) -> None:
        self._ring.begin()

    def _enter(self, index: int, *_: object) -> None:
        self._ring.enter(index)

    def _leave(self, *_: object) -> None:
        self._ring.leave()


def _let_go(image: Image, *_: object) -> None:
    release_pages(view.home for view in image.views)


def _member(module: torch.nn.Module, kept: set[int], regions: Sequence[Region]) -> _Member | None:
    image = image_of((tensor for tensor in module.parameters() if id(tensor) not in kept), regions)
    return None if image is None else _Member(module, image)


def _parameters_beside(model: CausalModel, chosen: Sequence[torch.nn.Module]) -> set[int]:
    """The parameters that a module outside of the chosen ones has: tied ones among them."""
    inside = {id(part) for module in chosen for part in module.modules()}
    return {id(tensor) for tensor in _own_parameters(m for m in model.modules() if id(m) not in inside)}


def _own_parameters(modules: Iterable[torch.nn.Module]) -> Iterator[torch.nn.Parameter]:
    for module in modules:
        yield from module.parameters(recurse=False)
