"""A plan as the JSON document of `vramble plan --json`."""

from __future__ import annotations

import engine
from engine import values


def document_of(
    verdict: engine.Verdict, footprint: engine.Footprint, placement: values.Placement
) -> dict[str, object]:
    """The plan as one JSON document; every number is counted or planned, none is measured."""
    constant_bytes = footprint.kv_bytes(0)
    return {
        "model": _model(verdict),
        "context_window": placement.context_window,
        "quantization": str(placement.quantization),
        "kv_bytes_per_token": footprint.kv_bytes(1) - constant_bytes,
        "kv_constant_bytes": constant_bytes,
        "devices": [_device(device) for device in placement.devices],
        "layers": [_layer(layer) for layer in placement.layers],
        "device_map": {layer.name: _mapped(layer) for layer in placement.layers},
        "fits": str(placement.fits),
        "reasons": list(placement.reasons),
    }


def _model(verdict: engine.Verdict) -> dict[str, object]:
    return {
        "folder": str(verdict.folder),
        "architecture": verdict.native_class,
        "parameters": verdict.parameters,
        "weight_bytes": verdict.weight_bytes,
        "dtype": verdict.dtype,
        "context_window": verdict.config.context_window,
        "warnings": list(verdict.warnings),
    }


def _device(device: values.DevicePlan) -> dict[str, object]:
    return {
        "name": device.device,
        "label": device.label,
        "uuid": device.uuid,
        "budget_bytes": device.budget_bytes,
        "weight_bytes": device.weight_bytes,
        "kv_bytes": device.kv_bytes,
        "activation_bytes": device.activation_bytes,
        "runtime_bytes": device.runtime_bytes,
        "predicted_bytes": device.predicted_bytes,
    }


def _layer(layer: values.LayerPlacement) -> dict[str, object]:
    return {"name": layer.name, "bytes": layer.bytes, "tier": str(layer.tier), "device": layer.device}


def _mapped(layer: values.LayerPlacement) -> int | str:
    """A device as accelerate writes it: a GPU's index, "cpu" or "disk"."""
    kind, _, index = layer.device.partition(":")
    return int(index) if index else kind.replace("ram", "cpu")
