"""Numbers as people read them, and sizes as people write them. The only place that knows GiB."""

from __future__ import annotations

import re

from engine import errors

_STEP = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {letter: _STEP**power for power, letter in enumerate("KMGTP", start=1)}
_NUMBER = r"\d{1,18}(?:\.\d{1,9})?|\.\d{1,9}"
_SIZE = re.compile(rf"\s*({_NUMBER})\s*(?:([KMGTP])(i)?)?B?\s*", re.IGNORECASE | re.ASCII)
_GPU = re.compile(r"\s*(\d{1,3})\s*=(.+)", re.ASCII)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SLOW = 0.1
_TEN, _HUNDRED, _THOUSAND = 10, 100, 1000

GIB = _BINARY["G"]
MIB = _BINARY["M"]


def format_size(size_bytes: float) -> str:
    """Bytes in the unit that keeps the number short: "0 B", "212 MiB", "15.3 GiB"."""
    amount, unit = float(size_bytes), 0
    while unit < len(_UNITS) - 1 and round(abs(amount)) >= _STEP:
        amount, unit = amount / _STEP, unit + 1
    decimals = 1 if unit >= _UNITS.index("GiB") or (unit > 0 and abs(amount) < _TEN) else 0
    return f"{amount:,.{decimals}f} {_UNITS[unit]}"


def format_gib(size_bytes: float) -> str:
    """Bytes in GiB without the unit: "15.3", ".3", "0"."""
    text = f"{size_bytes / GIB:,.1f}"
    return "0" if text in {"0.0", "-0.0"} else text.removeprefix("0")


def format_used(used_bytes: float, total_bytes: float) -> str:
    """What is taken of a whole: "41.2 / 139.8 GiB", "112 / 512 MiB"."""
    unit = GIB if total_bytes >= GIB else MIB
    decimals = 1 if unit == GIB else 0
    used, total = (f"{amount / unit:,.{decimals}f}" for amount in (used_bytes, total_bytes))
    return f"{used} / {total} {'GiB' if unit == GIB else 'MiB'}"


def format_rate(bytes_per_second: float) -> str:
    """A transfer in decimal units, as disks are sold: "0 MB/s", "3.7 GB/s"."""
    if bytes_per_second >= _DECIMAL["G"]:
        return f"{bytes_per_second / _DECIMAL['G']:.1f} GB/s"
    return f"{bytes_per_second / _DECIMAL['M']:.0f} MB/s"


def format_speed(tokens_per_second: float) -> str:
    """Tokens per second: "0.75 tok/s", "31.4 tok/s", "212 tok/s"; below a tenth, turned round: "25 s/tok"."""
    if 0 < tokens_per_second < _SLOW:
        return f"{' '.join(format_duration(1 / tokens_per_second).split()[:2])}/tok"
    decimals = 2 if tokens_per_second < 1 else 1 if tokens_per_second < _HUNDRED else 0
    return f"{tokens_per_second:,.{decimals}f} tok/s"


def format_duration(seconds: float) -> str:
    """A time span: "0.21 s", "8.5 s", "42 s", "3 min 20 s", "2 h 5 min", "4 d 3 h"."""
    if seconds < _MINUTE:
        return f"{seconds:.{2 if seconds < 1 else 1 if seconds < _TEN else 0}f} s"
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {smaller_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def format_age(seconds: float) -> str:
    """How long ago something was: "now", "5 min", "3 h", "2 d", "7 w"."""
    if seconds < _MINUTE:
        return "now"
    for size, unit in ((7 * _DAY, "w"), (_DAY, "d"), (_HOUR, "h")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds // _MINUTE:.0f} min"


def format_tokens(count: int) -> str:
    """A count with thousands separators: "32,768"."""
    return f"{count:,}"


def format_window(count: int) -> str:
    """A context window in the short form models are named with: "512", "8k", "32.8k", "128k"."""
    if count < _THOUSAND:
        return str(count)
    if count % _STEP == 0:
        return f"{count // _STEP}k"
    return f"{count / _THOUSAND:.1f}".removesuffix(".0") + "k"


def format_parameters(count: int) -> str:
    """A model's size in parameters: "5.2M", "8.2B", "671B"."""
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            amount = count / size
            return f"{amount:.{0 if amount >= _HUNDRED else 1}f}{letter}"
    return str(count)


def parse_size(text: str) -> int:
    """Bytes from what a person writes: "20GiB", "1.5 TB", "512M", "1024".

    A letter alone counts in powers of 1024, as in GiB; only GB and its like are decimal.

    Raises:
        InvalidValue: it is no size.
    """
    found = _SIZE.fullmatch(text)
    if not found:
        raise errors.InvalidValue(f"{text!r} is not a size.", "Write it like 20GiB, 1.5TB or 512MiB.")
    number, letter, is_binary = found.groups()
    decimal = text.rstrip()[-1] in "bB" and not is_binary
    unit = (_DECIMAL if decimal else _BINARY)[letter.upper()] if letter else 1
    return int(number) * unit if number.isdigit() else int(float(number) * unit)


def parse_gpu(text: str) -> tuple[int, int]:
    """A GPU's index and its cap in bytes, from "0=20GiB".

    Raises:
        InvalidValue: it has another form.
    """
    found = _GPU.fullmatch(text)
    if not found:
        message = f"{text!r} does not name a GPU and a size."
        raise errors.InvalidValue(
            message, "Write it like 0=20GiB: the GPU's index, then the most it may hold."
        )
    return int(found[1]), parse_size(found[2])
