"""What the screenshots show: a talk, a machine and its models, made up so that pictures stay the same."""

from __future__ import annotations

from pathlib import Path

from engine import GpuReading, MemoryReading, RamReading
from engine.commands import PlanLoad
from engine.events import MemoryLedger, ModelLoaded
from engine.values import (
    Alternative,
    Budget,
    DeviceLedger,
    DevicePlan,
    Fits,
    Forecast,
    Hub,
    LayerPlacement,
    ModelRef,
    Placement,
    Quantization,
    SamplingParams,
    Tier,
    TurnUsage,
)
from tui.format import format_duration, format_speed
from tui.model_entries import ModelEntry
from tui.outlooks import Outlook
from tui.planner import Plan
from tui.widgets.plan_bar import Held

GIB = 1 << 30
NOW = 1_000_000.0

ANSWER = """\
Prefill handles **all prompt tokens in one pass**, so every weight is read once for hundreds of tokens and \
the GPU is limited by arithmetic. Decode makes *one* token a pass, and reads every weight again for each:

| phase | tokens a pass | limit |
|---|---|---|
| prefill | up to 512 | FLOP/s |
| decode | 1 | memory bandwidth |

For 8B weights in bf16 on an H200 that is at best

```python
bandwidth = 4.8e12          # bytes per second
weights = 8.19e9 * 2        # bytes
print(bandwidth / weights)  # about 293 tokens per second
```

So three things make decode faster:

1. fewer bytes per weight (nf4: a quarter of them),
2. no layer that has to come through the link,
3. a short context, since the KV cache is read too.
"""
QUESTION = "why is prefill faster than decode?"
MODEL = ModelRef(
    name="Qwen3-8B", folder=Path("/models/Qwen3-8B"), hub=Hub.HUGGINGFACE, repo_id="Qwen/Qwen3-8B"
)


def _layer(number: int) -> LayerPlacement:
    on_gpu = number < 28  # noqa: PLR2004  # of 36
    tier, device = (Tier.GPU, "gpu:0") if on_gpu else (Tier.STREAM, "ram")
    return LayerPlacement(name=f"model.layers.{number}", bytes=int(0.425 * GIB), tier=tier, device=device)


PLACEMENT = Placement(
    context_window=32768,
    layers=tuple(_layer(number) for number in range(36)),
    devices=(
        DevicePlan(
            device="gpu:0",
            uuid="GPU-0",
            label="GPU 0 RTX 4090",
            budget_bytes=int(18.4 * GIB),
            weight_bytes=int(11.9 * GIB),
            kv_bytes=int(4.5 * GIB),
            activation_bytes=int(0.9 * GIB),
            runtime_bytes=int(0.5 * GIB),
        ),
        DevicePlan(
            device="ram",
            label="RAM (cgroup)",
            budget_bytes=48 * GIB,
            weight_bytes=int(3.4 * GIB),
            runtime_bytes=int(1.5 * GIB),
        ),
    ),
    fits=Fits.GPU_RAM,
    reasons=(
        "GPU 0 has 18.4 GiB for this; the KV cache at 32,768 tokens takes 4.5 GiB of it.",
        "8 of 36 layers do not fit beside it and are streamed from RAM for every token.",
        "A context of 8,192 tokens would put all layers on the GPU.",
    ),
    forecast=Forecast(
        decode_tps=6.1,
        decode_tps_empty=6.3,
        decode_tps_full=5.9,
        time_to_first_token=0.38,
        prompt_tokens=512,
        load_seconds=9.4,
        bound="copies to the GPU",
        is_measured=True,
    ),
    alternatives=(
        Alternative(
            change="Quantize to int8.",
            context_window=32768,
            quantization=Quantization.INT8,
            fits=Fits.GPU,
            forecast=Forecast(decode_tps=64.1),
        ),
        Alternative(
            change="Take a context window of 8,192 tokens.",
            context_window=8192,
            fits=Fits.GPU,
            forecast=Forecast(decode_tps=58.7),
        ),
    ),
)
PLAN = Plan(
    wish=PlanLoad(model=MODEL, context_window=32768),
    placement=PLACEMENT,
    free=(
        Budget(device="gpu:0", free_bytes=int(18.4 * GIB), uuid="GPU-0"),
        Budget(device="ram", free_bytes=48 * GIB),
    ),
    longest=40960,
    is_exact=True,
    is_measured=True,
)
LOADED = ModelLoaded(
    model=MODEL,
    placement=PLACEMENT,
    context_window=32768,
    max_context_window=40960,
    dtype="bfloat16",
    architecture="Qwen3ForCausalLM",
    parameters=8_190_735_360,
    load_seconds=9.1,
    sampling=SamplingParams(),
)
HELD = {
    "gpu:0": Held(int(14.2 * GIB), int(17.5 * GIB)),
    "ram": Held(int(4.8 * GIB), int(4.8 * GIB)),
}
USAGE = TurnUsage(decode_tps=6.2, context_used=3120)


def reading(second: int) -> MemoryReading:
    """The machine some seconds after the start; the model came in over the first ten."""
    loaded = min(1.0, max(0.0, (second - 16) / 20))
    vram = 4.1 + 14.2 * loaded + 0.02 * second
    gpu = GpuReading(
        index=0,
        uuid="GPU-0",
        label="RTX 4090",
        vram_total=24 * GIB,
        vram_used=int(vram * GIB),
        own_bytes=int((vram - 4.1) * GIB),
        others_bytes=int(4.1 * GIB),
    )
    ram = RamReading(
        total_bytes=64 * GIB,
        ram_used=int((9.4 + 3.4 * loaded) * GIB),
        engine_bytes=int(4.9 * loaded * GIB),
        engine_anonymous_bytes=int(4.9 * loaded * GIB),
        page_cache_bytes=18 * GIB,
        limit="cgroup v2",
    )
    return MemoryReading(at=100.0 + second, ram=ram, gpus=(gpu,))


LEDGER = MemoryLedger(
    devices=(
        DeviceLedger(device="gpu:0", uuid="GPU-0", weight_bytes=int(11.9 * GIB), kv_bytes=int(1.1 * GIB)),
        DeviceLedger(device="ram", weight_bytes=int(3.4 * GIB)),
    ),
    context_used=3120,
)

_VRAM, _RAM = 20 * GIB, 52 * GIB


class StagedJudge:
    """Goes by sizes alone."""

    def refresh(self) -> None:
        """The machine stays as it is."""

    def known(self, entry: ModelEntry) -> Outlook | None:
        """All of it at once."""
        return self.look(entry)

    def look(self, entry: ModelEntry) -> Outlook:
        """As an RTX 4090 would have it."""
        size = entry.weight_bytes + GIB
        seconds = size / 9e11 if size <= _VRAM else _VRAM / 9e11 + (size - _VRAM) / 2.5e10
        fits = Fits.GPU if size <= _VRAM else Fits.GPU_RAM if size <= _VRAM + _RAM else Fits.DISK
        speed = 1 / (seconds if fits is not Fits.DISK else size / 3e9)
        told = f"{format_speed(speed)}, load {format_duration(size / 2e9)} (measured here)"
        return Outlook(fits, True, speed, f"with 8,192 tokens of context: {told}")


JUDGE = StagedJudge()


def _entry(name: str, gib: float, context: int, used: float = 0.0, problem: str = "") -> ModelEntry:
    return ModelEntry(
        model=ModelRef(name=name, folder=Path("/models") / name, hub=Hub.HUGGINGFACE, repo_id=name),
        weight_bytes=int(gib * GIB),
        format="pickle" if problem else "bf16",
        context_window=context,
        last_used=NOW - used if used else None,
        problem=problem,
        details=(("runs as", "Qwen3ForCausalLM"), ("from", f"huggingface · {name}")),
    )


ENTRIES = (
    _entry("Qwen3-8B", 15.3, 40960, 40),
    _entry("guide", 0.011, 2048, 4000),
    _entry("Qwen/Qwen3-30B-A3B", 56.9, 40960, 9e4),
    _entry("meta-llama/Llama-3.3-70B-Instruct", 131.4, 131072, 9e5),
    _entry("mistralai/Mistral-Small-3.2-24B-Instruct", 44.1, 131072),
    _entry("THUDM/glm-4-9b-chat-hf", 17.5, 131072),
    _entry("deepseek-ai/DeepSeek-V2-Lite", 29.3, 163840),
    _entry("google/gemma-3-1b-it", 1.9, 32768),
    _entry("an-old/model", 3.2, 4096, problem="It has only pickles, which could run any code."),
)
