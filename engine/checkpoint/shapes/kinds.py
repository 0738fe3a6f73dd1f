"""What differs from layer to layer: a recurrent mixer or attention, experts or one MLP, its width."""

from __future__ import annotations

from collections.abc import Mapping

from engine.checkpoint.attention import CONVOLUTION, LINEAR
from engine.checkpoint.config import ModelConfig
from engine.checkpoint.fields import Fields
from engine.checkpoint.shapes.words import Sizes
from engine.errors import DamagedCheckpoint

_MOST = 2**16


def layer_words(fields: Fields, model: ModelConfig, sizes: Mapping[str, int], index: int) -> Sizes:
    """The words that one layer changes.

    Raises:
        DamagedCheckpoint: a field says what cannot be.
    """
    shared = fields.integer("num_kv_shared_layers", low=0, high=_MOST, default=0)
    words = {
        "linear": int(model.layer_types[index] in {LINEAR, CONVOLUTION}),
        "sparse": int(bool(sizes["experts"]) and _is_sparse(fields, index)),
        "shares_keys": int(index >= model.layers - shared),
    }
    inner = fields.find("intermediate_size")
    return words | {"inner": _item(inner, index)} if isinstance(inner, list) else words


def _item(items: list[object], index: int) -> int:
    item = items[index] if index < len(items) else None
    if not isinstance(item, int) or isinstance(item, bool) or item < 1:
        message = f"config.json gives no intermediate_size for layer {index}."
        raise DamagedCheckpoint(message, "Get config.json again from where the model came from.")
    return item


def _is_sparse(fields: Fields, index: int) -> bool:
    """A layer of experts, by whichever of the families' ways config.json says it."""
    listed = fields.strings("mlp_layer_types")
    if index < len(listed):
        return listed[index] == "sparse"
    if index in (fields.numbers("mlp_only_layers") or ()):
        return False
    first = fields.integer("first_k_dense_replace", "moe_layer_start_index", low=0, high=_MOST, default=0)
    last = fields.find("moe_layer_end_index")
    if index < first or (isinstance(last, int) and 0 <= last < index):
        return False
    return _is_in_step(fields, index)


def _is_in_step(fields: Fields, index: int) -> bool:
    period = fields.integer("expert_layer_period", high=_MOST, default=1)
    offset = fields.integer("expert_layer_offset", low=0, high=_MOST, default=0)
    step = fields.integer("decoder_sparse_step", "moe_layer_interval", high=_MOST, default=1)
    return index % period == offset % period and (index + 1) % step == 0
