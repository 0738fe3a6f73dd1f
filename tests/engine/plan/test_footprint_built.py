"""A footprint from a blueprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.blueprints import ActivationPeak, Blueprint, BuiltTensor, CacheGrowth
from engine.checkpoint import inspect_folder, look_at
from engine.errors import UnsupportedModel
from engine.plan import Footprint, footprint_of
from engine.values import Quantization
from tests.engine.checkpoint.making import checkpoint, llama_shapes, write_json

HEADERS = tuple(llama_shapes())


def built_llama(*more: BuiltTensor, tied: bool = False, **fields: Any) -> Blueprint:
    """What a dry run of the small llama tells."""
    shapes = {
        name: shape for name, shape in llama_shapes().items() if not (tied and name.startswith("lm_head"))
    }
    tensors = [
        BuiltTensor(
            name=name,
            shape=shape,
            itemsize=2,
            packs=".layers." in name and len(shape) == 2,
            active_share=1 / shape[0] if "embed" in name else 1.0,
        )
        for name, shape in shapes.items()
    ]
    return Blueprint(
        architecture="LlamaForCausalLM",
        parameters=sum(tensor.shape[0] * (tensor.shape[1:] or (1,))[0] for tensor in tensors),
        tensors=(*tensors, *more),
        layer_list="model.layers",
        tied=(("lm_head.weight", "model.embed_tokens.weight"),) if tied else (),
        **fields,
    )


def footprint(
    folder: Path,
    blueprint: Blueprint | None = None,
    quantization: Quantization = Quantization.NONE,
    **config: Any,
) -> Footprint:
    made = blueprint or built_llama()
    return footprint_of(inspect_folder(checkpoint(folder, **config)), quantization, made)


@pytest.mark.parametrize("quantization", list(Quantization))
def test_a_blueprint_and_headers_that_agree_give_the_same_modules(
    tmp_path: Path, quantization: Quantization
) -> None:
    verdict = inspect_folder(checkpoint(tmp_path))
    built = footprint_of(verdict, quantization, built_llama())
    stored = footprint_of(verdict, quantization)
    assert built.modules == stored.modules
    assert built.parameters == stored.parameters == verdict.parameters
    assert (built.is_exact, stored.is_exact) == (True, False)


def test_buffers_are_placed_with_their_modules_and_counted(tmp_path: Path) -> None:
    inside = BuiltTensor(name="model.layers.1.attn.mask", shape=(128, 128), itemsize=1, is_buffer=True)
    outside = BuiltTensor(name="model.rotary_emb.inv_freq", shape=(2,), itemsize=4, is_buffer=True)
    bare = {module.name: module.bytes for module in footprint(tmp_path / "bare").modules}
    made = {m.name: m for m in footprint(tmp_path, built_llama(inside, outside)).modules}
    assert made["model.layers.1"].bytes == bare["model.layers.1"] + 128 * 128
    assert made["model.rotary_emb"].bytes == 8
    assert made["model.layers.1"].tensors == made["model.layers.0"].tensors + 1


def test_a_tied_head_has_no_bytes_and_its_bias_lies_with_the_embedding(tmp_path: Path) -> None:
    bias = BuiltTensor(name="lm_head.bias", shape=(64,), itemsize=2)
    plain = footprint(tmp_path / "plain", built_llama(tied=True))
    biased = footprint(tmp_path / "biased", built_llama(bias, tied=True))
    for made, extra in ((plain, 0), (biased, 2 * 64)):
        embedding, head = made.modules[0], made.modules[-1]
        assert (head.name, head.bytes, head.tied_to) == ("lm_head", 0, "model.embed_tokens")
        assert embedding.bytes == 2 * 64 * 16 + extra


def test_wide_tensors_keep_their_bytes_when_others_are_packed(tmp_path: Path) -> None:
    wide = BuiltTensor(name="model.layers.0.mlp.correction", shape=(10,), itemsize=4)
    more = footprint(tmp_path, built_llama(wide), Quantization.NF4).modules[1]
    less = footprint(tmp_path / "less", quantization=Quantization.NF4).modules[1]
    assert more.bytes - less.bytes == more.plain_bytes - less.plain_bytes == 40


def test_int8_scales_the_rows_of_the_matrix_that_is_packed(tmp_path: Path) -> None:
    turned = BuiltTensor(name="model.layers.0.c", shape=(4, 32), itemsize=2, packs=True, rows=32)
    straight = BuiltTensor(name="model.layers.0.c", shape=(32, 4), itemsize=2, packs=True)
    sizes = [
        footprint(tmp_path / str(index), built_llama(tensor), Quantization.INT8).weight_bytes
        for index, tensor in enumerate((turned, straight))
    ]
    assert sizes[0] == sizes[1]
    assert sizes[0] - footprint(tmp_path, quantization=Quantization.INT8).weight_bytes == 4 * 32 + 4 * 32


def test_experts_are_read_in_part_rewritten_and_never_packed(tmp_path: Path) -> None:
    experts = BuiltTensor(
        name="model.layers.0.mlp.experts.up", shape=(4, 8, 16), itemsize=2, active_share=0.25
    )
    blueprint = built_llama(experts)
    shapes = llama_shapes() | {f"model.layers.0.mlp.experts.{i}.up.weight": (8, 16) for i in range(4)}
    verdict = inspect_folder(checkpoint(tmp_path, shapes))
    made = footprint_of(verdict, Quantization.NF4, blueprint)
    layer = made.modules[1]
    size = 4 * 8 * 16 * 2
    assert layer.rewritten_bytes == size
    assert layer.active_share == pytest.approx((layer.bytes - 0.75 * size) / layer.bytes)
    assert any("experts unpacked" in note for note in made.notes)
    assert footprint(tmp_path / "merged", blueprint).modules[1].rewritten_bytes == 0


def test_an_embedding_is_read_a_row_at_a_time(tmp_path: Path) -> None:
    assert footprint(tmp_path).modules[0].active_share == 1 / 64


def test_caches_grow_as_the_dry_run_saw(tmp_path: Path) -> None:
    caches = (
        CacheGrowth(layer=0, constant_bytes=100),
        CacheGrowth(layer=1, bytes_per_token=10, longest_tokens=7),
    )
    made = footprint(tmp_path, built_llama(caches=caches))
    first, second = made.modules[1:3]
    assert [made.module_kv_bytes(first, tokens) for tokens in (1, 50)] == [100, 100]
    assert [made.module_kv_bytes(second, tokens) for tokens in (1, 50)] == [10, 70]
    assert made.kv_bytes(50) == 170


def test_layers_that_keep_nothing_and_models_whose_caches_were_not_seen(tmp_path: Path) -> None:
    one = footprint(tmp_path, built_llama(caches=(CacheGrowth(layer=1, bytes_per_token=10),)))
    assert one.module_kv_bytes(one.modules[1], 50) == 0
    unseen = footprint(tmp_path / "unseen")
    stored = footprint_of(inspect_folder(tmp_path))
    assert unseen.kv_bytes(50) == stored.kv_bytes(50) > 0
    assert unseen.activation_bytes(50) == stored.activation_bytes(50)


def test_activations_lie_on_the_line_between_two_lengths(tmp_path: Path) -> None:
    peaks = tuple(
        ActivationPeak(chunk_tokens=10, context_tokens=tokens, bytes=size, gpu_bytes=size // 2)
        for tokens, size in ((10, 100), (20, 200), (120, 400))
    )
    made = footprint(tmp_path, built_llama(peaks=peaks))
    lengths = (1, 10, 15, 20, 70, 120, 500)
    assert [made.activation_bytes(n) for n in lengths] == [100, 100, 150, 200, 300, 400, 400]
    assert [made.activation_bytes(n, gpu=True) for n in lengths] == [50, 50, 75, 100, 150, 200, 200]


def test_a_peak_that_is_the_same_on_a_gpu_need_not_say_so(tmp_path: Path) -> None:
    peaks = (ActivationPeak(chunk_tokens=10, context_tokens=10, bytes=100),)
    assert footprint(tmp_path, built_llama(peaks=peaks)).activation_bytes(10, gpu=True) == 100


def test_weights_packed_already_are_added_up_from_their_headers(tmp_path: Path) -> None:
    packed = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    caches = (CacheGrowth(layer=0, bytes_per_token=3),)
    verdict = inspect_folder(checkpoint(tmp_path, quantization_config=packed))
    made = footprint_of(verdict, Quantization.NF4, built_llama(caches=caches))
    assert made.weight_bytes == verdict.weight_bytes
    assert made.quantization is Quantization.NONE
    assert made.kv_bytes(2) == 6


def test_what_nothing_tells_is_refused_and_what_a_dry_run_tells_is_not(tmp_path: Path) -> None:
    fields = {"model_type": "novelty", "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 64}
    write_json(tmp_path / "config.json", fields | {"num_attention_heads": 4})
    verdict = look_at(tmp_path)
    assert verdict.tensors == ()
    with pytest.raises(UnsupportedModel, match="novelty"):
        footprint_of(verdict)
    assert footprint_of(verdict, blueprint=built_llama()).weight_bytes > 0
