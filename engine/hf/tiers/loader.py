"""Where a model's weights come from when the CPU computes all of it: slabs in RAM, and the disk tier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch

from engine.checkpoint import StoredTensor, Verdict
from engine.hf.adapted import mapped_file, view_of
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
        is_early: the model is built on what is being read; else on files that transformers maps, to be
            bound afterwards.
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
        self._mapped: dict[Path, torch.Tensor] = {}

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
        """Views for transformers to build the model on, of what is being read and of files that are cached.

        None where something is neither, and transformers has to map it.
        """
        if self._found.disk_paths or not verdict.config.dtype:
            return None
        self._mapped = {file: mapped_file(file) for file in sorted(self._slabs.mapped_files)}
        views = {tensor.name: self._view(tensor) for tensor in verdict.tensors}
        found = {name: view for name, view in views.items() if view is not None}
        is_whole = len(found) == len(verdict.tensors)
        self.is_early = is_whole and self._slabs.is_reading
        return found if is_whole else None

    def _view(self, tensor: StoredTensor) -> torch.Tensor | None:
        if tensor.dtype not in TORCH_DTYPES:
            return None
        if tensor.file in self._mapped:
            return view_of(tensor, self._mapped[tensor.file])
        memory = self._slabs.bytes_of(tensor)
        return (
            torch.frombuffer(memory, dtype=TORCH_DTYPES[tensor.dtype]).view(tensor.shape) if memory else None
        )

    def holds(self, model: CausalModel) -> bool:
        """Say whether all of a model is what was read: nothing was computed from bytes not there yet."""
        spans = [(whole.data_ptr(), whole.data_ptr() + whole.nbytes) for whole in self._mapped.values()]
        return self._slabs.holds(lasting_tensors(model), spans)

    def settle(self, model: CausalModel, progress: Progress) -> DiskTier | None:
        """Wait for the bytes and bind the parameters.

        Args:
            model: as transformers built it.
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
