"""Which architectures the installed transformers runs itself, read from its source text, not imported."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

_MAPPING = re.compile(r"^MODEL_FOR_CAUSAL_LM_MAPPING_NAMES\b.*?^\)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"\(\s*\"([\w.-]+)\",\s*\"(\w+)\"\s*,?\s*\)")


@functools.cache
def native_architectures() -> dict[str, str]:
    """The class for text generation of every `model_type`; empty without transformers."""
    source = _source_folder("transformers")
    if source is None:
        return {}
    text = (source / "models" / "auto" / "modeling_auto.py").read_text(encoding="utf-8")
    mapping = _MAPPING.search(text)
    return dict(_ENTRY.findall(mapping.group())) if mapping else {}


def native_class(model_type: str, architecture: str) -> str:
    """The class that runs a checkpoint without its own code; empty when there is none.

    Args:
        model_type: of config.json.
        architecture: the first of config.json's `architectures`; empty where it names none.
    """
    known = native_architectures()
    own = known.get(model_type, "")
    if not architecture or architecture.lower() == own.lower():
        return own
    return architecture if own and architecture in known.values() else ""


def is_installed(package: str) -> bool:
    """A package is there, found without importing it."""
    return _source_folder(package) is not None


def _source_folder(package: str) -> Path | None:
    if not package.isidentifier():
        return None
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None
