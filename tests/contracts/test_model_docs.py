"""docs/models.md says of every format what the code demands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.checkpoint.examine import _QUESTIONS
from engine.checkpoint.quantizers import ANY_GPU, QUANTIZERS, Quantizer
from engine.checkpoint.template_trial import CPU_SECONDS, MEMORY_BYTES

DOCS = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = {
    row[0]: row[1:] for row in re.findall(r"^\| `([\w-]+)`[^|]*\| ([^|]*) \| ([^|]*) \|", DOCS, re.MULTILINE)
}
SHIPPED = ("bitsandbytes",)
"""Dependencies of vramble itself."""


def demand(method: str, quantizer: Quantizer) -> str:
    asked = " ".join(package.requirement for package in quantizer.packages)
    parts = [f"`pip install {asked}`"] if asked and method not in SHIPPED else []
    if quantizer.capability == ANY_GPU:
        parts.append("an NVIDIA GPU")
    elif quantizer.capability:
        parts.append("a GPU of compute capability {}.{}".format(*quantizer.capability))
    return ", ".join(parts) or "nothing more"


@pytest.mark.parametrize("method", QUANTIZERS)
def test_every_quantization_has_a_row_with_what_it_needs(method: str) -> None:
    needs, memory = ROWS[method]
    assert needs == demand(method, QUANTIZERS[method])
    assert memory.startswith("unpacked" if QUANTIZERS[method].is_unpacked else "as stored")


def test_every_question_of_a_check_is_explained() -> None:
    assert all(f"\n| `{name}` | " in DOCS for name, _ in _QUESTIONS)
    assert f"within {CPU_SECONDS} seconds and {MEMORY_BYTES >> 20} MiB" in DOCS
