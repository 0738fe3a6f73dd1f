"""Greedy replies of tiny models, by transformers and by a Runner."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from engine.hf.decode import Runner
from engine.hf.ways import Sample

TOKENS = 64


def model_of(folder: Path) -> Any:
    """A model of one's own, in RAM."""
    transformers_logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


def prompt(tokens: int, seed: int = 1) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [int(token) for token in torch.randint(3, 300, (tokens,), generator=generator)]


def generated(model: Any, prompt_ids: list[int], tokens: int = TOKENS) -> list[int]:
    """What transformers says, whether or not the reply has ended."""
    ids = torch.tensor([prompt_ids])
    model.generation_config.eos_token_id = None
    reply = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )
    return [int(token) for token in reply[0, len(prompt_ids) :]]


def replied(runner: Runner, prompt_ids: list[int], tokens: int = TOKENS) -> list[int]:
    """What a Runner says behind what is in its cache: the prompt at once, then token by token."""
    logits = runner.feed(prompt_ids)
    reply = [int(logits.argmax())]
    while len(reply) < tokens:
        reply.append(int(runner.feed(reply[-1:]).argmax()))
    return reply


def sample_of(runner: Runner) -> Sample:
    """What the model's own code computes, for as long as nobody minds."""
    return runner._sampled(prompt(8))._replace(seconds=math.inf)
