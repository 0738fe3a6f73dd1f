"""The words that tables of tensors are written in: rows of a name, its shape in words, and conditions."""

from __future__ import annotations

from typing import NamedTuple

ALWAYS = "always"
NEVER = ""


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        name: of the tensor; `{experts}` in it stands for every number below that word's size.
        shape: each side as a sum of products of words ("queries+2*keys").
        needs: words that must hold for it to be there; "!word" must not.
    """

    name: str
    shape: tuple[str, ...]
    needs: tuple[str, ...] = ()


Table = tuple[Row, ...]


def tensor(name: str, *shape: str) -> Table:
    """A tensor by its full name."""
    return (Row(name, shape),)


def linear(name: str, columns: str, rows: str, bias: str = NEVER) -> Table:
    """A linear module: weight of (rows, columns), and a bias where the word `bias` holds."""
    weight = Row(f"{name}.weight", (rows, columns))
    return (weight,) if bias == NEVER else (weight, Row(f"{name}.bias", (rows,), (bias,)))


def transposed(name: str, columns: str, rows: str) -> Table:
    """GPT-2's linear module, whose weight lies the other way round, with its bias."""
    return (Row(f"{name}.weight", (columns, rows)), Row(f"{name}.bias", (rows,)))


def norm(name: str, width: str = "hidden", bias: str = NEVER) -> Table:
    """A norm: its weight, and a bias where the word `bias` holds."""
    weight = Row(f"{name}.weight", (width,))
    return (weight,) if bias == NEVER else (weight, Row(f"{name}.bias", (width,), (bias,)))


def when(word: str, table: Table) -> Table:
    """The same rows, there only while a word holds; "!word" while it does not."""
    return tuple(row._replace(needs=(*row.needs, word)) for row in table)


def renamed(table: Table, *pairs: tuple[str, str]) -> Table:
    """The same rows with parts of their names replaced."""
    return tuple(row._replace(name=_replaced(row.name, pairs)) for row in table)


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        name = name.replace(old, new)
    return name
