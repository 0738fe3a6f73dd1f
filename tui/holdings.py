"""What the engine process holds on each device, now and at most since its load began."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tui.widgets.plan_bar import Held

if TYPE_CHECKING:
    from engine import MemoryReading
    from engine.events import MemoryLedger
    from engine.values import DeviceLedger


class Holdings:
    """Follows readings and ledgers from any thread.

    Attributes:
        own: what the engine itself says it holds; empty without a model.
    """

    def __init__(self) -> None:
        """Begin with nothing held."""
        self.own: tuple[DeviceLedger, ...] = ()
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Forget what the model before held at most."""
        with self._lock:
            self._held = {}

    def end(self) -> None:
        """The engine holds no model."""
        self.own = ()
        self.begin()

    def take_ledger(self, ledger: MemoryLedger) -> None:
        """Take what the engine says; it counts for a GPU whose driver does not tell processes apart."""
        self.own = ledger.devices

    def take_reading(self, reading: MemoryReading) -> None:
        """Take what this machine says of the engine process."""
        own = {entry.device: _sum(entry) for entry in self.own}
        with self._lock:
            self._note("ram", reading.ram.engine_bytes)
            for gpu in reading.gpus:
                device = f"gpu:{gpu.index}"
                if not gpu.problem:
                    self._note(device, own.get(device, 0) if gpu.own_bytes is None else gpu.own_bytes)

    def _note(self, device: str, now: int) -> None:
        before = self._held.get(device)
        self._held[device] = Held(now, max(now, before.peak if before else 0))

    def held(self) -> dict[str, Held]:
        """By device, what is held now and was at most."""
        with self._lock:
            return dict(self._held)


def _sum(entry: DeviceLedger) -> int:
    return entry.weight_bytes + entry.kv_bytes + entry.other_bytes
