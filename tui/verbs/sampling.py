"""The flags of SamplingParams."""

from __future__ import annotations

import argparse

import msgspec

from engine import values
from tui.verbs.text import word_as_text

_FLAGS: dict[str, tuple[type, str]] = {
    "temperature": (float, "0 takes the likeliest token every time; up to 5"),
    "top_p": (float, "the share of likelihood that candidates come from"),
    "top_k": (int, "how many candidates are kept; 0 keeps all"),
    "min_p": (float, "the share of the best candidate's likelihood below which others fall"),
    "repetition_penalty": (float, "above 1 makes what was said less likely"),
    "max_new_tokens": (int, "the longest answer, in tokens"),
    "seed": (int, "the same seed gives the same answer"),
}


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of SamplingParams; what is not given, the model recommends."""
    for name, (kind, meaning) in _FLAGS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, metavar="X" if kind is float else "N", help=meaning)
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="ends the answer; may be given several times",
    )


def sampling_of(arguments: argparse.Namespace, before: values.SamplingParams) -> values.SamplingParams:
    """What the flags say over what held before. Raises InvalidValue."""
    given = {name: value for name in _FLAGS if (value := getattr(arguments, name)) is not None}
    if arguments.stop:
        given["stop"] = tuple(word_as_text(word) for word in arguments.stop)
    return msgspec.structs.replace(before, **given)
