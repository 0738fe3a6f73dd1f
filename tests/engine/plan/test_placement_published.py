"""Placements of well-known models, from config.json alone, on devices that need not exist."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.checkpoint import look_at
from engine.plan import Footprint, footprint_of, placement_for
from engine.values import Budget, Fits, Placement, Quantization, Strategy, Tier
from tests.engine.plan.making import GIB, MIB, budgets, placed, usual_limits

BLOOM = {
    "architectures": ["BloomForCausalLM"],
    "model_type": "bloom",
    "hidden_size": 14336,
    "n_layer": 70,
    "n_head": 112,
    "vocab_size": 250880,
    "seq_length": 2048,
    "torch_dtype": "bfloat16",
}
CHATGLM = {
    "architectures": ["ChatGLMModel"],
    "model_type": "chatglm",
    "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "num_layers": 28,
    "num_attention_heads": 32,
    "vocab_size": 130528,
    "max_sequence_length": 2048,
    "torch_dtype": "float16",
    "position_encoding_2d": True,
}
LLAMA_405B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}


def footprints(folder: Path, config: dict[str, Any]) -> dict[Quantization, Footprint]:
    (folder / "config.json").write_text(json.dumps(config))
    verdict = look_at(folder)
    return {kind: footprint_of(verdict, kind) for kind in Quantization}


def imagined(*sizes: int) -> tuple[Budget, ...]:
    return tuple(
        Budget(device=f"gpu:{at}", free_bytes=size, total_bytes=size, given=True, asked_bytes=size)
        for at, size in enumerate(sizes)
    )


def layers_on(placement: Placement) -> dict[str, int]:
    counts: dict[str, int] = {}
    for layer in placement.layers:
        if layer.name.rpartition(".")[2].isdigit():
            counts[layer.device] = counts.get(layer.device, 0) + 1
    return counts


def test_bloom_176b_on_eight_gpus_has_fewest_layers_on_the_first(tmp_path: Path) -> None:
    footprint = footprints(tmp_path, BLOOM)[Quantization.NONE]
    for strategy in (Strategy.AUTO, Strategy.BALANCED):
        placement = placed(footprint, (*imagined(*[80 * GIB] * 8), *budgets()), 2048, strategy=strategy)
        assert placement.fits is Fits.GPU
        counts = layers_on(placement)
        first = counts.pop("gpu:0")
        assert len(counts) == 7
        assert first < min(counts.values())
        assert sum(counts.values()) + first == 70


def test_chatglm_6b_on_a_t4_leaves_room_for_prefill_and_says_where_its_layers_go(tmp_path: Path) -> None:
    footprint = footprints(tmp_path, CHATGLM)[Quantization.NONE]
    given = (*imagined(int(15.3 * GIB)), Budget(device="ram", free_bytes=int(11.8 * GIB)))
    placement = placed(footprint, given, 2048)
    card = placement.devices[0]
    assert placement.fits is Fits.GPU
    assert card.kv_bytes == 2048 * 28 * 2 * 4096 * 2
    assert card.activation_bytes > 30 * MIB
    assert card.budget_bytes - card.predicted_bytes >= 500 * MIB
    assert placement.reasons[0] == "All 28 layers lie on GPUs, none in the CPU's RAM: 28 on gpu:0."


def test_chatglm_6b_on_a_smaller_card_says_how_many_layers_go_to_ram(tmp_path: Path) -> None:
    footprint = footprints(tmp_path, CHATGLM)[Quantization.NONE]
    given = (*imagined(int(12.3 * GIB)), Budget(device="ram", free_bytes=int(11.8 * GIB)))
    placement = placed(footprint, given, 2048)
    assert placement.fits is Fits.GPU_RAM
    moved = layers_on(placement)["ram"]
    assert placement.reasons[0].startswith(f"{moved} of 28 layers go to the CPU's RAM")
    card = placement.devices[0]
    idle = card.budget_bytes - card.predicted_bytes
    assert idle <= max(card.budget_bytes // 50 + 300 * MIB, footprint.modules[1].bytes)


@pytest.mark.parametrize("gpus", [(80 * GIB,) * 8, (24 * GIB,) * 2, ()])
def test_planning_405_billion_parameters_again_is_quick(tmp_path: Path, gpus: tuple[int, ...]) -> None:
    by_kind = footprints(tmp_path, LLAMA_405B)
    given = (*imagined(*gpus), *budgets(ram=300 * GIB, disk=2000 * GIB))
    limits = usual_limits(given)
    seconds = []
    for window in (8192, 16384, 8192, 4096, 8192):
        started = time.thread_time()
        again = placement_for(
            by_kind[Quantization.NONE], given, window, limits=limits, other=by_kind.__getitem__
        )
        seconds.append(time.thread_time() - started)
        assert again.alternatives
    assert min(seconds) <= 0.25  # 20 ms where nothing else runs; this only guards against another order


def test_a_longer_context_moves_layers_off_the_gpu(tmp_path: Path) -> None:
    footprint = footprints(tmp_path, LLAMA_405B)[Quantization.NONE]
    given = (*imagined(*[80 * GIB] * 8), *budgets(ram=900 * GIB))
    moved = [layers_on(placed(footprint, given, window)).get("ram", 0) for window in (2048, 32768, 131072)]
    assert moved == sorted(moved)
    assert moved[0] < moved[2]


def test_the_embedding_of_a_tied_model_may_leave_with_its_head(tmp_path: Path) -> None:
    footprint = footprints(tmp_path, BLOOM)[Quantization.NONE]
    placement = placed(footprint, (*imagined(24 * GIB), *budgets(ram=900 * GIB)), 2048)
    places = {layer.name: layer.device for layer in placement.layers}
    head, embedding = places["lm_head"], places["transformer.word_embeddings"]
    assert head == embedding
    assert Tier.GPU in placement.tier_counts()
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(placement, enc_hook=str), type=Placement) == placement
    )
