"""Model folders made by hand, sound and unsound; no torch is needed for them."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

HIDDEN, HEADS, LAYERS, VOCABULARY, WIDE = 8, 2, 2, 32, 16
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "eos_token_id": 1,
}


def shapes() -> dict[str, list[int]]:
    """Every tensor of the little Llama."""
    found = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN]}
    found["lm_head.weight"] = [VOCABULARY, HIDDEN]
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        for part in "qkvo":
            found[f"{name}.self_attn.{part}_proj.weight"] = [HIDDEN, HIDDEN]
        found[f"{name}.mlp.gate_proj.weight"] = found[f"{name}.mlp.up_proj.weight"] = [WIDE, HIDDEN]
        found[f"{name}.mlp.down_proj.weight"] = [HIDDEN, WIDE]
        found[f"{name}.input_layernorm.weight"] = [HIDDEN]
        found[f"{name}.post_attention_layernorm.weight"] = [HIDDEN]
    return found


def safetensors_bytes() -> bytes:
    """A safetensors file of that Llama, all zeros."""
    header: dict[str, object] = {}
    offset = 0
    for name, shape in shapes().items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes(offset)


def parameters() -> int:
    """How many it has."""
    return sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes().values())


def sound(folder: Path) -> Path:
    """A folder that can be inspected and planned."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(safetensors_bytes())
    (folder / "tokenizer.json").write_text("{}")
    return folder


def config_alone(folder: Path, **changes: object) -> Path:
    """A folder of a model whose weights are not here; None takes a field away."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name: value for name, value in (CONFIG | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def without_config(folder: Path) -> Path:
    """A folder that is no model."""
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("nothing")
    return folder


def truncated(folder: Path) -> Path:
    """A folder whose weights end too early."""
    file = sound(folder) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return folder


def pickled(folder: Path) -> Path:
    """A folder with pickles only."""
    (sound(folder) / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1}))
    return folder


def as_file(path: Path) -> Path:
    """A file where a folder should be."""
    path.write_text("I am a file")
    return path
