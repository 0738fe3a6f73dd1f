"""A Placement as accelerate's device_map: every parameter is covered, whatever the plan left out."""

from __future__ import annotations

from collections.abc import Iterator

from engine.hf.protocols import CausalModel
from engine.values import LayerPlacement, Placement, Tier

DeviceMap = dict[str, int | str]


def device_of(layer: LayerPlacement) -> int | str:
    """Return what device_map calls the place of a layer."""
    if layer.tier is Tier.GPU:
        return int(layer.device.partition(":")[2] or 0)
    return "disk" if layer.tier is Tier.DISK else "cpu"


def device_map(placement: Placement, skeleton: CausalModel) -> DeviceMap:
    """Return a device per module.

    Args:
        placement: what lies where; without layers everything lies in RAM.
        skeleton: the model on the meta device; its parameter names are what has to be covered.
    """
    devices = {layer.name: device_of(layer) for layer in placement.layers}
    if len(set(devices.values())) <= 1:
        return {"": next(iter(devices.values()), "cpu")}
    prefix = f"{skeleton.base_model_prefix}."
    fallback = next(iter(devices.values()))
    mapped: DeviceMap = {}
    for name in _names(skeleton):
        covering = _covering(name, prefix, devices)
        if covering is None:
            mapped[name.rpartition(".")[0]] = fallback
        else:
            module, device = covering
            mapped[module] = device
    return mapped


def _names(model: CausalModel) -> Iterator[str]:
    """Every name of every tensor: accelerate wants a place for a tied head, too."""
    for name, _ in model.named_parameters(remove_duplicate=False):
        yield name
    for name, _ in model.named_buffers(remove_duplicate=False):
        yield name


def _covering(name: str, prefix: str, devices: DeviceMap) -> tuple[str, int | str] | None:
    """Find the deepest placed module that holds a parameter, as the model itself calls it.

    Checkpoints may name modules without the prefix of the model's inner part.
    """
    for path in _ancestors(name):
        if path in devices:
            return path, devices[path]
        bare = path.removeprefix(prefix)
        if bare != path and bare in devices:
            return path, devices[bare]
    return None


def _ancestors(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def resting_places(model: CausalModel, mapped: DeviceMap) -> dict[str, str]:
    """Return "gpu:0", "ram" or "disk" for every parameter and buffer of a model."""
    names = {"cpu": "ram", "disk": "disk"}
    places = {module: names.get(str(device), f"gpu:{device}") for module, device in mapped.items()}
    default = places.get("", "ram")
    return {
        name: next((places[path] for path in _ancestors(name) if path in places), default)
        for name in _names(model)
    }
