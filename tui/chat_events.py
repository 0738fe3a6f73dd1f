"""What comes from the engine, shown: each kind of event on the widgets that it concerns."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from engine import MemoryReading
from engine.events import (
    ContextFull,
    DryRunDone,
    EngineEnded,
    EngineReady,
    EngineSilent,
    Failed,
    LimitsMeasured,
    LoadProgress,
    MemoryLedger,
    ModelLoaded,
    ModelUnloaded,
    PrefillProgress,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from tui.bridge import SavingProblem
from tui.format import format_duration
from tui.past import finish_note, mark_of
from tui.safe_text import safe
from tui.widgets.banner import OUT_OF_MEMORY_REMEDIES
from tui.widgets.context_meter import ContextUse
from tui.widgets.status_line import Status
from tui.widgets.title_line import describe_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.commands import LoadModel
    from engine.values import Placement
    from sessions import Turn
    from tui.chat import Chat
    from tui.chat_plans import ChatPlans

_SPEED_PAUSE = 0.5
_NEXT_TURN_TOKENS = 512


class ChatEvents:
    """The one reader of events on the screen's side.

    Attributes:
        is_answering: a prompt was sent and its reply has not ended, as far as the screen knows.
        last: how the last reply ended.
    """

    def __init__(self, chat: Chat) -> None:
        """Show on the screen of this chat."""
        self._chat = chat
        self._screen = chat.screen
        self._bridge = chat.bridge
        self._status = Status()
        self._turn_key = ""
        self._first_text_at = 0.0
        self._first_tokens = 0
        self._speed_at = 0.0
        self.is_answering = False
        self.last: TurnFinished | None = None
        self._ways: dict[type, Callable[[Any], None]] = {
            EngineReady: self._engine_ready,
            LoadProgress: self._load_progress,
            ModelLoaded: self._model_loaded,
            ModelUnloaded: self._model_unloaded,
            TurnStarted: self._turn_started,
            PrefillProgress: self._prefill_progress,
            TextDelta: self._text,
            ContextFull: self._context_full,
            TurnFinished: self._turn_finished,
            MemoryLedger: self._ledger,
            MemoryReading: self._reading,
            Failed: self._failed,
            DryRunDone: self._learned,
            LimitsMeasured: self._learned,
            EngineEnded: self._engine_ended,
            EngineSilent: self._engine_silent,
            SavingProblem: self._saving_problem,
        }

    @property
    def _plans(self) -> ChatPlans:
        return self._chat.commands.dialogs.plans

    def show(self, entry: object) -> None:
        """Show one event or reading; what concerns nobody is let go."""
        way = self._ways.get(type(entry))
        if way is not None:
            way(entry)

    def load_began(self, name: str) -> None:
        """The person asked for a model."""
        self._screen.title_line.model = name
        self._say_state("loading")

    def turn_began(self, turn: Turn) -> None:
        """A prompt is on its way to the engine."""
        self._turn_key = str(turn.id)
        self._first_text_at = self._speed_at = 0.0
        self._screen.banner.hide()
        self._set(replace(self._status, state="prefill", alert=False, decode_tps=0.0, first_token=0.0))

    def branch_changed(self) -> None:
        """Another history is shown; what it takes of the window is not known yet."""
        self._use_context(0)

    def _set(self, status: Status) -> None:
        self._status = status
        self._screen.status_line.status = status

    def _say_state(self, state: str, *, alert: bool = False) -> None:
        self._set(replace(self._status, state=state, alert=alert))

    def _settle(self) -> None:
        if self._bridge.loading:
            self._say_state("loading")
        else:
            self._say_state("ready" if self._bridge.loaded else "no model")

    def _engine_ready(self, _: EngineReady) -> None:
        self._settle()

    def _load_progress(self, event: LoadProgress) -> None:
        if event.turn_id == self._bridge.loading:
            self._screen.load_bar.progress = event

    def _model_loaded(self, event: ModelLoaded) -> None:
        screen = self._screen
        screen.load_bar.end()
        screen.title_line.model = describe_model(event)
        self._use_context(0)
        self._settle()
        self._chat.loader.keep(event.model)
        self._plans.loaded(event)
        for note in event.notes:
            screen.app.say(note)
        screen.run_worker(self._chat.send_queued(), group="ask")

    def _model_unloaded(self, _: ModelUnloaded) -> None:
        self._forget_model()
        self._settle()

    def _forget_model(self) -> None:
        screen = self._screen
        screen.title_line.model = "no model"
        screen.memory.show_ledger(None)
        screen.load_bar.end()
        self._plans.unloaded()
        self._use_context(0)

    def _turn_started(self, event: TurnStarted) -> None:
        self._mark_context(event.dropped_messages)
        self._use_context(event.prompt_tokens)

    def _mark_context(self, dropped_messages: int) -> None:
        """Draw the line above the first turn that the model still sees."""
        answered = [turn for turn in self._chat.talk.turns[:-1] if turn.reply.strip()]
        seen = [*answered, *self._chat.talk.turns[-1:]][-(-dropped_messages // 2) :]
        key = str(seen[0].id) if dropped_messages and seen else None
        self._screen.transcript.mark_context(key)

    def _prefill_progress(self, event: PrefillProgress) -> None:
        share = 100 * event.done_tokens // max(1, event.total_tokens)
        if not self._first_text_at:
            self._say_state(f"prefill {share} %")

    def _text(self, event: TextDelta) -> None:
        self._screen.transcript.append(
            self._turn_key, safe(event.text), reasoning=event.reasoning, tokens=event.completion_tokens
        )
        now = monotonic()
        if not self._first_text_at:
            self._first_text_at, self._first_tokens = now, event.completion_tokens
        if now - self._speed_at >= _SPEED_PAUSE:
            self._show_speed(event, now)

    def _show_speed(self, event: TextDelta, now: float) -> None:
        self._speed_at = now
        seconds = now - self._first_text_at
        speed = (event.completion_tokens - self._first_tokens) / seconds if seconds else 0.0
        state = "thinking" if event.reasoning else "answering"
        self._set(replace(self._status, state=state, alert=False, decode_tps=speed))

    def _context_full(self, event: ContextFull) -> None:
        message = f"The reply met the end of the context window of {event.context_window:,} tokens."
        self._screen.banner.show(message, "/context N loads the model with a longer one; /new begins anew.")

    def _turn_finished(self, event: TurnFinished) -> None:
        self.last = event
        usage = event.usage
        self._screen.transcript.finish(
            self._turn_key, finish_note(event), mark_of(event), safe(f"{event.message} {event.hint}".strip())
        )
        if event.message:
            self._tell_failure(event.message, event.hint, is_out_of_memory=event.error == "OutOfMemory")
        self._set(replace(self._status, decode_tps=usage.decode_tps, first_token=usage.time_to_first_token))
        if usage.context_used:
            self._use_context(usage.context_used)
        self._settle()
        self._plans.show_measured()
        self._plans.planned()
        self._screen.run_worker(self._chat.turn_ended(), group="ask")

    def _tell_failure(self, message: str, hint: str, *, is_out_of_memory: bool) -> None:
        remedies = OUT_OF_MEMORY_REMEDIES if is_out_of_memory else ()
        self._screen.banner.show(message, hint, remedies, is_typing=bool(self._screen.prompt.text))

    def _reading(self, reading: MemoryReading) -> None:
        self._screen.memory.show_reading(reading)
        self._plans.show_measured()

    def _ledger(self, event: MemoryLedger) -> None:
        self._screen.memory.show_ledger(event)
        if event.context_used:
            self._use_context(event.context_used)

    def _use_context(self, used: int) -> None:
        loaded = self._bridge.loaded
        if loaded is None:
            self._screen.context_meter.use = ContextUse()
            self._set(replace(self._status, context_used=0, context_window=0))
            return
        window = loaded.context_window
        limit = self._chat.sampling.max_new_tokens or loaded.sampling.max_new_tokens or _NEXT_TURN_TOKENS
        kv_bytes, device = _kv_per_token(loaded.placement)
        self._screen.context_meter.use = ContextUse(
            used=used,
            window=window,
            next_turn=min(limit, _NEXT_TURN_TOKENS),
            kv_bytes_per_token=kv_bytes,
            device=device,
        )
        self._set(replace(self._status, context_used=used, context_window=window))

    def _failed(self, event: Failed) -> None:
        if self._plans.failed(event):
            return
        if event.error == "NeedsConsent" and self._bridge.refused is not None:
            self._ask_for_consent(self._bridge.refused)
            return
        if event.turn_id == self._bridge.load_number:
            self._screen.load_bar.end()
            self._forget_model()
            self._settle()
        if event.error == "LoadCancelled":
            self._screen.app.say("The load was stopped.")
            self._chat.take_back_queued()
            return
        self._tell_failure(event.message, event.hint, is_out_of_memory=event.error == "OutOfMemory")

    def _ask_for_consent(self, refused: LoadModel) -> None:
        """The engine will not run the model's own code unasked; what was loaded before still is."""
        loaded = self._bridge.loaded
        self._screen.load_bar.end()
        self._screen.title_line.model = describe_model(loaded) if loaded else "no model"
        self._settle()
        self._screen.run_worker(self._chat.commands.dialogs.consent.ask_for(refused), group="consent")

    def _learned(self, event: DryRunDone | LimitsMeasured) -> None:
        self._plans.learned(event)

    def _engine_ended(self, event: EngineEnded) -> None:
        self._forget_model()
        hint = event.hint
        if self._bridge.wish is not None and self._bridge.loading:
            hint = f"{self._bridge.wish.model.name} is being loaded again."
            self._screen.load_bar.begin(self._bridge.wish.model.name)
        self._tell_failure(event.message, hint, is_out_of_memory=event.out_of_memory)
        self._settle()

    def _engine_silent(self, event: EngineSilent) -> None:
        if event.seconds:
            self._say_state(f"the engine is silent for {format_duration(event.seconds)}", alert=True)
        else:
            self._settle()

    def _saving_problem(self, problem: SavingProblem) -> None:
        if problem.text:
            self._screen.banner.show(problem.text, "The text stays in memory until it can be saved; /export.")
        else:
            self._screen.banner.hide()


def _kv_per_token(placement: Placement) -> tuple[int, str]:
    """KV bytes of one token on all devices, and the names of those devices."""
    holding = [device for device in placement.devices if device.kv_bytes]
    total = sum(device.kv_bytes for device in holding)
    names = " + ".join(device.device.upper().replace(":", " ") for device in holding)
    return total // max(1, placement.context_window), names
