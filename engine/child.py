"""Main of the engine process: one Engine behind the wire, its output in a log, its life bound to its parent.

`python -m engine.child --fd N --parent PID [--log PATH] [--cache FOLDER]`; the environment variable
VRAMBLE_BACKEND chooses the backend: `hf`, or `scripted:<path of a JSON script>`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import gc
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from engine.backend import Backend
from engine.commands import LoadModel, Shutdown
from engine.engine import Engine
from engine.errors import InvalidValue, WireError
from engine.events import DROPPABLE, AnyEvent, Heartbeat
from engine.heap import reuse_freed_memory
from engine.hf.early import EarlyReader
from engine.log import keep_short
from engine.offload import parent_folder, sweep
from engine.scripted import ScriptedBackend
from engine.values import BudgetRequest
from engine.wire import Cancel, ToEngine, command_decoder, encode

BACKEND_VARIABLE = "VRAMBLE_BACKEND"
HEARTBEAT_SECONDS = 1.0
EXIT_WIRE_BROKEN = 70
_PR_SET_PDEATHSIG = 1
_READ_BYTES = 2**18
_STATM = Path("/proc/self/statm")
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "USE_TF": "0",
    "USE_FLAX": "0",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",  # of 1,024 kernels, each for one shape and up to 0.5 MB
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # CUDA numbers GPUs as NVML does; engine.visible relies on it
}
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_CACHES = {
    "TMPDIR": "tmp",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
    "TORCH_HOME": "torch",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve the wire until it ends; nothing is cleaned up on the way out, so that the way is short."""
    options = _parse(arguments)
    bind_to_parent(options.parent)
    harden()
    reuse_freed_memory()
    os.environ.update(environment(options.cache))
    os.set_inheritable(options.fd, False)
    with socket.socket(fileno=options.fd) as wire:
        channel = Channel(wire)
        early = EarlyReader()
        engine = Engine(lambda: ready_backend(early), channel.send)
        os._exit(serve(channel, engine, lambda: rotate(options.log), early))


def serve(
    channel: Channel, engine: Engine, on_beat: Callable[[], None], early: EarlyReader | None = None
) -> int:
    """Run an engine behind the wire; the exit code. The end of the wire does not wait for the engine.

    Args:
        channel: where commands come from.
        engine: answers them.
        on_beat: is called each second.
        early: sees each load before the engine comes to it.
    """
    is_over = threading.Event()
    pulse = threading.Thread(target=beat, args=(channel.send, on_beat, is_over), name="pulse", daemon=True)
    pulse.start()
    engine.start()
    try:
        for message in channel.messages():
            if isinstance(message, Shutdown):
                engine.close()
                break
            if early is not None:
                _show(message, early)
            _pass_on(message, engine)
    except WireError as error:
        os.write(2, f"{error}\n".encode())
        return EXIT_WIRE_BROKEN
    finally:
        is_over.set()
    return 0


def ready_backend(early: EarlyReader | None = None) -> Backend:
    """Make the backend; what killed engines left behind goes first."""
    sweep(parent_folder(BudgetRequest()))
    backend = make_backend(early)
    gc.freeze()  # what was imported stays: looking through it takes 0.2 s each time that a model goes
    return backend


def make_backend(early: EarlyReader | None = None) -> Backend:
    """The backend that VRAMBLE_BACKEND names; the heavy imports of the product happen here."""
    kind, _, script = os.environ.get(BACKEND_VARIABLE, "hf").partition(":")
    if kind == "scripted":
        return ScriptedBackend.from_file(Path(script))
    if kind == "hf":
        from engine.hf.backend import HFBackend

        return HFBackend(early)
    raise InvalidValue(f"{BACKEND_VARIABLE} names no backend: {kind}.", "Use hf or scripted:<path>.")


class Channel:
    """The engine's end of the wire: any thread may send, one thread reads."""

    def __init__(self, connection: socket.socket) -> None:
        """Speak over a connected stream socket."""
        self._connection = connection
        self._decoder = command_decoder()
        self._sending = threading.Lock()

    def send(self, event: AnyEvent) -> None:
        """Send an event; a reading is dropped where the screen does not keep up, text waits.

        A lost wire is not reported here: the reading thread notices it and ends the process.
        """
        if isinstance(event, DROPPABLE) and not self._has_room():
            return
        frame = encode(event)
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(frame)

    def _has_room(self) -> bool:
        # One object a call: two threads must not ask the same one at once.
        room = select.poll()
        room.register(self._connection, select.POLLOUT)
        return bool(room.poll(0))

    def messages(self) -> Iterator[ToEngine]:
        """Commands and cancels as they come, until the wire ends. Raises WireError for what is neither."""
        with contextlib.suppress(ConnectionError):
            while data := self._connection.recv(_READ_BYTES):
                yield from self._decoder.feed(data)


def beat(send: Callable[[AnyEvent], None], on_beat: Callable[[], None], is_over: threading.Event) -> None:
    """Send a Heartbeat each second until it is over."""
    while not is_over.is_set():
        send(Heartbeat(ram_bytes=resident_bytes()))
        on_beat()
        is_over.wait(HEARTBEAT_SECONDS)


def resident_bytes() -> int:
    """RAM that this process holds; 0 where /proc does not tell."""
    with contextlib.suppress(OSError):
        pages = _STATM.read_text().split()[1]
        return int(pages) * resource.getpagesize()
    return 0


def bind_to_parent(parent: int) -> None:
    """Die when the thread that started this process does; at once when it is gone already."""
    _ask_to_die_with_parent()
    if os.getppid() != parent:
        os._exit(0)


def _ask_to_die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def harden() -> None:
    """Keep files private, prompts out of core dumps, crashes in the log, the OOM killer off the screen."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable(file=2)
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text("500")


def environment(cache: Path | None) -> dict[str, str]:
    """What the libraries must find set before they are imported: no network, no shared folder in /tmp."""
    variables = _OFFLINE | _allocator()
    if cache is None:
        return variables
    folders = {variable: cache / name for variable, name in _CACHES.items()}
    for folder in (cache, *folders.values()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    return variables | {variable: str(folder) for variable, folder in folders.items()}


def _allocator() -> dict[str, str]:
    """A KV cache that grows by a token a step leaves gaps in segments of a fixed size."""
    if any(variable in os.environ for variable in _ALLOCATOR):
        return {}
    return {_ALLOCATOR[0]: "expandable_segments:True"}


def rotate(log: Path | None) -> None:
    """Keep the log that file descriptors 1 and 2 lead to short."""
    if log is not None:
        keep_short(log, 1, 2)


def _show(message: ToEngine, early: EarlyReader) -> None:
    """Let reading begin, or end, ahead of the engine's thread; nothing is read for a scripted backend."""
    if isinstance(message, Cancel):
        early.cancel(message.turn_id)
    elif isinstance(message, LoadModel) and os.environ.get(BACKEND_VARIABLE, "hf") == "hf":
        early.see(message)


def _pass_on(message: ToEngine, engine: Engine) -> None:
    if isinstance(message, Cancel):
        engine.cancel(message.turn_id)
    else:
        engine.submit(message)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine.child", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--cache", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
