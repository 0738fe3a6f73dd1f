"""Where a model's weights come from when the CPU computes all of it: slabs in RAM, and the disk tier."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import torch

from engine.checkpoint import Verdict
from engine.hf.progress import Progress
from engine.hf.protocols import CausalModel
from engine.hf.tiers.disk import DiskTier
from engine.hf.tiers.in_place import TORCH_DTYPES, InPlace, in_place
from engine.hf.tiers.slabs import Slabs
from engine.plan.in_place import SLOTS
from engine.values import LoadStage, Placement, Tier


class CpuLoader:
    """Reads what rests in RAM while transformers builds the model, then puts everything in its place.

    A context: leaving it ends what still reads.

    Attributes:
        is_early: the model is built on what is being read; else on mapped files, to be bound afterwards.
    """

    is_early = False

    def __init__(self, found: InPlace, slots: int = SLOTS, early: Slabs | None = None) -> None:
        """Begin to read, or go on with what was begun; use `of`."""
        self._found = found
        self._slots = slots
        is_scarce = bool(found.disk_paths)
        if early is not None and not early.serves(found.ram_tensors, is_scarce=is_scarce):
            early.close()
            early = None
        self._slabs = early or Slabs(found.ram_tensors, is_scarce=is_scarce)

    @classmethod
    def of(
        cls, skeleton: CausalModel, placement: Placement, verdict: Verdict, early: Slabs | None = None
    ) -> CpuLoader | None:
        """Begin, where every tensor of the plan's tiers can be used as it is stored; else None.

        Args:
            skeleton: the model on the meta device.
            placement: nothing of it on a GPU, nothing quantized on load.
            verdict: of the folder.
            early: what was begun to be read before the skeleton was there.
        """
        on_disk = [layer.name for layer in placement.layers if layer.tier is Tier.DISK]
        found = in_place(skeleton, verdict.tensors, on_disk)
        return None if found is None or verdict.config.quantization else cls(found, early=early)

    def __enter__(self) -> CpuLoader:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still reads."""
        self._slabs.close()

    @property
    def done_bytes(self) -> int:
        """How much has arrived in RAM."""
        return self._slabs.done_bytes

    def begin(self, progress: Progress) -> None:
        """Tell what is read."""
        self._slabs.begin(progress)

    def state(self, verdict: Verdict) -> dict[str, torch.Tensor] | None:
        """Views of what is being read, for transformers to build the model on; None where some is mapped."""
        if self._found.disk_paths or not verdict.config.dtype:
            return None
        pairs = [(tensor, self._slabs.bytes_of(tensor)) for tensor in verdict.tensors]
        views = {
            tensor.name: torch.frombuffer(memory, dtype=TORCH_DTYPES[tensor.dtype]).view(tensor.shape)
            for tensor, memory in pairs
            if memory and tensor.dtype in TORCH_DTYPES
        }
        self.is_early = len(views) == len(pairs)
        return views if self.is_early else None

    def holds(self, model: CausalModel) -> bool:
        """Say whether all of a model is what was read: nothing was computed from bytes not there yet."""
        return self._slabs.holds(lasting_tensors(model))

    def settle(self, model: CausalModel, progress: Progress) -> DiskTier | None:
        """Wait for the bytes and bind the parameters.

        Args:
            model: as transformers loaded it, everything mapped.
            progress: is told, and raises LoadCancelled.

        Returns:
            the disk tier, empty where nothing rests there; None where a tensor turned out to be made anew.
        """
        self._slabs.wait(progress)
        progress.begin(LoadStage.PLACE, self._slabs.total_bytes)
        self._slabs.bind(model)
        progress.reach(self._slabs.total_bytes)
        return DiskTier.attach(model, self._found.disk_paths, self._slots)


def lasting_tensors(model: CausalModel) -> Iterator[torch.Tensor]:
    """What a checkpoint gives a model: parameters and buffers, without what is computed when it is built."""
    yield from model.parameters()
    for module in model.modules():
        for name in sorted(set(module._buffers) - module._non_persistent_buffers_set):
            yield module.get_buffer(name)
