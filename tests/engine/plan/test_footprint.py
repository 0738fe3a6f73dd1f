from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import inspect_folder
from engine.plan import Footprint, footprint_of
from engine.plan.cache import activation_bytes, layer_kv_bytes
from engine.plan.modules import ModuleNames
from engine.values import Quantization
from tests.engine.checkpoint.making import Shapes, checkpoint, llama_shapes


def footprint(
    folder: Path,
    shapes: Shapes | None = None,
    quantization: Quantization = Quantization.NONE,
    **config: Any,
) -> Footprint:
    return footprint_of(inspect_folder(checkpoint(folder, shapes, **config)), quantization)


def test_modules_come_in_forward_order_under_their_device_map_names(tmp_path: Path) -> None:
    names = [module.name for module in footprint(tmp_path).modules]
    assert names == ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"]


def test_the_modules_add_up_to_the_headers(tmp_path: Path) -> None:
    made = footprint(tmp_path)
    assert made.weight_bytes == inspect_folder(tmp_path).weight_bytes
    assert made.largest_bytes == max(module.bytes for module in made.modules)


@pytest.mark.parametrize("stores_head", [True, False])
def test_tied_embeddings_count_once(tmp_path: Path, stores_head: bool) -> None:
    shapes = llama_shapes()
    if not stores_head:
        del shapes["lm_head.weight"]
    head = footprint(tmp_path, shapes, tie_word_embeddings=True).modules[-1]
    assert (head.name, head.bytes, head.tied_to) == ("lm_head", 0, "model.embed_tokens")


@pytest.mark.parametrize(("dtype", "factor"), [("float32", 2), ("bfloat16", 1), ("", 1), ("strange", 1)])
def test_weights_take_the_dtype_they_are_loaded_in(tmp_path: Path, dtype: str, factor: int) -> None:
    made = footprint(tmp_path, torch_dtype=dtype)
    assert made.weight_bytes == factor * inspect_folder(tmp_path).weight_bytes


@pytest.mark.parametrize(
    ("quantization", "matrix_bytes"),
    [(Quantization.INT8, 32 * 16 + 4 * 32), (Quantization.NF4, 32 * 16 // 2 + 4 * 32 * 16 // 64)],
)
def test_quantizing_packs_the_layers_linear_weights_only(
    tmp_path: Path, quantization: Quantization, matrix_bytes: int
) -> None:
    shapes = llama_shapes()
    plain = footprint(tmp_path / "plain", shapes)
    packed = footprint(tmp_path / "packed", shapes, quantization)
    pairs = list(zip(plain.modules, packed.modules, strict=True))
    assert [p.bytes for p, _ in pairs] == [q.plain_bytes for _, q in pairs]
    assert [q.bytes == p.bytes for p, q in pairs] == [True, False, False, True, True]
    lost = shapes | {"model.layers.0.mlp.up_proj.weight": (0, 16)}
    without = footprint(tmp_path / "without", lost, quantization)
    assert packed.modules[1].bytes - without.modules[1].bytes == matrix_bytes


def with_experts() -> Shapes:
    shapes = llama_shapes()
    for layer in range(2):
        del shapes[f"model.layers.{layer}.mlp.up_proj.weight"]
        shapes[f"model.layers.{layer}.mlp.gate.weight"] = (4, 16)
        for expert in range(4):
            shapes[f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight"] = (8, 16)
    return shapes


def test_merged_experts_stay_unpacked_and_are_rewritten_for_the_disk_tier(tmp_path: Path) -> None:
    made = footprint(tmp_path, with_experts(), Quantization.NF4)
    layer = made.modules[1]
    assert layer.rewritten_bytes == 4 * 8 * 16 * 2
    assert layer.rewritten_bytes < layer.bytes < layer.plain_bytes
    assert any("experts unpacked" in note for note in made.notes)


def test_experts_stored_one_by_one_are_read_in_part(tmp_path: Path) -> None:
    layer = footprint(tmp_path, with_experts(), num_experts_per_tok=1).modules[1]
    experts = 4 * 8 * 16 * 2
    assert layer.active_share == pytest.approx((layer.bytes - 0.75 * experts) / layer.bytes)
    assert layer.tensors == len([name for name in with_experts() if ".layers.0." in name])


def test_the_masks_that_old_checkpoints_store_are_not_loaded(tmp_path: Path) -> None:
    mask = {"model.layers.0.attn.bias": (1, 1, 128, 128), "model.layers.0.attn.masked_bias": ()}
    plain, masked = footprint(tmp_path / "plain"), footprint(tmp_path, llama_shapes() | mask)
    assert masked.weight_bytes - plain.weight_bytes == 2
    assert masked.parameters == plain.parameters


def test_weights_beyond_the_last_layer_are_left_out(tmp_path: Path) -> None:
    shapes = llama_shapes(3) | {"mtp.fc.weight": (16, 16)}
    names = [module.name for module in footprint(tmp_path, shapes).modules]
    assert "model.layers.2" not in names
    assert not any(name.startswith("mtp") for name in names)


def test_a_checkpoint_packed_for_missing_kernels_is_unpacked_on_load(tmp_path: Path) -> None:
    shapes = llama_shapes() | {"model.layers.0.mlp.up_proj.weight_scale_inv": (1, 1)}
    made = footprint(tmp_path, shapes, quantization_config={"quant_method": "fp8"})
    assert made.weight_bytes == footprint(tmp_path / "plain").weight_bytes
    assert any("unpacked while loading" in note for note in made.notes)


def test_mxfp4_blocks_hold_two_weights_a_byte() -> None:
    from engine.checkpoint.tensors import StoredTensor
    from engine.plan.weights import plain_bytes
    from tests.engine.checkpoint.test_config import parsed

    config = parsed(quantization_config={"quant_method": "mxfp4"})
    blocks = StoredTensor("a.experts.gate_up_proj_blocks", "U8", (10,), 0, 10, Path())
    scales = StoredTensor("a.experts.gate_up_proj_scales", "U8", (2,), 0, 2, Path())
    other = StoredTensor("a.ids", "I64", (2,), 0, 16, Path())
    assert [plain_bytes(tensor, config, 2) for tensor in (blocks, scales, other)] == [40, 0, 16]


def test_what_is_packed_already_is_not_packed_again(tmp_path: Path) -> None:
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    made = footprint(tmp_path, None, Quantization.NF4, quantization_config=stored)
    assert made.quantization is Quantization.NONE
    assert made.weight_bytes == inspect_folder(tmp_path).weight_bytes
    assert any("not applied" in note for note in made.notes)


@pytest.mark.parametrize(
    ("layer_list", "model_type", "stored", "module"),
    [
        ("model.layers", "llama", "model.layers.7.mlp.up_proj.weight", "model.layers.7"),
        ("model.layers", "llama", "model.rotary.inv_freq", "model.rotary"),
        ("model.layers", "llama", "model.scale", "model.scale"),
        ("transformer.h", "gpt2", "transformer.wpe.weight", "transformer.wpe"),
        ("h", "gpt2", "h.0.ln_1.weight", "transformer.h.0"),
        ("h", "gpt2", "wte.weight", "transformer.wte"),
        ("h", "gpt2", "lm_head.weight", "lm_head"),
        ("layers", "llama", "layers.1.x.weight", "model.layers.1"),
        ("layers", "gpt_neox", "layers.1.x.weight", "gpt_neox.layers.1"),
        ("gpt_neox.layers", "gpt_neox", "embed_out.weight", "lm_head"),
        ("decoder.layers", "opt", "decoder.layers.0.fc1.weight", "model.decoder.layers.0"),
        ("model.decoder.layers", "opt", "model.decoder.embed_tokens.weight", "model.decoder.embed_tokens"),
        (
            "language_model.model.layers",
            "gemma3",
            "language_model.model.layers.3.x.weight",
            "model.language_model.layers.3",
        ),
        ("language_model.model.layers", "gemma3", "vision_tower.layers.0.x.weight", "model.vision_tower"),
    ],
)
def test_stored_names_become_those_of_the_built_model(
    layer_list: str, model_type: str, stored: str, module: str
) -> None:
    assert ModuleNames(layer_list, model_type).module_of(stored).name == module


def test_grouped_queries_cache_two_vectors_per_key_value_head(tmp_path: Path) -> None:
    assert footprint(tmp_path).kv_bytes(100) == 2 * (2 * 2 * 4 * 2) * 100


def test_a_sliding_window_bounds_the_cache(tmp_path: Path) -> None:
    made = footprint(tmp_path, sliding_window=10)
    assert made.kv_bytes(100) == made.kv_bytes(10) == 2 * (2 * 2 * 4 * 2) * 10


def test_latent_attention_caches_less(tmp_path: Path) -> None:
    made = footprint(tmp_path, kv_lora_rank=5, qk_rope_head_dim=3, qk_nope_head_dim=4)
    assert made.kv_bytes(100) == 2 * (5 + 3) * 2 * 100


def test_linear_attention_has_a_state_of_constant_size(tmp_path: Path) -> None:
    made = footprint(tmp_path, layer_types=["linear_attention", "full_attention"])
    first = made.modules[1]
    assert made.module_kv_bytes(first, 10) == made.module_kv_bytes(first, 100) == 16 * 128 * 4
    hybrid = footprint(tmp_path / "h", layer_types=["hybrid", "moe"])
    state = hybrid.config.linear_state * 4
    sizes = [layer_kv_bytes(hybrid.config, layer, 100, 2) for layer in (0, 1)]
    assert sizes == [state + 2 * 2 * 4 * 2 * 100, 0]


def test_activations_grow_with_the_context_and_hold_the_last_tokens_logits(tmp_path: Path) -> None:
    config = footprint(tmp_path).config
    short, long = (activation_bytes(config, window, 2) for window in (512, 4096))
    assert short < long
    assert short >= 16 * config.vocab_size
