"""What keeps code that a pickle might bring from doing harm, beside torch's refusal to run any."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import NoReturn

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_REFUSED = (
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)


def leave_network() -> bool:
    """Move this process into an empty network; whether the kernel allowed it.

    A network namespace of its own has no way out, whatever code runs in it. Making one needs privileges, or
    a user namespace, which some systems forbid. Call it before there are threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_NEW_NETWORK, _NEW_NETWORK | _NEW_USER))


def refuse_python_calls() -> None:
    """Let no Python code of this process reach a network or start a program; native code could still."""
    sys.addaudithook(_refuse)


def _refuse(event: str, _arguments: object) -> None:
    if event.startswith(_REFUSED):
        raise PermissionError(f"A conversion may not do this: {event}.")


def keep_small() -> None:
    """Leave no core dump, and be the first that a lack of memory ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")
    except OSError:
        return


def end_with_parent() -> NoReturn:
    """Wait until the parent's end of descriptor 0 is closed; then let the main thread clean up."""
    import _thread

    while os.read(0, 1):
        pass
    _thread.interrupt_main()
    sys.exit()
