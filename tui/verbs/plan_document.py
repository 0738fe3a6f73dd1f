"""A plan as the JSON document of `vramble plan --json`."""

from __future__ import annotations

from engine import values
from tui.verbs.planned import Plan
from tui.verbs.training_table import training_document


def document_of(plan: Plan) -> dict[str, object]:
    """The plan as one JSON document; every number is counted or predicted."""
    placement, footprint = plan.placement, plan.footprint
    constant_bytes = footprint.kv_bytes(0)
    document: dict[str, object] = {
        "model": _model(plan),
        "context_window": placement.context_window,
        "quantization": str(placement.quantization),
        "strategy": str(placement.strategy),
        "is_exact": plan.study.blueprint is not None,
        "kv_bytes_per_token": footprint.kv_bytes(1) - constant_bytes,
        "kv_constant_bytes": constant_bytes,
        "kv_bytes": footprint.kv_bytes(placement.context_window),
        "devices": [_device(device) for device in placement.devices],
        "layers": [_layer(layer) for layer in placement.layers],
        "device_map": {layer.name: _mapped(layer) for layer in placement.layers},
        "fits": str(placement.fits),
        "forecast": _forecast(placement.forecast),
        "reasons": list(plan.reasons),
        "alternatives": [_alternative(alternative) for alternative in placement.alternatives],
    }
    return document | ({"training": training_document(plan)} if plan.training else {})


def _model(plan: Plan) -> dict[str, object]:
    verdict = plan.study.verdict
    return {
        "folder": str(verdict.folder),
        "architecture": plan.architecture,
        "parameters": plan.parameters,
        "weight_bytes": plan.weight_bytes,
        "dtype": plan.dtype,
        "context_window": verdict.config.context_window,
        "is_on_disk": verdict.is_on_disk,
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


def _forecast(forecast: values.Forecast | None) -> dict[str, object] | None:
    if forecast is None:
        return None
    return {name: getattr(forecast, name) for name in forecast.__struct_fields__}


def _alternative(alternative: values.Alternative) -> dict[str, object]:
    return {
        "change": alternative.change,
        "context_window": alternative.context_window,
        "quantization": str(alternative.quantization),
        "fits": str(alternative.fits),
        "ram_bytes": alternative.ram_bytes,
        "disk_bytes": alternative.disk_bytes,
        "forecast": _forecast(alternative.forecast),
    }
