"""What a chunk of prefill holds: predicted on no device, and measured of a real forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.blueprints import ActivationPeak, CacheGrowth
from engine.hf import dryrun_attention, dryrun_forward
from engine.hf.dryrun import dry_run
from engine.hf.dryrun_attention import Attention
from engine.hf.dryrun_cache import growth_bytes
from engine.hf.dryrun_layers import enough_layers
from tests.engine.hf.dryruns import CPU, FAMILIES, longer, runner
from tests.engine.hf.live_bytes import LiveBytes

WINDOW = 1536
SLACK = 1.02


def measured(folder: Path, peak: ActivationPeak, caches: tuple[CacheGrowth, ...]) -> int:
    """The most bytes that the last chunk of a real prompt holds beside weights and KV cache."""
    real = runner(folder)
    real.kv.foresee(peak.context_tokens)
    model: Any = real._model
    logits, done = None, 0
    while done < peak.context_tokens - peak.chunk_tokens:
        tokens = min(peak.chunk_tokens, peak.context_tokens - peak.chunk_tokens - done)
        logits = real.feed([5] * tokens)
        done += tokens
    live = LiveBytes([*model.parameters(), *model.buffers()])
    live.adopt([logits, [list(vars(layer).values()) for layer in real.kv.cache.layers]])
    with live:
        real.feed([5] * (peak.context_tokens - done))
    return live.peak - sum(growth_bytes(growth, peak.context_tokens) for growth in caches)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_chunk_holds_more_than_predicted(family: str, tmp_path: Path) -> None:
    folder = longer(family, tmp_path, WINDOW)
    made = dry_run(folder)
    assert made.peaks[-1].context_tokens == WINDOW
    for peak in (made.peaks[0], made.peaks[-1]):
        held = measured(folder, peak, made.caches)
        assert held <= min(peak.bytes, peak.gpu_bytes)


@pytest.mark.parametrize("family", ["gemma2", "gptj", "codegen", "bloom", "falcon_h1"])
def test_where_no_kernel_hides_anything_the_prediction_is_close(family: str, tmp_path: Path) -> None:
    folder = longer(family, tmp_path, WINDOW)
    made = dry_run(folder)
    for peak in (made.peaks[0], made.peaks[-1]):
        assert peak.bytes <= SLACK * measured(folder, peak, made.caches)


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "qwen3_next", "deepseek_v2"])
def test_the_first_layers_stand_for_all(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = longer(family, tmp_path, WINDOW)
    short = dry_run(folder)
    monkeypatch.setattr(dryrun_forward, "enough_layers", len)
    whole = dry_run(folder)
    assert short.caches == whole.caches
    assert short.step_ops == whole.step_ops
    for left, right in zip(short.peaks, whole.peaks, strict=True):
        assert left.bytes == pytest.approx(right.bytes, rel=0.05)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3_next", "falcon_h1"])
def test_a_stretched_cache_is_like_a_computed_one(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = longer(family, tmp_path, WINDOW)
    stretched = dry_run(folder)
    monkeypatch.setattr(dryrun_forward, "stretches", lambda *_: False)
    computed = dry_run(folder)
    assert [p.context_tokens for p in stretched.peaks] == [p.context_tokens for p in computed.peaks]
    for left, right in zip(stretched.peaks, computed.peaks, strict=True):
        assert left.bytes == pytest.approx(right.bytes, rel=0.01)


def test_peaks_rise_with_the_context_up_to_the_window(tmp_path: Path) -> None:
    peaks = dry_run(longer("llama", tmp_path, 8192)).peaks
    assert [p.context_tokens for p in peaks] == [512, 1024, 4096, 8192]
    assert {p.chunk_tokens for p in peaks} == {512}
    assert [p.bytes for p in peaks] == sorted(p.bytes for p in peaks)
    assert peaks[-1].bytes > peaks[0].bytes


@pytest.mark.parametrize(
    ("kinds", "count"),
    [("aaaa", 2), ("abab", 3), ("abbb", 2), ("aaab", 4), ("aabaab", 3), ("a", 1), ("", 1)],
)
def test_the_first_layers_show_every_kind_behind_another_layer(kinds: str, count: int) -> None:
    assert enough_layers(kinds) == count


def attention(value_width: int, mask: torch.Tensor | None) -> Attention:
    query = torch.zeros(1, 4, 128, 16, dtype=torch.bfloat16)
    value = torch.zeros(1, 4, 256, value_width, dtype=torch.bfloat16)
    key = torch.zeros(1, 4, 256, 16, dtype=torch.bfloat16)
    return Attention.called((query, key, value, mask), {"is_causal": False})


def test_attention_without_a_fused_kernel_keeps_scores_on_the_cpu_alone() -> None:
    scores = 4 * 128 * 256 * 4
    uneven = attention(8, None)
    assert uneven.cpu_bytes() > 2 * scores > uneven.gpu_bytes()
    assert attention(16, None).cpu_bytes() < scores
    assert uneven.result().shape == (1, 4, 128, 8)


def test_a_mask_is_turned_into_numbers() -> None:
    mask = torch.ones(1, 1, 128, 256, dtype=torch.bool)
    assert attention(16, mask).gpu_bytes() - attention(16, None).gpu_bytes() == 2 * 128 * 256 * 2
    assert attention(16, mask).cpu_bytes() - attention(16, None).cpu_bytes() == 128 * 256 * 2


@pytest.mark.parametrize("packs", [True, False])
def test_keys_and_values_are_packed_for_matrix_units_alone(
    packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dryrun_attention, "has_matrix_units", lambda: packs)
    sums = 4 * 4 * 128
    assert attention(16, None).cpu_bytes() == sums + packs * 2 * 4 * 256 * 16 * 2


def test_the_cpu_is_asked_without_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dryrun_attention, "has_matrix_units", lambda: True)
    far = 1 << 24
    query = torch.zeros((), dtype=torch.bfloat16).expand(1, 64, 512, 128)
    key = torch.zeros((), dtype=torch.bfloat16).expand(1, 64, far, 128)
    with LiveBytes() as live:
        size = Attention.called((query, key, key), {}).cpu_bytes()
    assert size >= 2 * 64 * far * 128 * 2
    assert live.peak < 1 << 20
    assert CPU.type == query.device.type
