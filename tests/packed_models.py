"""Tiny checkpoints that are stored quantized, packed here by hand in each method's own layout.

folder = packed_models.fp8(tmp_path)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests import tiny_models

Tensors = dict[str, torch.Tensor]
_MATRICES = ("_proj.weight",)
_WORD_BITS = 32
_FP8_LARGEST = 448.0
_FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_MX_BLOCK = 32
_GPT_OSS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}


def fp8(parent: Path) -> Path:
    """A llama in fine-grained fp8, as DeepSeek and Qwen publish: a scale for each block of 128 x 128."""
    folder = tiny_models.make("llama", parent, dtype=torch.bfloat16)
    _repack(folder, _fp8_entries)
    return _say(folder, quant_method="fp8", fmt="e4m3", weight_block_size=[128, 128])


def _fp8_entries(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    scale = weight.float().abs().max() / _FP8_LARGEST
    yield name, (weight.float() / scale).to(torch.float8_e4m3fn)
    yield f"{name}_scale_inv", scale.reshape(1, 1).float()


def mxfp4(parent: Path) -> Path:
    """A gpt-oss with experts in mxfp4: blocks of 32 values of 4 bits and an exponent each."""
    folder = tiny_models.make("gpt_oss", parent, dtype=torch.bfloat16, **_GPT_OSS)
    weights = load_file(folder / "model.safetensors")
    packed: Tensors = {}
    for name, weight in weights.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            packed[f"{name}_blocks"], packed[f"{name}_scales"] = _mx_packed(weight.float())
        else:
            packed[name] = weight
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    return _say(folder, quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "lm_head"])


def _mx_packed(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks and scales of a stack of matrices, which are stored with rows and columns exchanged."""
    rows = weight.transpose(1, 2).reshape(weight.shape[0], weight.shape[2], -1, _MX_BLOCK)
    exponent = torch.floor(torch.log2(rows.abs().amax(-1, keepdim=True).clamp_min(1e-9))) - 2
    scaled = rows / torch.exp2(exponent)
    values = torch.tensor(_FP4_VALUES)
    nearest = (scaled.abs().unsqueeze(-1) - values).abs().argmin(-1) + 8 * (scaled < 0)
    blocks = (nearest[..., 0::2] | nearest[..., 1::2] << 4).to(torch.uint8)
    return blocks.contiguous(), (exponent.squeeze(-1) + 127).to(torch.uint8).contiguous()


def gptq(parent: Path) -> Path:
    """A llama with 4-bit words along the inputs, a scale and a zero for each group of 32."""
    folder = tiny_models.make("llama", parent, dtype=torch.float16)
    _repack(folder, _gptq_entries)
    return _say(folder, quant_method="gptq", bits=4, group_size=32, desc_act=False, sym=True)


def _gptq_entries(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    rows, columns = weight.shape
    base = name.removesuffix("weight")
    yield f"{base}qweight", torch.zeros(columns * 4 // _WORD_BITS, rows, dtype=torch.int32)
    yield f"{base}g_idx", torch.arange(columns, dtype=torch.int32) // 32
    yield from _grouped(base, rows, columns)


def awq(parent: Path) -> Path:
    """A llama with 4-bit words along the outputs."""
    folder = tiny_models.make("llama", parent, dtype=torch.float16)
    _repack(folder, _awq_entries)
    return _say(folder, quant_method="awq", bits=4, group_size=32, zero_point=True, version="gemm")


def _awq_entries(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    rows, columns = weight.shape
    base = name.removesuffix("weight")
    yield f"{base}qweight", torch.zeros(columns, rows * 4 // _WORD_BITS, dtype=torch.int32)
    yield from _grouped(base, rows, columns)


def _grouped(base: str, rows: int, columns: int) -> Iterator[tuple[str, torch.Tensor]]:
    yield f"{base}qzeros", torch.zeros(columns // 32, rows * 4 // _WORD_BITS, dtype=torch.int32)
    yield f"{base}scales", torch.ones(columns // 32, rows, dtype=torch.float16)


def compressed_tensors(parent: Path) -> Path:
    """A llama in 4-bit words of compressed-tensors, a scale for each group of 32."""
    folder = tiny_models.make("llama", parent, dtype=torch.bfloat16)
    _repack(folder, _compressed_entries)
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return _say(
        folder,
        quant_method="compressed-tensors",
        format="pack-quantized",
        quantization_status="compressed",
        config_groups={"group_0": group},
        ignore=["lm_head"],
    )


def _compressed_entries(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Values of -8 to 7 are stored with 8 added, the first in the lowest bits of a word."""
    rows, columns = weight.shape
    groups = weight.float().reshape(rows, columns // 32, 32)
    scale = groups.abs().amax(-1, keepdim=True) / 7
    values = (torch.round(groups / scale).clamp(-8, 7) + 8).reshape(rows, -1, _WORD_BITS // 4).long()
    words = sum(values[..., place] << 4 * place for place in range(8))
    assert isinstance(words, torch.Tensor)
    yield f"{name}_packed", (words - (words >= 1 << 31).long() * (1 << 32)).to(torch.int32)
    yield f"{name}_scale", scale.squeeze(-1).to(torch.bfloat16)
    yield f"{name}_shape", torch.tensor([rows, columns])


def bitsandbytes(parent: Path, **how: Any) -> Path:
    """A llama as transformers saves it once bitsandbytes has packed it."""
    plain = tiny_models.make(
        "llama", parent, dtype=torch.bfloat16, hidden_size=64, intermediate_size=128, head_dim=16
    )
    packing = BitsAndBytesConfig(bnb_4bit_compute_dtype=torch.bfloat16, **how)
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=packing, device_map={"": "cpu"})
    folder = parent / "packed"
    model.save_pretrained(folder)
    for file in plain.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text(tiny_models.CHAT_TEMPLATE)
    return folder


def gguf(parent: Path) -> Path:
    """A folder of a GGUF file, as llama.cpp's repositories are."""
    folder = parent / "gguf"
    folder.mkdir()
    (folder / "tiny.Q4_K_M.gguf").write_bytes(b"GGUF" + bytes(60))
    return folder


def _repack(folder: Path, entries: Callable[[str, torch.Tensor], Iterator[tuple[str, torch.Tensor]]]) -> None:
    packed: Tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.endswith(_MATRICES):
            packed |= dict(entries(name, weight))
        else:
            packed[name] = weight
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})


def _say(folder: Path, **quantization: Any) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"quantization_config": quantization}), encoding="utf-8")
    return folder
