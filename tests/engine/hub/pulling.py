"""Repositories of random bytes, and downloads of them that are waited for."""

from __future__ import annotations

import json
import os
import random
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import coverage
import pytest

from engine import Download, list_models, parse_repository
from engine.downloads import ENDS, AnyDownloadEvent, DownloadProgress
from engine.hub.staging import FOLDER
from tests.stub_hubs import Files, StubHubs

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 30.0
REPO = "owner/na.me"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
ADDRESSES = (f"hf:{REPO}", f"ms:{REPO}")


def weights(size: int, seed: int) -> bytes:
    """A sound safetensors file of one tensor of random bytes."""
    entry = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(size)


def repository(size: int = 200_000, seed: int = 1) -> Files:
    """A sharded model of two times `size` bytes, with what comes beside it."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}
    config |= {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 8}
    index = {"metadata": {}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        SHARDS[0]: weights(size, seed),
        SHARDS[1]: weights(size, seed + 1),
        "tokenizer.json": b"{}" * 400,
        "additional_chat_templates/rag.jinja": b"{{ messages }}",
        "pytorch_model.bin": b"\x80\x04.",
        "modeling_owner.py": b"import os",
        "onnx/model.onnx": b"onnx",
    }


WANTED = set(repository(8)) - {"pytorch_model.bin", "modeling_owner.py", "onnx/model.onnx"}


class Pull:
    """A download and what it told."""

    def __init__(self, address: str) -> None:
        self.events: list[AnyDownloadEvent] = []
        self._changed = threading.Condition()
        self.download = Download(parse_repository(address), self._hear)

    def _hear(self, event: AnyDownloadEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def start(self) -> Pull:
        self.download.start()
        return self

    def wait_for(self, condition: Callable[[AnyDownloadEvent], bool]) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: any(map(condition, self.events)), PATIENCE_SECONDS)
        assert came, self.events[-3:]

    def wait_for_bytes(self, count: int) -> None:
        self.wait_for(lambda event: isinstance(event, DownloadProgress) and event.done_bytes >= count)

    def end(self) -> AnyDownloadEvent:
        """The last event, of which there is one."""
        assert self.download.wait(PATIENCE_SECONDS)
        assert [isinstance(event, ENDS) for event in self.events].count(True) == 1
        return self.events[-1]


def pull(address: str) -> AnyDownloadEvent:
    return Pull(address).start().end()


def lead_to(hubs: StubHubs, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the hubs' libraries ask there, without anybody's token."""
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "MODELSCOPE_API_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in hubs.environment(folder).items():
        monkeypatch.setenv(name, value)
    if coverage.Coverage.current() is not None:
        _count_lines_of_processes(folder / "counting", monkeypatch)


def _count_lines_of_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a download's process take part in the count of lines that tests run."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("COVERAGE_PROCESS_START", str(ROOT / "pyproject.toml"))


def content(folder: Path) -> Files:
    """All files below a folder, links followed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def listed() -> set[str]:
    """Names of the models in the hubs' caches that can be loaded as far as is known."""
    return {model.ref.name for model in list_models() if model.ref.hub and not model.problem}


def installed() -> Path:
    """The folder of the only model in the hubs' caches."""
    (folder,) = (model.ref.folder for model in list_models() if model.ref.hub)
    return folder


def left_over(folder: Path) -> list[Path]:
    """What a finished download must not leave."""
    patterns = (FOLDER, "*.incomplete", "*.lock", ".links-*", "*.tmp")
    return [path for pattern in patterns for path in folder.rglob(pattern)]
