"""Which model on this disk an adapter was made for."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from engine.checkpoint.adapter import has_adapter, read_adapter
from engine.errors import CheckpointError
from engine.values import ModelRef


def is_adapter(ref: ModelRef) -> bool:
    """A folder holds an adapter, and no model beside it."""
    return has_adapter(ref.folder) and not os.path.lexists(ref.folder / "config.json")


def with_base(ref: ModelRef, listed: Iterable[ModelRef]) -> ModelRef:
    """An adapter on top of its base model; anything else, or one without a base here, as it is.

    Args:
        ref: of any model.
        listed: every model on this disk. The adapter chooses among them and leads nowhere else.
    """
    if not is_adapter(ref):
        return ref
    try:
        wanted = read_adapter(ref.folder).base
    except CheckpointError:
        return ref
    base = next((other for other in listed if _is_meant(other, wanted) and not is_adapter(other)), None)
    return ref if base is None else msgspec.structs.replace(ref, folder=base.folder, adapter=ref.folder)


def _is_meant(model: ModelRef, wanted: str) -> bool:
    """It is the repository, or the folder, that an adapter names."""
    if os.path.isabs(wanted):
        return os.path.normpath(wanted) in {str(model.folder), os.path.realpath(model.folder)}
    return "/" in wanted and wanted.casefold() in {model.repo_id.casefold(), model.name.casefold()}
