"""Values that commands and events are made of; each is checked when it is constructed."""

from __future__ import annotations

import enum
from pathlib import Path

from engine.blueprints import ActivationPeak, Blueprint, BuiltTensor, CacheGrowth
from engine.machine import GpuLimits, MachineLimits
from engine.placements import (
    Alternative,
    Budget,
    BudgetRequest,
    DevicePlan,
    Fits,
    Forecast,
    LayerPlacement,
    Placement,
    Quantization,
    Strategy,
    Tier,
)
from engine.value import Value, check, check_range

__all__ = [
    "ActivationPeak",
    "Alternative",
    "Blueprint",
    "Budget",
    "BudgetRequest",
    "BuiltTensor",
    "CacheGrowth",
    "ChatMessage",
    "CodeFile",
    "DeviceLedger",
    "DevicePlan",
    "FinishReason",
    "Fits",
    "Forecast",
    "GpuLimits",
    "Hub",
    "LayerPlacement",
    "LoadStage",
    "MachineLimits",
    "ModelRef",
    "Placement",
    "Quantization",
    "Role",
    "SamplingParams",
    "Strategy",
    "Tier",
    "TurnUsage",
    "Value",
]


class Hub(enum.StrEnum):
    """Where a repository comes from."""

    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


class Role(enum.StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(enum.StrEnum):
    """Why a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    FAILED = "failed"


class LoadStage(enum.StrEnum):
    """What a load is doing."""

    IMPORT = "import"
    READ = "read"
    PLACE = "place"
    QUANTIZE = "quantize"
    WARM_UP = "warm_up"


class ModelRef(Value, frozen=True, kw_only=True):
    """Which model: a folder on this machine, and the repository it came from where known.

    Attributes:
        name: what the person calls it, and what the screen shows (hostile until made SafeText).
        folder: where config.json and the safetensors lie.
        adapter: folder of the adapter that is merged into it on load.
        hub: the hub it was downloaded from.
        repo_id: owner/name on that hub.
        revision: commit or branch.
    """

    name: str
    folder: Path
    hub: Hub | None = None
    repo_id: str = ""
    revision: str = ""
    adapter: Path | None = None

    @property
    def place(self) -> Path:
        """The folder that means this model and no other."""
        return self.adapter or self.folder


class CodeFile(Value, frozen=True, kw_only=True):
    """One file of a repository's own code, known by its content.

    Attributes:
        name: in its folder ("modeling_x.py").
        sha256: of its bytes, in hexadecimal.
        repository: owner/name where another repository than the model's brings it; empty otherwise.
    """

    name: str
    sha256: str
    repository: str = ""


class ChatMessage(Value, frozen=True, kw_only=True):
    """One entry that the chat template renders.

    Attributes:
        role: who speaks.
        content: the text without its reasoning.
        reasoning: thinking text of an assistant's message; templates may drop it.
    """

    role: Role
    content: str
    reasoning: str = ""


class SamplingParams(Value, frozen=True, kw_only=True):
    """How the next token is chosen; None takes what the checkpoint's generation_config says.

    Attributes:
        temperature: 0 is greedy; up to 5.
        top_p: nucleus mass in (0, 1].
        top_k: candidates kept; 0 keeps all.
        min_p: share of the best token's probability below which candidates fall, in [0, 1).
        repetition_penalty: > 0; 1 is none.
        max_new_tokens: the reply's limit in tokens; None goes to the end of the context window.
        seed: of the sampler; None draws one.
        stop: strings that end the reply; they are not part of it.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what lies outside its range."""
        check_range("temperature", self.temperature, 0.0, 5.0)
        check_range("top_p", self.top_p, 1e-6, 1.0)
        check_range("top_k", self.top_k, 0, 1_000_000)
        check_range("min_p", self.min_p, 0.0, 0.999)
        check_range("repetition_penalty", self.repetition_penalty, 0.01, 10.0)
        check_range("max_new_tokens", self.max_new_tokens, 1, 10_000_000)
        check_range("seed", self.seed, 0, 2**63 - 1)
        check(all(self.stop), "A stop string is empty.", "Give at least one character.")


class DeviceLedger(Value, frozen=True, kw_only=True):
    """What the engine itself holds on one device, in bytes.

    Attributes:
        device: "gpu:0", "ram" or "disk".
        weight_bytes: weights resident there now.
        kv_bytes: KV cache allocated there now.
        other_bytes: activations, workspaces, libraries: what is left of the process's own use.
        uuid: NVML's name of the GPU; empty otherwise.
    """

    device: str
    weight_bytes: int = 0
    kv_bytes: int = 0
    other_bytes: int = 0
    uuid: str = ""


class TurnUsage(Value, frozen=True, kw_only=True):
    """Counts and speeds of one reply.

    Attributes:
        prompt_tokens: tokens of the rendered conversation.
        reused_tokens: of those, taken from the KV cache of the turn before.
        completion_tokens: tokens of the reply.
        guessed_tokens: of those, taken from a forward that computed several; the text itself told them.
        time_to_first_token: seconds from the start of the turn.
        prefill_tps: prompt tokens computed per second.
        decode_tps: tokens per second after the first one.
        context_used: tokens in the window when the reply ended.
        context_window: the limit.
        peak_ram_bytes: highest resident memory of the engine process.
        peak_vram_bytes: highest torch allocation, all GPUs.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    guessed_tokens: int = 0
    time_to_first_token: float = 0.0
    prefill_tps: float = 0.0
    decode_tps: float = 0.0
    context_used: int = 0
    context_window: int = 0
    peak_ram_bytes: int = 0
    peak_vram_bytes: int = 0
