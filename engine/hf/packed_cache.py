"""Models that bitsandbytes has packed, brought to our cache and back as they compute on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from engine.checkpoint import StoredTensor, Verdict
from engine.errors import DamagedCheckpoint
from engine.hf.early import Reading
from engine.hf.keeper import ALIGNMENT, CHECKSUMS, Entry, Keeper, are_sound, whole
from engine.hf.planes import APART, CODES, LOW, narrowed, widened
from engine.hf.progress import Progress
from engine.hf.protocols import CausalModel
from engine.hf.tiers.slabs import Slabs
from engine.plan.packed import PackedFile, packed_file, packed_path, used
from engine.values import LoadStage, Quantization

WORTH_SHARE = 0.75
"""Of a checkpoint's bytes, above which its packed weights are not kept: little would be saved by them."""
RELEASED_NUMBERS = 32 << 20
"""Widened before what they were read from is given back."""
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_DAMAGE = (
    DamagedCheckpoint,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
"""What transformers and bitsandbytes raise when they are given something else than they wrote."""


def restored(
    reading: Reading | None, make: Callable[[dict[str, torch.Tensor]], CausalModel], progress: Progress
) -> CausalModel | None:
    """Build a model on packed weights that were read; None where there are none, or damaged ones.

    Args:
        reading: of the load.
        make: lets transformers build the model from a state dict.
        progress: is told, and raises LoadCancelled.
    """
    if reading is None or reading.packed is None:
        return None
    slabs, packed = reading.slabs, reading.packed
    slabs.begin(progress)
    try:
        with progress.watching(lambda: slabs.done_bytes):
            slabs.wait(progress)  # bitsandbytes reads what describes a packed layer as the model is built
            model = make(dict(_state(slabs, packed.tensors, progress))) if _is_sound(slabs, packed) else None
        progress.begin(LoadStage.PLACE, packed.bytes)
    except _DAMAGE:
        model = None
    if model is None:
        packed.path.unlink(missing_ok=True)
        return None
    for module in model.modules():
        _settle(module)
    used(packed.path)
    return model


def kept(model: CausalModel, verdict: Verdict, quantization: Quantization) -> Keeper | None:
    """Begin to keep a packed model for its next load; None where that would not be worth it.

    Args:
        model: packed on load, all of it on the CPU, after its first forward.
        verdict: of the folder.
        quantization: that was applied.
    """
    path = packed_path(verdict, quantization)
    if path is None or not verdict.config.dtype or packed_file(verdict, quantization) is not None:
        return None
    tensors = dict(_tensors(model))
    size = sum(tensor.nbytes for tensor in tensors.values())
    if size > WORTH_SHARE * verdict.weight_bytes or not {t.dtype for t in tensors.values()} <= set(_NAMES):
        return None
    entries = [_entry(name, tensor) for name, tensor in tensors.items()]
    return Keeper(path, partial(_arranged, entries), lambda: packed_path(verdict, quantization) == path)


def _arranged(entries: Iterable[Entry], check: Callable[[], None]) -> list[Entry]:
    """Entries in the order of the file, large ones of bfloat16 narrowed."""
    parts = [part for entry in entries for part in narrowed(entry, check)]
    return sorted(parts, key=lambda part: -_evenness(part.bytes))


def _tensors(model: CausalModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Everything that makes the model, by the names that bitsandbytes gives it in a checkpoint."""
    for name, parameter in model.named_parameters():
        yield name, parameter.data.as_subclass(torch.Tensor)
    for path, module in model.named_modules():
        yield from ((f"{path}.{name}", part) for name, part in _beside(module))
        lasting = set(module._buffers) - module._non_persistent_buffers_set
        yield from ((f"{path}.{name}".lstrip("."), module.get_buffer(name)) for name in sorted(lasting))


def _beside(module: Any) -> Iterator[tuple[str, torch.Tensor]]:  # noqa: ANN401 - bitsandbytes has no types
    """What a packed layer needs beside its weights."""
    if type(module).__name__ == "Linear4bit":
        state = module.weight.quant_state.as_dict(packed=True)
        yield from ((f"weight.{name}", part) for name, part in state.items())
    elif type(module).__name__ == "Linear8bitLt":
        yield "SCB", module.state.SCB if module.weight.SCB is None else module.weight.SCB


def _evenness(size: int) -> int:
    """The largest power of two that divides it: in its order, every tensor begins where wide loads may."""
    return min(size & -size, ALIGNMENT)


def _entry(name: str, tensor: torch.Tensor) -> Entry:
    content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return whole(name, _NAMES[tensor.dtype], tuple(tensor.shape), content.data)


def _state(
    slabs: Slabs, stored: Iterable[StoredTensor], progress: Progress
) -> Iterator[tuple[str, torch.Tensor]]:
    """Return views of what was read, and what was narrowed as it was."""
    tensors = {tensor.name: tensor for tensor in stored if tensor.name != CHECKSUMS}
    for name in [name.removesuffix(LOW) for name in tensors if name.endswith(LOW)]:
        yield name, _widened(slabs, [tensors.pop(name + part) for part in (LOW, CODES, APART)], progress)
    yield from ((name, _view(slabs, tensor)) for name, tensor in tensors.items())


def _widened(slabs: Slabs, parts: Sequence[StoredTensor], progress: Progress) -> torch.Tensor:
    """What three parts stand for; their memory is given back on the way."""
    low, codes, apart = parts
    given = 0

    def done(numbers: int) -> None:
        nonlocal given
        progress.check()
        if numbers - given >= RELEASED_NUMBERS or numbers == low.bytes:
            slabs.release(low, given, numbers)
            slabs.release(codes, given // 2, numbers // 2)
            given = numbers

    return widened(_view(slabs, low), _view(slabs, codes), _view(slabs, apart), done)


def _view(slabs: Slabs, tensor: StoredTensor) -> torch.Tensor:
    """What was read of a tensor; raises KeyError where it was not."""
    memory = slabs.bytes_of(tensor)
    if memory is None:
        raise KeyError(tensor.name)
    return torch.frombuffer(memory, dtype=_DTYPES[tensor.dtype]).view(tensor.shape)


def _is_sound(slabs: Slabs, packed: PackedFile) -> bool:
    contents = [(tensor.name, slabs.bytes_of(tensor)) for tensor in packed.tensors]
    found = {name: content for name, content in contents if content is not None}
    checksums = found.pop(CHECKSUMS, None)
    return checksums is not None and are_sound(tuple(found.values()), checksums)


def _settle(module: Any) -> None:  # noqa: ANN401 - of bitsandbytes, which has no types
    """Tell a 4-bit layer which form its weights have: where it computes in bf16, they lie in tiles."""
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    if state is None or state.absmax.dtype is not torch.bfloat16:
        return
    state.packing_format_for_cpu = True
    state.original_dtype, state.original_nested = state.dtype, False
    state.original_qshape = torch.Size((module.weight.numel(), 1))
