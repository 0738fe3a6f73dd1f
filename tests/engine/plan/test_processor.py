"""What the kernel says of the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.plan import processor


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    processor.has_matrix_units.cache_clear()
    yield
    processor.has_matrix_units.cache_clear()


@pytest.mark.parametrize(
    ("text", "has"),
    [("flags : fpu sse2 amx_tile amx_bf16\n", True), ("flags : fpu avx512_bf16 not_amx_tile\n", False)],
)
def test_matrix_units_are_a_flag_of_the_first_core(
    text: str, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{text}", encoding="ascii")
    monkeypatch.setattr(processor, "_CPU_INFO", tmp_path / "cpuinfo")
    assert processor.has_matrix_units() is has


def test_a_kernel_that_says_nothing_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_CPU_INFO", tmp_path / "nowhere")
    assert not processor.has_matrix_units()
