"""An engine process that finds out what a plan wants to know, started when it is first needed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from engine import commands, errors, events, values
from tui.verbs.progress import ProgressLine
from tui.verbs.talk import Talk

DRY_RUN_SECONDS = 4.0
"""How long a dry run may take once the engine is ready, where closed forms would do."""
_NEEDED_SECONDS = 30.0
_CLOSED_FORMS = "the figures are closed forms"


class Assistant:
    """Asks an engine process; what it could not tell is a sentence in `notes`.

    Attributes:
        notes: about what could not be found out.
    """

    def __init__(self) -> None:
        """Prepare; no process runs yet."""
        self.notes: list[str] = []
        self._progress = ProgressLine()
        self._stack = ExitStack()
        self._talk: Talk | None = None

    def __enter__(self) -> Self:
        """Do nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, if one was started."""
        self._close()

    def start(self) -> Talk:
        """Start the process, which takes seconds to be ready, and do not wait for it."""
        if self._talk is None:
            self._tell("starting the engine")
            self._talk = self._stack.enter_context(Talk())
        return self._talk

    def dry_run(self, folder: Path, *, is_needed: bool) -> values.Blueprint | None:
        """What a model is made of; None where closed forms have to do.

        Raises:
            EngineError: it cannot be built, and it `is_needed`.
        """
        talk = self.start()
        seconds = _NEEDED_SECONDS if is_needed else DRY_RUN_SECONDS
        self._tell("building the model on no device")
        try:
            done = talk.ask(commands.DryRun(folder=folder), events.DryRunDone, seconds)
        except TimeoutError:
            # A model that is being built cannot be stopped, but its process can.
            self._close()
            error: errors.EngineError = errors.EngineFault(
                f"A dry run took more than {seconds:.0f} s.", "Try again."
            )
        except errors.EngineError as failed:
            error = failed
        else:
            return done.blueprint
        if is_needed:
            raise error
        self.notes.append(f"No dry run was possible, so {_CLOSED_FORMS}: {error.message}")
        return None

    def measure(self) -> None:
        """Measure this machine; the engine keeps what it finds. Raises EngineError."""
        talk = self.start()
        self._tell("measuring this machine: memory, disk and arithmetic, some seconds")
        talk.ask(commands.MeasureLimits(), events.LimitsMeasured)

    def try_to_measure(self) -> None:
        """The same, and a sentence in `notes` where it fails."""
        try:
            self.measure()
        except errors.EngineError as error:
            self.notes.append(f"This machine could not be measured: {error.message}")

    def _tell(self, text: str) -> None:
        self._progress.clear()
        self._progress.show(text)

    def _close(self) -> None:
        self._progress.clear()
        self._stack.close()
        self._talk = None
