"""How soon the model picker opens, and answers a key: `python -m bench.library [--models N] [--runs N]`.

The real picker (120x40, drawn without a terminal) over fabricated models in both hubs' caches and a folder,
whose headers are real and whose weights are holes. Opening goes from the wish to the end of the frame that
lists them all, read from the disk; a key of the search from its arrival to the end of the frame that shows
what it fits, while models are judged beside the screen. Prints a table, then one JSON line with the medians
as ratios to 300 ms and 30 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import ClassVar

from textual import events

import engine
from bench.plain_app import PlainApp
from bench.plan_screen import write_model
from engine.values import BudgetRequest
from tui.model_entries import ModelEntry, model_entries
from tui.outlooks import Outlooks, Wishes
from tui.planner import Machine
from tui.screens import dialog
from tui.screens.models import ModelsScreen
from tui.widgets.choice_list import ChoiceList

OPEN_SECONDS = 0.300
KEY_SECONDS = 0.030
PATIENCE_SECONDS = 60.0
LAYERS = 36
TYPED = "qwen-7", "llama 3", "hf 1"
"""Searches, typed letter by letter and taken back."""
_JUDGING_SECONDS = 0.3
"""After which the models in view are being judged."""
_KEY_NAMES = {" ": "space", "-": "minus"}
_NAMES = ("Qwen-{0}B-Chat", "Llama-3-{0}B-Instruct", "deepseek-{0}b", "Mistral-{0}B-v0.3", "glm-{0}b-hf")


class WatchedPicker(ModelsScreen):
    """The product's picker, which tells when the frame of a list is done; nothing is remembered in it."""

    CSS_PATH: ClassVar[list[str | PurePath]] = [
        Path(dialog.__file__).with_name("dialog.tcss")
    ]  # beside the class it is looked for here

    def __init__(self, root: Path) -> None:
        """List what was fabricated there."""

        def find() -> list[ModelEntry]:
            return model_entries(engine.list_models((root / "own",)), {})

        super().__init__(find, Outlooks(Machine, Wishes(BudgetRequest())))
        self.done = asyncio.Event()

    @property
    def listed(self) -> int:
        """How many models are listed now."""
        return len(self._shown)

    def on_choice_list_moved(self, _moved: ChoiceList.Moved) -> None:
        """The list has its rows; their frame follows. Textual calls the picker's own handler, too."""
        if self._entries is not None:
            self.call_after_refresh(self.done.set)

    async def until_done(self) -> None:
        """Wait for the frame."""
        await asyncio.wait_for(self.done.wait(), PATIENCE_SECONDS)


def fabricate(root: Path, models: int) -> None:
    """Lay models out as the two hubs and a person do, sharing their weights, and lead the engine to them."""
    first = root / "first"
    first.mkdir()
    write_model(first, LAYERS)
    for number in range(models):
        name = _NAMES[number % len(_NAMES)].format(number)
        folder = root / _places(number, name)
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes((first / "config.json").read_bytes())
        os.link(first / "model.safetensors", folder / "model.safetensors")
    os.environ["HF_HUB_CACHE"] = str(root / "hf")
    os.environ["MODELSCOPE_CACHE"] = str(root / "ms")
    os.environ["VRAMBLE_HOME"] = str(root / "home")


def _places(number: int, name: str) -> str:
    kinds = (f"hf/models--owner--{name}/snapshots/{number:040x}", f"ms/models/owner/{name}", f"own/{name}")
    return kinds[number % len(kinds)]


async def open_seconds(app: PlainApp, screen: WatchedPicker) -> float:
    """From the wish to the frame that lists the models."""
    began = time.perf_counter()
    await app.push_screen(screen)
    await screen.until_done()
    return time.perf_counter() - began


async def key_seconds(screen: WatchedPicker, key: str, character: str | None) -> float:
    """From a key's arrival to the frame that shows what the search fits."""
    screen.done.clear()
    began = time.perf_counter()
    screen.app.post_message(events.Key(key, character))
    await screen.until_done()
    return time.perf_counter() - began


def keys() -> Iterator[tuple[str, str | None]]:
    """Every letter of the searches with its name, and as many steps back."""
    for text in TYPED:
        yield from ((_KEY_NAMES.get(letter, letter), letter) for letter in text)
        yield from [("backspace", None)] * len(text)


async def measure(root: Path) -> tuple[float, list[float]]:
    """Seconds to open one picker, and of every key in it."""
    app, screen = PlainApp(), WatchedPicker(root)
    async with app.run_test(size=(120, 40)):
        opened = await open_seconds(app, screen)
        if not screen.listed:
            raise SystemExit("The picker lists nothing.")
        await asyncio.sleep(_JUDGING_SECONDS)
        typed = [await key_seconds(screen, *key) for key in keys()]
    return opened, typed


def main() -> int:
    """Print the table and the JSON line; 1 if a median is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vramble-library-") as folder:
        fabricate(Path(folder), arguments.models)
        runs = [asyncio.run(measure(Path(folder))) for _ in range(arguments.runs + 1)][1:]
    opened = [run[0] for run in runs]
    typed = [seconds for run in runs for seconds in run[1]]
    print(f"{arguments.models} models, {arguments.runs} pickers, {len(typed)} keys: milliseconds")
    print(f"{'':<8}{'median':>8}{'longest':>9}{'limit':>7}")
    for name, seconds, limit in (("open", opened, OPEN_SECONDS), ("key", typed, KEY_SECONDS)):
        median = statistics.median(seconds)
        print(f"{name:<8}{1e3 * median:>8.1f}{1e3 * max(seconds):>9.1f}{1e3 * limit:>7.0f}")
    ratios = {
        "open": statistics.median(opened) / OPEN_SECONDS,
        "key": statistics.median(typed) / KEY_SECONDS,
    }
    print(json.dumps({"bench": "library", "models": arguments.models, "ratios": ratios}))
    return int(max(ratios.values()) > 1)


if __name__ == "__main__":
    sys.exit(main())
