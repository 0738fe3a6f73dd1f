"""How long the screen's event loop is kept from its work: `python -m bench.lag FOLDER`.

P13: the real screen (120x40, drawn without a terminal) with the real engine process, while a model is loaded
and while it answers. A task sleeps 5 ms again and again; what it oversleeps is the lag. Beside it stands the
same task in the same process before anything is started: what the machine itself costs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tui.app import VrambleApp
from tui.bridge import Bridge
from tui.options import ChatOptions
from tui.settings import Settings

NAP_SECONDS = 0.005
ANSWER_SECONDS = 8.0
PATIENCE_SECONDS = 120.0
QUESTION = "why is prefill faster than decode"
Lags = list[float]


async def oversleep(until: Callable[[], bool]) -> Lags:
    """Nap until told to stop; seconds by which each nap was too long."""
    lags, started = [], time.perf_counter()
    while not until():
        began = time.perf_counter()
        await asyncio.sleep(NAP_SECONDS)
        lags.append(time.perf_counter() - began - NAP_SECONDS)
        if began - started > PATIENCE_SECONDS:
            raise SystemExit("The screen waited two minutes for the engine.")
    return lags


def after(seconds: float) -> Callable[[], bool]:
    """True once that many seconds have passed."""
    ends = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= ends


async def measure(folder: Path) -> dict[str, Lags]:
    """Lags at rest, while loading, and while one question after the other is typed and answered."""
    figures = {"machine": await oversleep(after(2.0))}
    bridge = Bridge(ChatOptions(model=str(folder)), Settings())
    app = VrambleApp(bridge, bridge.settings)
    async with app.run_test(size=(120, 40)) as pilot:
        figures["loading"] = await oversleep(lambda: bridge.loaded is not None)
        ends = after(ANSWER_SECONDS)
        probe = asyncio.create_task(oversleep(ends))
        while not ends():
            if not bridge.answering:
                await pilot.press(*QUESTION.replace(" ", "_"), "enter")
            await asyncio.sleep(0.05)
        figures["generating"] = await probe
    bridge.close()
    return figures


def percentile(lags: Lags, share: float) -> float:
    """The lag that this share of the naps stays under, in seconds."""
    return sorted(lags)[min(len(lags) - 1, int(share * len(lags)))]


def main() -> None:
    """Print one JSON line: p99 and largest lag in seconds, and the number of naps, per phase."""
    with tempfile.TemporaryDirectory(prefix="vramble-lag-") as home:
        os.environ["VRAMBLE_HOME"] = home
        figures = asyncio.run(measure(Path(sys.argv[1]).resolve()))
    print(
        json.dumps(
            {
                phase: {"p99": percentile(lags, 0.99), "max": max(lags), "naps": len(lags)}
                for phase, lags in figures.items()
            }
        )
    )


if __name__ == "__main__":
    main()
