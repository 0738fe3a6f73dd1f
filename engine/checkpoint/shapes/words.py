"""What the words of a table mean for one config.json: sizes and conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from engine.checkpoint.config import INNER, SHARED_EXPERTS, ModelConfig
from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.rows import ALWAYS, Row, Table

Shape = tuple[int, ...]
Sizes = dict[str, int]
Deriver = Callable[[Fields, Mapping[str, int]], Sizes]
"""Makes a family's own words of its fields and the common words."""
_WIDEST = 2**28
_MOST_EXPERTS = 2**14
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


class Words:
    """Looks words up: those of the family first, then config.json's own names of fields."""

    def __init__(self, fields: Fields, sizes: Mapping[str, int]) -> None:
        """Keep both.

        Args:
            fields: of config.json.
            sizes: the words that are derived; a condition is a size of 0 or 1.
        """
        self._fields = fields
        self._sizes = sizes

    def size(self, side: str) -> int:
        """One side of a shape, in elements.

        Raises:
            DamagedCheckpoint: config.json says no size for a word.
        """
        products = (term.split("*") for term in side.split("+"))
        return sum(math.prod(self._factor(word) for word in product) for product in products)

    def _factor(self, word: str) -> int:
        if word.isdecimal():
            return int(word)
        if word in self._sizes:
            return self._sizes[word]
        return self._fields.integer(word, high=_WIDEST)

    def holds(self, word: str) -> bool:
        """Whether a condition holds; a field that is absent, null, false or 0 does not."""
        if word.startswith("!"):
            return not self.holds(word[1:])
        if word == ALWAYS:
            return True
        return bool(self._sizes[word] if word in self._sizes else self._fields.find(word))

    def shapes(self, table: Table) -> Iterator[tuple[str, Shape]]:
        """Name and shape of every tensor in a table.

        Raises:
            DamagedCheckpoint: config.json says no size for a word.
        """
        for row in table:
            if all(map(self.holds, row.needs)):
                shape = tuple(map(self.size, row.shape))
                for name in self._names(row):
                    yield name, shape

    def _names(self, row: Row) -> Iterator[str]:
        before, brace, rest = row.name.partition("{")
        if not brace:
            yield row.name
            return
        word, _, after = rest.partition("}")
        for number in range(self.size(word)):
            yield f"{before}{number}{after}"


def common_sizes(fields: Fields, model: ModelConfig) -> Sizes:
    """The words that every family's tables may use.

    Raises:
        DamagedCheckpoint: a field says what cannot be.
    """
    hidden, heads, kv_heads, head_dim = model.hidden_size, model.heads, model.kv_heads, model.head_dim
    inner = fields.widest(*INNER, high=_WIDEST, default=4 * hidden)
    expert_inner = fields.integer("moe_intermediate_size", high=_WIDEST, default=inner)
    return {
        "vocab": model.vocab_size,
        "hidden": hidden,
        "layers": model.layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "queries": heads * head_dim,
        "keys": kv_heads * head_dim,
        "inner": inner,
        "experts": fields.integer(*_EXPERTS, low=0, high=_MOST_EXPERTS, default=0),
        "expert_inner": expert_inner,
        "shared_inner": expert_inner * fields.integer(*SHARED_EXPERTS, low=0, high=_WIDEST, default=0),
        "qk_head_dim": head_dim,
        "tied": int(bool(model.is_tied)),
    }
