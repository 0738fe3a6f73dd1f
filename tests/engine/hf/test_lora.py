"""Models with a LoRA adapter: they compute what a checkpoint with the merged weights computes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from engine.checkpoint import inspect_folder
from engine.errors import DamagedCheckpoint, UnsupportedModel
from engine.events import LoadProgress
from engine.hf.early import begun
from engine.plan.packed import packed_path
from engine.values import LoadStage, Placement, Quantization
from tests import tiny_models
from tests.adapters import ALPHA, RANK, change_tensors, change_weight, make_adapter, merged_folder
from tests.engine.hf.talk import Talk, in_ram, on_disk, quantized

SCALE = ALPHA / RANK
LLAMA = {"model.layers.0.self_attn.q_proj": (32, 32), "model.layers.2.mlp.down_proj": (32, 64)}
GPT2 = {"transformer.h.1.attn.c_attn": (96, 32), "transformer.h.0.attn.c_proj": (32, 32)}
MOE = {"model.layers.1.mlp.experts.2.gate_proj": (16, 32), "model.layers.1.self_attn.v_proj": (16, 32)}


def logits(folder: Path, placement: Placement | None = None, adapter: Path | None = None) -> torch.Tensor:
    talk = Talk(folder, placement or in_ram(), adapter=adapter)
    found: torch.Tensor = talk.inner.runner.feed([5, 6, 7, 8]).float().clone()
    talk.backend.unload()
    return found


def require_merged(base: Path, adapter: Path, expected: Path, placement: Placement | None = None) -> None:
    """With its adapter the base computes what the merged checkpoint does, and not what it does alone."""
    got, wanted = logits(base, placement, adapter), logits(expected, placement)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got, logits(base, placement), atol=1e-2)


@pytest.mark.parametrize(
    ("family", "matrices"),
    [("llama", LLAMA), ("qwen2", LLAMA), ("gpt2", GPT2), ("qwen3_moe", MOE)],
)
def test_an_adapter_is_merged_into_the_weights(
    tmp_path: Path, family: str, matrices: dict[str, tuple[int, int]]
) -> None:
    base = tiny_models.checkpoint(family)
    adapter = make_adapter(tmp_path / "lora", matrices)
    expected = merged_folder(base, adapter, tmp_path / "merged", SCALE, is_turned=family == "gpt2")
    require_merged(base, adapter, expected)


def test_the_scale_may_be_by_the_roots_of_ranks_and_differ_by_module(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    said: dict[str, Any] = {"use_rslora": True, "alpha_pattern": {"down_proj": 6, "q_proj": 6}}
    adapter = make_adapter(tmp_path / "lora", LLAMA, **said)
    require_merged(base, adapter, merged_folder(base, adapter, tmp_path / "merged", 6 / math.sqrt(RANK)))


def test_layers_on_disk_are_merged_before_they_are_written_there(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    adapter = make_adapter(tmp_path / "lora", LLAMA)
    expected = merged_folder(base, adapter, tmp_path / "merged", SCALE)
    (tmp_path / "offload").mkdir()
    require_merged(base, adapter, expected, on_disk("model.layers", range(4), tmp_path / "offload"))


@pytest.mark.parametrize("kind", [Quantization.NF4, Quantization.INT8])
def test_a_model_is_packed_with_its_adapter_and_kept_apart_from_its_base(
    tmp_path: Path, kind: Quantization
) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 512,
        "num_key_value_heads": 4,
        "head_dim": 16,
    }
    base = tiny_models.make("llama", tmp_path, dtype=torch.bfloat16, **sizes)
    adapter = make_adapter(tmp_path / "lora", {"model.layers.1.mlp.down_proj": (64, 512)})
    expected = merged_folder(base, adapter, tmp_path / "merged", SCALE)
    wanted = logits(expected, quantized(kind))
    for is_anew in (True, False):
        talk = Talk(base, quantized(kind), adapter=adapter)
        got = talk.inner.runner.feed([5, 6, 7, 8]).float().clone()
        talk.ask("Why?")
        if talk.backend._keeper:
            talk.backend._keeper.wait()
        talk.backend.unload()
        stages = {event.stage for event in talk.progress if isinstance(event, LoadProgress)}
        assert (LoadStage.QUANTIZE in stages) is is_anew
        assert torch.equal(got, wanted)
    alone = Talk(base, quantized(kind))
    assert not torch.equal(alone.inner.runner.feed([5, 6, 7, 8]).float(), wanted)
    alone.backend.unload()


def test_packed_weights_are_of_one_adapter_alone(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    one, two = (make_adapter(tmp_path / str(seed), LLAMA, seed=seed) for seed in (1, 2))
    verdicts = [inspect_folder(base, adapter=adapter) for adapter in (None, one, two)]
    assert len({packed_path(verdict, Quantization.NF4) for verdict in verdicts}) == len(verdicts)


def test_weights_that_are_merged_are_not_read_early_as_they_are_stored(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    verdict = inspect_folder(base, adapter=make_adapter(tmp_path / "lora", LLAMA))
    assert begun(verdict, in_ram()) is None


def test_an_embedding_is_merged_where_the_head_is_another(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    rows = inspect_folder(base).config.vocab_size
    adapter = make_adapter(tmp_path / "lora", {"lm_head": (rows, 32)})
    expected = merged_folder(base, adapter, tmp_path / "merged", SCALE)
    a, b = torch.randn(RANK, rows), torch.randn(32, RANK)
    named = "base_model__model__model__embed_tokens__lora_embedding"
    change_tensors(adapter, **{f"{named}_A": a, f"{named}_B": b})
    change_weight(expected, "model.embed_tokens.weight", lambda weight: weight + SCALE * (b @ a).T)
    require_merged(base, adapter, expected)


def test_a_weight_that_is_brought_whole_takes_the_place_of_the_bases(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    adapter = make_adapter(tmp_path / "lora", LLAMA)
    expected = merged_folder(base, adapter, tmp_path / "merged", SCALE)
    whole = torch.randn(inspect_folder(base).config.vocab_size, 32)
    change_tensors(adapter, base_model__model__lm_head__weight=whole)
    change_weight(expected, "lm_head.weight", lambda _: whole)
    require_merged(base, adapter, expected)


def test_a_tied_embedding_is_refused(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("qwen3")
    rows = inspect_folder(base).config.vocab_size
    adapter = make_adapter(tmp_path / "lora", {"model.embed_tokens": (rows, 32)})
    with pytest.raises(UnsupportedModel, match="the embedding and the head share"):
        Talk(base, adapter=adapter)


def test_infinite_matrices_are_refused(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "lora", LLAMA)
    change_tensors(adapter, q_proj__lora_A__weight=torch.full((RANK, 32), torch.inf))
    with pytest.raises(DamagedCheckpoint, match="not finite"):
        Talk(tiny_models.checkpoint("llama"), adapter=adapter)


def test_the_adapters_own_tokenizer_and_template_are_used(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    adapter = make_adapter(tmp_path / "lora", LLAMA)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, adapter / name)
    (adapter / "chat_template.jinja").write_text("only this")
    talk = Talk(base, adapter=adapter)
    assert talk.inner.tokenizer.chat_template == "only this"
    assert any("LoRA r4 (lora) is merged into 2 weights" in note for note in talk.loaded.notes)


def test_a_tokenizer_with_more_words_than_the_base_is_refused(tmp_path: Path) -> None:
    base = tiny_models.checkpoint("llama")
    adapter = make_adapter(tmp_path / "lora", LLAMA)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([f"word{number}" for number in range(inspect_folder(base).config.vocab_size)])
    tokenizer.save_pretrained(adapter)
    with pytest.raises(DamagedCheckpoint, match="more words"):
        Talk(base, adapter=adapter)
