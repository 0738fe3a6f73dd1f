"""MOSS as CodeGen: the same layers, packed in the same four turns of queries, values and keys."""

from __future__ import annotations

from engine.checkpoint.adapted.family import Family, Layout, Speech
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JsonObject

_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}\n"
    "{% else %}You are an AI assistant whose name is MOSS.\n{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}<|Human|>: {{ m.content }}<eoh>\n"
    "{% elif m.role == 'assistant' %}<|MOSS|>:{{ m.content }}<eom>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|MOSS|>:{% endif %}"
)


def _fields(fields: Fields) -> JsonObject:
    positions = fields.integer("n_positions", default=2048)
    return {
        "vocab_size": fields.integer("vocab_size"),
        "n_positions": positions,
        "n_ctx": fields.integer("n_ctx", default=positions),
        "n_embd": fields.integer("n_embd"),
        "n_layer": fields.integer("n_layer"),
        "n_head": fields.integer("n_head"),
        "n_inner": fields.find("n_inner") and fields.integer("n_inner"),
        "rotary_dim": fields.integer("rotary_dim", default=64),
        "activation_function": fields.string("activation_function") or "gelu_new",
        "layer_norm_epsilon": fields.positive("layer_norm_epsilon") or 1e-5,
        "bos_token_id": fields.integer("bos_token_id", low=0, default=106028),
        "eos_token_id": fields.integer("eos_token_id", low=0, default=106068),
        "tie_word_embeddings": False,
    }


MOSS = Family(
    title="MOSS",
    model_type="codegen",
    native_class="CodeGenForCausalLM",
    architectures=("MossForCausalLM",),
    demands={"wbits": 32, "tie_word_embeddings": False},
    fields=_fields,
    layout=Layout(layers="transformer.h", native_layers="transformer.h", dropped=(".attn.causal_mask",)),
    speech=Speech(template=_TEMPLATE, ends=("<eom>",)),
)
