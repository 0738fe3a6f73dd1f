from __future__ import annotations

import faulthandler
import os
import resource
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import child
from engine.child import EXIT_WIRE_BROKEN, Channel
from engine.commands import Shutdown
from engine.engine import Engine
from engine.errors import InvalidValue
from engine.events import AnyEvent, Heartbeat, ModelLoaded, TextDelta, TurnFinished
from engine.script import Reply, Script
from engine.scripted import ScriptedBackend
from engine.values import FinishReason
from engine.wire import Cancel, encode, event_decoder
from tests.engine.listener import PATIENCE_SECONDS, Listener, ask, load, write_script

LONG = Script(replies=(Reply(text="word " * 20_000, tokens_per_second=500.0),))


class Far:
    """The screen's end of a wire whose other end is served by a thread of this process."""

    def __init__(self, script: Script) -> None:
        self.near, far = socket.socketpair()
        self.listener = Listener()
        self.exit_codes: list[int] = []
        self._channel = Channel(far)
        self._engine = Engine(lambda: ScriptedBackend(script), self._channel.send)
        self._far = far
        self.serving = threading.Thread(target=self._serve)
        self._listening = threading.Thread(target=self._listen)
        self.serving.start()
        self._listening.start()

    def _serve(self) -> None:
        self.exit_codes.append(child.serve(self._channel, self._engine, lambda: None))

    def _listen(self) -> None:
        decoder = event_decoder()
        while data := self.near.recv(2**16):
            for event in decoder.feed(data):
                self.listener(event)

    def finish(self) -> int:
        """The exit code, once serving has ended."""
        self.serving.join(PATIENCE_SECONDS)
        self._engine.close()
        self._far.shutdown(socket.SHUT_RDWR)
        self._listening.join(PATIENCE_SECONDS)
        self._far.close()
        self.near.close()
        return self.exit_codes[0]


def test_commands_from_the_wire_are_answered_and_shutdown_ends_it() -> None:
    far = Far(Script(replies=(Reply(text="hi"),)))
    far.near.sendall(encode(load(1)) + encode(ask(2)))
    far.listener.wait_for(ModelLoaded, 1)
    far.listener.wait_for(TurnFinished, 2)
    far.near.sendall(encode(Shutdown()))
    assert far.finish() == 0
    assert far.listener.text(2) == "hi"
    assert far.listener.of(Heartbeat)[0].ram_bytes > 2**20


def test_a_cancel_on_the_wire_stops_a_running_turn() -> None:
    far = Far(LONG)
    far.near.sendall(encode(load(1)) + encode(ask(2)))
    far.listener.wait_for(TextDelta, 2)
    far.near.sendall(encode(Cancel(turn_id=2)))
    assert far.listener.wait_for(TurnFinished, 2).finish_reason is FinishReason.CANCELLED
    far.near.sendall(encode(Shutdown()))
    assert far.finish() == 0


def test_the_end_of_the_wire_ends_it_without_waiting_for_the_engine() -> None:
    far = Far(LONG)
    far.near.sendall(encode(load(1)) + encode(ask(2)))
    far.listener.wait_for(TextDelta, 2)
    far.near.shutdown(socket.SHUT_WR)
    far.serving.join(PATIENCE_SECONDS)
    assert not far.listener.of(TurnFinished)
    assert far.finish() == 0


def test_nonsense_on_the_wire_ends_it_with_an_exit_code_and_a_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    far = Far(Script())
    far.near.sendall((3).to_bytes(4, "big") + b"\xc1\xc1\xc1")
    assert far.finish() == EXIT_WIRE_BROKEN
    assert "is no message" in capfd.readouterr().err


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, Channel]]:
    near, far = socket.socketpair()
    yield near, Channel(far)
    near.close()
    far.close()


def test_two_threads_may_send_readings_at_once(wire: tuple[socket.socket, Channel]) -> None:
    near, channel = wire
    failures: list[Exception] = []

    def talk() -> None:
        try:
            for _ in range(3000):
                channel.send(Heartbeat(ram_bytes=1))
        except RuntimeError as error:
            failures.append(error)

    talkers = [threading.Thread(target=talk) for _ in range(4)]
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: near.recv(65_536), b"")])
    reader.start()
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join()
    near.shutdown(socket.SHUT_RDWR)
    reader.join()
    assert failures == []


def test_readings_are_dropped_and_text_waits_when_the_screen_does_not_read(
    wire: tuple[socket.socket, Channel],
) -> None:
    near, channel = wire
    texts = [TextDelta(seq=number, text="x" * 50_000) for number in range(1, 41)]

    def talk() -> None:
        for text in texts:
            channel.send(text)

    talker = threading.Thread(target=talk)
    talker.start()
    while channel._has_room():
        talker.join(0.01)
    for _ in range(1000):
        channel.send(Heartbeat(ram_bytes=1))
    received: list[AnyEvent] = []
    decoder = event_decoder()
    while len(received) < len(texts):
        received += decoder.feed(near.recv(2**16))
    talker.join()
    assert [event for event in received if isinstance(event, TextDelta)] == texts
    assert len(received) - len(texts) < 1000


def test_a_lost_wire_is_no_error_for_those_who_send(wire: tuple[socket.socket, Channel]) -> None:
    near, channel = wire
    near.close()
    channel.send(TextDelta(text="to nobody"))
    assert list(channel.messages()) == []


def test_the_backend_is_chosen_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRAMBLE_BACKEND", write_script(tmp_path, Script()))
    assert isinstance(child.make_backend(), ScriptedBackend)
    monkeypatch.setenv("VRAMBLE_BACKEND", "nothing:of the kind")
    with pytest.raises(InvalidValue, match="nothing"):
        child.make_backend()


def test_the_libraries_find_no_network_and_private_folders(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "triton").mkdir(parents=True, mode=0o755)
    variables = child.environment(cache)
    assert variables["HF_HUB_OFFLINE"] == "1"
    for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        folder = Path(variables[name])
        assert folder.is_relative_to(cache)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "TMPDIR" not in child.environment(None)
    assert int(child.environment(None)["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 1024


def test_the_process_is_hardened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: dict[int, object] = {}
    files: list[int] = []
    score = tmp_path / "oom_score_adj"
    umask = os.umask(0o022)
    cores = resource.getrlimit(resource.RLIMIT_CORE)
    monkeypatch.setattr(signal, "signal", signals.__setitem__)
    monkeypatch.setattr(faulthandler, "enable", lambda *, file: files.append(file))
    monkeypatch.setattr(child, "_OOM_SCORE", score)
    try:
        child.harden()
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, cores)
        assert os.umask(umask) == 0o077
    assert signals == {signal.SIGINT: signal.SIG_IGN, signal.SIGHUP: signal.SIG_IGN}
    assert files == [2]
    assert score.read_text() == "500"


def test_an_orphan_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(child, "_ask_to_die_with_parent", lambda: None)
    child.bind_to_parent(os.getppid())
    assert exits == []
    child.bind_to_parent(-1)
    assert exits == [0]


def test_main_serves_the_descriptor_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair()
    monkeypatch.setenv("VRAMBLE_BACKEND", write_script(tmp_path, Script()))
    monkeypatch.setattr(child, "harden", lambda: None)
    monkeypatch.setattr(child, "_ask_to_die_with_parent", lambda: None)
    monkeypatch.setattr(child, "_OFFLINE", {})
    monkeypatch.setattr(os, "_exit", sys.exit)
    log = tmp_path / "engine.log"
    near.sendall(encode(Shutdown()))
    with pytest.raises(SystemExit) as ended:
        child.main(["--fd", str(far.detach()), "--parent", str(os.getppid()), "--log", str(log)])
    near.close()
    assert ended.value.code == 0


def test_without_a_log_there_is_nothing_to_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    child.rotate(None)
    assert list(tmp_path.iterdir()) == []


def test_a_process_without_proc_reports_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_STATM", tmp_path / "absent")
    assert child.resident_bytes() == 0


def test_the_allocator_grows_its_segments_unless_the_person_chose_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(variable, raising=False)
    assert child.environment(None)["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert "PYTORCH_ALLOC_CONF" not in child.environment(None)
