"""Small checkpoints written byte by byte, so that no library has a say in them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from engine.checkpoint.tensors import DTYPE_BITS

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}
Shapes = dict[str, tuple[int, ...]]


def llama_shapes(layers: int = 2) -> Shapes:
    shapes: Shapes = {"model.embed_tokens.weight": (64, 16)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.self_attn.q_proj.weight": (16, 16),
            f"{prefix}.self_attn.k_proj.weight": (8, 16),
            f"{prefix}.self_attn.v_proj.weight": (8, 16),
            f"{prefix}.self_attn.o_proj.weight": (16, 16),
            f"{prefix}.mlp.gate_proj.weight": (32, 16),
            f"{prefix}.mlp.up_proj.weight": (32, 16),
            f"{prefix}.mlp.down_proj.weight": (16, 32),
            f"{prefix}.input_layernorm.weight": (16,),
            f"{prefix}.post_attention_layernorm.weight": (16,),
        }
    return shapes | {"model.norm.weight": (16,), "lm_head.weight": (64, 16)}


def header_of(shapes: Shapes, dtype: str = "BF16") -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    return header


def safetensors(shapes: Shapes, dtype: str = "BF16") -> bytes:
    header = header_of(shapes, dtype)
    size = max((entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_"), default=0)
    return packed(json.dumps(header).encode(), bytes(size))


def packed(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def checkpoint(folder: Path, shapes: Shapes | None = None, **config: Any) -> Path:
    """A sound llama; keyword arguments change config.json, None takes a field away."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name: value for name, value in (LLAMA | config).items() if value is not None}
    write_json(folder / "config.json", fields)
    (folder / "model.safetensors").write_bytes(safetensors(shapes or llama_shapes()))
    write_json(folder / "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    return folder


def sharded(folder: Path, shards: int = 2) -> Path:
    """The same llama in several files and an index."""
    checkpoint(folder)
    (folder / "model.safetensors").unlink()
    shapes = list(llama_shapes().items())
    weight_map: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(shapes[number::shards])
        (folder / name).write_bytes(safetensors(part))
        weight_map |= dict.fromkeys(part, name)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return folder
