"""Counting what a forward holds and dispatches, tensor by tensor, as the dispatcher sees it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.errors import UnsupportedModel
from engine.hf.dryrun_attention import Attention

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_QUESTIONS = (
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten._local_scalar_dense.default,
)
_EXPERTS = torch.ops.aten._grouped_mm.default
_GATHERING = (
    torch.ops.aten.gather.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_select.default,
    torch.ops.aten.embedding.default,
)
"""They read no more than they write."""
_CONVOLUTION = torch.ops.aten.convolution.default
_COPIES = (torch.ops.aten.copy_.default, torch.ops.aten.fill_.Scalar, torch.ops.aten.zero_.default)
"""They write their first argument without reading it."""

LEAST_MOVED_BYTES = 64 << 10
"""Of a tensor whose passing through memory counts; to compute with less takes as long as to dispatch it."""

Operation = Any
"""torch's OpOverload, which is not annotated."""


class NoDevice(TorchDispatchMode):
    """Runs a model on the meta device: answers what that cannot compute, and ends what takes too long."""

    def __init__(self, seconds: float) -> None:
        """Start the clock.

        Args:
            seconds: until UnsupportedModel is raised.
        """
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._end = time.thread_time() + seconds

    def __torch_dispatch__(
        self,
        func: Operation,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one operation; a question is answered with no, experts' products get their shape alone.

        Raises:
            UnsupportedModel: the time is over.
        """
        if time.thread_time() > self._end:
            raise UnsupportedModel(
                "The model is too large to be built, even on no device.", "Check the sizes in config.json."
            )
        if func in _QUESTIONS and args[0].is_meta and args[0].dtype is torch.bool:
            return False
        if func is _EXPERTS and args[0].is_meta:
            return args[0].new_empty((args[0].shape[0], args[1].shape[-1]))
        return func(*args, **(kwargs or {}))


class Work(NamedTuple):
    """What operations came to.

    Attributes:
        ops: those that computed something; views are none.
        convolutions: among them.
        bytes: of large tensors, weights not among them, that they read and wrote; attention not counted.
    """

    ops: int = 0
    convolutions: int = 0
    bytes: int = 0

    def plus(self, other: Work, times: int = 1) -> Work:
        """This and the other one so many times."""
        return Work(*(own + times * more for own, more in zip(self, other, strict=True)))


class Tally(TorchDispatchMode):
    """Follows every storage from its birth to its end.

    Attributes:
        peak: the most bytes alive at once where the CPU computes, less `credit`.
        gpu_peak: the same where a GPU does.
        credit: bytes that are counted elsewhere, as they are now.
        work: what all operations came to; bytes only where they are followed.
        unread: addresses of storages that no operation has read yet.
    """

    def __init__(self, weights: Iterable[torch.Tensor], *, follows_bytes: bool = False) -> None:
        """Start with nothing alive.

        Args:
            weights: what is not counted.
            follows_bytes: count them, which takes time.
        """
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.peak = 0
        self.gpu_peak = 0
        self.credit = 0
        self.work = Work()
        self._follows_bytes = follows_bytes
        self.unread: set[int] = set()
        self._alive = 0
        self._known: dict[int, object] = {address(tensor): None for tensor in weights}

    def adopt(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count tensors that were made before."""
        for tensor in tensors:
            self._follow(tensor)

    def __torch_dispatch__(
        self,
        func: Operation,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run one operation and count what it makes; composed ones in their parts."""
        kwargs = kwargs or {}
        if func is _ATTENTION:
            return self._attend(Attention.called(args, kwargs))
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if self.unread:
            self._read(func, args, kwargs)
        made = func(*args, **kwargs)
        is_new = sum(self._follow(tensor) for tensor in tensors_in(made)) > 0
        if is_new or func._schema.is_mutable:
            read = () if func in _GATHERING else (args, kwargs)
            moved = sum(map(self._moved, tensors_in((read, made)))) if self._follows_bytes else 0
            self.work = self.work.plus(Work(1, int(func is _CONVOLUTION), moved))
        self._note(0, 0)
        return made

    def _follow(self, tensor: torch.Tensor) -> bool:
        """Count a tensor's storage until it dies; False where it is known already."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return False
        self._known[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self._alive += size
        return True

    def _forget(self, key: int, size: int) -> None:
        del self._known[key]
        self._alive -= size

    def _moved(self, tensor: torch.Tensor) -> int:
        is_weight = self._known.get(address(tensor), tensor) is None
        return tensor.nbytes if tensor.nbytes >= LEAST_MOVED_BYTES and not is_weight else 0

    def _note(self, extra: int, gpu_extra: int) -> None:
        """Take note of what is alive, and of what an operation holds beyond its results."""
        self.peak = max(self.peak, self._alive + extra - self.credit)
        self.gpu_peak = max(self.gpu_peak, self._alive + gpu_extra - self.credit)

    def _read(self, func: Operation, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        if func.is_view:
            return
        read = args[1:] if func in _COPIES else (*args, *kwargs.values())
        self.unread -= {address(tensor) for tensor in tensors_in(read)}

    def _attend(self, call: Attention) -> torch.Tensor:
        """Make attention's result as the kernels do, without the scores that the meta device would make."""
        self.work = self.work.plus(Work(ops=1))
        self.unread -= {address(tensor) for tensor in (call.query, call.key, call.value)}
        made = call.result()
        self._follow(made)
        self._note(call.cpu_bytes(), call.gpu_bytes())
        return made


def address(tensor: torch.Tensor) -> int:
    """What tells a tensor's storage from every other one that is alive."""
    return int(tensor.untyped_storage()._cdata)


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    """The tensors among an operation's arguments or results."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
