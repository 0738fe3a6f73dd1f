"""InternLM, InternLM2 and Baichuan-7B as LLaMA, which they are but for names and packing."""

from __future__ import annotations

from engine.checkpoint.adapted.family import Family, Layout, Speech
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JsonObject

_INTERNLM_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}<|System|>:{{ m.content }}\n"
    "{% elif m.role == 'user' %}<|User|>:{{ m.content }}<eoh>\n"
    "{% else %}<|Bot|>:{{ m.content }}<eoa>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Bot|>:{% endif %}"
)
_INTERNLM_2_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _fields(fields: Fields) -> JsonObject:
    heads = fields.integer("num_attention_heads")
    return {
        "vocab_size": fields.integer("vocab_size"),
        "hidden_size": fields.integer("hidden_size"),
        "intermediate_size": fields.integer("intermediate_size"),
        "num_hidden_layers": fields.integer("num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.integer("num_key_value_heads", default=heads),
        "hidden_act": fields.string("hidden_act") or "silu",
        "max_position_embeddings": fields.integer("max_position_embeddings"),
        "rms_norm_eps": fields.positive("rms_norm_eps") or 1e-6,
        "attention_bias": fields.flag("bias") is True,
        "rope_parameters": _rotation(fields),
        "bos_token_id": fields.integer("bos_token_id", low=0, default=1),
        "eos_token_id": fields.integer("eos_token_id", low=0, default=2),
        "tie_word_embeddings": fields.flag("tie_word_embeddings") is True,
    }


def _rotation(fields: Fields) -> JsonObject:
    """The base, and a linear stretch; a dynamic one begins beyond the window, where no talk gets."""
    base = fields.positive("rope_theta") or fields.part("rotary").positive("base") or 10000.0
    stretch = fields.part("rope_scaling")
    if stretch.string("type", "rope_type") == "linear":
        return {"rope_type": "linear", "rope_theta": base, "factor": stretch.positive("factor") or 1.0}
    return {"rope_type": "default", "rope_theta": base}


def _internlm_fields(fields: Fields) -> JsonObject:
    return _fields(fields) | {"attention_bias": fields.flag("bias") is not False}


INTERNLM = Family(
    title="InternLM",
    model_type="llama",
    native_class="LlamaForCausalLM",
    architectures=("InternLMForCausalLM",),
    demands={},
    fields=_internlm_fields,
    layout=Layout(),
    speech=Speech(template=_INTERNLM_TEMPLATE, ends=("<eoa>",)),
)
INTERNLM_2 = Family(
    title="InternLM2",
    model_type="llama",
    native_class="LlamaForCausalLM",
    architectures=("InternLM2ForCausalLM",),
    demands={},
    fields=_fields,
    layout=Layout(
        renamed={
            "model.tok_embeddings": "model.embed_tokens",
            "output": "lm_head",
            "attention.wqkv": "self_attn.wqkv",
            "attention.wo": "self_attn.o_proj",
            "attention_norm": "input_layernorm",
            "ffn_norm": "post_attention_layernorm",
            "feed_forward.w1": "mlp.gate_proj",
            "feed_forward.w3": "mlp.up_proj",
            "feed_forward.w2": "mlp.down_proj",
        },
    ),
    speech=Speech(template=_INTERNLM_2_TEMPLATE, ends=("<|im_end|>",)),
)
BAICHUAN = Family(
    title="Baichuan-7B",
    model_type="llama",
    native_class="LlamaForCausalLM",
    architectures=("BaiChuanForCausalLM",),
    demands={},
    fields=_fields,
    layout=Layout(packed="self_attn.W_pack"),
    speech=Speech(),
)
