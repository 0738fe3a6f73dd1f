"""How long the first frame takes: `python -m bench.first_frame [--runs N]`.

Process start to the first painted frame of the real program, against a minimal Textual app's, both on a pty,
in turns. Then whether the screen process has torch in it. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.pty_app import PtyApp

TARGET_RATIO = 1.6
HEAVY = ("torch", "transformers", "accelerate", "bitsandbytes", "modelscope")


def first_frame(command: list[str], env: dict[str, str], text: str) -> float:
    """Seconds from the start of a process to the text that its first frame holds."""
    app = PtyApp(command, env)
    try:
        return app.wait_for(text) - app.started_at
    finally:
        app.close()


def heavy_modules(env: dict[str, str]) -> list[str]:
    """Libraries of the engine that the screen process has mapped, seconds after its first frame."""
    app = PtyApp([sys.executable, "-m", "tui", "guide"], env)
    try:
        app.wait_for("ask something")
        time.sleep(5.0)
        return [name for name in HEAVY if app.has_mapped(name)]
    finally:
        app.close()


def main() -> int:
    """Print the table and the JSON line; 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        script = Path(home) / "script.json"
        script.write_text("{}", encoding="utf-8")
        env = {"VRAMBLE_HOME": home, "VRAMBLE_BACKEND": f"scripted:{script}"}
        for _ in range(runs + 1):
            theirs.append(first_frame([sys.executable, "-m", "bench.minimal"], {}, "ready"))
            ours.append(first_frame([sys.executable, "-m", "tui", "guide"], env, "ask something"))
        mapped = heavy_modules(env)
    return report(ours[1:], theirs[1:], mapped)


def report(ours: list[float], theirs: list[float], mapped: list[str]) -> int:
    """Print medians and their ratio, without the first run, which fills the disk cache."""
    our_median, their_median = statistics.median(ours), statistics.median(theirs)
    ratio = our_median / their_median
    print(f"vramble        {our_median:.3f} s   ({min(ours):.3f} to {max(ours):.3f})")
    print(f"minimal app    {their_median:.3f} s   ({min(theirs):.3f} to {max(theirs):.3f})")
    verdict = "met" if ratio <= TARGET_RATIO else "MISSED"
    print(f"ratio          {ratio:.2f}      target <= {TARGET_RATIO}  {verdict}")
    print(f"engine's libraries in the screen process: {', '.join(mapped) or 'none'}")
    figures = {"vramble_s": our_median, "minimal_s": their_median, "ratio": ratio}
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({"bench": "first_frame", **rounded, "heavy_modules": mapped}))
    return 0 if ratio <= TARGET_RATIO and not mapped else 1


if __name__ == "__main__":
    sys.exit(main())
