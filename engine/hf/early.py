"""Weights that are read before the libraries that compute with them are imported; without torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from engine.checkpoint import Verdict, inspect_folder
from engine.commands import LoadModel, PlanLoad
from engine.errors import EngineError
from engine.hf.tiers.slabs import PATIENCE_SECONDS, Slabs
from engine.plan import place
from engine.plan.in_place import KEPT_SHARE
from engine.plan.packed import PackedFile, packed_file
from engine.plan.runtime import RAM_RUNTIME_BYTES
from engine.plan.weights import is_merged, is_scattered
from engine.ram import read_ram
from engine.values import DeviceLedger, Placement, Quantization, Tier

IMPORTING_PATIENCE_SECONDS = 0.4
"""Imports keep Python's lock for as long as it takes to load a library."""


class Reading(NamedTuple):
    """What is read of a model, under way.

    Attributes:
        slabs: read it.
        packed: the kept result of an earlier load, where it is that; None for the checkpoint itself.
    """

    slabs: Slabs
    packed: PackedFile | None = None

    def close(self) -> None:
        """Stop it; what is not bound to a model by then is given back."""
        self.slabs.close()


def begun(
    verdict: Verdict, placement: Placement, patience: float = PATIENCE_SECONDS, pid: int | None = None
) -> Reading | None:
    """Begin to read what a load will need for certain; None where that is not known yet, or has no room.

    That is a whole model that rests in RAM: packed weights that were kept, else weights that are not
    packed at all. What a plan leaves on the disk, or copies to a GPU, is read by what places it.

    Args:
        verdict: of the folder.
        placement: the plan.
        patience: of the readers.
        pid: this process, whose memory counts as free; None reads it as it is.
    """
    if (
        verdict.config.quantization
        or verdict.runs_code
        or {layer.tier for layer in placement.layers} - {Tier.CPU}
    ):
        return None
    packed = packed_file(verdict, placement.quantization)
    if packed is None and not _is_used_as_stored(verdict, placement):
        return None
    tensors = packed.tensors if packed else verdict.tensors
    size = sum(tensor.bytes for tensor in tensors)
    planned = sum(layer.bytes for layer in placement.layers)
    ram = read_ram(pid)
    has_room = size + RAM_RUNTIME_BYTES <= ram.total_bytes - ram.ram_used + ram.engine_anonymous_bytes
    if not has_room or (planned and size > (1 + KEPT_SHARE) * planned):
        return None
    return Reading(Slabs(tensors, is_scarce=packed is not None, patience=patience), packed)


def _is_used_as_stored(verdict: Verdict, placement: Placement) -> bool:
    """Nothing is packed, stacked or taken apart, as far as headers tell."""
    is_rewritten = verdict.adapter is not None or any(
        is_merged(tensor) or is_scattered(tensor) for tensor in verdict.tensors
    )
    return placement.quantization is Quantization.NONE and not is_rewritten


def planned(command: PlanLoad | LoadModel, own: tuple[DeviceLedger, ...] = ()) -> Placement:
    """Place a model's layers against the budgets.

    Args:
        command: says what is wanted.
        own: what the engine's present model holds.
    """
    return place(
        command.model.folder,
        context_window=command.context_window,
        quantization=command.quantization,
        budgets=command.budgets,
        strategy=command.strategy,
        device_map=command.device_map,
        own=own,
        pid=os.getpid(),
        may_run_code=isinstance(command, LoadModel) and bool(command.trusted),
        adapter=command.model.adapter,
    )


class EarlyReader:
    """Begins to read for a load while the engine's thread still imports; any thread may call.

    Only before the first model: later ones are read when the one before has gone.
    """

    def __init__(self, begin: Callable[[LoadModel], Reading | None] | None = None) -> None:
        """Wait for a load.

        Args:
            begin: begins to read for it; None takes the product's way.
        """
        self._begin = begin or _begun_for
        self._lock = threading.Lock()
        self._turn_id: int | None = None
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._reading: Reading | None = None

    def see(self, command: LoadModel) -> None:
        """Begin to read for the first load that comes, in a thread of its own."""
        with self._lock:
            if self._is_over or self._thread is not None:
                return
            self._turn_id = command.turn_id
            self._thread = threading.Thread(target=self._run, args=(command,), name="early", daemon=True)
            self._thread.start()

    def cancel(self, turn_id: int) -> None:
        """Stop reading for a load that was cancelled before the engine's thread came to it."""
        if self._turn_id is not None and self._turn_id <= turn_id:
            threading.Thread(target=self.take, args=(None,), name="early stop", daemon=True).start()

    def take(self, command: LoadModel | None) -> Reading | None:
        """Hand out what was begun for this load; what was begun for another ends, and nothing more begins."""
        with self._lock:
            self._is_over = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        with self._lock:
            reading, self._reading = self._reading, None
        if reading is not None and (command is None or command.turn_id != self._turn_id):
            reading.close()
            return None
        if reading is not None:
            reading.slabs.hurry()
        return reading

    def _run(self, command: LoadModel) -> None:
        try:
            self._reading = self._begin(command)
        except (EngineError, OSError):
            return  # the load will meet it, too, and say it


def _begun_for(command: LoadModel) -> Reading | None:
    verdict = inspect_folder(command.model.folder, adapter=command.model.adapter)
    return begun(verdict, command.placement or planned(command), IMPORTING_PATIENCE_SECONDS, os.getpid())
