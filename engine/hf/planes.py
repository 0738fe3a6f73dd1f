"""bfloat16 without loss in twelve bits a number, for what a packed model leaves unpacked: its embedding.

A number's upper byte is its sign and the upper seven bits of its exponent. Nearly all numbers of one matrix
have one of eight such exponents in a row, told apart by three bits; the few others are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from engine.hf.keeper import Entry, whole

LOW, CODES, APART = ".vramble.low", ".vramble.codes", ".vramble.apart"
"""What the parts of a tensor are called behind its name."""
LEAST_NUMBERS = 1 << 20
"""A smaller tensor is kept as it is."""
BLOCK = 1 << 19
"""Numbers that are turned at once: they stay in the caches."""
EXPONENTS = 8
LISTED_SHARE = 1 / 64
"""Of the numbers may be listed: each takes 16 bytes, where the others save half a byte."""

Numbers = np.ndarray[Any, Any]


def narrowed(entry: Entry, check: Callable[[], None]) -> tuple[Entry, ...]:
    """Return the three parts that stand for a tensor, or itself where they would save little.

    Of a block's upper bytes four bits are left each: those of its first half lie in the low bits of as many
    bytes, those of its second half in the high ones.

    Args:
        entry: of any dtype.
        check: is called now and then, and may raise.
    """
    if entry.dtype != "BF16" or entry.bytes < 2 * LEAST_NUMBERS or entry.bytes % 4:
        return (entry,)
    numbers = np.frombuffer(entry.content, dtype="<u2")
    first = _first_exponent(numbers, check)
    apart = _apart(numbers, first, check)
    if len(apart) > LISTED_SHARE * len(numbers):
        return (entry,)
    listed = np.concatenate([[first], apart, numbers[apart].view("<i2")]).astype("<i8")
    half = len(numbers) // 2
    return (
        Entry(entry.name + LOW, "U8", entry.shape, len(numbers), lambda: _lows(numbers)),
        Entry(entry.name + CODES, "U8", (half,), half, lambda: _codes(numbers, first)),
        whole(entry.name + APART, "I64", listed.shape, listed.view(np.uint8).data),
    )


def widened(
    low: torch.Tensor, codes: torch.Tensor, apart: torch.Tensor, done: Callable[[int], None]
) -> torch.Tensor:
    """Return the tensor that three parts stand for.

    Args:
        low: lower bytes, of the tensor's shape.
        codes: upper halves of two numbers a byte.
        apart: the first exponent; positions of those that are listed; their bits.
        done: is told how many numbers are there, after each block; may raise.
    """
    result = torch.empty(low.shape, dtype=torch.bfloat16)
    bits, low = result.view(torch.int16).view(-1), low.view(-1)
    first = int(apart[0])
    for start, end in _blocks(len(low)):
        middle = (start + end) // 2
        block = codes[start // 2 : end // 2]
        for stretch, four in ((slice(start, middle), block & 15), (slice(middle, end), block >> 4)):
            upper = ((four & 8) << 4) | ((four & 7) + first)
            torch.bitwise_or(upper.to(torch.int16) << 8, low[stretch], out=bits[stretch])
        done(end)
    positions, listed = apart[1:].view(2, -1)
    bits[positions] = listed.to(torch.int16)
    return result


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _exponents(numbers: Numbers) -> Numbers:
    """The upper seven bits of each exponent."""
    return (numbers >> 8) & 127


def _first_exponent(numbers: Numbers, check: Callable[[], None]) -> int:
    """Where the eight exponents begin that most numbers have."""
    counts = np.zeros(128, dtype=np.int64)
    for start, end in _blocks(len(numbers)):
        check()
        counts += np.bincount(_exponents(numbers[start:end]), minlength=128)
    return int(np.convolve(counts, np.ones(EXPONENTS, dtype=np.int64), "valid").argmax())


def _apart(numbers: Numbers, first: int, check: Callable[[], None]) -> Numbers:
    """Where the numbers are that have none of these exponents; not all of them where they are too many."""
    found, most = [np.empty(0, dtype=np.int64)], LISTED_SHARE * len(numbers)
    for start, end in _blocks(len(numbers)):
        check()
        found.append(np.flatnonzero(_exponents(numbers[start:end]) - np.uint16(first) >= EXPONENTS) + start)
        most -= len(found[-1])
        if most < 0:
            break
    return np.concatenate(found)


def _lows(numbers: Numbers) -> Iterator[memoryview]:
    for start, end in _blocks(len(numbers)):
        yield numbers[start:end].astype(np.uint8).data


def _codes(numbers: Numbers, first: int) -> Iterator[memoryview]:
    for start, end in _blocks(len(numbers)):
        block = numbers[start:end]
        fours = ((block >> 12) & 8) | ((_exponents(block) - np.uint16(first)) & 7)
        low, high = fours.astype(np.uint8).reshape(2, -1)
        yield (low | (high << 4)).data
