"""Values that commands and events are made of; each is checked when it is constructed."""

from __future__ import annotations

import enum
import math
from pathlib import Path

import msgspec

from engine.errors import InvalidValue


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen value that the wire can carry: str, int, float, tuple, Path and other values."""


class Hub(enum.StrEnum):
    """Where a repository comes from."""

    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


class Role(enum.StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Quantization(enum.StrEnum):
    """How weights are stored after loading."""

    NONE = "none"
    INT8 = "int8"
    NF4 = "nf4"


class Tier(enum.StrEnum):
    """Where a layer's weights rest and where it computes.

    `gpu`: rest and compute on the GPU. `stream`: rest in RAM, compute on the GPU.
    `cpu`: rest in RAM, compute on the CPU. `disk`: rest in the safetensors files.
    """

    GPU = "gpu"
    STREAM = "stream"
    CPU = "cpu"
    DISK = "disk"


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


class Fits(enum.StrEnum):
    """The slowest place that a Placement has to use."""

    GPU = "gpu"
    GPU_RAM = "gpu+ram"
    DISK = "disk"
    NO = "no"


class ModelRef(Value, frozen=True, kw_only=True):
    """Which model: a folder on this machine, and the repository it came from where known.

    Attributes:
        name: what the person calls it, and what the screen shows (hostile until made SafeText).
        folder: where config.json and the safetensors lie.
        hub: the hub it was downloaded from.
        repo_id: owner/name on that hub.
        revision: commit or branch.
    """

    name: str
    folder: Path
    hub: Hub | None = None
    repo_id: str = ""
    revision: str = ""


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


def _check(condition: bool, message: str, hint: str) -> None:
    if not condition:
        raise InvalidValue(message, hint)


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
        _check_range("temperature", self.temperature, 0.0, 5.0)
        _check_range("top_p", self.top_p, 1e-6, 1.0)
        _check_range("top_k", self.top_k, 0, 1_000_000)
        _check_range("min_p", self.min_p, 0.0, 0.999)
        _check_range("repetition_penalty", self.repetition_penalty, 0.01, 10.0)
        _check_range("max_new_tokens", self.max_new_tokens, 1, 10_000_000)
        _check_range("seed", self.seed, 0, 2**63 - 1)
        _check(all(self.stop), "A stop string is empty.", "Give at least one character.")


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is None:
        return
    in_range = math.isfinite(value) and low <= value <= high
    _check(in_range, f"{name} is {value}.", f"It must lie between {low:g} and {high:g}.")


class Budget(Value, frozen=True, kw_only=True):
    """How much of one device a plan may use.

    Attributes:
        device: "gpu:0", "ram" or "disk".
        free_bytes: what may be taken now.
        total_bytes: the device's size; 0 where unknown.
        uuid: NVML's name of the GPU; empty for RAM and disk.
        label: what the screen calls it ("H200", "RAM (cgroup)").
        given: the person chose the figure, instead of NVML or psutil.
    """

    device: str
    free_bytes: int
    total_bytes: int = 0
    uuid: str = ""
    label: str = ""
    given: bool = False

    def __post_init__(self) -> None:
        """Refuse negative figures."""
        _check(self.free_bytes >= 0, f"The budget of {self.device} is negative.", "Give 0 or more.")


class BudgetRequest(Value, frozen=True, kw_only=True):
    """What the person allows; None or absent takes what is free.

    Attributes:
        gpu: (index, bytes) caps; a GPU not named keeps its live figure.
        ram_bytes: cap for RAM.
        disk_folder: where offloaded tensors may be rewritten; None takes the cache folder.
        disk_bytes: cap for the disk tier.
    """

    gpu: tuple[tuple[int, int], ...] = ()
    ram_bytes: int | None = None
    disk_folder: Path | None = None
    disk_bytes: int | None = None


class LayerPlacement(Value, frozen=True, kw_only=True):
    """One module that is placed as a whole.

    Attributes:
        name: its path in the model, as accelerate's device_map wants it ("model.layers.3").
        bytes: its weights as loaded.
        tier: where they rest and where they compute.
        device: "gpu:0", "ram" or "disk".
    """

    name: str
    bytes: int
    tier: Tier
    device: str


class DevicePlan(Value, frozen=True, kw_only=True):
    """What one device will hold.

    Attributes:
        device: "gpu:0", "ram" or "disk".
        budget_bytes: what the plan might take.
        weight_bytes: weights resting there.
        kv_bytes: KV cache at the full context window.
        activation_bytes: the peak of one prefill chunk.
        runtime_bytes: CUDA context, libraries, workspaces.
        label: what the screen calls the device.
        uuid: NVML's name of the GPU; empty otherwise.
    """

    device: str
    budget_bytes: int
    weight_bytes: int = 0
    kv_bytes: int = 0
    activation_bytes: int = 0
    runtime_bytes: int = 0
    label: str = ""
    uuid: str = ""

    @property
    def predicted_bytes(self) -> int:
        """Sum of all that will lie on the device, in bytes."""
        return self.weight_bytes + self.kv_bytes + self.activation_bytes + self.runtime_bytes


class Placement(Value, frozen=True, kw_only=True):
    """Which module lies where, and what each device will hold.

    Attributes:
        context_window: tokens the KV cache is reserved for.
        quantization: how linear weights are stored.
        layers: every module of the model, once, in forward order.
        devices: one entry per device with a budget.
        fits: the slowest place in use, or `no`.
        offload_folder: where rewritten disk tensors go; None when nothing lies on disk.
        reasons: sentences that explain the choice.
    """

    context_window: int
    quantization: Quantization = Quantization.NONE
    layers: tuple[LayerPlacement, ...] = ()
    devices: tuple[DevicePlan, ...] = ()
    fits: Fits = Fits.NO
    offload_folder: Path | None = None
    reasons: tuple[str, ...] = ()

    def tier_counts(self) -> dict[Tier, int]:
        """Number of modules per tier, in order of first use."""
        counts: dict[Tier, int] = {}
        for layer in self.layers:
            counts[layer.tier] = counts.get(layer.tier, 0) + 1
        return counts


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
    time_to_first_token: float = 0.0
    prefill_tps: float = 0.0
    decode_tps: float = 0.0
    context_used: int = 0
    context_window: int = 0
    peak_ram_bytes: int = 0
    peak_vram_bytes: int = 0
