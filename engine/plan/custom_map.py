"""A device_map that the person wrote: checked, and followed to the letter."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from engine.errors import InvalidValue
from engine.plan.devices import Devices
from engine.plan.draft import Draft, Filling
from engine.plan.module import Module
from engine.plan.need import Need
from engine.values import Tier

DeviceMap = tuple[tuple[str, str], ...]
"""(path of a module and all below it, device); "" is the whole model."""
_GPU = re.compile(r"(?:gpu:|cuda:)?(\d{1,4})")
_NAMES = {"cpu": "ram", "ram": "ram", "disk": "disk"}
_NAMED = 3
_LONGEST = 80


def custom_way(need: Need, devices: Devices, device_map: DeviceMap) -> Filling:
    """The way that a device_map asks for, whether or not it fits.

    As accelerate has it, a path stands for everything below it, and the longest one that covers a module
    decides; buffers that no path covers go where the first module goes. The first GPU in use, in CUDA's
    order, computes what rests in RAM or on disk.

    Args:
        need: of the model.
        devices: what it may take.
        device_map: pairs of path and device.

    Raises:
        InvalidValue: an unknown device or module, one in two places, one of a layer's parts, one left
            out, or a tied head apart from its embedding.
    """
    places = _places(device_map, devices)
    modules = need.footprint.modules
    for path in places:
        _check_path(path, modules)
    found = {module.name: _covering(module.name, places) for module in modules}
    left_out = [module for module in need.modules if found[module.name] is None]
    _check_covered([module.name for module in left_out if not module.is_computed])
    _check_tied(modules, places)
    chosen = {name: places[path] for name, path in found.items() if path is not None}
    beside = next(iter(chosen.values()))
    return _filled(need, devices, chosen | {module.name: beside for module in left_out})


def _places(device_map: DeviceMap, devices: Devices) -> dict[str, str]:
    """Devices by path, as the budgets call them."""
    known = [*(gpu.device for gpu in devices.gpus), "ram", "disk"]
    places: dict[str, str] = {}
    for path, asked in device_map:
        device = _device(asked)
        if device not in known:
            names = ", ".join("cpu" if name == "ram" else name for name in known)
            message = f"The device_map sends {_shown(path)} to {asked[:_LONGEST]!r}, which is no device here."
            raise InvalidValue(message, f"There are {names}.")
        if places.setdefault(path, device) != device:
            message = f"The device_map sends {_shown(path)} to {places[path]} and to {device}."
            raise InvalidValue(message, "Name every module once.")
    return places


def _device(asked: str) -> str:
    gpu = _GPU.fullmatch(asked.strip().lower())
    return f"gpu:{int(gpu.group(1))}" if gpu else _NAMES.get(asked.strip().lower(), "")


def _check_path(path: str, modules: Sequence[Module]) -> None:
    names = [module.name for module in modules]
    if not path or any(name == path or name.startswith(f"{path}.") for name in names):
        return
    inside = next((name for name in names if path.startswith(f"{name}.")), None)
    if inside is not None:
        message = f"The device_map names {_shown(path)}, a part of {inside}, which stays whole."
        raise InvalidValue(message, f"Name {inside} itself.")
    close = difflib.get_close_matches(path, names, n=1)
    hint = f"Do you mean {close[0]}?" if close else f"Its modules are called {names[0]}, ..., {names[-1]}."
    raise InvalidValue(f"The device_map names {_shown(path)}, which the model does not have.", hint)


def _covering(name: str, paths: Iterable[str]) -> str | None:
    """The longest path that covers a module."""
    covering = (path for path in paths if not path or name == path or name.startswith(f"{path}."))
    return max(covering, key=len, default=None)


def _check_covered(left_out: Sequence[str]) -> None:
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        named = ", ".join(left_out[:_NAMED])
        raise InvalidValue(f"The device_map leaves out {named}{more}.", 'Add them, or "" for all the rest.')


def _check_tied(modules: Sequence[Module], places: dict[str, str]) -> None:
    for module in modules:
        beside = places[_covering(module.tied_to, places) or ""] if module.tied_to else ""
        if module.tied_to and places.get(module.name, beside) != beside:
            message = f"The device_map parts {module.name} from {module.tied_to}, whose weights it shares."
            raise InvalidValue(message, "Send both to the same device.")


def _shown(path: str) -> str:
    """A path for a sentence."""
    short = path if len(path) <= _LONGEST else f"{path[:_LONGEST]}..."
    return short or "the whole model"


def _filled(need: Need, devices: Devices, places: dict[str, str]) -> Filling:
    on = {device: [m for m in need.modules if places[m.name] == device] for device in places.values()}
    gpus = [gpu.device for gpu in devices.gpus if gpu.device in on]
    moved = [*on.get("ram", []), *on.get("disk", [])] if gpus else on.get("disk", [])
    draft = Draft(need.footprint, devices, has_gpus=bool(gpus))
    for gpu in gpus:
        draft.put(on[gpu], Tier.GPU, gpu, packed=True)
        draft.reserve_gpu(gpu, need, on[gpu])
    draft.put(on.get("ram", []), Tier.STREAM if gpus else Tier.CPU, "ram", packed=not (gpus or moved))
    draft.put(on.get("disk", []), Tier.DISK, "disk")
    if gpus:
        buffer = max((module.plain_bytes for module in moved), default=0)
        draft.reserve(gpus[0], sum(need.kv[module.name] for module in moved), buffer)
    else:
        draft.reserve("ram", need.kv_bytes, need.cpu_reserve_bytes(moved))
    return draft.finish()
