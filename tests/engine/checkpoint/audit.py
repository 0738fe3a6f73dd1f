"""Judges folders in a process of its own and reports what an audit hook saw meanwhile.

Run as `python -m tests.engine.checkpoint.audit SOUND FOLDER...`. The sound folder is judged before
the hook listens, so that what libraries prepare at their first use is not counted. Prints one JSON
line to show that the hook hears something, and one per other folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from engine.checkpoint import inspect_folder
from engine.errors import CheckpointError

WATCHED = ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "builtins.input")
RUNNING = (
    "import",
    "exec",
    "compile",
    "pickle.find_class",
    "marshal.loads",
    "ctypes.dlopen",
    "socket.connect",
)
HEAVY = ("torch", "transformers", "pickle", "modelscope", "huggingface_hub")

seen: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(WATCHED) or event in RUNNING:
        seen.append(f"{event} {arguments[:1]}"[:200])


def judge(folder: Path) -> dict[str, object]:
    seen.clear()
    started = time.perf_counter()
    try:
        verdict = inspect_folder(folder)
        answer = {"error": "", "message": " ".join(verdict.warnings), "hint": ""}
    except CheckpointError as error:
        answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    seconds = time.perf_counter() - started
    heavy = [name for name in HEAVY if name in sys.modules]
    return {"folder": folder.name, "seconds": seconds, "seen": list(seen), "heavy": heavy, **answer}


if __name__ == "__main__":
    inspect_folder(Path(sys.argv[1]))
    sys.addaudithook(watch)
    subprocess.run(["true"], check=True)
    sys.stdout.write(json.dumps({"folder": "", "seen": seen}) + "\n")
    for argument in sys.argv[2:]:
        sys.stdout.write(json.dumps(judge(Path(argument))) + "\n")
