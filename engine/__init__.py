"""The engine's front door: commands, events, errors, values, Engine, EngineProcess.

Importing it imports nothing heavy; what needs more than msgspec is fetched at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from engine import commands, downloads, errors, events, values

if TYPE_CHECKING:
    from engine.checkpoint import Verdict, inspect_folder, look_at
    from engine.checkpoint.examine import Check, examine
    from engine.checkpoint.quantizers import QuantizerState, quantizer_states
    from engine.compilers import found_compilers, kernels_are_off
    from engine.conversion import Converted, ConvertProgress, Pickles, convert_pickles, pickles_of
    from engine.engine import Engine
    from engine.hub import LocalModel, find_model, list_models
    from engine.hub.code import CodeOrigin, code_of
    from engine.hub.download import Download, discard_download
    from engine.hub.repositories import parse_repository
    from engine.memory import GpuReading, MemoryMonitor, MemoryReading, RamReading, read_memory
    from engine.plan import Footprint, footprint_of, live_budgets, place, placement_for
    from engine.plan.limits import machine_limits
    from engine.plan.shelf import known_blueprint
    from engine.plan.trainable import weights_of
    from engine.plan.training import (
        Optimizer,
        Training,
        TrainingEstimate,
        TrainingKind,
        training_estimate,
    )
    from engine.process import EngineProcess

_LATE = {
    "Check": "engine.checkpoint.examine",
    "ConvertProgress": "engine.conversion",
    "Converted": "engine.conversion",
    "CodeOrigin": "engine.hub.code",
    "Download": "engine.hub.download",
    "Engine": "engine.engine",
    "EngineProcess": "engine.process",
    "Footprint": "engine.plan",
    "GpuReading": "engine.memory",
    "LocalModel": "engine.hub",
    "MemoryMonitor": "engine.memory",
    "MemoryReading": "engine.memory",
    "Optimizer": "engine.plan.training",
    "Pickles": "engine.conversion",
    "QuantizerState": "engine.checkpoint.quantizers",
    "RamReading": "engine.memory",
    "Training": "engine.plan.training",
    "TrainingEstimate": "engine.plan.training",
    "TrainingKind": "engine.plan.training",
    "Verdict": "engine.checkpoint",
    "convert_pickles": "engine.conversion",
    "code_of": "engine.hub.code",
    "discard_download": "engine.hub.download",
    "examine": "engine.checkpoint.examine",
    "find_model": "engine.hub",
    "footprint_of": "engine.plan",
    "found_compilers": "engine.compilers",
    "inspect_folder": "engine.checkpoint",
    "kernels_are_off": "engine.compilers",
    "known_blueprint": "engine.plan.shelf",
    "list_models": "engine.hub",
    "live_budgets": "engine.plan",
    "machine_limits": "engine.plan.limits",
    "look_at": "engine.checkpoint",
    "parse_repository": "engine.hub.repositories",
    "pickles_of": "engine.conversion",
    "place": "engine.plan",
    "placement_for": "engine.plan",
    "quantizer_states": "engine.checkpoint.quantizers",
    "read_memory": "engine.memory",
    "training_estimate": "engine.plan.training",
    "weights_of": "engine.plan.trainable",
}

__all__ = [
    "Check",
    "CodeOrigin",
    "ConvertProgress",
    "Converted",
    "Download",
    "Engine",
    "EngineProcess",
    "Footprint",
    "GpuReading",
    "LocalModel",
    "MemoryMonitor",
    "MemoryReading",
    "Optimizer",
    "Pickles",
    "QuantizerState",
    "RamReading",
    "Training",
    "TrainingEstimate",
    "TrainingKind",
    "Verdict",
    "code_of",
    "commands",
    "convert_pickles",
    "discard_download",
    "downloads",
    "errors",
    "events",
    "examine",
    "find_model",
    "footprint_of",
    "found_compilers",
    "inspect_folder",
    "kernels_are_off",
    "known_blueprint",
    "list_models",
    "live_budgets",
    "look_at",
    "machine_limits",
    "parse_repository",
    "pickles_of",
    "place",
    "placement_for",
    "quantizer_states",
    "read_memory",
    "training_estimate",
    "values",
    "weights_of",
]


def __getattr__(name: str) -> object:
    """Import a late name's module at its first use (PEP 562)."""
    if name not in _LATE:
        message = f"module 'engine' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(_LATE[name]), name)
