"""HFBackend: transformers models behind the Backend protocol."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import torch

from engine.backend import Cancelled, Emit
from engine.checkpoint import Verdict, inspect_folder
from engine.commands import DryRun, Generate, Inspect, LoadModel, PlanLoad
from engine.errors import EngineError, NeedsConsent, NoModelLoaded
from engine.events import (
    DryRunDone,
    Event,
    Inspected,
    LimitsMeasured,
    MemoryLedger,
    ModelLoaded,
    Planned,
    TurnFinished,
)
from engine.heap import reuse_freed_memory
from engine.hf import failures
from engine.hf.assemble import assembled, notes
from engine.hf.decode import Runner
from engine.hf.dryrun import dry_run
from engine.hf.early import EarlyReader, Reading, begun, planned
from engine.hf.keeper import Keeper
from engine.hf.ledger import cuda_is_used
from engine.hf.load import PlacedModel, Source, load_model, require_gpus
from engine.hf.loaded import LoadedModel
from engine.hf.measure import measured_limits
from engine.hf.native.build import Missing
from engine.hf.native.foundry import Foundry
from engine.hf.native.library import Kernels
from engine.hf.native.trial import Trial
from engine.hf.own_code import OwnCode
from engine.hf.packed_cache import kept
from engine.hf.packing import quick_packing
from engine.hf.progress import Progress
from engine.hf.tokenizer import load_tokenizer
from engine.hf.turn import Turn
from engine.hf.warm_up import warm_up
from engine.memory import read_memory
from engine.offload import make_folder, parent_folder
from engine.plan import footprint_of, live_budgets, require_real_devices, require_room
from engine.plan.learned import Lessons
from engine.plan.limits import keep_limits, known_runtime
from engine.plan.shelf import keep_blueprint, known_blueprint
from engine.ram import read_bytes_from_disk
from engine.values import BudgetRequest, LoadStage, Placement, Quantization, Tier

WORTH_WAITING_BYTES = 64 << 20
"""A smaller model is quick by torch, too: it is not held up while kernels are compiled for the first time."""


class HFBackend:
    """Runs one Hugging Face checkpoint at a time; every call on one thread."""

    def __init__(self, early: EarlyReader | None = None) -> None:
        """Take the physical cores; OMP_NUM_THREADS goes first where it is set. Freed memory is reused.

        Args:
            early: may have begun to read for the first load while this was imported.
        """
        self._early = early or EarlyReader()
        self._reading: Reading | None = None
        self._keeper: Keeper | None = None
        self._loaded: LoadedModel | None = None
        self._placed: PlacedModel | None = None
        self._lessons: Lessons | None = None
        self._offload_folder: Path | None = None
        self._own: OwnCode | None = None
        reuse_freed_memory()
        # It warns of each layer of each token that int8 computes in float16, some hundred lines a token.
        logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(_physical_cores())
        self._threads = torch.get_num_threads()
        self._foundry = Foundry()

    def inspect(self, command: Inspect) -> Inspected:
        """Say what a model folder holds, without loading it."""
        verdict = inspect_folder(command.folder)
        return Inspected(
            architecture=verdict.native_class,
            parameters=verdict.parameters,
            weight_bytes=verdict.weight_bytes,
            context_window=verdict.config.context_window,
            dtype=verdict.dtype,
            warnings=verdict.warnings,
        )

    def dry_run(self, command: DryRun) -> DryRunDone:
        """Say what a model is made of, from its class on no device, and keep the answer on the shelf."""
        blueprint = dry_run(command.folder)
        keep_blueprint(command.folder, blueprint)
        return DryRunDone(folder=command.folder, blueprint=blueprint)

    def measure_limits(self, cancelled: Cancelled) -> LimitsMeasured:
        """Measure this machine and keep the figures; raise LoadCancelled when cancelled."""
        settled = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            kernels = self._foundry.kernels(lambda: None)
            runtime = known_runtime() if self._loaded else None
            limits = measured_limits(cancelled, runtime, kernels if isinstance(kernels, Kernels) else None)
        except failures.FAILURES as error:
            raise failures.named(error, "measuring this machine") from error
        finally:
            torch.set_num_threads(settled)
            _give_back()
        keep_limits(limits)
        return LimitsMeasured(limits=limits)

    def plan(self, command: PlanLoad) -> Planned:
        """Place a model's layers against the budgets, without loading it."""
        held = self._loaded.ledgers() if self._loaded else ()
        return Planned(model=command.model, placement=planned(command, held))

    def load(self, command: LoadModel, emit: Emit, cancelled: Cancelled) -> ModelLoaded:
        """Load a model in place of the one before; raise LoadCancelled when cancelled."""
        started = time.monotonic()
        torch.set_num_threads(self._threads)
        progress = Progress(emit, cancelled)
        try:
            progress.begin(LoadStage.IMPORT)
            verdict, own = _agreed(command)
            self.unload()
            self._own, self._reading = own, self._early.take(command)
            loaded = self._load(command, verdict, progress, started)
        except NeedsConsent:
            self._early.take(None)
            raise
        except EngineError:
            self._abandon()
            raise
        except failures.FAILURES as error:
            self._abandon()
            raise failures.named(error, "loading the model") from error
        emit(MemoryLedger(devices=self._loaded.ledgers() if self._loaded else ()))
        return loaded

    def generate(self, command: Generate, cancelled: Cancelled) -> Iterator[Event]:
        """Yield TurnStarted, then PrefillProgress, TextDelta, MemoryLedger, and last TurnFinished."""
        if self._loaded is None:
            raise NoModelLoaded("No model is loaded.", "Choose one with Ctrl+O.")
        for event in Turn(self._loaded, command, cancelled).events():
            yield event
            if isinstance(event, TurnFinished) and self._lessons:
                self._lessons.note_turn(event.usage)

    def unload(self) -> None:
        """Drop the model and give its memory back as far as a living process can."""
        self._stop_reading()
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        self._loaded = self._lessons = None
        if self._placed is not None:
            self._placed.close()
            self._placed = None
        if self._offload_folder is not None:
            shutil.rmtree(self._offload_folder, ignore_errors=True)
            self._offload_folder = None
        if self._own is not None:
            self._own.close()
            self._own = None
        _give_back()

    def _abandon(self) -> None:
        """Drop the model, and what was begun to be read of another."""
        self._early.take(None)
        self.unload()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _load(self, command: LoadModel, verdict: Verdict, progress: Progress, started: float) -> ModelLoaded:
        read_before = read_bytes_from_disk(os.getpid())
        placement = command.placement or planned(command)
        require_real_devices(placement)
        require_gpus(placement)
        if command.placement and placement.devices:
            _require_room(placement, verdict, command.budgets)
        if any(layer.tier is Tier.DISK for layer in placement.layers):
            self._offload_folder = make_folder(placement.offload_folder or parent_folder(BudgetRequest()))
        self._reading = reading = self._reading or begun(verdict, placement, pid=os.getpid())
        tokenizer = load_tokenizer(verdict.folder, self._own, command.model.adapter)
        source = Source(verdict, self._own, reading)
        with self._packing(placement, verdict, progress):
            self._placed = placed = load_model(source, placement, self._offload_folder, progress)
            self._stop_reading()
            runner = Runner(placed.model, placed.device)
            runner.pace.largest = placement.prefill_chunk
            runner.kv.foresee(placement.context_window)
            progress.begin(LoadStage.WARM_UP, verdict.weight_bytes)
            trial = self._trial(placed, verdict, progress)
            warm_up(runner, tokenizer, trial, verdict, placement.quantization)
        self._loaded = loaded = assembled(verdict, placement, tokenizer, runner, placed)
        progress.reach(verdict.weight_bytes)
        if placed.is_packed_anew:
            self._keeper = kept(placed.model, verdict, placement.quantization)
        seconds = time.monotonic() - started
        self._lessons = _lessons(verdict, placement)
        if self._lessons:
            self._lessons.note_load(seconds, read_bytes_from_disk(os.getpid()) - read_before)
        return ModelLoaded(
            model=command.model,
            placement=placement,
            architecture=type(placed.model).__name__,
            parameters=verdict.parameters,
            dtype=str(placed.model.dtype).removeprefix("torch."),
            context_window=loaded.window.tokens,
            max_context_window=verdict.config.context_window,
            load_seconds=seconds,
            sampling=loaded.sampling,
            has_chat_template=loaded.writer.template.exists,
            notes=notes(verdict, placement, loaded, placed) + (trial.notes if trial else ()),
        )

    def _trial(self, placed: PlacedModel, verdict: Verdict, progress: Progress) -> Trial | None:
        """What finds the fastest way to compute a token; None where not all weights lie in RAM."""
        if not placed.lies_in_ram:
            return None
        kernels = self._kernels(verdict, progress)
        if kernels is Missing.LATE:  # the compiler has a core, and threads wait for the slowest
            torch.set_num_threads(max(1, self._threads - 1))
        return Trial(placed.model, kernels)

    def _kernels(self, verdict: Verdict, progress: Progress) -> Kernels | Missing:
        """Our kernels, waited for where the model is large enough."""
        waits = verdict.weight_bytes >= WORTH_WAITING_BYTES
        return self._foundry.kernels(progress.check, waits=waits)

    def _packing(
        self, placement: Placement, verdict: Verdict, progress: Progress
    ) -> AbstractContextManager[None]:
        """What makes packing quick, and arranging at the first use, where weights are packed."""
        if placement.quantization is Quantization.NONE:
            return contextlib.nullcontext()
        kernels = self._kernels(verdict, progress)
        return quick_packing(None if isinstance(kernels, Missing) else kernels)


def _agreed(command: LoadModel) -> tuple[Verdict, OwnCode | None]:
    """Judge the folder, and import the code of its own that the person agreed to. Raises NeedsConsent."""
    model = command.model
    verdict = inspect_folder(model.folder, may_run_code=bool(command.trusted), adapter=model.adapter)
    return verdict, OwnCode(verdict.folder, command.trusted) if verdict.runs_code else None


def _require_room(placement: Placement, verdict: Verdict, budgets: BudgetRequest) -> None:
    """Hold a ready-made placement against what is free now, whatever was allowed when it was made."""
    footprint = footprint_of(verdict, placement.quantization, known_blueprint(verdict.folder))
    free = BudgetRequest(disk_folder=placement.offload_folder or budgets.disk_folder)
    require_room(placement, footprint, live_budgets(free, read_memory(os.getpid())))


def _lessons(verdict: Verdict, placement: Placement) -> Lessons | None:
    """What compares the model with its forecast; None where it was merged, or loaded by another plan."""
    if verdict.adapter is not None:
        return None
    footprint = footprint_of(verdict, placement.quantization, known_blueprint(verdict.folder))
    planned = {layer.name for layer in placement.layers}
    return Lessons(footprint, placement) if planned == {m.name for m in footprint.modules} else None


def _give_back() -> None:
    """Return freed memory to the operating system and the driver."""
    gc.collect()
    if cuda_is_used():
        with contextlib.suppress(RuntimeError):  # a broken CUDA context gives back nothing more
            torch.cuda.empty_cache()
    ctypes.CDLL(None).malloc_trim(0)


def _physical_cores() -> int:
    """Count the cores this process may use, two hardware threads as one."""
    usable = len(os.sched_getaffinity(0))
    logical, physical = psutil.cpu_count(logical=True), psutil.cpu_count(logical=False)
    return max(1, usable * (physical or 1) // (logical or 1))
