"""Bytes that stored tensors take once loaded: dtype, quantization, what the libraries leave alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.checkpoint import ModelConfig, StoredTensor
from engine.checkpoint.adapted import GROUPED
from engine.checkpoint.quantizers import is_unpacked
from engine.values import Quantization

ITEMSIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_STORED_ITEMSIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_DEFAULT_ITEMSIZE = 2
_MERGED_EXPERT = re.compile(r"\.experts\.\d+\.")
_ROUTER = re.compile(r"\.(gate|router)\.weight$")
_SCALES = (
    "_scale_inv",
    "_scales",
    "_scale",
    ".activation_scale",
    "_global_scale",
    ".weight_shape",
    "_zero_point",
    ".weight_g_idx",
)
_PACKED_WORDS = ".weight_packed"
_WORD_BITS_EACH = 4
"""Of an element, where config.json does not say."""
_DESCRIPTION = re.compile(r"\.quant_state\.\w+$|\.weight_format$")
"""Of packed weights; read while loading, and not kept."""
_INT8_ROW_BYTES = 4
_NF4_BLOCK = 64
_NF4_BLOCK_BYTES = 4
_NF4_LEVEL_BYTES = 64
_OWN_LINEAR = ("falcon",)
"""Families whose linear layers are of a class of their own, which transformers leaves unpacked."""
_STORED_TRANSPOSED = ("gpt2", "openai-gpt")
_LINEAR_AXES = 2


def weight_itemsize(config: ModelConfig, tensors: Iterable[StoredTensor]) -> int:
    """Bytes of one computed element: of config.json's dtype, or of the first floating tensor."""
    if config.dtype in ITEMSIZES:
        return ITEMSIZES[config.dtype]
    stored = (_STORED_ITEMSIZES[t.dtype] for t in tensors if t.dtype in _STORED_ITEMSIZES)
    return next(stored, _DEFAULT_ITEMSIZE)


def plain_bytes(tensor: StoredTensor, config: ModelConfig, itemsize: int) -> int:
    """Bytes once loaded without quantizing on load.

    A checkpoint in fp8, mxfp4 or compressed-tensors is unpacked to the computed dtype; other packed ones stay
    as they are, without what only says how.
    """
    if is_unpacked(config.quantization):
        return _unpacked_bytes(tensor, config, itemsize)
    if config.quantization and _DESCRIPTION.search(tensor.name):
        return 0
    if config.quantization or tensor.dtype not in _STORED_ITEMSIZES:
        return tensor.bytes
    return tensor.elements * itemsize


def _unpacked_bytes(tensor: StoredTensor, config: ModelConfig, itemsize: int) -> int:
    if tensor.name.endswith(_SCALES):
        return 0
    if tensor.dtype == "U8":
        return 2 * tensor.bytes * itemsize
    if tensor.name.endswith(_PACKED_WORDS):
        return tensor.bytes * 8 // (config.quantization_bits or _WORD_BITS_EACH) * itemsize
    is_weight = tensor.dtype in _STORED_ITEMSIZES or tensor.dtype.startswith("F8") or tensor.dtype == "I8"
    return tensor.elements * itemsize if is_weight else tensor.bytes


def quantized_bytes(elements: int, rows: int, quantization: Quantization) -> int:
    """Bytes of a linear weight packed by bitsandbytes.

    int8: one byte each and 4 per row. nf4: half a byte each, 4 per block of 64, and its 16 levels.
    """
    if quantization is Quantization.INT8:
        return elements + _INT8_ROW_BYTES * rows
    return -(-elements // 2) + _NF4_BLOCK_BYTES * -(-elements // _NF4_BLOCK) + _NF4_LEVEL_BYTES


def packed_rows(tensor: StoredTensor, config: ModelConfig) -> int:
    """Rows that bitsandbytes scales: a linear layer's outputs, which GPT-2 stores as columns."""
    return tensor.shape[-1 if config.model_type in _STORED_TRANSPOSED else 0]


def is_quantizable(tensor: StoredTensor, config: ModelConfig) -> bool:
    """Whether bitsandbytes packs a weight of the main list: linear, no router, no expert merged on load."""
    if config.model_type in _OWN_LINEAR:
        return False
    is_linear = len(tensor.shape) == _LINEAR_AXES and tensor.name.endswith(".weight")
    return is_linear and not config.quantization and not is_merged(tensor) and not _ROUTER.search(tensor.name)


def is_merged(tensor: StoredTensor) -> bool:
    """An expert's own matrix, which transformers stacks with the others into one parameter."""
    return bool(_MERGED_EXPERT.search(tensor.name))


def is_scattered(tensor: StoredTensor) -> bool:
    """Queries, keys and values in turns, which loading takes apart."""
    return GROUPED in tensor.name


def is_unpacked_on_load(config: ModelConfig) -> bool:
    """The checkpoint is stored smaller than it can be computed here."""
    return is_unpacked(config.quantization)
