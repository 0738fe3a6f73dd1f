"""The flags of `vramble plan --train`, and what they stand for."""

from __future__ import annotations

import argparse

import engine
from engine import values
from tui.verbs.flags import whole_number
from tui.verbs.study import Study
from tui.verbs.usage import WrongUsage

KINDS = ("full", "lora")
OPTIMIZERS = ("adamw", "adafactor", "sgd")
_MOST = 10**8
_RANK = 16
_SEQUENCE = 2048


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add --train and what says how."""
    parser.add_argument("--train", choices=KINDS, help="estimate what training would hold, too")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, help="of --train; adamw if not given")
    parser.add_argument(
        "--batch", metavar="B", type=_count, help="examples that a GPU computes at once; 1 if not given"
    )
    parser.add_argument(
        "--seq",
        metavar="S",
        type=_count,
        help=f"tokens of an example; the context window's, at most {_SEQUENCE}, if not given",
    )
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="keep each layer's input only, and compute the rest again",
    )
    parser.add_argument(
        "--rank", metavar="R", type=_count, help=f"of --train lora's adapters; {_RANK} if not given"
    )


def _count(text: str) -> int:
    """A whole number that can be meant. Raises argparse.ArgumentTypeError."""
    count = whole_number(text)
    if count > _MOST:
        raise argparse.ArgumentTypeError(f"{text} is more than {_MOST:,}")
    return count


def refuse_loose_flags(arguments: argparse.Namespace) -> None:
    """Raise WrongUsage for flags of training where nothing is trained."""
    if arguments.train is None:
        for name in ("optimizer", "batch", "seq", "checkpointing", "rank"):
            if getattr(arguments, name):
                raise WrongUsage(f"--{name} says how to train.", "Add --train full or --train lora.")
    elif arguments.rank and arguments.train != "lora":
        raise WrongUsage("--rank is of adapters, and --train full has none.", "Write --train lora --rank R.")


def estimate_training(
    arguments: argparse.Namespace, found: Study, quantization: values.Quantization
) -> tuple[engine.Training, engine.TrainingEstimate] | None:
    """How it would be trained and what that would hold; None where --train is not given."""
    if arguments.train is None:
        return None
    config = found.verdict.config
    training = engine.Training(
        kind=engine.TrainingKind(arguments.train),
        optimizer=engine.Optimizer(arguments.optimizer or "adamw"),
        batch=arguments.batch or 1,
        sequence=arguments.seq or min(_SEQUENCE, config.context_window),
        checkpointing=arguments.checkpointing,
        rank=arguments.rank or _RANK,
        quantization=quantization,
    )
    contexts = [gpu.context_bytes for gpu in found.limits.gpus]
    runtime = {"runtime_bytes": max(contexts)} if contexts else {}
    weights = engine.weights_of(found.verdict, found.blueprint)
    return training, engine.training_estimate(config, weights, training, **runtime)
