"""What a conversion's process cannot do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

_TRY = """
import os, socket, sys
from engine.conversion.isolation import leave_network, refuse_python_calls
empty = leave_network()
if sys.argv[1] == "python":
    refuse_python_calls()
def outcome(attempt):
    try:
        attempt()
    except PermissionError:
        return "refused"
    except OSError as error:
        return error.strerror
    return "done"
def connect():
    with socket.socket() as here:
        here.settimeout(2)
        here.connect(("127.0.0.1", int(sys.argv[2])))
open(sys.argv[3], "w").close()
print(empty, outcome(connect), outcome(lambda: os.system("true")), sep="|")
"""


def tried(how: str, scratch: Path) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", _TRY, how, str(server.getsockname()[1]), str(scratch / "file")]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.strip().split("|")


def test_python_code_reaches_no_network_and_starts_no_program(tmp_path: Path) -> None:
    assert tried("python", tmp_path)[1:] == ["refused", "refused"]


@pytest.mark.skipif(os.geteuid() != 0, reason="an empty network wants privileges")
def test_native_code_finds_an_empty_network(tmp_path: Path) -> None:
    assert tried("native", tmp_path)[:2] == ["True", "Network is unreachable"]
    assert (tmp_path / "file").exists()
