"""What the model picker lists: models on this disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.values import ModelRef

if TYPE_CHECKING:
    from engine import LocalModel

_REVISION = 12


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model on this disk; its texts are hostile until made safe to draw.

    Attributes:
        model: what loading it takes.
        weight_bytes: of its files.
        format: how its weights are stored ("bf16", "nf4").
        context_window: the longest one it was made for, in tokens; 0 where unknown.
        last_used: seconds since the epoch; None for never.
        modified_at: of its files, seconds since the epoch.
        problem: why it cannot be loaded, one sentence; empty when nothing is known to be wrong.
        details: name and value pairs shown of the highlighted one.
    """

    model: ModelRef
    weight_bytes: int = 0
    format: str = ""
    context_window: int = 0
    last_used: float | None = None
    modified_at: float = 0.0
    problem: str = ""
    details: tuple[tuple[str, str], ...] = ()


def model_entries(models: Iterable[LocalModel], last_used: Mapping[str, float]) -> list[ModelEntry]:
    """What the picker lists, the ones used last first, then by name as they come.

    Args:
        models: what is on this disk.
        last_used: seconds since the epoch by a model's name.
    """
    entries = [_entry(model, last_used.get(model.ref.name)) for model in models]
    return sorted(entries, key=lambda entry: (bool(entry.problem), -(entry.last_used or 0.0)))


def _entry(model: LocalModel, last_used: float | None) -> ModelEntry:
    ref = model.ref
    source = f"{ref.hub} · {ref.repo_id} · {ref.revision[:_REVISION]}".rstrip(" ·") if ref.hub else ""
    code = "It brings its own; you see it and are asked before it runs." if model.runs_code else ""
    adapter = f"{model.format}, in {ref.adapter}" if ref.adapter else ""
    details = (("adapter", adapter), ("runs as", model.architecture), ("code", code), ("from", source))
    return ModelEntry(
        model=ref,
        weight_bytes=model.weight_bytes,
        format=model.format,
        context_window=model.context_window,
        last_used=last_used,
        modified_at=model.modified_at,
        problem=model.problem,
        details=tuple(pair for pair in details if pair[1]),
    )
