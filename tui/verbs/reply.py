"""An answer as it comes: to stdout while it streams, and as a document when it is whole."""

from __future__ import annotations

from engine import events, values
from tui.verbs import output


class Reply:
    """Gathers one answer from its events."""

    def __init__(self, loaded: events.ModelLoaded, *, streams: bool) -> None:
        """Begin.

        Args:
            loaded: the model that answers.
            streams: write the answer to stdout as it comes.
        """
        self._loaded = loaded
        self._streams = streams
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._notes: list[str] = []
        self._finished = events.TurnFinished(finish_reason=values.FinishReason.FAILED)

    @property
    def is_good(self) -> bool:
        """The answer ended by itself or at a limit, not by a failure or by Ctrl+C."""
        return self._finished.finish_reason in {values.FinishReason.STOP, values.FinishReason.LENGTH}

    def watch(self, event: events.AnyEvent) -> None:
        """Take what the answer is made of."""
        match event:
            case events.TextDelta(reasoning=True):
                self._reasoning.append(event.text)
            case events.TextDelta():
                self._take_text(event.text)
            case events.TurnStarted() if event.dropped_messages:
                self._notes.append(f"{event.dropped_messages} messages did not fit into the context window.")
            case events.ContextFull():
                self._notes.append(f"The context window of {event.context_window:,} tokens is full.")
            case events.TurnFinished():
                self._finish(event)
            case _:
                pass

    def _take_text(self, text: str) -> None:
        self._text.append(text)
        if self._streams:
            output.write_text(text)

    def _finish(self, event: events.TurnFinished) -> None:
        self._finished = event
        if self._streams and self._text and not self._text[-1].endswith("\n"):
            output.write_text("\n")

    def complain(self) -> None:
        """Say on stderr what the answer's end does not show."""
        for note in self._notes:
            output.complain(note)
        match self._finished.finish_reason:
            case values.FinishReason.LENGTH if not self._notes:
                output.complain("The answer met its limit of tokens.", "Give --max-new-tokens a higher one.")
            case values.FinishReason.CANCELLED:
                output.complain("Stopped.")
            case values.FinishReason.FAILED:
                output.complain(self._finished.message or "The answer failed.", self._finished.hint)
            case _:
                pass

    def document(self) -> dict[str, object]:
        """The answer as one JSON document; `error` is there only when it failed."""
        usage = self._finished.usage
        document: dict[str, object] = {
            "model": self._loaded.model.name,
            "text": "".join(self._text),
            "reasoning": "".join(self._reasoning),
            "finish_reason": str(self._finished.finish_reason),
            **{name: getattr(usage, name) for name in usage.__struct_fields__},
            "load_seconds": self._loaded.load_seconds,
            "notes": [*self._loaded.notes, *self._notes],
        }
        if self._finished.finish_reason is values.FinishReason.FAILED:
            document["error"] = _error(self._finished)
        return document


def _error(finished: events.TurnFinished) -> dict[str, str]:
    return {"type": finished.error, "message": finished.message, "hint": finished.hint}
