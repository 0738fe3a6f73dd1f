"""Tiny random checkpoints as old repositories lay them out, each with a forward of its own in plain torch.

The forwards were written from the papers and the published layouts, not from transformers' classes, and
held once against the repositories' own code. Each repository also brings Python files that tell on
themselves when they run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch.nn import functional

from tests import tiny_models

Weights = dict[str, torch.Tensor]
Config = dict[str, Any]
Forward = Callable[[Weights, Config, torch.Tensor], torch.Tensor]
PIECES = Path(__file__).parent / "pieces"
VOCABULARY = 640
"""Rows of the embedding: more than any of the tokenizers has tokens, as published models have."""
LAYERS = 4
WIDTH, INNER, HEADS, KEYS, HEAD = 32, 48, 4, 2, 8
MARKER = "it_ran.txt"
_CODE = (
    "from pathlib import Path\nPath(__file__).with_name('it_ran.txt').write_text('yes')\nraise SystemExit\n"
)


class Old(NamedTuple):
    """One old family.

    Attributes:
        config: of config.json.
        weights: makes random ones in the old layout.
        forward: ids [tokens] to logits [tokens, vocabulary].
        native: transformers' class that stands in.
        pieces: its sentencepiece model; empty for words and merges.
        tokenizer: of tokenizer_config.json.
        code: the names of its Python files end so.
    """

    config: Config
    weights: Callable[[Config], Weights]
    forward: Forward
    native: str
    pieces: str
    tokenizer: Config
    code: str


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) * 0.3


def _scale(width: int = WIDTH) -> torch.Tensor:
    return 1 + 0.2 * torch.randn(width)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def angles(tokens: int, width: int, base: float = 10000.0) -> torch.Tensor:
    """Angles [tokens, 1, width / 2] of a rotation."""
    speeds = base ** (-torch.arange(0, width, 2).double() / width)
    return (torch.arange(tokens).double()[:, None] * speeds).float()[:, None, :]


def rotate_halves(x: torch.Tensor, base: float = 10000.0) -> torch.Tensor:
    """Rotate [tokens, heads, head]: element i with element i + head / 2."""
    turn = torch.polar(torch.ones(()), angles(len(x), x.shape[-1], base))
    half = x.shape[-1] // 2
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat((turned.real, turned.imag), -1)


def rotate_pairs(x: torch.Tensor, width: int) -> torch.Tensor:
    """Rotate the first `width` elements of each head: element 2i with element 2i + 1."""
    pairs = torch.view_as_complex(x[..., :width].reshape(*x.shape[:-1], -1, 2).contiguous())
    turned = pairs * torch.polar(torch.ones(()), angles(len(x), width))
    return torch.cat((torch.view_as_real(turned).flatten(-2), x[..., width:]), -1)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention of [tokens, heads, head] to [tokens, heads * head]; keys are shared by neighbours."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    seen = torch.ones(len(q), len(q)).tril().bool()
    shares = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", shares, v).flatten(1)


def split_heads(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(*x.shape[:-1], -1, HEAD)


# ChatGLM2 and ChatGLM3

_CHATGLM: Config = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "auto_map": {
        "AutoConfig": "configuration_chatglm.ChatGLMConfig",
        "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
    },
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_softmax_in_fp32": True,
    "ffn_hidden_size": INNER,
    "hidden_size": WIDTH,
    "kv_channels": HEAD,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": KEYS,
    "num_attention_heads": HEADS,
    "num_layers": LAYERS,
    "original_rope": True,
    "padded_vocab_size": VOCABULARY,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 512,
    "torch_dtype": "float32",
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def chatglm_weights(config: Config) -> Weights:
    rows = (HEADS + 2 * KEYS) * HEAD
    weights = {
        "transformer.embedding.word_embeddings.weight": _normal(VOCABULARY, WIDTH),
        "transformer.rotary_pos_emb.inv_freq": torch.rand(HEAD // 4),
        "transformer.encoder.final_layernorm.weight": _scale(),
        "transformer.output_layer.weight": _normal(VOCABULARY, WIDTH),
    }
    for index in range(LAYERS):
        path = f"transformer.encoder.layers.{index}"
        weights |= {
            f"{path}.input_layernorm.weight": _scale(),
            f"{path}.post_attention_layernorm.weight": _scale(),
            f"{path}.self_attention.query_key_value.weight": _normal(rows, WIDTH),
            f"{path}.self_attention.query_key_value.bias": _normal(rows),
            f"{path}.self_attention.dense.weight": _normal(WIDTH, HEADS * HEAD),
            f"{path}.mlp.dense_h_to_4h.weight": _normal(2 * INNER, WIDTH),
            f"{path}.mlp.dense_4h_to_h.weight": _normal(WIDTH, INNER),
        }
    return weights


def chatglm_forward(weights: Weights, config: Config, ids: torch.Tensor) -> torch.Tensor:
    x = weights["transformer.embedding.word_embeddings.weight"][ids]
    sizes = [HEADS * HEAD, KEYS * HEAD, KEYS * HEAD]
    for index in range(LAYERS):
        w = _below(weights, f"transformer.encoder.layers.{index}.")
        y = rms_norm(x, w["input_layernorm.weight"], 1e-5)
        name = "self_attention.query_key_value"
        packed = functional.linear(y, w[f"{name}.weight"], w[f"{name}.bias"])
        q, k, v = (split_heads(part) for part in torch.split(packed, sizes, -1))
        seen = attend(rotate_pairs(q, HEAD // 2), rotate_pairs(k, HEAD // 2), v)
        x = x + seen @ w["self_attention.dense.weight"].T
        y = rms_norm(x, w["post_attention_layernorm.weight"], 1e-5) @ w["mlp.dense_h_to_4h.weight"].T
        x = x + (functional.silu(y[:, :INNER]) * y[:, INNER:]) @ w["mlp.dense_4h_to_h.weight"].T
    x = rms_norm(x, weights["transformer.encoder.final_layernorm.weight"], 1e-5)
    return x @ weights["transformer.output_layer.weight"].T


def _below(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


# InternLM and Baichuan: LLaMA's layer

_LLAMA: Config = {
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "max_position_embeddings": 512,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def _auto_map(name: str, prefix: str) -> Config:
    return {
        "AutoConfig": f"configuration_{name}.{prefix}Config",
        "AutoModelForCausalLM": f"modeling_{name}.{prefix}ForCausalLM",
    }


def llama_layer(x: torch.Tensor, packed: torch.Tensor, w: Weights, base: float) -> torch.Tensor:
    """One layer behind its projections.

    Args:
        x: [tokens, width].
        packed: queries, keys and values side by side.
        w: output ("o"), its bias where there is one, second norm, gate, up and down.
        base: of the rotation.
    """
    keys = (packed.shape[-1] - HEADS * HEAD) // 2
    q, k, v = (split_heads(part) for part in torch.split(packed, [HEADS * HEAD, keys, keys], -1))
    seen = attend(rotate_halves(q, base), rotate_halves(k, base), v)
    x = x + functional.linear(seen, w["o"], w.get("o_bias"))
    y = rms_norm(x, w["norm"], 1e-6)
    return x + (functional.silu(y @ w["gate"].T) * (y @ w["up"].T)) @ w["down"].T


def _shared_weights() -> Weights:
    weights = {
        "model.embed_tokens.weight": _normal(VOCABULARY, WIDTH),
        "model.norm.weight": _scale(),
        "lm_head.weight": _normal(VOCABULARY, WIDTH),
    }
    for index in range(LAYERS):
        path = f"model.layers.{index}"
        weights |= {
            f"{path}.input_layernorm.weight": _scale(),
            f"{path}.post_attention_layernorm.weight": _scale(),
            f"{path}.self_attn.o_proj.weight": _normal(WIDTH, WIDTH),
            f"{path}.self_attn.rotary_emb.inv_freq": torch.rand(HEAD // 2),
            f"{path}.mlp.gate_proj.weight": _normal(INNER, WIDTH),
            f"{path}.mlp.up_proj.weight": _normal(INNER, WIDTH),
            f"{path}.mlp.down_proj.weight": _normal(WIDTH, INNER),
        }
    return weights


def internlm_weights(config: Config) -> Weights:
    weights = _shared_weights()
    for index in range(LAYERS):
        path = f"model.layers.{index}.self_attn"
        for part in "qkv":
            weights |= {
                f"{path}.{part}_proj.weight": _normal(WIDTH, WIDTH),
                f"{path}.{part}_proj.bias": _normal(WIDTH),
            }
        weights[f"{path}.o_proj.bias"] = _normal(WIDTH)
    return weights


def baichuan_weights(config: Config) -> Weights:
    packed = {
        f"model.layers.{index}.self_attn.W_pack.weight": _normal(3 * WIDTH, WIDTH) for index in range(LAYERS)
    }
    return _shared_weights() | packed


def llama_forward(weights: Weights, config: Config, ids: torch.Tensor) -> torch.Tensor:
    """InternLM's, with projections apart and biases, and Baichuan's, with one projection."""
    x = weights["model.embed_tokens.weight"][ids]
    for index in range(LAYERS):
        w = _below(weights, f"model.layers.{index}.")
        y = rms_norm(x, w["input_layernorm.weight"], 1e-6)
        if (pack := w.get("self_attn.W_pack.weight")) is not None:
            packed = y @ pack.T
        else:
            names = [f"self_attn.{part}_proj" for part in "qkv"]
            parts = [functional.linear(y, w[f"{name}.weight"], w[f"{name}.bias"]) for name in names]
            packed = torch.cat(parts, -1)
        rest = {
            "o": w["self_attn.o_proj.weight"],
            "norm": w["post_attention_layernorm.weight"],
            **{part: w[f"mlp.{part}_proj.weight"] for part in ("gate", "up", "down")},
        }
        if "self_attn.o_proj.bias" in w:
            rest["o_bias"] = w["self_attn.o_proj.bias"]
        x = llama_layer(x, packed, rest, 10000.0)
    return rms_norm(x, weights["model.norm.weight"], 1e-6) @ weights["lm_head.weight"].T


# InternLM2

_INTERNLM_2_BASE = 1_000_000.0


def internlm_2_weights(config: Config) -> Weights:
    weights = {
        "model.tok_embeddings.weight": _normal(VOCABULARY, WIDTH),
        "model.norm.weight": _scale(),
        "output.weight": _normal(VOCABULARY, WIDTH),
    }
    for index in range(LAYERS):
        path = f"model.layers.{index}"
        weights |= {
            f"{path}.attention_norm.weight": _scale(),
            f"{path}.ffn_norm.weight": _scale(),
            f"{path}.attention.wqkv.weight": _normal((HEADS + 2 * KEYS) * HEAD, WIDTH),
            f"{path}.attention.wo.weight": _normal(WIDTH, WIDTH),
            f"{path}.feed_forward.w1.weight": _normal(INNER, WIDTH),
            f"{path}.feed_forward.w2.weight": _normal(WIDTH, INNER),
            f"{path}.feed_forward.w3.weight": _normal(INNER, WIDTH),
        }
    return weights


def internlm_2_forward(weights: Weights, config: Config, ids: torch.Tensor) -> torch.Tensor:
    x = weights["model.tok_embeddings.weight"][ids]
    for index in range(LAYERS):
        w = _below(weights, f"model.layers.{index}.")
        y = rms_norm(x, w["attention_norm.weight"], 1e-6) @ w["attention.wqkv.weight"].T
        turns = y.reshape(len(y), KEYS, HEADS // KEYS + 2, HEAD)
        parts = turns[:, :, :-2], turns[:, :, -2], turns[:, :, -1]
        rest = {
            "o": w["attention.wo.weight"],
            "norm": w["ffn_norm.weight"],
            "gate": w["feed_forward.w1.weight"],
            "up": w["feed_forward.w3.weight"],
            "down": w["feed_forward.w2.weight"],
        }
        x = llama_layer(x, torch.cat([part.flatten(1) for part in parts], -1), rest, _INTERNLM_2_BASE)
    return rms_norm(x, weights["model.norm.weight"], 1e-6) @ weights["output.weight"].T


# MOSS

_MOSS_TURNS = 4
_MOSS_ROTARY = 4


def moss_weights(config: Config) -> Weights:
    weights = {
        "transformer.wte.weight": _normal(VOCABULARY, WIDTH),
        "transformer.ln_f.weight": _scale(),
        "transformer.ln_f.bias": _normal(WIDTH),
        "lm_head.weight": _normal(VOCABULARY, WIDTH),
        "lm_head.bias": _normal(VOCABULARY),
    }
    for index in range(LAYERS):
        path = f"transformer.h.{index}"
        weights |= {
            f"{path}.ln_1.weight": _scale(),
            f"{path}.ln_1.bias": _normal(WIDTH),
            f"{path}.attn.causal_mask": torch.ones(1, 1, 512, 512).tril().bool(),
            f"{path}.attn.qkv_proj.weight": _normal(3 * WIDTH, WIDTH),
            f"{path}.attn.out_proj.weight": _normal(WIDTH, WIDTH),
            f"{path}.mlp.fc_in.weight": _normal(4 * WIDTH, WIDTH),
            f"{path}.mlp.fc_in.bias": _normal(4 * WIDTH),
            f"{path}.mlp.fc_out.weight": _normal(WIDTH, 4 * WIDTH),
            f"{path}.mlp.fc_out.bias": _normal(WIDTH),
        }
    return weights


def moss_forward(weights: Weights, config: Config, ids: torch.Tensor) -> torch.Tensor:
    """Attention and MLP side by side; the packed rows are four turns of queries, values and keys."""
    x = weights["transformer.wte.weight"][ids]
    for index in range(LAYERS):
        w = _below(weights, f"transformer.h.{index}.")
        y = functional.layer_norm(x, (WIDTH,), w["ln_1.weight"], w["ln_1.bias"], 1e-5)
        turns = (y @ w["attn.qkv_proj.weight"].T).reshape(len(y), _MOSS_TURNS, 3, -1)
        q, v, k = (split_heads(turns[:, :, part].flatten(1)) for part in range(3))
        seen = attend(rotate_pairs(q, _MOSS_ROTARY), rotate_pairs(k, _MOSS_ROTARY), v)
        up = functional.gelu(
            functional.linear(y, w["mlp.fc_in.weight"], w["mlp.fc_in.bias"]), approximate="tanh"
        )
        down = functional.linear(up, w["mlp.fc_out.weight"], w["mlp.fc_out.bias"])
        x = x + seen @ w["attn.out_proj.weight"].T + down
    x = functional.layer_norm(
        x, (WIDTH,), weights["transformer.ln_f.weight"], weights["transformer.ln_f.bias"], 1e-5
    )
    return functional.linear(x, weights["lm_head.weight"], weights["lm_head.bias"])


_SP_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
_IM_TOKENS = {
    str(VOCABULARY - 2): {"content": "<|im_end|>", "special": True},
    str(VOCABULARY - 1): {"content": "<|im_start|>", "special": True},
}

OLD: dict[str, Old] = {
    "chatglm2": Old(
        _CHATGLM | {"_name_or_path": "THUDM/chatglm2-6b"},
        chatglm_weights,
        chatglm_forward,
        "GlmForCausalLM",
        "bpe.model",
        {"tokenizer_class": "ChatGLMTokenizer"},
        "chatglm",
    ),
    "chatglm3": Old(
        _CHATGLM | {"_name_or_path": "THUDM/chatglm3-6b"},
        chatglm_weights,
        chatglm_forward,
        "GlmForCausalLM",
        "bpe.model",
        {"tokenizer_class": "ChatGLMTokenizer", "chat_template": "{{ 'the old one'[0] }}"},
        "chatglm",
    ),
    "internlm": Old(
        _LLAMA
        | {"model_type": "internlm", "architectures": ["InternLMForCausalLM"], "bias": True}
        | {"auto_map": _auto_map("internlm", "InternLM"), "rotary": {"base": 10000, "type": "dynamic"}},
        internlm_weights,
        llama_forward,
        "LlamaForCausalLM",
        "plain.model",
        {"tokenizer_class": "InternLMTokenizer"} | _SP_NAMES,
        "internlm",
    ),
    "internlm2": Old(
        _LLAMA
        | {"model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "bias": False}
        | {"auto_map": _auto_map("internlm2", "InternLM2"), "num_key_value_heads": KEYS}
        | {"rope_theta": _INTERNLM_2_BASE, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        internlm_2_weights,
        internlm_2_forward,
        "LlamaForCausalLM",
        "plain.model",
        {"tokenizer_class": "InternLM2Tokenizer", "added_tokens_decoder": _IM_TOKENS} | _SP_NAMES,
        "internlm2",
    ),
    "baichuan": Old(
        _LLAMA
        | {"model_type": "baichuan", "architectures": ["BaiChuanForCausalLM"]}
        | {"auto_map": _auto_map("baichuan", "BaiChuan")},
        baichuan_weights,
        llama_forward,
        "LlamaForCausalLM",
        "plain.model",
        {"tokenizer_class": "BaiChuanTokenizer"} | _SP_NAMES,
        "baichuan",
    ),
    "moss": Old(
        {
            "model_type": "moss",
            "architectures": ["MossForCausalLM"],
            "auto_map": _auto_map("moss", "Moss"),
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "n_ctx": 512,
            "n_embd": WIDTH,
            "n_head": HEADS,
            "n_inner": None,
            "n_layer": LAYERS,
            "n_positions": 512,
            "rotary_dim": _MOSS_ROTARY,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vocab_size": VOCABULARY,
            "wbits": 32,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        moss_weights,
        moss_forward,
        "CodeGenForCausalLM",
        "",
        {"tokenizer_class": "MossTokenizer", "bos_token": "<|endoftext|>", "eos_token": "<eom>"},
        "moss",
    ),
}
"""By name."""


def weights_of(name: str) -> Weights:
    """The same random weights each time."""
    torch.manual_seed(3)
    return OLD[name].weights(OLD[name].config)


def make_old(name: str, parent: Path) -> Path:
    """Write an old repository, with code that would tell on itself, and return its folder."""
    old = OLD[name]
    folder = parent / name
    folder.mkdir()
    _write(folder / "config.json", old.config)
    code = {"auto_map": {"AutoTokenizer": [f"tokenization_{old.code}.Tokenizer", None]}}
    _write(folder / "tokenizer_config.json", old.tokenizer | code)
    for kind in ("configuration", "modeling", "tokenization"):
        (folder / f"{kind}_{old.code}.py").write_text(_CODE)
    save_file(weights_of(name), folder / "model.safetensors", metadata={"format": "pt"})
    if old.pieces:
        shutil.copy(PIECES / old.pieces, folder / "tokenizer.model")
    else:
        _write_words(folder)
    return folder


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _write_words(folder: Path) -> None:
    """GPT-2's files, and the control tokens beside them."""
    core = tiny_models.make_tokenizer().backend_tokenizer
    model = json.loads(core.to_str())["model"]
    _write(folder / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    count = len(model["vocab"])
    added = ("<eom>", "<eoh>", "<|Human|>", "<|MOSS|>")
    _write(folder / "added_tokens.json", {text: count + index for index, text in enumerate(added)})
