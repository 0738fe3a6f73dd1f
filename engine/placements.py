"""Values of a plan: what each device may give, where every module goes, and how fast that will be."""

from __future__ import annotations

import enum
from pathlib import Path

from engine.value import Value, check


class Strategy(enum.StrEnum):
    """How a plan chooses among the ways that fit.

    `auto`: the fastest predicted. `balanced`: the same share of every GPU. `sequential`: each GPU
    full before the next. `custom`: the device_map that the person wrote.
    """

    AUTO = "auto"
    BALANCED = "balanced"
    SEQUENTIAL = "sequential"
    CUSTOM = "custom"


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


class Fits(enum.StrEnum):
    """The slowest place that a Placement has to use."""

    GPU = "gpu"
    GPU_RAM = "gpu+ram"
    DISK = "disk"
    NO = "no"


class Budget(Value, frozen=True, kw_only=True):
    """How much of one device a plan may use.

    Attributes:
        device: "gpu:0", "ram" or "disk".
        free_bytes: what may be taken now.
        total_bytes: the device's size; 0 where unknown.
        uuid: NVML's name of the GPU; empty for RAM and disk.
        label: what the screen calls it ("H200", "RAM (cgroup)").
        given: the person chose the figure, instead of NVML or psutil.
        asked_bytes: the figure that the person chose, free or not; None for none.
    """

    device: str
    free_bytes: int
    total_bytes: int = 0
    uuid: str = ""
    label: str = ""
    given: bool = False
    asked_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse negative figures."""
        check(self.free_bytes >= 0, f"The budget of {self.device} is negative.", "Give 0 or more.")


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


class Forecast(Value, frozen=True, kw_only=True):
    """How fast a placement is predicted to be.

    Attributes:
        decode_tps: tokens per second while the context window is half full.
        decode_tps_empty: the same at its beginning.
        decode_tps_full: the same at its end.
        time_to_first_token: seconds for a prompt of `prompt_tokens`, weights warm.
        prompt_tokens: of that prompt.
        load_seconds: from the command until it can be talked to, engine process running, files not cached.
        bound: what the decode time goes to mostly ("RAM bandwidth").
        is_measured: it rests on this machine's measured limits, not on typical ones.
        is_learned: it was corrected by what such a model was measured to take on this machine.
    """

    decode_tps: float
    decode_tps_empty: float = 0.0
    decode_tps_full: float = 0.0
    time_to_first_token: float = 0.0
    prompt_tokens: int = 0
    load_seconds: float = 0.0
    bound: str = ""
    is_measured: bool = False
    is_learned: bool = False


class Alternative(Value, frozen=True, kw_only=True):
    """Another plan that fits better or at all, and what it asks of the person.

    Attributes:
        change: one sentence ("Quantize to nf4.").
        context_window: tokens of that plan.
        quantization: of that plan.
        fits: of that plan.
        ram_bytes: RAM it would need beyond the budget; 0 for none.
        disk_bytes: disk likewise.
        forecast: how fast it is predicted to be; None where that cannot be told.
    """

    change: str
    context_window: int
    quantization: Quantization = Quantization.NONE
    fits: Fits = Fits.NO
    ram_bytes: int = 0
    disk_bytes: int = 0
    forecast: Forecast | None = None


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
        strategy: how the way was chosen.
        forecast: how fast it is predicted to be; None where it does not fit.
        prefill_chunk: tokens of a prompt that are computed at once, at most.
        alternatives: what would make it fit, or fit better, in order of least harm.
    """

    context_window: int
    quantization: Quantization = Quantization.NONE
    layers: tuple[LayerPlacement, ...] = ()
    devices: tuple[DevicePlan, ...] = ()
    fits: Fits = Fits.NO
    offload_folder: Path | None = None
    reasons: tuple[str, ...] = ()
    strategy: Strategy = Strategy.AUTO
    forecast: Forecast | None = None
    prefill_chunk: int = 512
    alternatives: tuple[Alternative, ...] = ()

    def tier_counts(self) -> dict[Tier, int]:
        """Number of modules per tier, in order of first use."""
        counts: dict[Tier, int] = {}
        for layer in self.layers:
            counts[layer.tier] = counts.get(layer.tier, 0) + 1
        return counts
