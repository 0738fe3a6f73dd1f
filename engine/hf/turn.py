"""One turn: prompt, prefill, decode, and the events that tell of it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import NamedTuple

import torch

from engine.backend import Cancelled
from engine.commands import Generate
from engine.errors import EngineError
from engine.events import ContextFull, Event, MemoryLedger, PrefillProgress, TurnFinished, TurnStarted
from engine.hf import failures
from engine.hf.decode import Interrupted
from engine.hf.ledger import ledgers
from engine.hf.loaded import LoadedModel
from engine.hf.reply import Reply
from engine.hf.sample import Sampler
from engine.hf.steps import Steps
from engine.hf.stopwatch import Stopwatch
from engine.values import FinishReason, TurnUsage

LEDGER_SECONDS = 0.5


class _Ending(NamedTuple):
    """Why the reply ended, and for `failed` what happened."""

    reason: FinishReason
    error: EngineError | None = None


class Turn:
    """Answers one Generate on a loaded model; iterate over `events` once, on the engine thread."""

    def __init__(self, loaded: LoadedModel, command: Generate, cancelled: Cancelled) -> None:
        """Render the conversation and fit it into the window.

        Raises:
            ContextOverflow: the last message alone does not fit.
            TemplateError: the chat template cannot render it.
        """
        self._watch = Stopwatch()
        self._loaded = loaded
        self._runner = loaded.runner
        self._cancelled = cancelled
        self._params = loaded.sampling_for(command.sampling)
        self._prompt = loaded.window.fit(
            command.messages, self._params.max_new_tokens, unfinished=command.continue_reply
        )
        self._reply = Reply(loaded, self._prompt, self._params.stop, goes_on=command.continue_reply)
        left = loaded.window.tokens - len(self._prompt.token_ids)
        self._room = min(self._params.max_new_tokens or left, left)
        self._ledger_at = self._watch.started
        self._reused = 0
        self._steps: Steps | None = None

    def events(self) -> Iterator[Event]:
        """Yield the turn's events; the last one is TurnFinished."""
        self._reused = self._runner.kv.reuse(self._prompt.token_ids)
        yield TurnStarted(
            prompt_tokens=len(self._prompt.token_ids),
            reused_tokens=self._reused,
            dropped_messages=self._prompt.dropped_messages,
            context_window=self._loaded.window.tokens,
        )
        self._runner.cancelled = self._cancelled
        try:
            ending = yield from self._answered()
        except Interrupted:
            ending = _Ending(FinishReason.CANCELLED)
            self._runner.kv.mend()
        except (EngineError, *failures.FAILURES) as error:
            ending = _Ending(FinishReason.FAILED, failures.named(error, "generating"))
            self._runner.kv.drop()
        yield from self._finished(ending)

    def _answered(self) -> Generator[Event, None, _Ending]:
        logits = yield from self._prefilled()
        if logits is None:
            return _Ending(FinishReason.CANCELLED)
        self._watch.note_prefilled()
        yield self._ledger()
        return (yield from self._decoded(logits))

    def _prefilled(self) -> Generator[Event, None, torch.Tensor | None]:
        """Compute the prompt in chunks; None when cancelled."""
        token_ids, kv = self._prompt.token_ids, self._runner.kv
        logits, done = None, self._reused
        settled = min(self._prompt.settled, len(token_ids) - 1)
        while done < len(token_ids):
            if self._cancelled():
                return None
            border = settled if kv.forgets and done < settled else len(token_ids)
            size = self._runner.chunk_size(border - done)
            logits = self._runner.prefill_chunk(token_ids[done : done + size])
            done += size
            if done == settled:
                kv.keep_state()
            yield PrefillProgress(done_tokens=done - self._reused, total_tokens=len(token_ids) - self._reused)
        return logits

    def _decoded(self, logits: torch.Tensor) -> Generator[Event, None, _Ending]:
        """Choose and compute one token a step; every token but the last one is in the cache then."""
        runner, reply, ends = self._runner, self._reply, self._loaded.ends
        self._steps = steps = Steps(runner, self._prompt.token_ids, self._loaded.window.tokens)
        sampler = Sampler(self._params, self._prompt.token_ids, logits.device)
        while True:
            token = runner.choose(sampler, logits)
            self._watch.note_token()
            reply.completion_tokens += 1
            if token in ends:
                return _Ending(FinishReason.STOP)
            yield from reply.add(token)
            if reply.stopped:
                return _Ending(FinishReason.STOP)
            if reply.completion_tokens >= self._room:
                return _Ending(FinishReason.LENGTH)
            if self._cancelled():
                return _Ending(FinishReason.CANCELLED)
            if time.perf_counter() - self._ledger_at >= LEDGER_SECONDS:
                yield self._ledger()
            logits = steps.behind(token)

    def _finished(self, ending: _Ending) -> Iterator[Event]:
        if self._steps is not None and ending.error is None:
            self._steps.finish()
        yield from self._reply.finish()
        if self._reply.stopped and ending.error is None:
            ending = _Ending(FinishReason.STOP)
        yield self._ledger()
        window = self._loaded.window.tokens
        used = len(self._prompt.token_ids) + self._reply.completion_tokens
        if ending.reason is FinishReason.LENGTH and used >= window:
            yield ContextFull(context_window=window)
        yield _finish(ending, self._usage(window))

    def _usage(self, window: int) -> TurnUsage:
        guessed = self._steps.guessed if self._steps is not None else 0
        return self._watch.usage(len(self._prompt.token_ids), self._reused, window, guessed)

    def _ledger(self) -> MemoryLedger:
        self._ledger_at = time.perf_counter()
        kv = self._runner.kv
        return MemoryLedger(
            devices=ledgers(self._loaded.weights, kv.bytes_by_device()), context_used=len(kv.token_ids)
        )


def _finish(ending: _Ending, usage: TurnUsage) -> TurnFinished:
    error = ending.error
    if error is None:
        return TurnFinished(finish_reason=ending.reason, usage=usage)
    return TurnFinished(
        finish_reason=ending.reason,
        usage=usage,
        message=error.message,
        hint=error.hint,
        error=type(error).__name__,
    )
