"""Which of the heavy libraries work here; a process of its own, so that a crash in one is only a finding.

`python -m tui.verbs.probe` prints one JSON object as its last line.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

_FAULTS = (ImportError, OSError, RuntimeError, AttributeError, ValueError, TypeError, AssertionError)


def main() -> None:
    """Print what was found."""
    found = {
        "driver": _asked(_driver),
        "torch": _asked(_torch),
        "transformers": _asked(_transformers),
        "int8": _asked(_int8),
        "nf4": _asked(_nf4),
    }
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def _asked(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return question()
    except _FAULTS as error:
        return {"problem": f"{type(error).__name__}: {error}"[:500]}


def _driver() -> dict[str, Any]:
    nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        return {"version": str(nvml.nvmlSystemGetDriverVersion()), "gpus": nvml.nvmlDeviceGetCount()}
    except nvml.NVMLError as error:
        return {"problem": str(error)}


def _torch() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    on_gpu = bool(torch.cuda.is_available())
    return {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda or "",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [_gpu(torch, index) for index in range(torch.cuda.device_count())] if on_gpu else [],
    }


def _gpu(torch: Any, index: int) -> dict[str, Any]:  # noqa: ANN401 -- a module has no useful type here
    properties = torch.cuda.get_device_properties(index)
    architecture = f"sm_{properties.major}{properties.minor}"
    known = torch.cuda.get_arch_list()
    return {"name": properties.name, "architecture": architecture, "known": known}


def _transformers() -> dict[str, Any]:
    return {"version": importlib.import_module("transformers").__version__}


def _int8() -> dict[str, Any]:
    functional, device, weights = _quantizer()
    packed, scales, _ = functional.int8_vectorwise_quant(weights.half())
    back = functional.int8_vectorwise_dequant(packed, scales)
    return _judged(weights, back, device)


def _nf4() -> dict[str, Any]:
    functional, device, weights = _quantizer()
    packed, state = functional.quantize_4bit(weights, quant_type="nf4")
    return _judged(weights, functional.dequantize_4bit(packed, state), device)


def _quantizer() -> tuple[Any, str, Any]:
    torch = importlib.import_module("torch")
    functional = importlib.import_module("bitsandbytes.functional")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return functional, device, torch.linspace(-1, 1, 4096, device=device).reshape(64, 64)


def _judged(weights: Any, back: Any, device: str) -> dict[str, Any]:  # noqa: ANN401 -- tensors, untyped here
    """Quantized and back, values of [-1, 1] may move by one step of 16 and no more."""
    worst = float((weights.float() - back.float()).abs().max())
    version = importlib.import_module("bitsandbytes").__version__
    problem = "" if worst <= 2 / 15 else f"values moved by {worst:.3f}"
    return {"version": version, "device": device, "problem": problem}


if __name__ == "__main__":
    main()
