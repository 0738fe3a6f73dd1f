"""The built-in model: a small Llama checkpoint that answers questions about vramble and about memory."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
"""The checkpoint's folder; it is loaded like any other."""
