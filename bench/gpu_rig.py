"""The device of a run, its limits, and models of real shape whose weights are made where they compute."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from engine.hf.graphs import Cursor, GraphedSteps, Step, capture_cuda, steady_cache
from engine.hf.tiers.blob import host_block
from engine.hf.tiers.link import link_to

ROUNDS = 5
Config = Any
"""A configuration of transformers, which has no types."""


class Figure(NamedTuple):
    """One measured quantity beside its limit.

    Attributes:
        target_id: "P1"; empty for a limit or a peer.
        name: what was measured.
        achieved: in `unit`.
        unit: of `achieved`.
        share: of the limit or beside the peer; None for what has none.
        target: what the share has to reach; None likewise.
        most: the share must not be above the target, instead of not below.
    """

    target_id: str
    name: str
    achieved: float
    unit: str
    share: float | None = None
    target: float | None = None
    most: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.share is None or self.target is None:
            return None
        return self.share <= self.target if self.most else self.share >= self.target


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
        large: a configuration of 8B shape.
        small: of 0.6B shape.
        probe_bytes: read by bandwidth probes.
        side: of the square matrices of the FLOP/s probe.
        prompt: tokens of a prompt.
        near, far: lengths of the cache for P3, in tokens.
        steps: tokens decoded in one round.
    """

    large: Config
    small: Config
    probe_bytes: int
    side: int
    prompt: int
    near: int
    far: int
    steps: int


def real_sizes() -> Sizes:
    """Shapes of Llama-3-8B and Qwen3-0.6B."""
    large = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=40_960,
    )
    small = Qwen3Config(
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
        tie_word_embeddings=True,
    )
    return Sizes(large, small, 4 << 30, 8192, 2048, 1024, 32_768, 32)


def tiny_sizes() -> Sizes:
    """Shapes that only show that everything runs."""
    shape: dict[str, Any] = {
        "vocab_size": 500,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "head_dim": 16,
    }
    tied = shape | {"tie_word_embeddings": True}
    return Sizes(LlamaConfig(**shape), Qwen3Config(**tied), 1 << 20, 64, 32, 32, 128, 4)


class Rig:
    """One device and its measured limits."""

    def __init__(self, device: torch.device, sizes: Sizes) -> None:
        """Measure nothing yet.

        Args:
            device: a GPU, or the CPU for figures without meaning.
            sizes: of everything.
        """
        self.device = device
        self.sizes = sizes
        self.vram_bandwidth = self.link_bandwidth = self.flops = 0.0

    def wait(self) -> None:
        """Let the host wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object], rounds: int = ROUNDS) -> float:
        """Return the median seconds of a call with the wait for its end; one more goes before."""
        samples = []
        for _ in range(rounds + 1):
            self.wait()
            began = time.perf_counter()
            call()
            self.wait()
            samples.append(time.perf_counter() - began)
        return statistics.median(samples[1:])

    def measure(self) -> list[Figure]:
        """Measure the limits that everything else is held against."""
        self.vram_bandwidth = self._vram_bandwidth()
        self.link_bandwidth = self._link_bandwidth()
        self.flops = self._flops()
        return [
            Figure("", "device memory, read", self.vram_bandwidth / 1e9, "GB/s"),
            Figure("", "page-locked link", self.link_bandwidth / 1e9, "GB/s"),
            Figure("", "bf16 products", self.flops / 1e12, "TFLOP/s"),
        ]

    def build(self, config: Config) -> Any:  # noqa: ANN401 - the class depends on the configuration
        """Make a model of random bf16 weights on the device."""
        torch.manual_seed(1)
        with torch.device(self.device):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
        return model.eval()

    def steps(self, model: Any, capacity: int) -> GraphedSteps:  # noqa: ANN401 - likewise
        """Return recorded steps that agree with the eager forward; RuntimeError where they do not."""
        cursor = Cursor(self.device)
        cache = steady_cache(model.config, capacity, cursor)
        if cache is None:
            raise RuntimeError("The cache of this model cannot be recorded.")
        capture = capture_cuda if self.device.type == "cuda" else _called
        steps = GraphedSteps(model, cache, cursor, capture)
        reason = steps.disagreement(range(3, 11))
        if reason:
            raise RuntimeError(reason)
        return steps

    def free(self) -> None:
        """Give what is no longer referenced back to the driver."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _vram_bandwidth(self) -> float:
        numbers = torch.ones(self.sizes.probe_bytes // 4, device=self.device)
        target = torch.empty_like(numbers[: numbers.numel() // 2])
        read = numbers.nbytes / self.seconds(numbers.sum)
        copied = 2 * target.nbytes / self.seconds(lambda: target.copy_(numbers[: target.numel()]))
        return max(read, copied)

    def _link_bandwidth(self) -> float:
        size = self.sizes.probe_bytes // 8
        link = link_to([torch.empty(size, dtype=torch.uint8, device=self.device)])
        link.hold(0, host_block(size).fill_(1))
        bandwidth = size / self.seconds(lambda: link.copy(0, 0))
        link.close()
        return bandwidth

    def _flops(self) -> float:
        side = self.sizes.side
        left = torch.randn((side, side), device=self.device, dtype=torch.bfloat16)
        return 2 * side**3 / self.seconds(lambda: left @ left)


def _called(step: Step) -> Step:
    return step


def read_bytes(model: Any) -> int:  # noqa: ANN401 - the class depends on the configuration
    """Return the bytes of weights that one token reads: all but an embedding of which it reads one row."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return int(weights - (0 if embedding is head else embedding.nbytes))


def kv_bytes(config: Config, tokens: int) -> int:
    """Return the bytes of the KV cache of so many tokens."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * tokens)
