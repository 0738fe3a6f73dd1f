"""What a ScriptedBackend is told to say, and how it is told to fail; read from JSON."""

from __future__ import annotations

import enum
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.errors import InvalidValue, OutOfMemory
from engine.values import Value

_SPILLED_BYTES = 2**20


class FaultKind(enum.StrEnum):
    """How something goes wrong.

    `raise`: an exception of no known class. `out_of_memory`: ours. `sleep`: deaf for ever, other threads
    live. `spin`: holds the GIL for ever. `exit`: the process ends at once. `signal`: one to the own
    process (9 SIGKILL, 19 SIGSTOP, 11 SIGSEGV). `spill`: 1 MB of junk to file descriptors 1 and 2.
    """

    RAISE = "raise"
    OUT_OF_MEMORY = "out_of_memory"
    SLEEP = "sleep"
    SPIN = "spin"
    EXIT = "exit"
    SIGNAL = "signal"
    SPILL = "spill"


class Fault(Value, frozen=True, kw_only=True):
    """One thing that goes wrong.

    Attributes:
        kind: how.
        at: before which token of the reply, or which step of the load, from 0.
        message: of the exception.
        number: the exit code, or the signal.
    """

    kind: FaultKind
    at: int = 0
    message: str = "a scripted failure"
    number: int = 9


class Reply(Value, frozen=True, kw_only=True):
    """One answer.

    Attributes:
        text: the answer; "{prompt}" stands for the person's last message.
        reasoning: thinking text before it.
        tokens_per_second: 0 is as fast as can be.
        delay_seconds: of prefill, before the first token.
        fault: what goes wrong on the way.
    """

    text: str = "You said: {prompt}"
    reasoning: str = ""
    tokens_per_second: float = 200.0
    delay_seconds: float = 0.0
    fault: Fault | None = None


class Load(Value, frozen=True, kw_only=True):
    """How models load.

    Attributes:
        steps: LoadProgress events.
        seconds: of the whole load.
        weight_bytes: what the model is said to hold.
        kv_bytes_per_token: what its KV cache is said to grow by.
        layers: how many the placement shows.
        context_window: in tokens, where the command does not say.
        architecture: the class it claims to run.
        needs_consent: models bring code, and load only with files that the person agreed to.
        fault: what goes wrong on the way.
    """

    steps: int = 4
    seconds: float = 0.0
    weight_bytes: int = 2**30
    kv_bytes_per_token: int = 2**17
    layers: int = 16
    context_window: int = 8192
    architecture: str = "ScriptedForCausalLM"
    needs_consent: bool = False
    fault: Fault | None = None


class Script(Value, frozen=True, kw_only=True):
    """Everything a ScriptedBackend says.

    Attributes:
        replies: given in turn, and from the first one again.
        load: how models load.
    """

    replies: tuple[Reply, ...] = (Reply(),)
    load: Load = Load()


def read_script(path: Path) -> Script:
    """The script in a JSON file. Raises InvalidValue when it is missing or is none."""
    try:
        script = msgspec.json.decode(path.read_bytes(), type=Script)
    except (OSError, ValueError) as error:
        raise InvalidValue(f"{path} is no script: {error}.", "Name a JSON file with replies.") from error
    if not script.replies:
        raise InvalidValue(f"{path} has no replies.", "Give at least one.")
    return script


def strike(fault: Fault) -> None:
    """Let it go wrong now."""
    _STRIKES[fault.kind](fault)


def _raise(fault: Fault) -> None:
    raise RuntimeError(fault.message)


def _run_out_of_memory(fault: Fault) -> None:
    raise OutOfMemory(fault.message, "Try a shorter context, or nf4.")


def _sleep(_fault: Fault) -> None:
    while True:
        time.sleep(3600)


def _spin(_fault: Fault) -> None:
    sum(itertools.repeat(0))  # one C call that never lets go of the GIL


def _exit(fault: Fault) -> None:
    os._exit(fault.number)


def _signal(fault: Fault) -> None:
    signal.raise_signal(fault.number)


def _spill(_fault: Fault) -> None:
    junk = b"\x1b[31mjunk\x07" * (_SPILLED_BYTES // 10)
    for descriptor in (1, 2):
        os.write(descriptor, junk)


_STRIKES: dict[FaultKind, Callable[[Fault], None]] = {
    FaultKind.RAISE: _raise,
    FaultKind.OUT_OF_MEMORY: _run_out_of_memory,
    FaultKind.SLEEP: _sleep,
    FaultKind.SPIN: _spin,
    FaultKind.EXIT: _exit,
    FaultKind.SIGNAL: _signal,
    FaultKind.SPILL: _spill,
}
