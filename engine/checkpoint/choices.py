"""Names in a config.json that transformers looks up when it builds the model, of which it knows only some.

Checked here because its own refusal takes seconds of imports.
"""

from __future__ import annotations

from engine.checkpoint.fields import Fields
from engine.checkpoint.files import shown
from engine.errors import DamagedCheckpoint

FAMILIES = (
    "codegen",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt2",
    "gpt_neox",
    "gptj",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "stablelm",
)
"""Their classes take the activation, and where they rotate at all the rotation, from these tables."""
ACTIVATIONS = frozenset({
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu",
    "relu", "relu2", "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh", "xielu",
})  # fmt: skip
"""By transformers' ACT2CLS."""
ROTATIONS = frozenset({"linear", "dynamic", "yarn", "longrope", "llama3", "proportional"})
"""By transformers' ROPE_INIT_FUNCTIONS."""
_PLAIN_ROTATIONS = frozenset({"default", "mrope", "su"})
"""Of which it makes one of those, or none."""
_HINT = "Get config.json again from where the model came from, or update transformers."


def check_choices(fields: Fields) -> None:
    """Refuse an activation or a rotation that the family's class will not find.

    Raises:
        DamagedCheckpoint: one is unknown.
    """
    if fields.family not in FAMILIES:
        return
    activation = fields.string("hidden_activation", "hidden_act", "activation_function")
    if activation and activation not in ACTIVATIONS:
        raise DamagedCheckpoint(
            f"config.json names an activation {shown(activation)}, which transformers does not know.", _HINT
        )
    rotation = fields.part("rope_parameters", "rope_scaling").string("rope_type", "type")
    if rotation and rotation not in ROTATIONS | _PLAIN_ROTATIONS:
        raise DamagedCheckpoint(
            f"config.json names a rotation {shown(rotation)}, which transformers does not know.", _HINT
        )
