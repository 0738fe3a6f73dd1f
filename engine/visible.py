"""Which GPUs CUDA will show this process, and in which order, from CUDA_VISIBLE_DEVICES.

CUDA's own numbers are taken to be in the order of the PCI bus, as NVML's are; the engine's
process sets CUDA_DEVICE_ORDER=PCI_BUS_ID so that this holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

VARIABLE = "CUDA_VISIBLE_DEVICES"


class Visible(NamedTuple):
    """The GPUs CUDA will use.

    Attributes:
        indices: NVML's indices in CUDA's order.
        note: why some or all are left out; empty where none are.
    """

    indices: tuple[int, ...]
    note: str = ""


def visible_gpus(uuids: Sequence[str], environment: Mapping[str, str]) -> Visible:
    """Read CUDA_VISIBLE_DEVICES as CUDA does.

    Numbers or UUIDs, or the beginning of one that no other GPU shares; the first entry that
    names no GPU hides itself and all after it; an entry given twice hides everything.

    Args:
        uuids: of all GPUs, in NVML's order.
        environment: of the process that will use CUDA.
    """
    value = environment.get(VARIABLE)
    if value is None:
        return Visible(tuple(range(len(uuids))))
    indices: list[int] = []
    for entry in (part.strip() for part in value.split(",")):
        index = _index(entry, uuids)
        if index is None:
            return Visible(tuple(indices), _note(entry))
        if index in indices:
            return Visible((), f"{VARIABLE} names a GPU twice")
        indices.append(index)
    return Visible(tuple(indices))


def _index(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.isascii() and entry.isdigit():
        return int(entry) if len(entry) <= len(str(len(uuids))) and int(entry) < len(uuids) else None
    if not entry.lower().startswith("gpu-"):
        return None
    matches = [index for index, uuid in enumerate(uuids) if uuid.lower().startswith(entry.lower())]
    return matches[0] if len(matches) == 1 else None


def _note(entry: str) -> str:
    if entry.upper().startswith("MIG"):
        return "n/a (a MIG slice has no reading of its own)"
    return f"{VARIABLE} hides GPUs"
