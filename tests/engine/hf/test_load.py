"""Loading: what is refused, what is told, what is given back."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.commands import Inspect, LoadModel
from engine.errors import DamagedCheckpoint, DoesNotFit, LoadCancelled, OutOfMemory, UnsafeCheckpoint
from engine.events import LoadProgress, MemoryLedger
from engine.hf import backend as hf_backend
from engine.hf.backend import HFBackend
from engine.values import (
    BudgetRequest,
    FinishReason,
    LayerPlacement,
    LoadStage,
    ModelRef,
    Placement,
    Quantization,
    SamplingParams,
    Tier,
)
from tests import tiny_models
from tests.engine.hf.talk import After, Talk, in_ram, never, on_disk, quantized


def command(folder: Path) -> LoadModel:
    return LoadModel(model=ModelRef(name="tiny", folder=folder), placement=in_ram())


def rewrite(folder: Path, change: str, tensor: torch.Tensor | None) -> None:
    """Replace one tensor of a checkpoint, or leave it out."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors[change]
    if tensor is not None:
        tensors[change] = tensor
    save_file(tensors, file, metadata={"format": "pt"})


def test_check_29_a_missing_tensor_is_refused_and_named(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    rewrite(folder, "model.layers.1.mlp.up_proj.weight", None)
    with pytest.raises(DamagedCheckpoint, match=r"layers\.1\.mlp\.up_proj"):
        HFBackend().load(command(folder), lambda _: None, never)


def test_check_29_a_tensor_of_a_wrong_shape_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    rewrite(folder, "model.layers.1.mlp.up_proj.weight", torch.zeros(3, 3))
    with pytest.raises(DamagedCheckpoint):
        HFBackend().load(command(folder), lambda _: None, never)


def test_check_29_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    rewrite(folder, "model.norm.weight", torch.full((32,), float("nan")))
    with pytest.raises(DamagedCheckpoint, match="NaN"):
        HFBackend().load(command(folder), lambda _: None, never)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.2.mlp.up_proj.weight"])
def test_check_29_a_single_row_that_is_no_numbers_is_refused(tmp_path: Path, name: str) -> None:
    folder = tiny_models.make("llama", tmp_path)
    weight = load_file(folder / "model.safetensors")[name].clone()
    weight[17] = float("nan")
    rewrite(folder, name, weight)
    with pytest.raises(DamagedCheckpoint, match="NaN"):
        HFBackend().load(command(folder), lambda _: None, never)


def test_check_29_a_word_that_is_no_numbers_ends_its_turn_before_the_first_token(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    tokenizer = tiny_models.make_tokenizer()
    weight = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()
    weight[tokenizer("Z")["input_ids"][0]] = float("nan")
    rewrite(folder, "model.embed_tokens.weight", weight)
    talk = Talk(folder)
    said = talk.ask("Z")
    assert (said.text, said.finished.finish_reason) == ("", FinishReason.FAILED)
    assert said.finished.error == "DamagedCheckpoint"
    assert "NaN" in said.finished.message
    talk.messages.clear()
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


@pytest.mark.parametrize(("factor", "cause"), [(1e30, "absurd numbers"), (0.0, "same for every")])
def test_check_37_weights_that_compute_what_no_model_does_are_refused(
    tmp_path: Path, factor: float, cause: str
) -> None:
    folder = tiny_models.make("llama", tmp_path)
    weight = load_file(folder / "model.safetensors")["lm_head.weight"]
    rewrite(folder, "lm_head.weight", factor * weight)
    with pytest.raises(DamagedCheckpoint, match=cause):
        HFBackend().load(command(folder), lambda _: None, never)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_check_37_an_infinite_logit_ends_the_turn_and_the_next_one_works(temperature: float) -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    sampling = SamplingParams(temperature=temperature, max_new_tokens=5)
    runner, compute = talk.inner.runner, talk.inner.runner._fed

    def overflown(token_ids: list[int], rows: int) -> torch.Tensor:
        return torch.cat([compute(token_ids, rows)[:, 1:], torch.full((rows, 1), float("inf"))], -1)

    runner._fed = overflown
    said = talk.ask("Why?", sampling)
    assert (said.text, said.finished.error) == ("", "DamagedCheckpoint")
    assert "no numbers" in said.finished.message
    del runner._fed
    talk.messages.clear()
    assert talk.ask("Why?", sampling).finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


def test_a_placement_for_gpus_that_torch_does_not_see_is_refused_before_anything_is_read() -> None:
    on_gpu = LayerPlacement(name="model", bytes=1, tier=Tier.GPU, device="gpu:97")
    placement = Placement(context_window=64, layers=(on_gpu,))
    asked = LoadModel(
        model=ModelRef(name="tiny", folder=tiny_models.checkpoint("llama")), placement=placement
    )
    with pytest.raises(DoesNotFit, match="gpu:97"):
        HFBackend().load(asked, lambda _: None, never)


def test_a_plan_for_an_imagined_gpu_is_not_loaded() -> None:
    asked = LoadModel(
        model=ModelRef(name="tiny", folder=tiny_models.checkpoint("llama")),
        budgets=BudgetRequest(gpu=((97, 2**34),)),
    )
    with pytest.raises(DoesNotFit, match="gpu:97"):
        HFBackend().load(asked, lambda _: None, never)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DamagedCheckpoint):
        HFBackend().load(command(folder), lambda _: None, never)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(DamagedCheckpoint, match="tokenizer"):
        HFBackend().load(command(folder), lambda _: None, never)


def test_a_repository_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "architectures": ["Strange"],
        "auto_map": {"AutoModelForCausalLM": "evil.Strange"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UnsafeCheckpoint):
        HFBackend().load(command(folder), lambda _: None, never)


def test_tied_weights_that_are_stored_once_are_not_missing() -> None:
    talk = Talk(tiny_models.checkpoint("qwen3"))
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


def test_progress_passes_its_stages_in_bytes() -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    told = [event for event in talk.progress if isinstance(event, LoadProgress)]
    stages = [stage for stage, _ in itertools.groupby(event.stage for event in told)]
    assert stages == [LoadStage.IMPORT, LoadStage.READ, LoadStage.PLACE, LoadStage.WARM_UP]
    size = (tiny_models.checkpoint("llama") / "model.safetensors").stat().st_size
    assert max(event.done_bytes for event in told if event.stage is LoadStage.READ) == size
    assert all(0 <= event.done_bytes <= event.total_bytes for event in told)
    assert any(0 < event.done_bytes == event.total_bytes for event in told if event.stage is LoadStage.PLACE)
    talk.backend.unload()


def test_a_load_can_be_cancelled_at_every_point_and_the_next_one_works() -> None:
    folder = tiny_models.checkpoint("llama")
    counting = After(10**6)
    backend = HFBackend()
    backend.load(command(folder), lambda _: None, counting)
    points = counting.asked
    assert points > 10
    for at in range(0, points, 5):
        with pytest.raises(LoadCancelled):
            backend.load(command(folder), lambda _: None, After(at))
        assert backend._loaded is None
    backend.load(command(folder), lambda _: None, never)
    backend.unload()


def test_out_of_memory_while_loading_is_named_and_the_next_load_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_models.checkpoint("llama")
    backend = HFBackend()

    def failing(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(hf_backend, "load_model", failing)
        with pytest.raises(OutOfMemory) as caught:
            backend.load(command(folder), lambda _: None, never)
    assert "nf4" in caught.value.hint
    backend.load(command(folder), lambda _: None, never)
    backend.unload()


def test_the_stored_dtype_is_kept(tmp_path: Path) -> None:
    talk = Talk(tiny_models.make("llama", tmp_path, dtype=torch.bfloat16))
    assert talk.loaded.dtype == "bfloat16"
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


@pytest.mark.parametrize("kind", [Quantization.NF4, Quantization.INT8])
def test_quantized_on_load_it_answers_and_takes_less(tmp_path: Path, kind: Quantization) -> None:
    folder = tiny_models.make(
        "llama",
        tmp_path,
        dtype=torch.bfloat16,
        hidden_size=64,
        intermediate_size=256,
        num_key_value_heads=4,
        head_dim=16,
    )
    plain = Talk(folder)
    whole = sum(plain.inner.weights.by_device.values())
    plain.backend.unload()
    talk = Talk(folder, quantized(kind))
    assert LoadStage.QUANTIZE in {event.stage for event in talk.progress if isinstance(event, LoadProgress)}
    assert sum(talk.inner.weights.by_device.values()) < whole
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


def test_offload_folders_are_private_and_those_of_dead_engines_are_removed(tmp_path: Path) -> None:
    dead = tmp_path / "offload" / "vramble-offload-999999999-x"
    dead.mkdir(parents=True)
    placement = on_disk("model.layers", range(4), tmp_path / "offload", others=Tier.CPU)
    talk = Talk(tiny_models.checkpoint("qwen3_moe"), placement)
    assert not dead.exists()
    (folder,) = (tmp_path / "offload").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    talk.backend.unload()
    assert not folder.exists()


def test_what_the_checkpoint_recommends_comes_with_the_model(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    said = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
    (folder / "generation_config.json").write_bytes(msgspec.json.encode(said))
    loaded = Talk(folder).loaded
    sampling = loaded.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.6, 0.95, 20)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.0, 1.0)
    assert loaded.has_chat_template
    assert loaded.max_context_window == tiny_models.CONTEXT_WINDOW


def test_without_a_chat_template_a_note_says_so(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path)
    (folder / "chat_template.jinja").unlink()
    talk = Talk(folder)
    assert not talk.loaded.has_chat_template
    assert any("no chat template" in note for note in talk.loaded.notes)
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


def test_inspect_says_what_is_there_without_loading() -> None:
    inspected = HFBackend().inspect(Inspect(folder=tiny_models.checkpoint("llama")))
    assert inspected.architecture == "LlamaForCausalLM"
    assert inspected.context_window == tiny_models.CONTEXT_WINDOW
    assert inspected.parameters > 10_000


def test_what_the_model_holds_is_told_with_the_load() -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    told = talk.progress[-1]
    assert isinstance(told, MemoryLedger)
    held = {entry.device: entry.weight_bytes for entry in told.devices}
    assert held == talk.inner.weights.by_device
    assert held["ram"] > 0
    talk.backend.unload()
