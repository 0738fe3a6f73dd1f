"""Which module a tensor is placed with."""

from __future__ import annotations

import pytest

from engine.plan.modules import Granularity, ModulePath, forward_order


@pytest.mark.parametrize(
    ("layer_list", "name", "path"),
    [
        ("model.layers", "model.layers.7.mlp.up_proj.weight", ModulePath("model.layers.7", 7)),
        ("model.layers", "model.layers.12.mlp.experts.3.w1.weight", ModulePath("model.layers.12", 12)),
        ("model.layers", "model.embed_tokens.weight", ModulePath("model.embed_tokens")),
        ("model.layers", "model.rotary_emb.inv_freq", ModulePath("model.rotary_emb")),
        ("model.layers", "model.scale", ModulePath("model.scale")),
        ("model.layers", "lm_head.weight", ModulePath("lm_head")),
        ("model.layers", "scale", ModulePath("scale")),
        ("model.decoder.layers", "model.decoder.project_in.weight", ModulePath("model.decoder.project_in")),
        (
            "model.language_model.layers",
            "model.vision_tower.layers.3.x.weight",
            ModulePath("model.vision_tower"),
        ),
        ("", "model.layers.7.mlp.up_proj.weight", ModulePath("model")),
    ],
)
def test_layers_are_placed_as_wholes_and_the_rest_apart(layer_list: str, name: str, path: ModulePath) -> None:
    assert Granularity(layer_list).module_of(name) == path


def test_parameters_of_the_base_itself_are_not_taken_for_each_other() -> None:
    granularity = Granularity("model.layers")
    names = ["model.scale", "model.shift", "scale", "shift"]
    assert [granularity.module_of(name).name for name in names] == names


def test_the_forward_order_is_embeddings_layers_norm_head() -> None:
    paths = [
        ModulePath("lm_head"),
        ModulePath("model.norm"),
        ModulePath("model.layers.10", 10),
        ModulePath("model.layers.2", 2),
        ModulePath("model.embed_tokens"),
    ]
    assert sorted(paths, key=forward_order) == paths[::-1]
