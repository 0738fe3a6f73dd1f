"""How soon a key shows in the plan: `python -m bench.plan_screen [--layers N] [--keys N]`.

The real plan screen (120x40, drawn without a terminal) over a model of 126 layers whose headers are real and
whose weights are holes. Each key changes context, weights, strategy or a cap; the time goes from the key's
arrival to the end of the frame that shows the plan of the new wish. Prints a table, then one JSON line with
the median as a ratio to 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

from textual import events

from bench.plain_app import PlainApp
from engine.commands import PlanLoad
from engine.values import BudgetRequest, ModelRef
from tui.planner import Machine, Planner
from tui.screens.plan import PlanScreen

LIMIT_SECONDS = 0.050
PATIENCE_SECONDS = 30.0
KEYS = ("right", "q", "left_square_bracket", "s", "left", "right_square_bracket")
HIDDEN, WIDE, HEADS, KV_HEADS, VOCABULARY = 16384, 53248, 128, 8, 128256
MACHINES = {"no GPU": 0, "one GPU of 80 GiB": 1, "eight GPUs of 80 GiB": 8}


class Watched(PlainApp):
    """An app that tells when a plan's frame is done."""

    def __init__(self) -> None:
        """Begin with nothing shown."""
        super().__init__()
        self.shown = asyncio.Event()

    def planned(self) -> None:
        """A plan was laid out; its frame follows."""
        self.screen.call_after_refresh(self.shown.set)

    def measure(self) -> str:
        """Nothing is measured here."""
        return ""


def shapes(layers: int) -> dict[str, list[int]]:
    """Every tensor of a Llama of that depth, as wide as the one of 405B parameters."""
    kv = HIDDEN // HEADS * KV_HEADS
    parts = {
        "self_attn.q_proj": [HIDDEN, HIDDEN],
        "self_attn.k_proj": [kv, HIDDEN],
        "self_attn.v_proj": [kv, HIDDEN],
        "self_attn.o_proj": [HIDDEN, HIDDEN],
        "mlp.gate_proj": [WIDE, HIDDEN],
        "mlp.up_proj": [WIDE, HIDDEN],
        "mlp.down_proj": [HIDDEN, WIDE],
        "input_layernorm": [HIDDEN],
        "post_attention_layernorm": [HIDDEN],
    }
    found = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN]}
    found["lm_head.weight"] = [VOCABULARY, HIDDEN]
    for layer, (part, shape) in itertools.product(range(layers), parts.items()):
        found[f"model.layers.{layer}.{part}.weight"] = shape
    return found


def write_model(folder: Path, layers: int) -> None:
    """config.json and a sparse safetensors file."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    header, end = {}, 0
    for name, shape in shapes(layers).items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + end)


async def redraw_seconds(app: Watched, key: str) -> tuple[float, float]:
    """From a key's arrival to the end of the frame with its plan, on the clock and of the processor."""
    app.shown.clear()
    began, used = time.perf_counter(), time.process_time()
    app.post_message(events.Key(key, None))
    await asyncio.wait_for(app.shown.wait(), PATIENCE_SECONDS)
    return time.perf_counter() - began, time.process_time() - used


async def measure(folder: Path, gpus: int, keys: int) -> list[tuple[float, float]]:
    """Seconds of every key, after the first look and one round to warm up."""
    caps = tuple((index, 80 << 30) for index in range(gpus))
    wish = PlanLoad(model=ModelRef(name="405B", folder=folder), budgets=BudgetRequest(gpu=caps))
    app = Watched()
    screen = PlanScreen(wish, Planner(folder, Machine).plan, host=app)
    async with app.run_test(size=(120, 40)):
        await app.push_screen(screen)
        await asyncio.wait_for(app.shown.wait(), PATIENCE_SECONDS)
        pressed = itertools.islice(itertools.cycle(KEYS), keys + len(KEYS))
        seconds = [await redraw_seconds(app, key) for key in pressed]
    return seconds[len(KEYS) :]


def main() -> int:
    """Print the table and the JSON line; 1 if a median is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=126)
    parser.add_argument("--keys", type=int, default=35)
    arguments = parser.parse_args()
    medians: dict[str, float] = {}
    print(f"{arguments.layers} layers, {arguments.keys} keys: milliseconds from the key to its frame")
    print(f"{'machine':<24}{'median':>8}{'longest':>9}{'CPU, median':>13}")
    with tempfile.TemporaryDirectory(prefix="vramble-plan-") as folder:
        write_model(Path(folder), arguments.layers)
        for machine, gpus in MACHINES.items():
            seconds, used = zip(*asyncio.run(measure(Path(folder), gpus, arguments.keys)), strict=True)
            medians[machine] = statistics.median(seconds)
            row = (medians[machine], max(seconds), statistics.median(used))
            print(f"{machine:<24}{1e3 * row[0]:>8.1f}{1e3 * row[1]:>9.1f}{1e3 * row[2]:>13.1f}")
    ratios = {machine: median / LIMIT_SECONDS for machine, median in medians.items()}
    print(json.dumps({"bench": "plan_screen", "limit_seconds": LIMIT_SECONDS, "ratios": ratios}))
    return int(max(ratios.values()) > 1)


if __name__ == "__main__":
    sys.exit(main())
