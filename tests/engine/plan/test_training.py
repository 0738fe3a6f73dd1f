"""What training would hold: checked by hand, and against what more of anything must do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import look_at, values, weights_of
from engine.checkpoint import ModelConfig
from engine.errors import InvalidValue
from engine.plan.training import (
    Optimizer,
    Training,
    TrainingEstimate,
    TrainingKind,
    Weight,
    training_estimate,
)
from tests.tui.verbs import folders

HIDDEN, HEADS, LAYERS, VOCABULARY = 64, 4, 3, 1000
CONFIG = ModelConfig(
    architecture="LlamaForCausalLM",
    model_type="llama",
    layers=LAYERS,
    hidden_size=HIDDEN,
    heads=HEADS,
    kv_heads=HEADS,
    head_dim=HIDDEN // HEADS,
    intermediate_size=4 * HIDDEN,
    vocab_size=VOCABULARY,
    context_window=4096,
)
WEIGHTS = (
    Weight((VOCABULARY, HIDDEN)),
    *[Weight((HIDDEN, HIDDEN), is_linear=True)] * (4 * LAYERS),
    *[Weight((4 * HIDDEN, HIDDEN), is_linear=True)] * (2 * LAYERS),
    Weight((HIDDEN,)),
)
COUNT = VOCABULARY * HIDDEN + LAYERS * 12 * HIDDEN**2 + HIDDEN
NONE, INT8, NF4 = values.Quantization.NONE, values.Quantization.INT8, values.Quantization.NF4
FULL = Training(kind=TrainingKind.FULL, sequence=128)
LORA = Training(kind=TrainingKind.LORA, sequence=128)

trainings = st.builds(
    Training,
    kind=st.sampled_from(TrainingKind),
    optimizer=st.sampled_from(Optimizer),
    batch=st.integers(1, 64),
    sequence=st.integers(1, 8192),
    checkpointing=st.booleans(),
    rank=st.integers(1, 64),
    quantization=st.sampled_from(values.Quantization),
)


def estimated(training: Training) -> TrainingEstimate:
    return training_estimate(CONFIG, WEIGHTS, training)


def changed(training: Training, **fields: object) -> Training:
    kept = {name: getattr(training, name) for name in training.__struct_fields__}
    return Training(**(kept | fields))


def test_adamw_in_mixed_precision_takes_sixteen_bytes_a_parameter() -> None:
    estimate = estimated(FULL)
    assert estimate.parameters == estimate.trained_parameters == COUNT
    assert estimate.state_bytes == 16 * COUNT
    assert estimate.optimizer_bytes == 8 * COUNT
    assert estimate.master_bytes == 4 * COUNT


def test_seven_and_a_half_billion_parameters_take_the_120_gb_of_the_zero_paper() -> None:
    weights = [Weight((7_500_000, 1000))]
    assert training_estimate(CONFIG, weights, FULL).state_bytes == 120 * 10**9


def test_adafactor_keeps_rows_and_columns_of_every_matrix() -> None:
    square, tall = 2 * HIDDEN, 5 * HIDDEN
    kept = VOCABULARY + HIDDEN + LAYERS * (4 * square + 2 * tall) + HIDDEN
    assert estimated(changed(FULL, optimizer=Optimizer.ADAFACTOR)).optimizer_bytes == 4 * kept


def test_adafactor_factors_each_expert_of_a_stack() -> None:
    training = changed(FULL, optimizer=Optimizer.ADAFACTOR)
    estimate = training_estimate(CONFIG, [Weight((8, 32, 16))], training)
    assert estimate.optimizer_bytes == 4 * 8 * (32 + 16)


def test_plain_sgd_keeps_nothing() -> None:
    assert estimated(changed(FULL, optimizer=Optimizer.SGD)).optimizer_bytes == 0


def test_activations_follow_the_published_formula() -> None:
    s, b, h, a = 128, 2, HIDDEN, HEADS
    layer = s * b * (34 * h + 5 * a * s)
    outside = 4 * s * b * (h + VOCABULARY)
    assert estimated(changed(FULL, batch=b)).activation_bytes == LAYERS * layer + outside


def test_checkpointing_keeps_each_layers_input_and_computes_one_layer_again() -> None:
    s, b = 4096, 2
    estimate = estimated(changed(FULL, batch=b, sequence=s, checkpointing=True))
    assert estimate.activation_bytes == LAYERS * 2 * s * b * HIDDEN + 4 * s * b * (HIDDEN + VOCABULARY)
    assert estimate.buffer_bytes == s * b * (34 * HIDDEN + 5 * HEADS * s)


def test_lora_trains_two_factors_beside_every_linear_weight() -> None:
    estimate = estimated(changed(LORA, rank=8))
    adapters = 8 * LAYERS * (4 * 2 * HIDDEN + 2 * 5 * HIDDEN)
    assert estimate.trained_parameters == adapters
    assert estimate.weight_bytes == 2 * COUNT
    assert estimate.adapter_bytes == estimate.gradient_bytes == 4 * adapters
    assert estimate.optimizer_bytes == 8 * adapters
    assert estimate.master_bytes == 0


@pytest.mark.parametrize(
    ("quantization", "linear_bytes"),
    [
        (INT8, LAYERS * (12 * HIDDEN**2 + 4 * 12 * HIDDEN)),
        (NF4, LAYERS * 12 * HIDDEN**2 * 9 // 16),
    ],
)
def test_qlora_packs_the_frozen_linear_weights_only(
    quantization: values.Quantization, linear_bytes: int
) -> None:
    plain = 2 * (COUNT - LAYERS * 12 * HIDDEN**2)
    assert estimated(changed(LORA, quantization=quantization)).weight_bytes == plain + linear_bytes


def test_full_training_ignores_a_quantization_and_says_so() -> None:
    estimate = estimated(changed(FULL, quantization=NF4))
    assert estimate.weight_bytes == 2 * COUNT
    assert any("nf4" in note for note in estimate.notes)


@given(trainings, st.sampled_from(["batch", "sequence", "rank"]), st.integers(1, 1000))
def test_more_of_anything_never_takes_less(training: Training, field: str, more: int) -> None:
    larger = changed(training, **{field: getattr(training, field) + more})
    assert estimated(larger).total_bytes >= estimated(training).total_bytes


@given(trainings)
def test_the_total_is_the_sum_of_its_parts(training: Training) -> None:
    estimate = estimated(training)
    parts = [name for name in estimate.__struct_fields__ if name.endswith("_bytes")]
    assert estimate.total_bytes == sum(getattr(estimate, part) for part in parts)
    assert all(getattr(estimate, part) >= 0 for part in parts)


@given(trainings)
def test_a_lighter_optimizer_and_checkpointing_never_keep_more(training: Training) -> None:
    by_weight = [
        estimated(changed(training, optimizer=optimizer)).optimizer_bytes
        for optimizer in (Optimizer.SGD, Optimizer.ADAFACTOR, Optimizer.ADAMW)
    ]
    assert by_weight == sorted(by_weight)
    light, whole = (estimated(changed(training, checkpointing=on)) for on in (True, False))
    assert light.activation_bytes <= whole.activation_bytes


@given(trainings, st.integers(1, 512))
def test_more_gpus_never_hold_more_each(training: Training, gpus: int) -> None:
    estimate = estimated(training)
    assert estimate.sharded_bytes(1) == estimate.total_bytes
    assert estimate.sharded_bytes(gpus + 1) <= estimate.sharded_bytes(gpus)


@given(trainings)
def test_a_packed_weight_never_takes_more(training: Training) -> None:
    sizes = [estimated(changed(training, quantization=q)).weight_bytes for q in (NF4, INT8, NONE)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("field", ["batch", "sequence", "rank"])
def test_nothing_is_trained_with_none_of_it(field: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        changed(FULL, **{field: 0})


def test_weights_come_from_headers_and_only_linear_layers_get_adapters(tmp_path: Path) -> None:
    found = weights_of(look_at(folders.sound(tmp_path / "tiny")))
    assert sum(weight.elements for weight in found) == folders.parameters()
    assert sum(weight.is_linear for weight in found) == 7 * folders.LAYERS


def test_a_tied_head_is_counted_once(tmp_path: Path) -> None:
    folder = folders.sound(tmp_path / "tiny")
    (folder / "config.json").write_text(json.dumps(folders.CONFIG | {"tie_word_embeddings": True}))
    head = folders.VOCABULARY * folders.HIDDEN
    assert sum(weight.elements for weight in weights_of(look_at(folder))) == folders.parameters() - head


def test_a_blueprints_buffers_are_no_parameters_and_what_packs_gets_adapters(tmp_path: Path) -> None:
    tensors = (
        values.BuiltTensor(name="embed", shape=(10, 4), itemsize=2),
        values.BuiltTensor(name="up", shape=(8, 4), itemsize=2, packs=True),
        values.BuiltTensor(name="experts", shape=(2, 8, 4), itemsize=2),
        values.BuiltTensor(name="inv_freq", shape=(2,), itemsize=4, is_buffer=True),
    )
    blueprint = values.Blueprint(architecture="X", parameters=136, tensors=tensors)
    found = weights_of(look_at(folders.sound(tmp_path / "tiny")), blueprint)
    assert found == (Weight((10, 4)), Weight((8, 4), is_linear=True), Weight((2, 8, 4)))
