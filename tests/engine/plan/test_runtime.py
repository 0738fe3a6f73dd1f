"""What RAM holds beside weights and cache, against the closed forms' own terms."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.heap import GROWTH_BYTES
from engine.plan.limits import typical_limits
from engine.plan.module import Module
from engine.plan.need import Need
from engine.plan.runtime import (
    CACHE_GAP_SHARE,
    CHUNK_ACTIVATION_BYTES,
    CHUNK_GAP_SHARE,
    CHUNKS,
    CLASS_BYTES,
    CUDA_RAM_BYTES,
    MAPPED_WHILE_LOADING_BYTES,
    MOST_CACHE_GAP_BYTES,
    PACKING_BYTES,
    RAM_RUNTIME_BYTES,
    VARIED_KERNEL_BYTES,
    cache_gap_bytes,
    chunk_gap_bytes,
    cpu_chunk,
    kernel_bytes,
    loading_bytes,
    packed_activation_bytes,
    ram_runtime_bytes,
)
from engine.values import Quantization, Tier
from tests.engine.plan.making import GIB, MIB, budgets, model, placed

NONE, INT8, NF4 = Quantization.NONE, Quantization.INT8, Quantization.NF4
EAGER: dict[str, Any] = {
    "model_type": "gptj",
    "architectures": ["GPTJForCausalLM"],
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
}


def layer(packed: int = 10, plain: int = 40, widest: int = 0, rewritten: int = 0) -> Module:
    return Module(
        name="layer",
        bytes=packed,
        plain_bytes=plain,
        rewritten_bytes=rewritten,
        layer=0,
        widest_elements=widest,
    )


def test_the_runtime_of_a_measured_machine_grows_by_classes_and_gaps() -> None:
    limits = msgspec.structs.replace(typical_limits(), measured_at=1.0, ram_runtime_bytes=300 * MIB)
    expected = 300 * MIB + CLASS_BYTES + GROWTH_BYTES
    assert ram_runtime_bytes(has_gpus=False, limits=limits) == expected
    assert ram_runtime_bytes(has_gpus=True, limits=limits) == expected + CUDA_RAM_BYTES
    assert ram_runtime_bytes(has_gpus=False, limits=typical_limits()) == RAM_RUNTIME_BYTES


def test_plain_weights_are_not_held_before_they_are_used() -> None:
    assert loading_bytes([layer(plain=GIB), layer(plain=GIB)], NONE) == 0


@pytest.mark.parametrize("quantization", [INT8, NF4])
def test_packing_holds_what_is_packed_and_copies_of_the_largest_matrix(quantization: Quantization) -> None:
    modules = [layer(10, 40, 1000), layer(10, 40, 3000), Module(name="head", bytes=90, plain_bytes=90)]
    expected = 20 + 3000 * PACKING_BYTES[quantization] + MAPPED_WHILE_LOADING_BYTES
    assert loading_bytes(modules, quantization) == expected


def test_stacked_experts_are_held_twice_for_a_moment() -> None:
    modules = [layer(500, 500, 7, rewritten=400)] * 3
    assert loading_bytes(modules, NONE) == 3 * 400 + 400 + MAPPED_WHILE_LOADING_BYTES


def test_a_load_that_peaks_above_the_conversation_is_reserved() -> None:
    small = model(40 * MIB, 10 * MIB)
    modules = [msgspec.structs.replace(m, widest_elements=(m.layer == 0) * 100 * MIB) for m in small.modules]
    loud = msgspec.structs.replace(small, modules=tuple(modules))
    quiet_need, need = Need(small, 512), Need(loud, 512)
    held = loud.weight_bytes + need.kv_bytes + need.cpu_reserve_bytes(())
    assert held == loading_bytes(modules, NF4)
    assert quiet_need.cpu_reserve_bytes(()) < need.cpu_reserve_bytes(())


@pytest.mark.parametrize(
    ("rewritten", "held"), [(0, 3 * 100 * MIB), (90 * MIB, 100 * MIB)], ids=["a ring", "one by hooks"]
)
def test_beside_the_disk_the_largest_chunk_its_gaps_and_what_is_read_ahead_are_reserved(
    rewritten: int, held: int
) -> None:
    need = Need(model(100 * MIB, rewritten_bytes=rewritten, **EAGER), 8192)
    on_disk = [module for module in need.modules if module.layer is not None][4:]
    gaps = chunk_gap_bytes(need.footprint, need.activation_bytes) + cache_gap_bytes(need.kv_bytes)
    gaps += kernel_bytes(need.footprint)
    assert gaps > 0
    assert need.cpu_reserve_bytes(on_disk) == need.activation_bytes + gaps + held


def test_an_embedding_on_disk_takes_no_ring_unless_a_head_shares_it() -> None:
    for is_tied, held in ((False, 0), (True, 900 * MIB)):
        need = Need(model(outer_bytes=900 * MIB, tied=is_tied), 8192)
        assert need.read_ahead_bytes(need.modules[:1]) == held
        assert need.read_ahead_bytes(need.modules) == 900 * MIB + 200 * MIB


def test_without_the_disk_the_chunk_of_the_cpu_and_its_gaps_are_reserved() -> None:
    footprint = model(100 * MIB, **EAGER)
    need = Need(footprint, 8192)
    chunk = footprint.activation_bytes(8192, chunk_tokens=cpu_chunk(footprint, 8192))
    gaps = chunk_gap_bytes(footprint, chunk) + cache_gap_bytes(need.kv_bytes)
    gaps += kernel_bytes(footprint)
    assert chunk < need.activation_bytes
    assert need.cpu_reserve_bytes(()) == chunk + gaps


@pytest.mark.parametrize(("itemsize", "share"), [(2, CHUNK_GAP_SHARE), (4, 0.0)])
def test_only_chunks_of_16_bit_leave_gaps_and_only_as_large_as_one_of_the_cpu(
    itemsize: int, share: float
) -> None:
    footprint = msgspec.structs.replace(model(), itemsize=itemsize)
    for size in (0, 1 * MIB, CHUNK_ACTIVATION_BYTES, 9 * CHUNK_ACTIVATION_BYTES):
        expected = int(share * min(size, CHUNK_ACTIVATION_BYTES))
        assert chunk_gap_bytes(footprint, size) == expected


@pytest.mark.parametrize(
    ("config", "itemsize", "expected"),
    [
        (EAGER, 2, VARIED_KERNEL_BYTES),
        (EAGER, 4, 0),
        ({"num_local_experts": 8, "num_experts_per_tok": 2, "model_type": "mixtral"}, 2, VARIED_KERNEL_BYTES),
        ({}, 2, 0),
    ],
)
def test_kernels_for_every_length_count_where_attention_or_experts_need_them(
    config: dict[str, Any], itemsize: int, expected: int
) -> None:
    assert kernel_bytes(msgspec.structs.replace(model(**config), itemsize=itemsize)) == expected


def test_a_growing_cache_leaves_gaps_up_to_a_bound() -> None:
    assert cache_gap_bytes(0) == 0
    assert cache_gap_bytes(100 * MIB) == int(CACHE_GAP_SHARE * 100 * MIB)
    assert cache_gap_bytes(64 * GIB) == MOST_CACHE_GAP_BYTES


@pytest.mark.parametrize("window", [256, 512, 2048, 8192, 32768])
def test_chunks_shrink_where_attention_keeps_scores(window: int) -> None:
    footprint = model(**EAGER)
    chunk = cpu_chunk(footprint, window)
    larger = [size for size in CHUNKS if size > chunk]
    sizes = [footprint.activation_bytes(window, chunk_tokens=size) for size in (chunk, *larger)]
    assert sizes[0] <= CHUNK_ACTIVATION_BYTES or chunk == CHUNKS[-1]
    assert all(size > CHUNK_ACTIVATION_BYTES for size in sizes[1:])
    assert sizes == sizes[:1] + sorted(sizes[1:], reverse=True)


def test_a_plan_for_the_cpu_tells_its_chunk_and_one_for_a_gpu_the_largest() -> None:
    footprint = model(**EAGER)
    alone = placed(footprint, budgets(), 8192)
    assert alone.prefill_chunk == cpu_chunk(footprint, 8192) < CHUNKS[0]
    assert placed(footprint, budgets((64 * GIB,)), 8192).prefill_chunk == CHUNKS[0]


def test_chunks_stay_large_beside_modules_on_disk() -> None:
    footprint = model(400 * MIB, layers=24, **EAGER)
    need = Need(footprint, 8192)
    room = RAM_RUNTIME_BYTES + need.kv_bytes + need.cpu_reserve_bytes(need.modules) + 800 * MIB
    placement = placed(footprint, budgets(ram=room), 8192)
    assert Tier.DISK in {entry.tier for entry in placement.layers}
    assert placement.prefill_chunk == CHUNKS[0]


def test_int8_sums_and_columns_of_outliers_count_beside_activations() -> None:
    footprint = msgspec.structs.replace(model(packed_bytes=50 * MIB), quantization=INT8)
    widest = footprint.config.intermediate_size
    outliers = 11 * widest * footprint.config.hidden_size
    assert packed_activation_bytes(footprint, 512) == 512 * 16 * widest + outliers
    assert packed_activation_bytes(model(), 512) == 0
