from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engine.nvml import NO_DRIVER, Nvml
from tests.fake_nvml import CALLS, ERROR_STRING, FakeNvml, compile_library, put_in_place, uuid_of

GIB = 1 << 30
pynvml = importlib.import_module("pynvml")
CODES = sorted(
    {
        value
        for name, value in vars(pynvml).items()
        if name.startswith("NVML_ERROR_") and isinstance(value, int)
    }
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """The shim, compiled once."""
    return FakeNvml(compile_library(tmp_path_factory.mktemp("nvml")))


@pytest.fixture
def fake(library: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The shim in pynvml's hands, one sound GPU in it."""
    put_in_place(library.library, monkeypatch)
    library.reset(1)
    return library


def test_a_gpu_is_read(fake: FakeNvml) -> None:
    state = Nvml().read(None)
    (gpu,) = state.gpus
    assert (gpu.index, gpu.uuid, gpu.label, gpu.problem, state.note) == (0, uuid_of(0), "H200", "", "")
    assert (gpu.vram_total, gpu.vram_used, gpu.own_bytes, gpu.others_bytes) == (
        80 * GIB,
        10 * GIB,
        0,
        10 * GIB,
    )


def test_the_engines_use_is_told_apart_and_the_others_are_one_sum(fake: FakeNvml) -> None:
    fake.process(os.getpid(), 3 * GIB)
    fake.process(1, 2 * GIB)
    (gpu,) = Nvml().read(os.getpid()).gpus
    assert (gpu.own_bytes, gpu.others_bytes) == (3 * GIB, 7 * GIB)


def test_the_engines_children_are_its_own(fake: FakeNvml) -> None:
    with subprocess.Popen(["sleep", "30"]) as child:
        fake.process(child.pid, GIB)
        (gpu,) = Nvml().read(os.getpid()).gpus
        child.kill()
    assert gpu.own_bytes == GIB


@pytest.mark.parametrize("processes", [[(2**22 + 9, GIB)], [(0, 2**64 - 1)]])
def test_own_bytes_are_unknown_where_the_driver_does_not_say(
    fake: FakeNvml, processes: list[tuple[int, int]]
) -> None:
    for pid, used in processes:
        fake.process(pid or os.getpid(), used)
    (gpu,) = Nvml().read(os.getpid()).gpus
    assert (gpu.own_bytes, gpu.others_bytes) == (None, 10 * GIB)


def test_an_engine_that_has_just_ended_owns_nothing(fake: FakeNvml) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert Nvml().read(gone.pid).gpus[0].own_bytes == 0


def test_more_than_the_device_uses_is_not_owned(fake: FakeNvml) -> None:
    fake.process(os.getpid(), 99 * GIB)
    (gpu,) = Nvml().read(os.getpid()).gpus
    assert (gpu.own_bytes, gpu.others_bytes) == (10 * GIB, 0)


def test_check_36_gpus_come_in_cudas_order_with_cudas_numbers(
    fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.reset(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"5,{uuid_of(2)}")
    gpus = Nvml().read(None).gpus
    assert [(gpu.index, gpu.uuid) for gpu in gpus] == [(0, uuid_of(5)), (1, uuid_of(2))]
    assert [gpu.vram_used for gpu in gpus] == [15 * GIB, 12 * GIB]


def test_a_lost_gpu_keeps_its_place_beside_the_others(
    fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.reset(2)
    handle_of = pynvml.nvmlDeviceGetHandleByIndex

    def lost(index: int) -> object:
        if index == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return handle_of(index)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lost)
    first, second = Nvml().read(None).gpus
    assert (first.problem, second.problem) == ("n/a (GPU is lost)", "")


def test_check_35_every_code_from_every_call_is_a_sentence_and_recovers(fake: FakeNvml) -> None:
    assert len(CODES) >= 28
    nvml = Nvml()
    for call in CALLS:
        for code in (*CODES, 998):
            fake.reset(2)
            fake.fail(call, code)
            state = nvml.read(os.getpid())
            notes = {state.note, *(gpu.problem for gpu in state.gpus)} - {""}
            assert all(note == NO_DRIVER or note.startswith("n/a (") for note in notes), (call, code, notes)
            nvml.disconnect()
            fake.reset(2)
            assert [gpu.problem for gpu in nvml.read(os.getpid()).gpus] == ["", ""], (call, code)
            nvml.disconnect()


@pytest.mark.parametrize(
    "call", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo"]
)
def test_check_35_a_failing_call_gives_its_reason(fake: FakeNvml, call: str) -> None:
    fake.fail(call, pynvml.NVML_ERROR_NO_PERMISSION)
    state = Nvml().read(None)
    problem = state.gpus[0].problem if state.gpus else state.note
    assert problem == "n/a (Insufficient Permissions)"


@pytest.mark.parametrize("missing", [*CALLS, ERROR_STRING])
def test_check_35_a_missing_symbol_is_a_reading_with_less_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    shim = FakeNvml(compile_library(tmp_path, without=missing, name=f"without-{missing}.so"))
    put_in_place(shim.library, monkeypatch)
    shim.fail("nvmlDeviceGetMemoryInfo" if missing == ERROR_STRING else "", 777)
    nvml = Nvml()
    state = nvml.read(os.getpid())
    nvml.disconnect()
    assert all(gpu.own_bytes is None or not gpu.problem for gpu in state.gpus)
    assert state.gpus or state.note == "n/a (Function Not Found)"


def test_check_35_without_a_library_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ctypes.CDLL:
        raise OSError(name)

    put_in_place(None, monkeypatch)
    monkeypatch.setattr(pynvml, "CDLL", absent)
    nvml = Nvml()
    assert nvml.read(None) == ((), NO_DRIVER)
    nvml.disconnect()


def test_the_library_is_found_where_the_system_looks_for_it(tmp_path: Path) -> None:
    compile_library(tmp_path, name="libnvidia-ml.so.1")
    program = """
        import ctypes
        ctypes.CDLL("libnvidia-ml.so.1").fake_reset(3)
        from engine import read_memory
        print(len(read_memory().gpus))
    """
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "3\n"
