"""Names that a config.json chooses by, held against transformers' own tables."""

from __future__ import annotations

import pytest
from transformers.activations import ACT2CLS
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from engine.checkpoint.choices import ACTIVATIONS, ROTATIONS, check_choices
from engine.checkpoint.fields import Fields
from engine.errors import DamagedCheckpoint


def test_the_tables_are_those_of_transformers() -> None:
    assert set(ACT2CLS) == ACTIVATIONS
    assert set(ROPE_INIT_FUNCTIONS) == ROTATIONS


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"hidden_act": "nonsense"}, "activation nonsense"),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, "rotation spiral"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "rotation spiral"),
    ],
)
def test_what_transformers_would_not_find_is_refused(named: dict[str, object], said: str) -> None:
    with pytest.raises(DamagedCheckpoint, match=said):
        check_choices(Fields({"model_type": "llama", **named}))


def test_a_family_with_tables_of_its_own_is_left_alone() -> None:
    check_choices(Fields({"model_type": "mpt", "hidden_act": "nonsense"}))


def test_older_names_of_a_rotation_pass() -> None:
    check_choices(Fields({"model_type": "phi3", "rope_scaling": {"type": "su", "hidden_act": "silu"}}))
