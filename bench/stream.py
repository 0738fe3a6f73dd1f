"""What streaming costs the terminal and the CPU: `python -m bench.stream [--quick]`.

Runs the real program on a pty with the scripted backend, beside a minimal Textual app that streams the same
Markdown through MarkdownStream. CPU is the screen process's alone: the engine is another process, which
the minimal app does not have. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyte

from bench.corpus import MARK, markdown
from bench.pty_app import SIZE, PtyApp, plain
from sessions import SessionStore

CHARACTERS_PER_TOKEN = 4
WARM_UP_TOKENS = 300
KEYS = "абвгдежзиклмнопрстуфхцчшщыэюя"
_NUMBERED = re.compile(MARK.replace("{:04d}", r"(\d{4})").encode())

TARGETS = {
    "bytes_ratio_50": 0.12,
    "cpu_ratio_50": 0.35,
    "bytes_ratio_200": 0.25,
    "cpu_ratio_200": 0.5,
    "echo_p95_ms": 30.0,
    "lag_p95_ms": 120.0,
    "cpu_last_to_first": 1.2,
    "idle_bytes_per_second": 300.0,
}


class Streamed(NamedTuple):
    """What streaming one reply cost.

    Attributes:
        bytes_per_token: written to the terminal.
        cpu_ms_per_token: taken by the screen process.
        lag_p95_ms: from the moment a word was due in the engine to its bytes on the pty.
        cpu_last_to_first: CPU of the last eighth of the tokens against the first.
        idle_bytes_per_second: written after the end.
    """

    bytes_per_token: float
    cpu_ms_per_token: float
    lag_p95_ms: float
    cpu_last_to_first: float
    idle_bytes_per_second: float


@contextmanager
def real_app(script: Path, home: Path) -> Iterator[PtyApp]:
    """The program, with its model loaded."""
    env = {"VRAMBLE_HOME": str(home), "VRAMBLE_BACKEND": f"scripted:{script}"}
    app = PtyApp([sys.executable, "-m", "tui", "guide"], env)
    try:
        app.wait_for("ready")
        yield app
    finally:
        app.close()


@contextmanager
def minimal_app(script: Path) -> Iterator[PtyApp]:
    """The app to compare with."""
    app = PtyApp([sys.executable, "-m", "bench.minimal", str(script)], {})
    try:
        app.wait_for("ready")
        yield app
    finally:
        app.close()


def write_script(folder: Path, texts: list[str], tokens_per_second: float) -> Path:
    """A scripted backend's script with these replies; the last one tells the log when its token 1 is due."""
    script = folder / f"script-{time.monotonic_ns()}.json"
    replies: list[dict[str, object]] = [
        {"text": text, "tokens_per_second": tokens_per_second} for text in texts
    ]
    replies[-1]["fault"] = {"kind": "spill", "at": 1}
    load = {"context_window": 65536}
    script.write_text(json.dumps({"replies": replies, "load": load}), encoding="utf-8")
    return script


def stream(app: PtyApp, tokens: int, tokens_per_second: float, log: Path | None = None) -> Streamed:
    """Ask once, and watch until the reply is there; `log` is the engine's."""
    app.wait_for_quiet()
    begin, cpu = time.monotonic(), app.cpu_seconds()
    size = log.stat().st_size if log else 0
    app.type("go\r")
    first = (_when_grown(log, size) - 1 / tokens_per_second) if log else begin
    samples = _sample_cpu(app, begin, tokens / tokens_per_second)
    time.sleep(1.0)
    written, spent = app.bytes_since(begin), app.cpu_seconds() - cpu
    lags = _lags(app, first, tokens_per_second)
    time.sleep(1.0)
    idle = time.monotonic()
    time.sleep(5.0)
    return Streamed(
        bytes_per_token=written / tokens,
        cpu_ms_per_token=1000 * spent / tokens,
        lag_p95_ms=1000 * _p95(lags),
        cpu_last_to_first=samples[-1] / samples[0],
        idle_bytes_per_second=app.bytes_since(idle) / 5.0,
    )


def _when_grown(log: Path, size: int) -> float:
    """The moment at which the engine wrote into its log: when token 1 was due."""
    end = time.monotonic() + 10.0
    while log.stat().st_size <= size and time.monotonic() < end:
        time.sleep(0.001)
    return time.monotonic()


def _sample_cpu(app: PtyApp, begin: float, seconds: float) -> list[float]:
    """CPU seconds in each eighth of the time."""
    marks = [app.cpu_seconds()]
    for eighth in range(1, 9):
        time.sleep(max(0.0, begin + seconds * eighth / 8 - time.monotonic()))
        marks.append(app.cpu_seconds())
    return [after - before for before, after in pairwise(marks)]


def _lags(app: PtyApp, begin: float, tokens_per_second: float) -> list[float]:
    """Seconds from each numbered word's token to its first appearance; token 0 was due at `begin`."""
    due = _due_tokens()
    seen: dict[int, float] = {}
    entries = [entry for entry in list(app.written) if entry.at >= begin]
    for entry, text in zip(entries, plain(entries), strict=True):
        for number in map(int, _NUMBERED.findall(text)):
            seen.setdefault(number, entry.at)
    return [at - begin - due[number] / tokens_per_second for number, at in seen.items()]


def _due_tokens() -> list[int]:
    words = _NUMBERED.pattern.decode()
    return [(found.end() - 1) // CHARACTERS_PER_TOKEN for found in re.finditer(words, markdown(8000))]


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else float("inf")


def echo(app: PtyApp, seconds: float) -> float:
    """Type while a reply streams; p95 of the time from a key to its character, in milliseconds."""
    app.type("go\r")
    time.sleep(1.0)
    times: list[float] = []
    for key in KEYS[: max(4, int(seconds / 0.3))]:
        time.sleep(0.2 + random.random() * 0.1)
        pressed = time.monotonic()
        app.type(key)
        times.append(_when_written(app, key, pressed) - pressed)
    return 1000 * _p95(times)


def _when_written(app: PtyApp, key: str, since: float) -> float:
    wanted = key.encode()
    while time.monotonic() < since + 2.0:
        for entry in reversed(list(app.written)):
            if entry.at < since:
                break
            if wanted in entry.data:
                return entry.at
        time.sleep(0.002)
    return since + 2.0


def resized_text_is_whole(folder: Path) -> bool:
    """Whether screen and store hold the model's text after 20 resizes while it streams."""
    words = [f"w{number:04d}" for number in range(1200)]
    text = markdown(400) + "\n\n" + " ".join(words)
    home = folder / "resized"
    with real_app(write_script(folder, [text], 200), home) as app:
        app.type("go\r")
        for _ in range(20):
            app.resize((random.randint(60, 160), random.randint(15, 60)))
            time.sleep(0.2)
        app.resize(SIZE)
        time.sleep(len(text) / CHARACTERS_PER_TOKEN / 200 - 3.0)
        app.wait_for(words[-1])
        time.sleep(1.0)
        shown = _shown_words(app)
        app.type("\x11")
        time.sleep(1.0)
    with SessionStore(home / "sessions.db") as store:
        session = store.last_session().result()
        stored = store.path_of(session.id).result()[-1].reply if session else ""
    return len(shown) > 50 and shown == words[-len(shown) :] and stored == text


def _shown_words(app: PtyApp) -> list[str]:
    """Numbered words on the screen, in order, after what was written at the last resize."""
    screen = pyte.Screen(*SIZE)
    pyte.ByteStream(screen).feed(app.output())
    return re.findall(r"w\d{4}", "\n".join(screen.display))


def compare(folder: Path, tokens: int, tokens_per_second: float) -> tuple[Streamed, Streamed]:
    """The real program and the minimal app, each after a short reply that warms it up."""
    texts = [markdown(WARM_UP_TOKENS).replace("q", "x"), markdown(tokens)]
    home = folder / f"home-{tokens}"
    with real_app(write_script(folder, texts, tokens_per_second), home) as app:
        _warm_up(app, tokens_per_second)
        ours = stream(app, tokens, tokens_per_second, home / "state" / "engine.log")
    with minimal_app(write_script(folder, texts[1:], tokens_per_second)) as app:
        theirs = stream(app, tokens, tokens_per_second)
    return ours, theirs


def _warm_up(app: PtyApp, tokens_per_second: float) -> None:
    app.wait_for_quiet()
    app.type("warm up\r")
    time.sleep(WARM_UP_TOKENS / tokens_per_second + 1.0)


def measure(folder: Path, *, quick: bool) -> dict[str, float]:
    """All figures by name."""
    figures: dict[str, float] = {}
    for speed, tokens in ((50, 300 if quick else 1000), (200, 1000 if quick else 4000)):
        ours, theirs = compare(folder, tokens, speed)
        figures[f"bytes_{speed}"] = ours.bytes_per_token
        figures[f"bytes_ratio_{speed}"] = ours.bytes_per_token / theirs.bytes_per_token
        figures[f"cpu_ms_{speed}"] = ours.cpu_ms_per_token
        figures[f"cpu_ratio_{speed}"] = ours.cpu_ms_per_token / theirs.cpu_ms_per_token
        figures["lag_p95_ms"] = max(ours.lag_p95_ms, figures.get("lag_p95_ms", 0.0))
        figures["cpu_last_to_first"] = ours.cpu_last_to_first
        figures["idle_bytes_per_second"] = ours.idle_bytes_per_second
    script = write_script(folder, [markdown(4000)], 50)
    with real_app(script, folder / "echo") as app:
        figures["echo_p95_ms"] = echo(app, 3.0 if quick else 9.0)
    figures["text_is_whole"] = float(resized_text_is_whole(folder))
    return figures


def main() -> int:
    """Print the table and the JSON line; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tokens")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), quick=quick)
    for name, figure in figures.items():
        print(f"{name:24}{figure:10.3f}   {_verdict(name, figure)}")
    print(json.dumps({"bench": "stream", **{name: round(value, 4) for name, value in figures.items()}}))
    missed = [name for name, target in TARGETS.items() if figures[name] > target]
    return 1 if missed or not figures["text_is_whole"] else 0


def _verdict(name: str, figure: float) -> str:
    if name not in TARGETS:
        return ""
    return f"target <= {TARGETS[name]:g}  {'met' if figure <= TARGETS[name] else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main())
