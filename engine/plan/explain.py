"""The sentences that say why a plan is as it is, and where each of its figures comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from engine.values import Budget, DevicePlan, Fits, LayerPlacement, Quantization, Strategy, Tier

_KIB = 1 << 10
_MIB = 1 << 20
_GIB = 1 << 30
_TIER_PHRASES = {
    Tier.GPU: "on {device}",
    Tier.STREAM: "in RAM, computed on the GPU",
    Tier.CPU: "in RAM, computed by the CPU",
    Tier.DISK: "on disk, read for every token",
}
_NAMED = 3


def gib(size: int) -> str:
    """A byte count for a sentence: GiB, or MiB below half of one."""
    if size >= _GIB // 2:
        return f"{size / _GIB:.1f} GiB"
    return f"{size / _MIB:.0f} MiB" if size >= _MIB or not size else "under 1 MiB"


def against(need: int, has: int) -> str:
    """What a device would have to hold against what it may, so that the difference can be seen."""
    if gib(need) == gib(has):
        return f"needs {need:,} bytes and has {has:,}, {need - has:,} too few"
    return f"needs {gib(need)} and has {gib(has)}, {gib(need - has)} too little"


def where_layers_go(layers: Sequence[LayerPlacement], main_list: frozenset[str]) -> tuple[str, ...]:
    """How many layers go to the CPU's RAM or stay on disk; that none does, where there are GPUs.

    Args:
        layers: every module's place.
        main_list: names of those that are layers; the others are embeddings, norms, heads.
    """
    total = len(main_list)
    has_gpu = any(layer.tier is Tier.GPU for layer in layers)
    in_ram = [layer.name for layer in layers if layer.tier is Tier.STREAM]
    on_disk = [layer.name for layer in layers if layer.tier is Tier.DISK]
    if not in_ram and not on_disk:
        return (_all_in_one_place(layers, main_list),)
    ram = _share(in_ram, main_list, "to the CPU's RAM, to be copied to the GPU for every token", total)
    disk = _share(on_disk, main_list, "on the disk, to be read for every token", total)
    return (*((f"{ram}.",) if ram and has_gpu else ()), *((f"{disk}.",) if disk else ()))


def _all_in_one_place(layers: Sequence[LayerPlacement], main_list: frozenset[str]) -> str:
    counts: dict[str, int] = {}
    for layer in layers:
        if layer.name in main_list and layer.tier is Tier.GPU:
            counts[layer.device] = counts.get(layer.device, 0) + 1
    total = len(main_list)
    if not counts:
        return f"All {total} layers lie in RAM, where the CPU computes them."
    each = ", ".join(f"{count} on {device}" for device, count in counts.items())
    return f"All {total} layers lie on GPUs, none in the CPU's RAM: {each}."


def _share(names: Sequence[str], main_list: frozenset[str], where: str, total: int) -> str:
    moved = [name for name in names if name in main_list]
    others = [name for name in names if name not in main_list]
    verb = "go" if where.startswith("to") else "stay"
    if moved:
        beside = f", with {_list(others)}" if others else ""
        return f"{len(moved)} of {total} layers {verb} {where}{beside}"
    one = "goes" if verb == "go" else "stays"
    return f"{_list(others)} {one if len(others) == 1 else verb} {where}" if others else ""


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def tier_sentences(layers: Iterable[LayerPlacement]) -> tuple[str, ...]:
    """How many modules and bytes lie where, one sentence per tier and device; empty for a single place."""
    totals: dict[tuple[Tier, str], list[int]] = {}
    for layer in layers:
        totals.setdefault((layer.tier, layer.device), []).append(layer.bytes)
    if len(totals) == 1:
        return ()
    return tuple(
        f"{len(sizes)} modules ({gib(sum(sizes))}) lie {_TIER_PHRASES[tier].format(device=device)}."
        for (tier, device), sizes in totals.items()
    )


def disk_sentence(layers: Iterable[LayerPlacement], *, is_in_place: bool) -> tuple[str, ...]:
    """How what lies on the disk is read; empty where nothing does.

    Args:
        layers: every module's place.
        is_in_place: the weights are used as they are stored.
    """
    tiers = {layer.tier for layer in layers}
    if Tier.DISK not in tiers:
        return ()
    if is_in_place and not tiers & {Tier.GPU, Tier.STREAM}:
        return (
            "What lies on the disk is read ahead, past the page cache, while what comes before it computes.",
        )
    why = "beside a GPU" if is_in_place else "since loading has to convert its weights"
    return (f"What lies on the disk is read by accelerate's hooks, one tensor after the other, {why}.",)


def why_offloaded(devices: Iterable[DevicePlan], weight_bytes: int, fits: Fits) -> tuple[str, ...]:
    """Why not everything lies on the GPUs; empty where it does, or where there are none."""
    gpus = [device for device in devices if device.device.startswith("gpu")]
    if fits is Fits.GPU or not gpus:
        return ()
    free = sum(gpu.budget_bytes for gpu in gpus)
    if not any(gpu.predicted_bytes for gpu in gpus):
        return (f"The GPUs, which may give {gib(free)}, are left out: the CPU alone is predicted faster.",)
    reserved = sum(gpu.predicted_bytes - gpu.weight_bytes for gpu in gpus)
    return (
        f"The weights need {gib(weight_bytes)}; the GPUs may give {gib(free)}, "
        f"of which {gib(reserved)} go to the KV cache, activations and the runtime.",
    )


def cache_sentences(
    total_bytes: int, per_token: int, constant: int, kept: int, context_window: int
) -> tuple[str, ...]:
    """What the KV cache takes and of what it is made, in bytes."""
    parts = [f"{per_token / _KIB:,.1f} KiB for each token"] if per_token else []
    parts += [f"{gib(constant)} whatever the length"] if constant else []
    parts += [f"{gib(kept)} of copies to go back to, of layers that forget"] if kept else []
    made_of = f": {', '.join(parts)}" if parts else ""
    return (f"The KV cache takes {gib(total_bytes)} at {context_window:,} tokens{made_of}.",)


def reserve_sentences(devices: Sequence[DevicePlan], chunk: int, *, is_measured: bool) -> tuple[str, ...]:
    """What activations and the runtime are, on each device that has some."""
    peaks = _by_device(devices, lambda plan: plan.activation_bytes)
    runtimes = _by_device(devices, lambda plan: plan.runtime_bytes)
    source = "measured here" if is_measured else "usual figures, never measured here"
    return (
        f"Activations take {peaks}: the peak of {chunk} prompt tokens computed at once, and, where modules "
        "rest elsewhere, the largest of them at work or read ahead.",
        f"The runtime takes {runtimes}: the engine's process, CUDA contexts, workspaces ({source}).",
    )


def _by_device(devices: Iterable[DevicePlan], size: Callable[[DevicePlan], int]) -> str:
    """How much on which devices, those with the same figure together."""
    named: dict[str, list[str]] = {}
    for plan in devices:
        if size(plan):
            named.setdefault(gib(size(plan)), []).append("RAM" if plan.device == "ram" else plan.device)
    phrases = [
        f"{figure} on each of {len(names)} devices" if len(names) > 1 else f"{figure} on {names[0]}"
        for figure, names in named.items()
    ]
    return ", ".join(phrases)


def weight_sentence(weight_bytes: int, parameters: int, how: str, *, is_exact: bool) -> str:
    """What the weights take, and who says so."""
    source = "a dry run of the model's own class" if is_exact else "the files' headers and config.json"
    count = f"{parameters:,} parameters" if parameters else "all parameters"
    return f"The weights take {gib(weight_bytes)}: {count} as {how}, by {source}."


def context_sentence(context_window: int, longest: int, asked: int | None) -> tuple[str, ...]:
    """Why the context window has its length; empty where the person's wish was met."""
    if asked is not None and asked > longest:
        return (f"The context window is {context_window:,} tokens: the checkpoint was made for no more.",)
    if asked is None and context_window < longest:
        return (
            f"The context window is {context_window:,} of {longest:,} tokens; ask for more if you need it.",
        )
    return ()


def unpacked(asked: Quantization, layers: Sequence[LayerPlacement], *, packs: bool) -> tuple[str, ...]:
    """What stays as it is although quantizing was asked for; empty otherwise."""
    if asked is Quantization.NONE:
        return ()
    if not packs:
        return (f"{asked} is not applied: without a GPU it needs a model that lies in RAM as a whole.",)
    plain = sum(layer.bytes for layer in layers if layer.tier in {Tier.STREAM, Tier.DISK})
    return (f"{asked} leaves the {gib(plain)} off the GPU unpacked.",) if plain else ()


def speed_sentence(*, is_measured: bool) -> str:
    """Where predicted speeds come from."""
    if is_measured:
        return "Speeds are predicted from limits that were measured on this machine."
    return "Speeds are predicted from typical figures: this machine was not measured yet."


def strategy_sentence(strategy: Strategy, fits: Fits, gpus: int) -> tuple[str, ...]:
    """What the strategy did; empty where there was nothing to choose."""
    if not gpus and strategy is not Strategy.CUSTOM:
        return ()
    said = {
        Strategy.AUTO: "of the ways that fit, the fastest predicted was taken",
        Strategy.BALANCED: "every GPU gives about the same share of its room",
        Strategy.SEQUENTIAL: "each GPU is filled before the next",
        Strategy.CUSTOM: "every module lies where the device_map says",
    }
    if strategy is Strategy.BALANCED and fits is not Fits.GPU:
        return ("balanced: the GPUs are full, so that none has less to hold than it can.",)
    return (f"{strategy}: {said[strategy]}.",)


def shortage(needs: Iterable[DevicePlan], context_window: int) -> str:
    """Why nothing fits: what each device would have to hold, against what it may."""
    phrases = [
        f"{device.label or device.device} {against(device.predicted_bytes, device.budget_bytes)}"
        for device in needs
        if device.predicted_bytes > device.budget_bytes
    ]
    return f"With a context window of {context_window:,} tokens, {'; '.join(phrases)}."


def imaginary(budgets: Iterable[Budget]) -> tuple[str, ...]:
    """Which budgets stand for GPUs that this machine does not have."""
    named = [b.device for b in budgets if b.given and b.device.startswith("gpu") and not b.uuid]
    if not named:
        return ()
    imagined = "an imagined one" if len(named) == 1 else "imagined ones"
    return (f"This machine has no {_list(named)}: the plan is for {imagined}.",)


def capped(budgets: Iterable[Budget]) -> tuple[str, ...]:
    """Which devices have less than the person allows."""
    return tuple(
        f"{b.label or b.device} may give {gib(b.free_bytes)}, not the {gib(b.asked_bytes)} that you allow: "
        "it has no more that is free."
        for b in budgets
        if b.asked_bytes is not None and b.asked_bytes > b.free_bytes
    )
