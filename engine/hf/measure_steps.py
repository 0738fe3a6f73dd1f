"""What one dispatched operation costs in a real model's step: a llama so small that nothing else counts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.hf.decode import Runner
from engine.hf.dryrun import dry_run
from engine.hf.measure_clock import until

TINY = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
TOKENS = list(range(8))
STEP_SECONDS = 0.2
MOST_STEPS = 70


class SmallSteps:
    """A model whose steps are nothing but operations."""

    def __init__(self, device: torch.device) -> None:
        """Build it.

        Args:
            device: that computes.
        """
        config = LlamaConfig(**TINY, architectures=["LlamaForCausalLM"], dtype="float32")
        with tempfile.TemporaryDirectory(prefix="vramble-") as folder:
            config.save_pretrained(folder)
            self._ops = dry_run(Path(folder)).step_ops
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
        self._runner = Runner(model.eval().to(device), device)

    def op_seconds(self) -> float:
        """Seconds per operation as dry runs count them, with the Python around it."""
        self._runner.kv.drop()
        self._runner.feed(TOKENS)
        return until(STEP_SECONDS, MOST_STEPS, self._step) / max(1, self._ops)

    def _step(self) -> float:
        return float(self._runner.feed(TOKENS[:1]).sum())
