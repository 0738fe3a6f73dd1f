"""A model folder to a model on its devices."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from engine.checkpoint import Verdict
from engine.errors import DoesNotFit
from engine.hf.adapted import LOCAL, class_of, config_of, native_weights, require_offload_room
from engine.hf.device_map import DeviceMap, device_map, resting_places
from engine.hf.early import Reading
from engine.hf.heap import release_mapped, trim_heap
from engine.hf.ledger import Weights, count_weights
from engine.hf.lora import merged_weights
from engine.hf.own_code import OwnCode, foreign_errors
from engine.hf.packed import ask_to_unpack, refuse_split
from engine.hf.packed_cache import restored
from engine.hf.progress import Progress
from engine.hf.protocols import CausalModel
from engine.hf.readahead import read_ahead
from engine.hf.tiers.disk import DiskTier
from engine.hf.tiers.loader import CpuLoader
from engine.hf.tiers.takeover import Takeover, streamed_names, take_over
from engine.hf.views import built, refuse_missing
from engine.values import LoadStage, Placement, Quantization, Tier

RELEASE_BYTES = 64 << 20
RELEASE_WHILE_PACKING_BYTES = 4 << 20
"""Packing one matrix leaves gaps of several times its size, and takes far longer than a trim."""
ONE_AFTER_ANOTHER = "HF_DEACTIVATE_ASYNC_LOAD"
Build = Callable[[dict[str, torch.Tensor]], CausalModel]
COMPUTED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class PlacedModel:
    """A model whose weights lie where the placement says.

    Attributes:
        model: in eval mode.
        device: where input ids go.
        is_packed_anew: all of it was packed on load, for the CPU.
    """

    is_packed_anew = False

    def __init__(
        self,
        model: CausalModel,
        mapped: DeviceMap,
        tier: DiskTier | None = None,
        streamed: Takeover = Takeover(),  # noqa: B008 - a tuple of nothing
    ) -> None:
        """Keep a loaded model with its device_map, and with what serves its disk part or its RAM part."""
        self.model = model
        self.tier = tier
        self.streamed = streamed
        gpus = [device for device in mapped.values() if isinstance(device, int)]
        self.device = torch.device("cuda", gpus[0]) if gpus else torch.device("cpu")
        self._mapped = mapped

    def weights(self) -> Weights:
        """Count the bytes that rest on each device."""
        streamed = self.tier.names if self.tier else frozenset()
        return count_weights(self.model, resting_places(self.model, self._mapped), streamed)

    @property
    def uses_hooks(self) -> bool:
        """Weights come from the disk by accelerate's hooks: slower than our own tier."""
        return self.tier is None and "disk" in self._mapped.values()

    @property
    def lies_in_ram(self) -> bool:
        """Every weight is in RAM, and the CPU computes with it there."""
        brought = any(hasattr(module, "_hf_hook") for module in self.model.modules())
        return set(self._mapped.values()) <= {"cpu"} and not brought and not (self.tier and self.tier.names)

    def close(self) -> None:
        """End what reads for it."""
        if self.tier is not None:
            self.tier.close()
        if self.streamed.tier is not None:
            self.streamed.tier.close()


def require_gpus(placement: Placement) -> None:
    """Refuse a plan for GPUs that NVML may know, and torch cannot use.

    Raises:
        DoesNotFit: it names one.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    asked = {layer.device for layer in placement.layers if layer.tier is Tier.GPU}
    missing = sorted(asked - {f"gpu:{index}" for index in range(count)})
    if missing:
        raise DoesNotFit(
            f"The plan uses {', '.join(missing)}, and torch sees {count} GPUs.",
            "`vramble doctor` tells what torch lacks; --gpu 0=0 plans without GPU 0.",
        )


class Source(NamedTuple):
    """What a model is loaded from.

    Attributes:
        verdict: of the folder; whatever must not be loaded was refused there.
        own: the repository's classes, where the person agreed to their code.
        reading: what of it is read already, or under way.
    """

    verdict: Verdict
    own: OwnCode | None = None
    reading: Reading | None = None

    @property
    def loads(self) -> Any:  # noqa: ANN401 - a class of transformers, or the repository's
        """The class that loads it."""
        return self.own.model if self.own else AutoModelForCausalLM


class _Plan(NamedTuple):
    """How one model is made.

    Attributes:
        make: lets transformers build it from its folder, or from views of the mapped files.
        build: lets transformers build it on tensors that are given.
        mapped: where its modules go.
        quantization: on load.
    """

    make: Callable[..., CausalModel]
    build: Build
    mapped: DeviceMap
    quantization: BitsAndBytesConfig | None


def load_model(
    source: Source, placement: Placement, offload_folder: Path | None, progress: Progress
) -> PlacedModel:
    """Load the weights.

    Args:
        source: of the model.
        placement: what goes where, and how it is stored.
        offload_folder: for disk tensors that have to be rewritten.
        progress: is told, and raises LoadCancelled.

    Raises:
        DamagedCheckpoint: tensors are missing.
        LoadCancelled: the person stopped it.
    """
    verdict = source.verdict
    config, attention, skeleton = _described(verdict, source.own)
    mapped = device_map(placement, skeleton)
    refuse_split(verdict.config, mapped.values())
    quantization = _quantization(placement.quantization, verdict, set(mapped.values()))
    state = partial(_state, verdict, skeleton)
    make = partial(_made, source.loads, verdict, state, config=config, attn_implementation=attention)
    build = partial(built, type(skeleton), config, attention, quantization)
    plan = _Plan(make, build, mapped, quantization)
    if placed := _read_by_us(source, placement, skeleton, plan, progress):
        return placed
    if source.reading is not None:
        source.reading.close()
        gc.collect()
    if (verdict.is_renamed or verdict.adapter) and "disk" in mapped.values():
        require_offload_room(verdict, _places(skeleton, mapped), offload_folder)
    model = _converted(verdict, plan, offload_folder, progress)
    streamed = _streamed(model, streamed_names(placement, verdict, mapped), mapped, progress)
    trim_heap()
    release_mapped([*model.parameters(), *(buffer for _, buffer in model.named_buffers())])
    placed = PlacedModel(model, mapped, streamed=streamed)
    placed.is_packed_anew = quantization is not None and set(mapped.values()) <= {"cpu"}
    return placed


def _read_by_us(
    source: Source, placement: Placement, skeleton: CausalModel, plan: _Plan, progress: Progress
) -> PlacedModel | None:
    """Load what the CPU computes as it is stored or was packed before; None for anything else."""
    devices, reading = set(plan.mapped.values()), source.reading
    if plan.quantization is not None:
        return _read_packed(reading, plan, progress) if devices <= {"cpu"} else None
    if not devices <= {"cpu", "disk"} or source.verdict.adapter:
        return None
    loader = CpuLoader.of(skeleton, placement, source.verdict, reading.slabs if reading else None)
    return None if loader is None else _read_in_place(loader, _maker(loader, source, plan), plan, progress)


def _converted(verdict: Verdict, plan: _Plan, offload_folder: Path | None, progress: Progress) -> CausalModel:
    """Let transformers read, convert and pack."""
    devices, quantization = set(plan.mapped.values()), plan.quantization
    if devices != {"disk"}:
        read_ahead(verdict.tensors, progress)
    progress.begin(LoadStage.QUANTIZE if quantization else LoadStage.PLACE, verdict.weight_bytes)
    releases = Releases(RELEASE_WHILE_PACKING_BYTES if quantization else RELEASE_BYTES)
    with progress.counting(releases), _in_turn(devices):
        return plan.make(
            device_map=plan.mapped, offload_folder=offload_folder, quantization_config=quantization
        )


def _described(verdict: Verdict, own: OwnCode | None) -> tuple[object, str, CausalModel]:
    """Return the configuration, the attention implementation, and the model on no device."""
    if own is None:
        config = config_of(verdict.folder)
        ask_to_unpack(config, verdict.config)
        attention = attention_of(config)
        with torch.device("meta"):
            return (
                config,
                attention,
                AutoModelForCausalLM.from_config(
                    config, attn_implementation=attention, trust_remote_code=False
                ),
            )
    with foreign_errors("built into a model"), torch.device("meta"):
        config = own.config.from_pretrained(verdict.folder, local_files_only=True)
        attention = "sdpa" if getattr(own.model, "_supports_sdpa", False) else "eager"
        return config, attention, own.model._from_config(config, attn_implementation=attention)


def _streamed(model: CausalModel, names: Collection[str], mapped: DeviceMap, progress: Progress) -> Takeover:
    """Let our own tier stream layers to the GPU where it can; raises LoadCancelled."""
    gpus = [device for device in mapped.values() if isinstance(device, int)]
    if not names or not gpus:
        return Takeover()
    releases = Releases(RELEASE_BYTES)

    def note(taken: int) -> None:
        progress.check()
        releases(taken)

    return take_over(model, names, torch.device("cuda", gpus[0]), note=note)


def _maker(loader: CpuLoader, source: Source, plan: _Plan) -> Callable[[], CausalModel]:
    """Build on what is being read where all of it is; else on the mapped files."""
    views = None if source.own else loader.state(source.verdict)
    return partial(plan.make, device_map={"": "cpu"}) if views is None else partial(plan.build, views)


def _read_packed(reading: Reading | None, plan: _Plan, progress: Progress) -> PlacedModel | None:
    """Load what was packed before; None where nothing was kept, or where it is damaged."""
    with _in_turn({"cpu"}):
        model = restored(reading, plan.build, progress)
    trim_heap()
    return None if model is None else PlacedModel(model, plan.mapped)


def _read_in_place(
    loader: CpuLoader, make: Callable[[], CausalModel], plan: _Plan, progress: Progress
) -> PlacedModel | None:
    """Load a model whose weights are used as they are stored; None where they turn out not to be."""
    with loader:
        loader.begin(progress)
        with progress.watching(lambda: loader.done_bytes), _in_turn({"cpu"}):
            model = make()
        tier = loader.settle(model, progress)
        if loader.is_early and not loader.holds(model):
            model = make()  # some of it was computed, of bytes that were not there yet
    if tier is None:
        del model
        gc.collect()  # it refers to itself, and would lie in RAM beside the next one
        return None
    trim_heap()
    release_mapped()
    return PlacedModel(model, plan.mapped, tier)


def _places(skeleton: CausalModel, mapped: DeviceMap) -> dict[str, str]:
    """Where each weight rests, by its name with the base model's prefix and without."""
    places = resting_places(skeleton, mapped)
    prefix = f"{skeleton.base_model_prefix}."
    return {name.removeprefix(prefix): place for name, place in places.items()} | dict(places)


def _state(verdict: Verdict, skeleton: CausalModel) -> dict[str, object] | None:
    """Return what the model is built of where that is not what its files hold as it is; else None."""
    if verdict.adapter is not None:
        return merged_weights(verdict, skeleton)
    return native_weights(verdict) if verdict.is_renamed else None


def _made(
    loads: Any,  # noqa: ANN401 - a class
    verdict: Verdict,
    state: Callable[[], dict[str, object] | None],
    **arguments: object,
) -> CausalModel:
    """Let transformers build a model; raises DamagedCheckpoint where it lacks tensors."""
    asked = {"dtype": "auto", "use_safetensors": True, "output_loading_info": True, **LOCAL, **arguments}
    if weights := state():
        made_by = class_of(arguments["config"])
        model, report = made_by.from_pretrained(None, state_dict=weights, **asked)
    else:
        model, report = loads.from_pretrained(verdict.folder, **asked)
    refuse_missing(report["missing_keys"])
    made: CausalModel = model.eval()
    return made


class Releases:
    """Lets go of a checkpoint's mapped pages while it is converted: what was copied needs them no more."""

    def __init__(self, step_bytes: int) -> None:
        """Begin with nothing loaded.

        Args:
            step_bytes: of the checkpoint, after which to let go again.
        """
        self._step_bytes = step_bytes
        self._at = 0

    def __call__(self, done_bytes: int) -> None:
        """Take note of how much is loaded."""
        if done_bytes >= self._at + self._step_bytes:
            self._at = done_bytes
            trim_heap()
            release_mapped()


@contextlib.contextmanager
def _in_turn(devices: set[int | str]) -> Iterator[None]:
    """Let transformers convert one parameter after another, where nothing is copied to a GPU meanwhile.

    Its threads run ahead of what stacks experts, and what they have converted waits in RAM. Where nothing
    is copied, they only wait for Python's lock, which those that read need, too.
    """
    if any(isinstance(device, int) for device in devices):
        yield
        return
    before = os.environ.get(ONE_AFTER_ANOTHER)
    os.environ[ONE_AFTER_ANOTHER] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[ONE_AFTER_ANOTHER]
        else:
            os.environ[ONE_AFTER_ANOTHER] = before


def attention_of(config: object) -> str:
    """Name the attention implementation ourselves; a checkpoint's own wish could name a downloaded kernel."""
    model_class = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def _quantization(
    asked: Quantization, verdict: Verdict, devices: set[int | str]
) -> BitsAndBytesConfig | None:
    """Return what bitsandbytes is told.

    A checkpoint that is quantized already stays as it is. So does what rests in RAM or on disk while
    another device computes it; without a GPU, that is everything as soon as a part of it lies on disk.
    """
    has_gpu = any(isinstance(device, int) for device in devices)
    if verdict.config.quantization or asked is Quantization.NONE or ("disk" in devices and not has_gpu):
        return None
    if asked is Quantization.INT8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_enable_fp32_cpu_offload=has_gpu)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=COMPUTED.get(verdict.config.dtype, torch.bfloat16),
        llm_int8_enable_fp32_cpu_offload=has_gpu,
    )
