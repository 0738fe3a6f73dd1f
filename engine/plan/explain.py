"""The sentences that say why a plan is as it is."""

from __future__ import annotations

from collections.abc import Iterable

from engine.values import Budget, DevicePlan, Fits, LayerPlacement, Quantization, Tier

_MIB = 1 << 20
_GIB = 1 << 30
_TIER_PHRASES = {
    Tier.GPU: "on {device}",
    Tier.STREAM: "in RAM, computed on the GPU",
    Tier.CPU: "in RAM, computed by the CPU",
    Tier.DISK: "on disk, read for every token",
}


def gib(size: int) -> str:
    """A byte count for a sentence: GiB, or MiB below half of one."""
    if size >= _GIB // 2:
        return f"{size / _GIB:.1f} GiB"
    return f"{size / _MIB:.0f} MiB" if size >= _MIB or not size else "under 1 MiB"


def tier_sentences(layers: Iterable[LayerPlacement]) -> tuple[str, ...]:
    """How many modules and bytes lie where, one sentence per tier and device."""
    totals: dict[tuple[Tier, str], list[int]] = {}
    for layer in layers:
        totals.setdefault((layer.tier, layer.device), []).append(layer.bytes)
    return tuple(
        f"{len(sizes)} modules ({gib(sum(sizes))}) lie {_TIER_PHRASES[tier].format(device=device)}."
        for (tier, device), sizes in totals.items()
    )


def why_offloaded(devices: Iterable[DevicePlan], weight_bytes: int, fits: Fits) -> tuple[str, ...]:
    """Why not everything lies on the GPUs; empty where it does, or where there are none."""
    gpus = [device for device in devices if device.device.startswith("gpu")]
    if fits is Fits.GPU or not gpus:
        return ()
    free = sum(gpu.budget_bytes for gpu in gpus)
    reserved = sum(gpu.predicted_bytes - gpu.weight_bytes for gpu in gpus)
    return (
        f"The weights need {gib(weight_bytes)}; the GPUs may give {gib(free)}, "
        f"of which {gib(reserved)} go to the KV cache, activations and the runtime.",
    )


def context_sentence(context_window: int, longest: int, asked: int | None) -> tuple[str, ...]:
    """Why the context window has its length; empty where the person's wish was met."""
    if asked is not None and asked > longest:
        return (f"The context window is {context_window:,} tokens: the checkpoint was made for no more.",)
    if asked is None and context_window < longest:
        return (
            f"The context window is {context_window:,} of {longest:,} tokens; ask for more if you need it.",
        )
    return ()


def unpacked(asked: Quantization, *, packs: bool) -> tuple[str, ...]:
    """That nothing is quantized on load, where it was asked for; empty otherwise."""
    if packs or asked is Quantization.NONE:
        return ()
    return (f"{asked} is not applied: without a GPU it needs a model that lies in RAM as a whole.",)


def shortage(needs: Iterable[DevicePlan], context_window: int) -> str:
    """Why nothing fits: what each device would have to hold, against what it may."""
    phrases = [
        f"{device.label or device.device} needs {gib(device.predicted_bytes)} "
        f"and has {gib(device.budget_bytes)}"
        for device in needs
        if device.predicted_bytes > device.budget_bytes
    ]
    return f"With a context window of {context_window:,} tokens, {'; '.join(phrases)}."


def imaginary(budgets: Iterable[Budget]) -> tuple[str, ...]:
    """Which budgets stand for GPUs that this machine does not have."""
    named = [b.device for b in budgets if b.given and b.device.startswith("gpu") and not b.uuid]
    return (f"This machine has no {', '.join(named)}: the plan is for an imagined one.",) if named else ()
