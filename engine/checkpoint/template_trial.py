"""Main of a process that renders one chat template, which is code of a stranger, within limits.

`python -m engine.checkpoint.template_trial` reads one JSON object from stdin: `template`, `tokens`. It writes
one to stdout: `problem` (empty when all is well), `takes_system`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from collections.abc import Callable

CPU_SECONDS = 2
MEMORY_BYTES = 512 << 20
"""Beyond what the libraries took."""
_FIRST, _REPLY, _SECOND = "a question of vramble", "a reply to vramble", "another question of vramble"
_TALK = [("user", _FIRST), ("assistant", _REPLY), ("user", _SECOND)]
_LONGEST = 1 << 20

Render = Callable[[list[tuple[str, str]]], str]


def main() -> None:
    """Render two conversations and tell how that went."""
    given = json.load(sys.stdin)
    library = importlib.import_module("transformers.utils.chat_template_utils")
    limit()

    def render(talk: list[tuple[str, str]]) -> str:
        messages = [{"role": role, "content": content} for role, content in talk]
        texts, _ = library.render_jinja_template(
            [messages], chat_template=given["template"], add_generation_prompt=True, **given["tokens"]
        )
        return str(texts[0])

    problem = fault(render, _TALK)
    takes_system = not problem and not fault(render, [("system", _REPLY), ("user", _FIRST)])
    sys.stdout.write(json.dumps({"problem": problem, "takes_system": takes_system}))


def fault(render: Render, talk: list[tuple[str, str]]) -> str:
    """What is wrong with a template that renders a conversation so; empty when nothing is.

    Whatever the template raises is its fault, and this process ends next.
    """
    try:
        text = render(talk)
    except Exception as error:  # noqa: BLE001 -- a stranger's code may raise anything; nothing else runs here
        return f"it fails with {type(error).__name__}: {str(error)[:200]}"
    if len(text) > _LONGEST:
        return f"it makes {len(text):,} characters of three short messages"
    lost = [content for role, content in talk if role != "system" and content not in text]
    return f"it leaves out a message: {lost[0]!r}" if lost else ""


def limit() -> None:
    """Let this process take no more than so much time and memory from here on, and leave no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm", encoding="ascii") as sizes:
        taken = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, taken + MEMORY_BYTES))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
