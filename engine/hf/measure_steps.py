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
STEP_SECONDS = 0.3
MOST_STEPS = 100


def op_seconds(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Seconds per operation as dry runs count them, with the Python around it.

    Args:
        device: that computes.
        dtype: of the weights.
    """
    config = LlamaConfig(**TINY, architectures=["LlamaForCausalLM"], dtype=str(dtype).removeprefix("torch."))
    with tempfile.TemporaryDirectory(prefix="vramble-") as folder:
        config.save_pretrained(folder)
        ops = dry_run(Path(folder)).step_ops
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    runner = Runner(model.eval().to(device), device)
    runner.feed(TOKENS)
    return until(STEP_SECONDS, MOST_STEPS, lambda: runner.feed(TOKENS[:1]).sum().item()) / max(1, ops)
