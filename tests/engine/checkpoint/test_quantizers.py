"""What a stored quantization needs here."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace

import pytest

from engine import capability
from engine.checkpoint import quantizers
from engine.checkpoint.quantizers import QUANTIZERS, obstacle, quantizer_states


def installed(versions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)


def gpu(found: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizers, "gpu_capability", lambda: found)


def lack(method: str) -> str:
    found = obstacle(method)
    return found.lack if found else ""


def test_every_missing_package_is_named_with_its_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    installed({}, monkeypatch)
    found = obstacle("gptq")
    assert found is not None
    assert found.lack == "optimum and gptqmodel"
    assert "`pip install 'optimum>=1.24.0' 'gptqmodel>=1.4.3'`" in found.hint


def test_an_old_package_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    installed({"optimum": "2.0.0", "gptqmodel": "1.4.2"}, monkeypatch)
    assert lack("gptq") == "gptqmodel 1.4.3 (it is 1.4.2)"


def test_with_its_packages_a_method_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    installed({"optimum": "2.0.0", "gptqmodel": "5.0.0+cu128"}, monkeypatch)
    assert not lack("gptq")
    assert not lack("awq")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "a GPU of compute capability 9.0, and this machine has none"),
        ((8, 6), "a GPU of compute capability 9.0, and this machine's is 8.6"),
        ((9, 0), ""),
        ((10, 0), ""),
    ],
)
def test_a_gpu_that_is_missing_or_too_old_is_said(
    found: tuple[int, int] | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed({"fbgemm-gpu": "1.0"}, monkeypatch)
    gpu(found, monkeypatch)
    assert lack("fbgemm_fp8") == said


def test_a_method_for_gpus_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    installed({"hqq": "0.2.8"}, monkeypatch)
    gpu(None, monkeypatch)
    assert lack("hqq") == "an NVIDIA GPU, and this machine has none"


def test_a_method_that_is_not_known_is_refused_and_no_module_of_that_name_helps() -> None:
    assert "does not know" in lack("json")


def test_every_method_has_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    installed({"gptqmodel": "5.0.0"}, monkeypatch)
    states = {state.method: state for state in quantizer_states()}
    assert set(states) == set(QUANTIZERS)
    assert states["awq"].versions == ("gptqmodel 5.0.0",)
    assert states["gptq"].obstacle is not None
    assert states["fp8"].is_unpacked


def test_the_driver_is_asked_for_the_least_able_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    capability.gpu_capability.cache_clear()
    pairs = [(9, 0), (8, 6)]
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(pairs),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetCudaComputeCapability=lambda handle: pairs[handle],
    )
    monkeypatch.setattr("importlib.import_module", lambda _: nvml)
    try:
        assert capability.gpu_capability() == (8, 6)
    finally:
        capability.gpu_capability.cache_clear()


def test_without_a_driver_there_is_no_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError

    capability.gpu_capability.cache_clear()
    monkeypatch.setattr(
        "importlib.import_module", lambda _: SimpleNamespace(NVMLError=RuntimeError, nvmlInit=refuse)
    )
    try:
        assert capability.gpu_capability() is None
    finally:
        capability.gpu_capability.cache_clear()
