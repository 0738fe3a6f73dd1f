"""A tiny checkpoint of an architecture that only its own repository's code runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests import tiny_models

CONFIGURATION = '''
"""The configuration of a strange model."""

from transformers import PreTrainedConfig


class StrangeConfig(PreTrainedConfig):
    model_type = "strange"

    def __init__(self, width=32, **rest):
        self.hidden_size = width
        super().__init__(**rest)
'''

MODELING = '''
"""A strange model: attention, and nothing else."""

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_strange import StrangeConfig


class Layer(nn.Module):
    def __init__(self, index, width):
        super().__init__()
        self.index = index
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden, cache):
        query, keys, values = (part.unsqueeze(1) for part in self.mixed(hidden).chunk(3, -1))
        keys, values = cache.update(keys, values, self.index)
        seen = torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool, device=query.device)
        seen = seen.tril(keys.shape[2] - query.shape[2])
        mixed = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=seen)
        return hidden + self.out(mixed.squeeze(1))


class StrangeForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = StrangeConfig
    base_model_prefix = "strange"
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(i, config.hidden_size) for i in range(config.num_hidden_layers)
        )
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, past_key_values=None, **rest):
        hidden = self.words(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, past_key_values)
        return CausalLMOutputWithPast(logits=self.lm_head(hidden), past_key_values=past_key_values)
'''

TOKENIZATION = '''
"""A strange model's tokenizer."""

from transformers import PreTrainedTokenizerFast


class StrangeTokenizer(PreTrainedTokenizerFast):
    is_strange = True
'''

WIDTH, LAYERS = 32, 2


def mark(proof: Path) -> str:
    """A line of code that leaves a file behind when it runs."""
    return f"with open({str(proof)!r}, 'a') as proof:\n    proof.write('ran\\n')\n"


def make(folder: Path, proof: Path | None = None, *, repository: str = "", **changes: Any) -> Path:
    """Make the checkpoint.

    Args:
        folder: is made.
        proof: a file that the code writes to when it is imported.
        repository: of the code, where it is another one than the model's.
        changes: to config.json.
    """
    folder.mkdir(parents=True)
    tokenizer = tiny_models.make_tokenizer()
    tokenizer.save_pretrained(folder)
    _weights(folder, len(tokenizer))
    prefix = f"{repository}--" if repository else ""
    config = {
        "model_type": "strange",
        "architectures": ["StrangeForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{prefix}configuration_strange.StrangeConfig",
            "AutoModelForCausalLM": f"{prefix}modeling_strange.StrangeForCausalLM",
        },
        "width": WIDTH,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 1,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 512,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    if not repository:
        write_code(folder, proof)
    return folder


def write_code(folder: Path, proof: Path | None = None) -> None:
    """Write the two files of code."""
    before = mark(proof) if proof else ""
    (folder / "configuration_strange.py").write_text(before + CONFIGURATION)
    (folder / "modeling_strange.py").write_text(before + MODELING)


def give_tokenizer(folder: Path) -> None:
    """Let the repository bring the tokenizer's class, too, as (slow, fast)."""
    (folder / "tokenization_strange.py").write_text(TOKENIZATION)
    said = json.loads((folder / "tokenizer_config.json").read_text())
    said |= {"auto_map": {"AutoTokenizer": [None, "tokenization_strange.StrangeTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"tokenizer_class": "StrangeTokenizer"}))


def _weights(folder: Path, words: int) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = {"words.weight": (words, WIDTH), "lm_head.weight": (words, WIDTH)}
    for layer in range(LAYERS):
        shapes |= {
            f"layers.{layer}.mixed.weight": (3 * WIDTH, WIDTH),
            f"layers.{layer}.out.weight": (WIDTH, WIDTH),
        }
    biases = {
        name.replace("weight", "bias"): (shape[0],) for name, shape in shapes.items() if "layers" in name
    }
    tensors = {n: 0.3 * torch.randn(s, generator=generator) for n, s in {**shapes, **biases}.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
