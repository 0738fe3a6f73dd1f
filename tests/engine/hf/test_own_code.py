"""A repository's own code: runs after a yes to exactly these files, and never else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.commands import LoadModel
from engine.errors import EngineError, NeedsConsent, UnsafeCheckpoint, UnsupportedModel
from engine.hf import own_code as hf_own_code
from engine.hf.backend import HFBackend
from engine.hub.code import CodeOrigin, code_of
from engine.values import BudgetRequest, CodeFile, FinishReason, ModelRef
from tests import own_code, tiny_models
from tests.engine.hf.talk import Talk, in_ram, never


def agreed(folder: Path) -> tuple[CodeFile, ...]:
    return tuple(file for origin in code_of(folder) for file in origin.files)


def load(folder: Path, trusted: tuple[CodeFile, ...] = (), backend: HFBackend | None = None) -> None:
    model = ModelRef(name=folder.name, folder=folder)
    command = LoadModel(model=model, placement=in_ram(), trusted=trusted)
    (backend or HFBackend()).load(command, lambda _: None, never)


def test_check_25_code_runs_only_after_consent_and_then_it_chats(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    folder = own_code.make(tmp_path / "strange", proof)
    with pytest.raises(NeedsConsent, match=r"modeling_strange\.py"):
        load(folder)
    assert not proof.exists()
    talk = Talk(folder, trusted=agreed(folder))
    assert proof.read_text().split() == ["ran", "ran"]
    said = talk.ask("Why?")
    assert said.finished.finish_reason is not FinishReason.FAILED
    assert said.text
    again = talk.ask("And why else?")
    assert again.started.reused_tokens > 0
    assert talk.loaded.architecture == "StrangeForCausalLM"
    talk.backend.unload()


def test_a_model_with_code_of_its_own_is_placed_by_a_plan(tmp_path: Path) -> None:
    folder = own_code.make(tmp_path / "strange")
    talk = Talk(folder, budgets=BudgetRequest(ram_bytes=2**33), trusted=agreed(folder))
    assert talk.ask("Why?").text
    assert any("code of its own" in note for note in talk.loaded.notes)
    talk.backend.unload()


def test_it_computes_what_its_class_computes_by_itself(tmp_path: Path) -> None:
    import torch

    talk = Talk(own_code.make(tmp_path / "strange"), trusted=agreed(tmp_path / "strange"))
    said = talk.ask("Why is prefill faster than decode?")
    model, runner = talk.inner.runner._model, talk.inner.runner
    prompt = talk.prompt_ids()
    cache = type(runner.kv)(model.config).cache
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt]), past_key_values=cache).logits[0, -1]
    first = talk.inner.tokenizer(said.text, add_special_tokens=False)["input_ids"][0]
    assert int(logits.argmax()) == first
    talk.backend.unload()


def test_a_tokenizer_of_its_own_is_loaded_too(tmp_path: Path) -> None:
    folder = own_code.make(tmp_path / "strange")
    own_code.give_tokenizer(folder)
    talk = Talk(folder, trusted=agreed(folder))
    assert talk.inner.tokenizer.is_strange
    assert talk.ask("Why?").text
    talk.backend.unload()


@pytest.mark.parametrize("change", ["one byte", "one more file", "one file less"])
def test_check_25_code_that_changed_after_the_yes_does_not_run(tmp_path: Path, change: str) -> None:
    proof = tmp_path / "proof"
    folder = own_code.make(tmp_path / "strange", proof)
    trusted = agreed(folder)
    file = folder / "modeling_strange.py"
    if change == "one byte":
        file.write_text(file.read_text().replace("tril", "trIl"))
    elif change == "one more file":
        (folder / "tokenizer_evil.py").write_text(own_code.mark(proof))
    else:
        (folder / "extra.py").write_text("")
        trusted = agreed(folder)
        (folder / "extra.py").unlink()
    with pytest.raises(NeedsConsent):
        load(folder, trusted)
    assert not proof.exists()


def test_check_25_a_folder_that_changes_while_it_is_loaded_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is overwritten as soon as it was read for the load."""
    proof, evil = tmp_path / "proof", tmp_path / "evil"
    folder = own_code.make(tmp_path / "strange", proof)
    trusted = agreed(folder)

    def read_then_changed(where: Path) -> tuple[CodeOrigin, ...]:
        found = code_of(where)
        own_code.write_code(folder, evil)
        return found

    monkeypatch.setattr(hf_own_code, "code_of", read_then_changed)
    backend = HFBackend()
    load(folder, trusted, backend)
    backend.unload()
    assert proof.exists()
    assert not evil.exists()


def test_check_25_a_copy_that_is_changed_is_not_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = tmp_path / "proof"
    folder = own_code.make(tmp_path / "strange")
    keep: Callable[..., None] = hf_own_code.OwnCode._keep

    def keep_and_change(self: hf_own_code.OwnCode, package: str, file: CodeFile, content: bytes) -> None:
        keep(self, package, file, content)
        place = self._place(f"{package}.{file.name.removesuffix('.py')}")
        place.write_bytes(own_code.mark(proof).encode() + content)

    monkeypatch.setattr(hf_own_code.OwnCode, "_keep", keep_and_change)
    with pytest.raises(EngineError, match="changed after it was copied"):
        load(folder, agreed(folder))
    assert not proof.exists()


AUTO_MAPS = {
    "config.json": ("AutoConfig", "AutoModelForCausalLM", "AutoModel"),
    "tokenizer_config.json": ("AutoTokenizer", "AutoProcessor"),
    "generation_config.json": (),
    "processor_config.json": ("AutoProcessor",),
    "preprocessor_config.json": ("AutoImageProcessor",),
    "configuration.json": (),
}
ASKING = {
    "custom_generate": "evil/repo",
    "plugins": ["evil"],
    "allow_remote": True,
    "trust_remote_code": True,
}


STARTED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")


def with_every_trap(folder: Path, proof: Path) -> Path:
    """A model that transformers knows, whose every config asks for code all the same."""
    for name, classes in AUTO_MAPS.items():
        file = folder / name
        said = json.loads(file.read_text()) if file.exists() else {}
        auto_map = {each: ["trap.Trap", "trap.Trap"] if "Token" in each else "trap.Trap" for each in classes}
        file.write_text(json.dumps({**said, **ASKING, "auto_map": auto_map}))
    (folder / "custom_generate").mkdir()
    for name in ("trap.py", "__init__.py", "ms_wrapper.py", "setup.py", "custom_generate/generate.py"):
        (folder / name).write_text(own_code.mark(proof) + "class Trap: pass\n")
    (folder / "requirements.txt").write_text("evil==1\n")
    (folder / "evil.pth").write_text(f"import os; os.system('touch {proof}')\n")
    return folder


def test_check_25_a_model_that_needs_no_code_chats_and_runs_none_of_what_its_configs_ask_for(
    tmp_path: Path,
) -> None:
    proof = tmp_path / "proof"
    folder = with_every_trap(tiny_models.make("llama", tmp_path), proof)
    files = {str(path) for path in folder.rglob("*.py")}
    seen: list[str] = []
    listens = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        # Kernels of ours are compiled by a process; none may be of the repository, or fetch a package.
        is_suspect = str(folder) in repr(arguments) or "pip" in repr(arguments)
        if listens and (event == "builtins.input" or (event in STARTED and is_suspect)):
            seen.append(f"{event} {arguments!r}")
        if listens and event == "open" and str(arguments[0]) in files:
            seen.append(f"opened {arguments[0]}")

    sys.addaudithook(hook)
    talk = Talk(folder)
    said = talk.ask("Why?")
    listens = False
    assert said.finished.finish_reason is not FinishReason.FAILED
    assert talk.loaded.architecture == "LlamaForCausalLM"
    talk.backend.unload()
    assert seen == []
    assert not proof.exists()


def test_what_is_refused_for_want_of_a_yes_leaves_the_model_before_loaded(tmp_path: Path) -> None:
    talk = Talk(tiny_models.checkpoint("llama"))
    with pytest.raises(NeedsConsent):
        load(own_code.make(tmp_path / "strange"), backend=talk.backend)
    assert talk.ask("Why?").finished.finish_reason is not FinishReason.FAILED
    talk.backend.unload()


def test_the_copy_and_the_modules_are_gone_with_the_model(tmp_path: Path, own_cache: Path) -> None:
    folder = own_code.make(tmp_path / "strange")
    backend = HFBackend()
    load(folder, agreed(folder), backend)
    copies = list(own_cache.rglob("*.py"))
    assert {path.name for path in copies} == {"configuration_strange.py", "modeling_strange.py"}
    assert {path.parent.stat().st_mode & 0o777 for path in copies} == {0o700}
    backend.unload()
    assert not list(own_cache.rglob("*.py"))
    assert not [name for name in sys.modules if name.startswith("vramble_own_code")]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("import no_such_package_at_all", "no_such_package_at_all"),
        ("this is no python", "SyntaxError"),
        ("undefined_name", "NameError"),
        ("input('Trust me? ')", "cannot be imported"),
    ],
)
def test_code_that_fails_is_a_sentence(tmp_path: Path, line: str, cause: str) -> None:
    folder = own_code.make(tmp_path / "strange")
    (folder / "modeling_strange.py").write_text(line + "\n")
    with pytest.raises(UnsupportedModel, match=cause):
        load(folder, agreed(folder))


def cached(cache: Path, repository: str) -> Path:
    """A repository in the Hugging Face cache, with nothing but code."""
    folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / ("c" * 40)
    folder.mkdir(parents=True)
    own_code.write_code(folder)
    return folder


def test_check_25_code_of_another_repository_is_refused_or_agreed_to_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = own_code.make(tmp_path / "strange", repository="evil/code")
    with pytest.raises(UnsafeCheckpoint, match="evil/code, which is not on this disk"):
        code_of(folder)
    cached(tmp_path / "hub", "evil/code")
    own, foreign = code_of(folder)
    assert (own.is_foreign, own.files) == (False, ())
    assert (foreign.is_foreign, foreign.repository) == (True, "huggingface:evil/code")
    assert foreign.revision == "c" * 40
    plain = tuple(CodeFile(name=file.name, sha256=file.sha256) for file in foreign.files)
    with pytest.raises(NeedsConsent):
        load(folder, plain)
    talk = Talk(folder, trusted=foreign.files)
    assert talk.ask("Why?").text
    talk.backend.unload()
