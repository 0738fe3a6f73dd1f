"""Models, placements and sessions to list, without clock and machine, for the tests of the dialogs."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace
from textual.pilot import Pilot

from engine.commands import PlanLoad
from engine.values import (
    Alternative,
    Budget,
    DevicePlan,
    Fits,
    Forecast,
    Hub,
    LayerPlacement,
    ModelRef,
    Placement,
    Quantization,
    Tier,
)
from sessions import Session, SessionError
from tests.tui.readings import GIB
from tui.code_review import CodeReview, FileState, ReviewedFile, changed_lines, source_lines
from tui.model_entries import ModelEntry
from tui.outlooks import Outlook
from tui.planner import Plan
from tui.safe_text import safe_line
from tui.screens.plan_steps import cap_of

T = TypeVar("T")
NOW = 1_000_000.0


class FakeJudge:
    """Goes by sizes alone: 100 GiB of VRAM, twice as much with RAM."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def known(self, entry: ModelEntry) -> Outlook | None:
        return None

    def look(self, entry: ModelEntry) -> Outlook:
        self.looked.append(entry.model.name)
        fits = Fits.GPU if entry.weight_bytes < 100 * GIB else Fits.GPU_RAM
        if entry.weight_bytes > 200 * GIB:
            return Outlook(Fits.NO, told="does not fit with 8,192 tokens of context")
        speed = 1000 * GIB / max(entry.weight_bytes, GIB)
        return Outlook(fits, True, speed, "with 8,192 tokens of context: fast enough")


def entry(
    name: str, gib: float, context: int = 131072, used: float | None = None, problem: str = ""
) -> ModelEntry:
    return ModelEntry(
        model=ModelRef(name=name, folder=Path("/models") / name, hub=Hub.HUGGINGFACE, repo_id=name),
        weight_bytes=int(gib * GIB),
        format="bf16",
        context_window=context,
        last_used=None if used is None else NOW - used,
        problem=problem,
        details=(("runs as", "Qwen3ForCausalLM"), ("from", f"huggingface · {name}")),
    )


ENTRIES = (
    entry("guide", 0.011, 2048, 60),
    entry("Qwen/Qwen3-8B", 15.3, 40960, 4000),
    entry("meta-llama/Llama-3.3-70B-Instruct", 131.4, used=9e5),
    entry("deepseek-ai/DeepSeek-V3", 642.0, 163840),
    entry("some/old-thing", 3.2, 4096, problem="It has only pickles, which could run any code."),
)


def _layer(number: int) -> LayerPlacement:
    tier, device = (
        (Tier.GPU, "gpu:0") if number < 28 else (Tier.STREAM, "ram") if number < 33 else (Tier.DISK, "disk")
    )
    return LayerPlacement(name=f"model.layers.{number}", bytes=GIB // 2, tier=tier, device=device)


PLACEMENT = Placement(
    context_window=32768,
    layers=tuple(_layer(number) for number in range(36)),
    devices=(
        DevicePlan(
            device="gpu:0",
            uuid="GPU-0",
            label="GPU 0 RTX 4080",
            budget_bytes=18 * GIB,
            weight_bytes=14 * GIB,
            kv_bytes=2 * GIB,
            activation_bytes=GIB // 2,
            runtime_bytes=GIB // 2,
        ),
        DevicePlan(device="ram", label="RAM (cgroup)", budget_bytes=24 * GIB, weight_bytes=5 * GIB // 2),
        DevicePlan(device="disk", budget_bytes=100 * GIB, weight_bytes=3 * GIB // 2),
        DevicePlan(device="gpu:1", uuid="GPU-1", label="GPU 1 RTX 4080", budget_bytes=GIB),
    ),
    fits=Fits.DISK,
    reasons=("8 of 36 layers do not fit beside the KV cache: each costs about 17 ms a token.",),
    forecast=Forecast(
        decode_tps=6.4,
        decode_tps_empty=6.6,
        decode_tps_full=6.2,
        time_to_first_token=1.9,
        prompt_tokens=512,
        load_seconds=9.4,
        bound="reading the disk",
    ),
    alternatives=(
        Alternative(
            change="Quantize to nf4.",
            context_window=32768,
            quantization=Quantization.NF4,
            fits=Fits.GPU,
            forecast=Forecast(decode_tps=92.0),
        ),
        Alternative(
            change="Take 4,096 tokens of context.",
            context_window=4096,
            fits=Fits.GPU_RAM,
            forecast=Forecast(decode_tps=18.3),
        ),
        Alternative(change="Free RAM.", context_window=32768, fits=Fits.NO, ram_bytes=2 * GIB),
    ),
)
WISH = PlanLoad(model=ModelRef(name="Qwen3-8B", folder=Path("/models/Qwen3-8B")))


def plan_of(wish: PlanLoad, placement: Placement = PLACEMENT) -> Plan:
    """A plan of the placement above, as a wish has its context, quantization and caps."""
    budgets = dict(zip((device.device for device in placement.devices), placement.devices, strict=True))
    caps = {device: cap_of(wish.budgets, device) for device in budgets}
    devices = tuple(
        replace(device, budget_bytes=min(device.budget_bytes, device.budget_bytes if cap is None else cap))
        for device, cap in zip(placement.devices, caps.values(), strict=True)
    )
    window = wish.context_window or placement.context_window
    return Plan(
        wish=wish,
        placement=replace(
            placement,
            context_window=window,
            quantization=wish.quantization,
            devices=devices,
            strategy=wish.strategy,
        ),
        free=tuple(
            Budget(
                device=device.device,
                free_bytes=device.budget_bytes,
                uuid="GPU" * ("gpu" in name),
                label=device.label,
            )
            for name, device in budgets.items()
        ),
        longest=40960,
    )


_CODE = """\
from torch import nn

from .configuration_strange import StrangeConfig


class StrangeForCausalLM(nn.Module):
    def __init__(self, config: StrangeConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.access = "user\u202e"  # reads otherwise than it runs
"""
REVIEW = CodeReview(
    model=safe_line("owner/strange"),
    repository=safe_line("huggingface · owner/strange"),
    revision=safe_line("0123456789ab"),
    is_foreign=False,
    agreed_at=NOW - 9e4,
    files=(
        ReviewedFile(
            name=safe_line("modeling_strange.py"),
            sha256="ab" * 32,
            state=FileState.CHANGED,
            lines=source_lines(_CODE),
            changes=changed_lines(_CODE.replace("  # reads otherwise than it runs", ""), _CODE),
            hidden=1,
        ),
        ReviewedFile(
            name=safe_line("configuration_strange.py"),
            sha256="cd" * 32,
            state=FileState.SAME,
            lines=source_lines("class StrangeConfig: ...\n"),
        ),
    ),
)
"""Code that changed since the last yes, with a character that cannot be seen."""


class FakeStore:
    """As much of a SessionStore as the dialog needs, in memory; holds one session that cannot be edited."""

    def __init__(self) -> None:
        titles = (
            "kernel notes",
            "why is prefill faster than decode?",
            "怎样停止回答",
            "",
            "held \x1b[31melsewhere",
        )
        self.saved = [
            Session(
                id=number,
                title=title,
                created_at=0.0,
                updated_at=NOW - 4000 * number**3,
                model="Qwen3-8B",
                turn_count=number,
            )
            for number, title in enumerate(titles, start=1)
        ]

    def sessions(self, limit: int = 100, search_text: str = "") -> Future[tuple[Session, ...]]:
        return done(tuple(each for each in self.saved if search_text in each.title)[:limit])

    def rename(self, session_id: int, title: str) -> Future[Session]:
        found = next(each for each in self.saved if each.id == session_id)
        renamed = Session(
            id=found.id, title=title, created_at=0.0, updated_at=found.updated_at, turn_count=found.turn_count
        )
        self.saved[self.saved.index(found)] = renamed
        return done(renamed)

    def delete(self, session_id: int) -> Future[None]:
        found = next(each for each in self.saved if each.id == session_id)
        if "held" in found.title:
            refused: Future[None] = Future()
            refused.set_exception(SessionError("This session is open in process 7.", "Close it there."))
            return refused
        self.saved.remove(found)
        return done(None)


def done(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future


async def until(pilot: Pilot[None], holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds; `what` is said where it never does."""
    for _ in range(600):
        if holds():
            return
        await pilot.pause(0.05)
    raise AssertionError(what)
