"""Flags that several sub-commands share, and the values they stand for."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from engine import errors, values
from tui.format import parse_gpu, parse_size
from tui.verbs.usage import WrongUsage

_SIZE = re.compile(r"\s*\.?\d[\d.]*\s*([kmgtp]i?)?b?\s*", re.IGNORECASE)


def add_load_flags(parser: argparse.ArgumentParser) -> None:
    """Add what decides where a model's layers go: budgets, context and quantization."""
    parser.add_argument(
        "--gpu",
        metavar="[ID=]SIZE",
        action="append",
        default=[],
        help="the most a GPU may hold, as 0=20GiB; once per GPU, counted from 0 where no ID is given",
    )
    parser.add_argument("--ram", metavar="SIZE", help="the most RAM a model may take, as 8GiB")
    parser.add_argument(
        "--disk",
        metavar="DIR|SIZE",
        action="append",
        default=[],
        help="the folder for offloaded tensors, or the most they may take",
    )
    parser.add_argument(
        "--context",
        metavar="N",
        type=whole_number,
        help="tokens the KV cache is reserved for; the default is the model's own, as far as it fits",
    )
    parser.add_argument(
        "--quant",
        choices=[str(quantization) for quantization in values.Quantization],
        help="how linear weights are stored after loading",
    )


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, and nothing else")


def whole_number(text: str) -> int:
    """A count of at least 1. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def quantization_of(arguments: argparse.Namespace) -> values.Quantization | None:
    """What --quant says; None where it is not given."""
    return values.Quantization(arguments.quant) if arguments.quant else None


def budgets_of(
    arguments: argparse.Namespace, before: values.BudgetRequest | None = None
) -> values.BudgetRequest:
    """What --gpu, --ram and --disk allow.

    Args:
        arguments: parsed by a parser with `add_load_flags`.
        before: what holds where a flag is not given; None takes what is free.

    Raises:
        WrongUsage: a size that is none, or a GPU named twice.
    """
    before = before or values.BudgetRequest()
    sizes = [text for text in arguments.disk if _SIZE.fullmatch(text)]
    folders = [text for text in arguments.disk if text not in sizes]
    _refuse_several("--disk", "sizes", sizes)
    _refuse_several("--disk", "folders", folders)
    return values.BudgetRequest(
        gpu=_gpu_caps(arguments.gpu) or before.gpu,
        ram_bytes=_size("--ram", arguments.ram) if arguments.ram else before.ram_bytes,
        disk_bytes=_size("--disk", sizes[0]) if sizes else before.disk_bytes,
        disk_folder=Path(folders[0]).expanduser().absolute() if folders else before.disk_folder,
    )


def _gpu_caps(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    named = [text if "=" in text else f"{position}={text}" for position, text in enumerate(texts)]
    try:
        caps = tuple(parse_gpu(text) for text in named)
    except errors.InvalidValue as wrong:
        raise WrongUsage(f"--gpu: {wrong.message}", wrong.hint) from wrong
    if len({index for index, _ in caps}) < len(caps):
        raise WrongUsage("--gpu names a GPU twice.", "Write each one once: --gpu 0=20GiB --gpu 1=8GiB.")
    return caps


def _size(flag: str, text: str) -> int:
    try:
        return parse_size(text)
    except errors.InvalidValue as wrong:
        raise WrongUsage(f"{flag}: {wrong.message}", wrong.hint) from wrong


def _refuse_several(flag: str, what: str, given: Sequence[str]) -> None:
    if len(given) > 1:
        raise WrongUsage(f"{flag} is given {len(given)} {what}.", "Give one of them.")
