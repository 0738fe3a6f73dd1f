"""The engine in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from engine.commands import AnyCommand, Shutdown
from engine.events import AnyEvent
from engine.spawn import SpawnOptions
from engine.supervisor import Supervisor
from engine.wire import Cancel


class EngineProcess:
    """The same four methods as Engine, around a process that can be killed and is then started anew.

    Numbers of events go on growing when it is. UnloadModel ends the process, and so does a load or a reply
    that does not stop. The process dies with this one, however this one dies.
    """

    def __init__(
        self,
        on_event: Callable[[AnyEvent], None],
        *,
        log: Path | None = None,
        cache: Path | None = None,
        backend: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            on_event: takes each event, on a thread of this object; it must be quick and must not raise.
            log: where the process's own output goes; None is nowhere.
            cache: a private folder for what its libraries and its temporary files need; None leaves theirs.
            backend: "hf" or "scripted:<path>"; None leaves it to VRAMBLE_BACKEND, and that to "hf".
            cwd: its working directory; None is this process's.
        """
        options = SpawnOptions(log=log, cache=cache, backend=backend, cwd=cwd)
        self._supervisor = Supervisor(on_event, options)
        self._thread = threading.Thread(target=self._supervisor.run, name="engine-process", daemon=True)

    @property
    def pid(self) -> int | None:
        """The engine process, while there is one."""
        return self._supervisor.pid

    def start(self) -> None:
        """Start the process; EngineReady tells when it accepts commands, which may be submitted before."""
        self._thread.start()

    def submit(self, command: AnyCommand) -> None:
        """Queue a command. After Shutdown nothing is answered."""
        self._supervisor.post(command)

    def cancel(self, turn_id: int) -> None:
        """Stop the command of that number and every earlier one, whether or not it has begun."""
        self._supervisor.post(Cancel(turn_id=turn_id))

    def close(self) -> None:
        """End the process, within two seconds unless the kernel holds it; no event comes afterwards."""
        self._supervisor.post(Shutdown())
        if self._thread.ident is not None:
            self._thread.join()
        self._supervisor.hang_up()
