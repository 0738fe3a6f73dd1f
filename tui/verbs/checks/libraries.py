"""Python, torch, transformers and the quantizers, asked in a process of their own."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tui.verbs.checks.finding import Finding, fail, ok, warn

PROBE_SECONDS = 180
_FLOORS = {"transformers": (5, 5), "accelerate": (1, 10), "jinja2": (3, 1, 6), "safetensors": (0, 6)}
_TORCH_FLOOR = (2, 10)
_INSTALL = "Install it again: `pip install -c constraints.txt .` in vramble's folder."

Probed = Mapping[str, Mapping[str, Any]]


def check_libraries() -> list[Finding]:
    """Ask the probe, and judge what it found."""
    return [_python(), *_floors(), *judge(probe())]


def probe() -> Probed | str:
    """What `tui.verbs.probe` found, or a sentence why there is no answer."""
    command = [sys.executable, "-m", "tui.verbs.probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"The libraries did not answer within {PROBE_SECONDS} seconds."
    if done.returncode:
        return f"The libraries ended their process: {_last_line(done.stderr) or f'code {done.returncode}'}"
    try:
        found: Probed = json.loads(_last_line(done.stdout))
    except json.JSONDecodeError:
        return "The libraries gave no readable answer."
    return found


def judge(found: Probed | str) -> list[Finding]:
    """Findings about what the probe says."""
    if isinstance(found, str):
        return [fail("torch", found, _INSTALL)]
    quantizers = [_quantizer(name, found[name]) for name in ("int8", "nf4")]
    return [
        _driver(found["driver"]),
        _torch(found["torch"]),
        *_gpus(found["torch"]),
        _transformers(found["transformers"]),
        *quantizers,
    ]


def _python() -> Finding:
    return ok("python", f"{platform.python_version()} in {sys.prefix}.")


def _floors() -> list[Finding]:
    return [finding for name, floor in _FLOORS.items() if (finding := _below(name, floor))]


def _below(name: str, floor: tuple[int, ...]) -> Finding | None:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return fail(name, "It is not installed.", _INSTALL)
    wanted = ".".join(map(str, floor))
    return None if _numbers(version) >= floor else fail(name, f"{version} is older than {wanted}.", _INSTALL)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def _driver(found: Mapping[str, Any]) -> Finding:
    if found.get("problem"):
        advice = "If this machine has an NVIDIA GPU, install its driver; `nvidia-smi` must answer."
        return warn("driver", f"No GPU figures: {found['problem']}.", advice)
    return ok("driver", f"NVIDIA {found['version']}, {found['gpus']} GPU(s).")


def _torch(found: Mapping[str, Any]) -> Finding:
    if found.get("problem"):
        return fail("torch", f"It cannot be imported: {found['problem']}", _INSTALL)
    version = found["version"]
    if _numbers(version) < _TORCH_FLOOR:
        return fail("torch", f"{version} is older than 2.10.", _INSTALL)
    if not found["cuda"]:
        advice = "On a machine with an NVIDIA GPU, install torch's CUDA build."
        return warn("torch", f"{version} is a build without CUDA: models run on the CPU.", advice)
    if not found["gpus"]:
        advice = "Look at the GPU line: the driver may be missing or too old, or CUDA_VISIBLE_DEVICES empty."
        return warn("torch", f"{version} for CUDA {found['cuda']} sees no GPU.", advice)
    return ok("torch", f"{version} for CUDA {found['cuda']}, {len(found['gpus'])} GPU(s), all usable.")


def _gpus(found: Mapping[str, Any]) -> list[Finding]:
    gpus = found.get("gpus") or []
    return [_too_old(index, gpu) for index, gpu in enumerate(gpus) if not _is_supported(gpu)]


def _is_supported(gpu: Mapping[str, Any]) -> bool:
    """Binaries for an architecture run on later ones of the same major number."""
    major = gpu["architecture"][:-1]
    return any(known.rstrip("af")[:-1] == major and known <= gpu["architecture"] for known in gpu["known"])


def _too_old(index: int, gpu: Mapping[str, Any]) -> Finding:
    found = f"This torch holds no code for {gpu['name']} ({gpu['architecture']})."
    return fail(f"torch gpu:{index}", found, "Install a torch build that names this GPU's architecture.")


def _transformers(found: Mapping[str, Any]) -> Finding:
    if found.get("problem"):
        return fail("transformers", f"It cannot be imported: {found['problem']}", _INSTALL)
    return ok("transformers", f"{found['version']}.")


def _quantizer(name: str, found: Mapping[str, Any]) -> Finding:
    if found.get("problem"):
        advice = f"Models load without it; `--quant {name}` will not. {_INSTALL}"
        return warn(name, f"bitsandbytes cannot store weights as {name}: {found['problem']}", advice)
    where = "the GPU" if found["device"] == "cuda" else "the CPU"
    return ok(name, f"bitsandbytes {found['version']} stores weights as {name} on {where}.")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
