"""Copies of what a cache layer holds."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch


@torch.inference_mode()
def copied(state: Mapping[str, object]) -> dict[str, object]:
    """Copy fields of a cache layer; of a view, no more than is seen."""
    return {name: _copy(value) for name, value in state.items()}


def _copy(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return copy.deepcopy(value)
