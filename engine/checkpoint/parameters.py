"""How many parameters a stored tensor stands for: none for buffers, several for packed elements."""

from __future__ import annotations

import re

from engine.checkpoint.config import ModelConfig
from engine.checkpoint.tensors import StoredTensor

HEADS = ("lm_head.weight", "embed_out.weight")
_BUFFER = re.compile(
    r"(rotary_emb|rotary_pos_emb)\.(inv_freq|cos_cached|sin_cached)$"
    r"|\.(attn|attention)\.(attention\.)?(bias|masked_bias|causal_mask)$"
    r"|(\.gate|\.mlp|block_sparse_moe)\.e_score_correction_bias$"
    r"|\.self_attn\.(slope_rate|diagonal_decay|key_decay|query_decay)$"
)
"""Tensors that models compute or tune beside training; old checkpoints store masks and rotations, too."""
_MASK_AXES = 4
_PACKED_BITS = 4
_NUMBERED = re.compile(r"^model\.layers\.(\d+)\.")
_SCALES = re.compile(
    r"(_scale_inv|_scales|_scale|\.scales|\.qzeros|\.zeros|\.g_idx|\.absmax|\.quant_map|\.nested_\w+"
    r"|\.quant_state\.\w+|\.SCB|\.weight_format|\.weight_shape|_zero_point|\.weight_g_idx)$"
)


def parameters_of(tensor: StoredTensor, config: ModelConfig) -> int:
    """Distinct parameters in one stored tensor; none in a tied head, a buffer, or what is never loaded."""
    if config.is_tied and tensor.name.endswith(HEADS):
        return 0
    if _is_buffer(tensor) or _is_left_out(tensor.name, config):
        return 0
    if config.quantization and _SCALES.search(tensor.name):
        return 0
    is_packed = config.quantization and tensor.dtype in {"I32", "U8"}
    bits = config.quantization_bits or _PACKED_BITS
    return tensor.bytes * 8 // bits if is_packed else tensor.elements


def _is_buffer(tensor: StoredTensor) -> bool:
    if not _BUFFER.search(tensor.name):
        return False
    return not tensor.name.endswith(".bias") or len(tensor.shape) == _MASK_AXES


def _is_left_out(name: str, config: ModelConfig) -> bool:
    """Layers beyond the last one predict several tokens; transformers does not load them."""
    match = _NUMBERED.match(name)
    return bool(match and int(match[1]) >= config.layers)
