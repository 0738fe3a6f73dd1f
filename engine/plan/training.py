"""What training a model would hold on one GPU: an estimate by the usual accounting, without torch.

Model states follow mixed-precision training as ZeRO counts it (Rajbhandari et al. 2020, section 3.1):
2 bytes of weight, 2 of gradient, 4 of float32 master weight and, for AdamW, 8 of two float32 moments,
16 in all per trained parameter. Activations follow Korthikanti et al. 2022, equation 2.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import NamedTuple

from engine.checkpoint import ModelConfig
from engine.value import check_range
from engine.values import Quantization, Value

DEFAULT_RANK = 16
DEFAULT_SEQUENCE = 2048
"""Tokens of one training example when nobody says."""
MOST = 10**8
"""Examples, tokens or ranks: beyond any that is meant."""
TYPICAL_RUNTIME_BYTES = 700 << 20
"""CUDA context, kernels and library workspaces of a GPU that was never measured."""
_HALF, _SINGLE = 2, 4
_MATRIX_AXES = 2
_NF4_BLOCK, _NF4_BLOCK_BYTES, _INT8_ROW_BYTES = 64, 4, 4
_LAYER_HIDDEN, _LAYER_ATTENTION, _OUTER_HIDDEN, _KEPT_HIDDEN = 34, 5, 4, 2
"""Bytes by Korthikanti et al.: of a layer per token and hidden element, per head and pair of tokens;
outside of the layers; and of a layer's input, which is all that checkpointing keeps of it."""
_LOGIT_BYTES, _LOSS_BYTES = 4, 6
"""Per word of the vocabulary and token: kept float32 logits; while the loss is taken, the 16-bit ones
and the float32 gradient beside them."""


class TrainingKind(enum.StrEnum):
    """What is trained: every weight, or low-rank adapters beside frozen ones."""

    FULL = "full"
    LORA = "lora"


class Optimizer(enum.StrEnum):
    """Keeps, per trained weight: two moments, one factored into rows and columns, or nothing."""

    ADAMW = "adamw"
    ADAFACTOR = "adafactor"
    SGD = "sgd"


class Weight(NamedTuple):
    """One parameter of a model.

    Attributes:
        shape: in elements.
        is_linear: a linear layer's, which an adapter may stand beside and bitsandbytes packs.
    """

    shape: tuple[int, ...]
    is_linear: bool = False

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Training(Value, frozen=True, kw_only=True):
    """How a model would be trained.

    Attributes:
        kind: all of it, or adapters.
        optimizer: which one.
        batch: examples that one GPU computes at once.
        sequence: tokens of each.
        checkpointing: keep only every layer's input, and compute the rest of it again.
        rank: of the adapters.
        quantization: of the frozen weights beside adapters (QLoRA).
    """

    kind: TrainingKind
    optimizer: Optimizer = Optimizer.ADAMW
    batch: int = 1
    sequence: int = DEFAULT_SEQUENCE
    checkpointing: bool = False
    rank: int = DEFAULT_RANK
    quantization: Quantization = Quantization.NONE

    def __post_init__(self) -> None:
        """Refuse what lies outside its range."""
        check_range("batch", self.batch, 1, MOST)
        check_range("sequence", self.sequence, 1, MOST)
        check_range("rank", self.rank, 1, MOST)


class TrainingEstimate(Value, frozen=True, kw_only=True):
    """What one GPU would hold while it trains, in bytes.

    Attributes:
        parameters: of the model, tied ones once.
        trained_parameters: all of them, or the adapters'.
        weight_bytes: 16-bit weights, or frozen ones as they are stored.
        adapter_bytes: float32 adapters; 0 for full training.
        master_bytes: the float32 copy that the optimizer updates; 0 for adapters, which are float32.
        gradient_bytes: 16-bit for full training, float32 for adapters.
        optimizer_bytes: the optimizer's states.
        activation_bytes: what the backward pass needs of the forward pass.
        buffer_bytes: what is needed for a moment only: the loss, the largest weight unpacked, or the
            layer that checkpointing computes again.
        runtime_bytes: CUDA context, libraries, workspaces.
        notes: sentences about what the estimate rests on.
    """

    parameters: int
    trained_parameters: int
    weight_bytes: int
    adapter_bytes: int
    master_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    buffer_bytes: int
    runtime_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def state_bytes(self) -> int:
        """Weights, adapters, master weights, gradients and optimizer states."""
        kept = self.weight_bytes + self.adapter_bytes + self.master_bytes
        return kept + self.gradient_bytes + self.optimizer_bytes

    @property
    def total_bytes(self) -> int:
        """All that one GPU holds which trains alone, or beside others that each hold the same."""
        return self.state_bytes + self.activation_bytes + self.buffer_bytes + self.runtime_bytes

    def sharded_bytes(self, gpus: int) -> int:
        """What each of several GPUs holds where they share the states (ZeRO stage 3, FSDP)."""
        return self.total_bytes - self.state_bytes + -(-self.state_bytes // gpus)


def training_estimate(
    config: ModelConfig,
    weights: Sequence[Weight],
    training: Training,
    runtime_bytes: int = TYPICAL_RUNTIME_BYTES,
) -> TrainingEstimate:
    """Add up what training would hold.

    Args:
        config: of the language model.
        weights: each parameter once.
        training: how it would be trained.
        runtime_bytes: of the GPU, before any tensor.
    """
    is_full = training.kind is TrainingKind.FULL
    adapters = [] if is_full else _adapters(weights, training.rank)
    trained = list(weights) if is_full else adapters
    count = sum(weight.elements for weight in trained)
    return TrainingEstimate(
        parameters=sum(weight.elements for weight in weights),
        trained_parameters=count,
        weight_bytes=sum(_stored(weight, training) for weight in weights),
        adapter_bytes=_SINGLE * sum(weight.elements for weight in adapters),
        master_bytes=_SINGLE * count if is_full else 0,
        gradient_bytes=(_HALF if is_full else _SINGLE) * count,
        optimizer_bytes=sum(_states(weight, training.optimizer) for weight in trained),
        activation_bytes=_activations(config, training, len(adapters) // 2),
        buffer_bytes=_buffers(config, weights, training),
        runtime_bytes=runtime_bytes,
        notes=_notes(config, training, adapters),
    )


def _adapters(weights: Sequence[Weight], rank: int) -> list[Weight]:
    """Two factors beside every linear weight, as PEFT's "all-linear" places them."""
    linear = [weight.shape for weight in weights if weight.is_linear]
    return [Weight(shape) for rows, columns in linear for shape in ((rank, columns), (rows, rank))]


def _stored(weight: Weight, training: Training) -> int:
    """Bytes of one weight: 16-bit, or packed by bitsandbytes where it is frozen."""
    is_packed = training.kind is TrainingKind.LORA and weight.is_linear
    if is_packed and training.quantization is Quantization.INT8:
        return weight.elements + _INT8_ROW_BYTES * weight.shape[0]
    if is_packed and training.quantization is Quantization.NF4:
        return -(-weight.elements // 2) + _NF4_BLOCK_BYTES * -(-weight.elements // _NF4_BLOCK)
    return _HALF * weight.elements


def _states(weight: Weight, optimizer: Optimizer) -> int:
    """Float32 states: Adafactor keeps a row's and a column's mean square of every matrix, and no moment."""
    match optimizer:
        case Optimizer.ADAMW:
            return 2 * _SINGLE * weight.elements
        case Optimizer.ADAFACTOR:
            return _SINGLE * _factored(weight.shape)
        case Optimizer.SGD:
            return 0


def _factored(shape: tuple[int, ...]) -> int:
    if len(shape) < _MATRIX_AXES:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]


def _activations(config: ModelConfig, training: Training, adapted: int) -> int:
    """All layers' and what lies outside of them: L x sbh(34 + 5as/h) + 4sbh + 4sbv.

    s, b: sequence and batch; h, a, v, L: hidden size, heads, vocabulary, layers. Checkpointing keeps
    2sbh of a layer. An adapter keeps what its first factor gives.
    """
    tokens = training.batch * training.sequence
    outer = tokens * (_OUTER_HIDDEN * config.hidden_size + _LOGIT_BYTES * config.vocab_size)
    if training.checkpointing:
        return outer + config.layers * tokens * _KEPT_HIDDEN * config.hidden_size
    return outer + config.layers * _layer(config, training) + adapted * tokens * training.rank * _HALF


def _layer(config: ModelConfig, training: Training) -> int:
    tokens = training.batch * training.sequence
    hidden = _LAYER_HIDDEN * tokens * config.hidden_size
    return hidden + _attention_matrices(config, training)


def _attention_matrices(config: ModelConfig, training: Training) -> int:
    return _LAYER_ATTENTION * config.heads * training.batch * training.sequence**2


def _buffers(config: ModelConfig, weights: Sequence[Weight], training: Training) -> int:
    """The largest of what is needed at different moments."""
    loss = training.batch * training.sequence * config.vocab_size * _LOSS_BYTES
    unpacked = _SINGLE * max((weight.elements for weight in weights), default=0)
    again = _layer(config, training) if training.checkpointing else 0
    return max(loss, unpacked, again)


def _notes(config: ModelConfig, training: Training, adapters: Sequence[Weight]) -> tuple[str, ...]:
    is_lora = training.kind is TrainingKind.LORA
    layers = 1 if training.checkpointing else config.layers
    gib = layers * _attention_matrices(config, training) / (1 << 30)
    pairs = (
        (True, "Mixed precision with 16-bit weights; activations of a transformer with an MLP 4 wide."),
        (True, f"Attention that stores no matrices (FlashAttention) needs up to {gib:.1f} GiB less."),
        (is_lora and adapters, f"{len(adapters) // 2} linear weights get adapters of rank {training.rank}."),
        (is_lora and not adapters, "No linear weight was found to put an adapter beside."),
        (
            not is_lora and training.quantization is not Quantization.NONE,
            f"{training.quantization} is for frozen weights only; all of these are trained.",
        ),
    )
    return tuple(sentence for condition, sentence in pairs if condition)
