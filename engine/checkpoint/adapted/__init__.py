"""Old repositories whose code transformers has outgrown, described as native classes that compute the same.

Nothing of a repository runs: config.json is read into the native config, and the names of the
weights are mapped onto the native ones.
"""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.adapted.chatglm import CHATGLM_2, CHATGLM_3
from engine.checkpoint.adapted.family import GROUPED, Family, Layout, Speech
from engine.checkpoint.adapted.llama import BAICHUAN, INTERNLM, INTERNLM_2
from engine.checkpoint.adapted.moss import MOSS
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import JsonObject, read_json, shown

__all__ = ["GROUPED", "Family", "Layout", "Speech", "family_of", "native_config", "read_native", "refusal"]

_FAMILIES = {"internlm": INTERNLM, "internlm2": INTERNLM_2, "moss": MOSS, "baichuan": BAICHUAN}
_KEPT = ("dtype", "torch_dtype", "quantization_config", "transformers_weights")
_CHATGLM = (
    "ChatGLM-6B reads its prompt in both directions and rotates each head by two positions, "
    "which no class of transformers computes."
)
_ALIBI = "Baichuan-13B weighs distances (ALiBi) between RMS norms, which no class of transformers computes."
_BAICHUAN_7B_WIDTH = 4096
_GLM_4_VOCABULARY = 151552
_GLM_4 = (
    "GLM-4's vocabulary is one of tiktoken's, which is not read; "
    "glm-4-9b-chat-hf is the same model for transformers."
)
_NORMED_HEAD = "Baichuan 2 normalizes the rows of its head, which LlamaForCausalLM does not."


def family_of(config: JsonObject) -> Family | None:
    """The old family that a config.json belongs to and whose native class carries it; None for any other."""
    family = _candidate(config)
    return None if family is None or refusal(config) else family


def refusal(config: JsonObject) -> str:
    """Why no native class carries an old repository, in one sentence; empty for one that can be carried.

    Empty for what is no old repository, too.
    """
    family = _candidate(config)
    if family is not None:
        return _unfit(config, family)
    kind = config.get("model_type")
    if kind == "chatglm" and "padded_vocab_size" not in config:
        return _CHATGLM
    if kind == "baichuan":
        return _NORMED_HEAD if config.get("hidden_size") == _BAICHUAN_7B_WIDTH else _ALIBI
    return ""


def _unfit(config: JsonObject, family: Family) -> str:
    """What a model of a known family has that its native class lacks."""
    if family.model_type == "glm" and config.get("padded_vocab_size") == _GLM_4_VOCABULARY:
        return _GLM_4
    if family.layout.is_renamed and config.get("quantization_config"):
        return f"Its weights are packed, and only plain ones of {family.title} are taken apart."
    for field, needed in family.demands.items():
        value = config.get(field)
        if value is not None and value != needed:
            told = f"It sets {field} to {shown(value)}"
            return f"{told}, and {family.native_class} computes {needed} only."
    return ""


def native_config(config: JsonObject) -> JsonObject:
    """The native class's config.json for an old one; any other as it is.

    Raises:
        DamagedCheckpoint: a field says what cannot be.
    """
    family = family_of(config)
    if family is None:
        return config
    kept = {name: config[name] for name in _KEPT if config.get(name) is not None}
    native = {"model_type": family.model_type, "architectures": [family.native_class]}
    return native | kept | family.fields(Fields(config))


def read_native(folder: Path) -> JsonObject:
    """config.json of a folder, as the native class reads it.

    Raises:
        DamagedCheckpoint: it is missing, malformed, or says what cannot be.
    """
    return native_config(read_json(folder, "config.json"))


def _candidate(config: JsonObject) -> Family | None:
    family = _FAMILIES.get(str(config.get("model_type")))
    if config.get("model_type") == "chatglm" and "padded_vocab_size" in config:
        family = CHATGLM_3 if "chatglm3" in str(config.get("_name_or_path")).lower() else CHATGLM_2
    named = Fields(config).strings("architectures")
    return family if family and (not named or named[0] in family.architectures) else None
