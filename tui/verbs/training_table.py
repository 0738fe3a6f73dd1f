"""The training estimate of a plan, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Iterator

import engine
from engine import values
from tui.format import format_parameters, format_size, format_tokens
from tui.verbs.planned import Plan
from tui.verbs.table import table_lines

_ROWS = {
    "weight_bytes": "weights",
    "adapter_bytes": "adapters, float32",
    "master_bytes": "master weights, float32",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer states",
    "activation_bytes": "activations",
    "buffer_bytes": "buffers",
    "runtime_bytes": "runtime",
    "total_bytes": "total",
}


def training_document(plan: Plan) -> dict[str, object]:
    """How it would be trained, what that would hold, and whether each GPU has it; empty without --train."""
    if plan.training is None:
        return {}
    training, estimate = plan.training
    return {
        "kind": str(training.kind),
        "optimizer": str(training.optimizer),
        "batch": training.batch,
        "sequence": training.sequence,
        "checkpointing": training.checkpointing,
        "rank": training.rank,
        "quantization": str(training.quantization),
        "parameters": estimate.parameters,
        "trained_parameters": estimate.trained_parameters,
        **{name: getattr(estimate, name) for name in _ROWS},
        "gpus": [_on_gpu(gpu, estimate, len(plan.gpus)) for gpu in plan.gpus],
        "notes": list(estimate.notes),
    }


def _on_gpu(gpu: values.Budget, estimate: engine.TrainingEstimate, gpus: int) -> dict[str, object]:
    sharded_bytes = estimate.sharded_bytes(gpus)
    return {
        "name": gpu.device,
        "budget_bytes": gpu.free_bytes,
        "predicted_bytes": estimate.total_bytes,
        "fits": estimate.total_bytes <= gpu.free_bytes,
        "sharded_bytes": sharded_bytes,
        "fits_sharded": sharded_bytes <= gpu.free_bytes,
    }


def training_lines(plan: Plan) -> Iterator[str]:
    """The table, a line per GPU, and no notes; nothing without --train."""
    if plan.training is None:
        return
    training, estimate = plan.training
    yield _how(training, estimate)
    yield ""
    sizes = {name: getattr(estimate, part) for part, name in _ROWS.items()}
    rows = [[name, format_size(size)] for name, size in sizes.items() if size]
    yield from table_lines(["training on one GPU", "estimate"], rows, numbers=" r")
    if plan.gpus:
        yield ""
        yield from _gpu_lines(plan.gpus, estimate)


def _how(training: engine.Training, estimate: engine.TrainingEstimate) -> str:
    shares = [
        f"{training.kind} training with {training.optimizer}",
        f"{format_parameters(estimate.trained_parameters)} trained",
        f"{format_tokens(training.batch)} x {format_tokens(training.sequence)} tokens",
        "checkpointing" if training.checkpointing else "no checkpointing",
    ]
    return " · ".join(shares)


def _gpu_lines(gpus: list[values.Budget], estimate: engine.TrainingEstimate) -> list[str]:
    sharded_bytes = estimate.sharded_bytes(len(gpus))
    rows = [
        [
            gpu.device,
            format_size(gpu.free_bytes),
            f"{format_size(estimate.total_bytes)} {_verdict(estimate.total_bytes, gpu)}",
            f"{format_size(sharded_bytes)} {_verdict(sharded_bytes, gpu)}",
        ]
        for gpu in gpus
    ]
    return table_lines(["device", "budget", "all of it", "states shared (ZeRO-3)"], rows, numbers=" rrr")


def _verdict(needed: int, gpu: values.Budget) -> str:
    return "fits" if needed <= gpu.free_bytes else "no"
