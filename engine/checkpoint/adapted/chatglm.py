"""ChatGLM2 and ChatGLM3 as GLM: packed queries, keys and values; half of each head rotates, in pairs."""

from __future__ import annotations

from engine.checkpoint.adapted.family import Family, Layout, Speech
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JsonObject

_TOKENS = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_START = "[gMASK]<sop>"
_ROUNDS = (
    _START + "{% set n = namespace(round=0) %}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}{% set n.round = n.round + 1 %}"
    "[Round {{ n.round }}]\n\n问：{{ m.content }}\n\n"
    "{% else %}答：{{ m.content }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}答：{% endif %}"
)
_ROLED = (
    _START + "{% for m in messages %}<|{{ m.role }}|>\n"
    "{% if m.role != 'assistant' %} {% endif %}{{ m.content }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_LAYOUT = Layout(
    layers="transformer.encoder.layers",
    renamed={
        "transformer.embedding.word_embeddings": "model.embed_tokens",
        "transformer.encoder.final_layernorm": "model.norm",
        "transformer.output_layer": "lm_head",
        "self_attention.dense": "self_attn.o_proj",
        "mlp.dense_h_to_4h": "mlp.gate_up_proj",
        "mlp.dense_4h_to_h": "mlp.down_proj",
    },
    packed="self_attention.query_key_value",
    dropped=("rotary_pos_emb.inv_freq",),
)
_DEMANDS: JsonObject = {
    "multi_query_attention": True,
    "rmsnorm": True,
    "post_layer_norm": True,
    "add_bias_linear": False,
    "apply_residual_connection_post_layernorm": False,
    "quantization_bit": 0,
    "pre_seq_len": 0,
}


def _fields(fields: Fields) -> JsonObject:
    base = 10000.0 * (fields.positive("rope_ratio") or 1.0)
    return {
        "vocab_size": fields.integer("padded_vocab_size"),
        "hidden_size": fields.integer("hidden_size"),
        "intermediate_size": fields.integer("ffn_hidden_size"),
        "num_hidden_layers": fields.integer("num_layers"),
        "num_attention_heads": fields.integer("num_attention_heads"),
        "num_key_value_heads": fields.integer("multi_query_group_num"),
        "head_dim": fields.integer("kv_channels"),
        "hidden_act": "silu",
        "max_position_embeddings": fields.integer("seq_length"),
        "rms_norm_eps": fields.positive("layernorm_epsilon") or 1e-5,
        "attention_bias": fields.flag("add_qkv_bias") is True,
        "rope_parameters": {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": 0.5},
        "eos_token_id": fields.integer("eos_token_id", low=0, default=2),
        "pad_token_id": fields.integer("pad_token_id", low=0, default=0),
    }


CHATGLM_2 = Family(
    title="ChatGLM2",
    model_type="glm",
    native_class="GlmForCausalLM",
    architectures=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
    demands=_DEMANDS | {"rope_ratio": 1},
    fields=_fields,
    layout=_LAYOUT,
    speech=Speech(template=_ROUNDS, overrules=True, appended=_TOKENS, continues=True),
)
CHATGLM_3 = CHATGLM_2._replace(
    title="ChatGLM3",
    demands=_DEMANDS,
    speech=Speech(
        template=_ROLED,
        overrules=True,
        appended=_TOKENS + _ROLES,
        ends=("<|user|>", "<|observation|>"),
    ),
)
