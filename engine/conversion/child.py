"""Main of a conversion's process: pickles in, safetensors out; no network, and no life after its parent.

`python -m engine.conversion.child FOLDER`. What it tells goes to descriptor 1, a line each; descriptor 0 is
open as long as the parent lives.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn

from engine.checkpoint.files import contained
from engine.checkpoint.tensors import INDEX_FILE, SINGLE_FILE, read_header
from engine.conversion.isolation import end_with_parent, keep_small, leave_network, refuse_python_calls
from engine.conversion.sources import Pickles, pickles_of, require_room
from engine.conversion.staging import Staging, sync
from engine.conversion.told import AnyTold, Converted, ConvertFailed, ConvertProgress, encode
from engine.errors import DamagedCheckpoint

_PERMISSIONS = 0o666

Tell = Callable[[AnyTold], None]


def main(arguments: Sequence[str]) -> NoReturn:
    """Convert the model in the folder that the only argument names."""
    wire = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    def tell(told: AnyTold) -> None:
        os.write(wire, encode(told) + b"\n")

    sys.excepthook = failing(tell)
    has_no_network = leave_network()
    keep_small()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    importlib.import_module("engine.hf.unpickle")  # torch starts programs, which is refused hereafter
    refuse_python_calls()
    tell(convert(pickles_of(Path(arguments[0])), tell, has_no_network=has_no_network))
    os._exit(0)


def failing(tell: Tell) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """What tells the person of whatever ended this process."""

    def fail(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        from engine.hf import failures

        known = failures.named(error, "converting")
        tell(ConvertFailed(error=type(known).__name__, message=known.message, hint=known.hint))
        os._exit(1)

    return fail


def convert(pickles: Pickles, tell: Tell, *, has_no_network: bool = False) -> Converted:
    """Write safetensors beside pickles; nothing of them stays unless all are there.

    Raises:
        EngineError: a pickle is unsafe or damaged, the disk is full, or another process converts the model.
        OSError: the disk does not take them.
    """
    require_room(pickles)
    staging = Staging(pickles.folder)
    staging.open()
    try:
        written = Writer(pickles, staging.folder, tell).write()
        staging.install([*written.files, *written.index_files])
    finally:
        staging.discard()
    return Converted(
        files=tuple(written.files),
        tensors=written.tensors,
        total_bytes=written.total_bytes,
        left_out=tuple(written.left_out),
        has_no_network=has_no_network,
    )


class Written(NamedTuple):
    """What lies in the staging folder.

    Attributes:
        files: of weights.
        index_files: of several files; none for a single one.
        tensors: in all of them.
        total_bytes: of those.
        left_out: names that were not written.
    """

    files: list[str]
    index_files: list[str]
    tensors: int
    total_bytes: int
    left_out: list[str]


class Writer:
    """Writes one model's safetensors, a part after the other."""

    def __init__(self, pickles: Pickles, folder: Path, tell: Tell) -> None:
        """Begin with nothing written."""
        self._pickles = pickles
        self._folder = folder
        self._tell = tell
        self._parts: list[list[str]] = []
        self._left_out: list[str] = []
        self._bytes = 0

    def write(self) -> Written:
        """Write them all, and the index of several; the headers are read again before they count."""
        done = 0
        for name in self._pickles.files:
            done = self._convert(name, done)
        if not self._parts:
            raise DamagedCheckpoint("The pickles hold no tensors.", "Get the model again.")
        count = len(self._parts)
        files = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        files = files if count > 1 else [SINGLE_FILE]
        for number, name in enumerate(files):
            os.rename(self._folder / f"part-{number}", self._folder / name)
            read_header(self._folder / name, name)
        index = self._write_index(files) if count > 1 else []
        tensors = sum(len(names) for names in self._parts)
        return Written(files, index, tensors, self._bytes, self._left_out)

    def _convert(self, name: str, done: int) -> int:
        """Convert one pickle; how many bytes of all pickles are done."""
        from engine.hf.unpickle import parts_of, read_pickle, without_tied_heads, write_part

        path = contained(self._pickles.folder, name)
        mode = path.stat().st_mode & _PERMISSIONS
        found, left_out = read_pickle(path, name)
        tensors = without_tied_heads(found) if self._pickles.is_tied else found
        self._left_out += [*left_out, *(key for key in found if key not in tensors)]
        for part in parts_of(tensors):
            file = self._folder / f"part-{len(self._parts)}"
            write_part(part, file)
            file.chmod(mode)
            sync(file)
            self._refuse_twice(part)
            self._parts.append(list(part))
            written = sum(tensor.nbytes for tensor in part.values())
            self._bytes += written
            done += written
            total = self._pickles.total_bytes
            self._tell(ConvertProgress(done_bytes=min(done, total), total_bytes=total))
        return done

    def _refuse_twice(self, part: Iterable[str]) -> None:
        known = {name for names in self._parts for name in names}
        if twice := next((name for name in part if name in known), ""):
            raise DamagedCheckpoint(f"Two pickles hold the tensor {twice}.", "Get the model again.")

    def _write_index(self, files: Sequence[str]) -> list[str]:
        weight_map = {name: file for file, names in zip(files, self._parts, strict=True) for name in names}
        index = {"metadata": {"total_size": self._bytes}, "weight_map": weight_map}
        path = self._folder / INDEX_FILE
        path.write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")
        path.chmod((self._folder / files[0]).stat().st_mode & _PERMISSIONS)
        sync(path)
        return [INDEX_FILE]


if __name__ == "__main__":
    main(sys.argv[1:])
