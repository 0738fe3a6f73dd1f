"""How a process of ours finds our packages."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGES = Path(__file__).resolve().parent.parent


def environment_for_modules() -> dict[str, str]:
    """This process's environment, with which `python -P -m engine...` finds the engine."""
    environment = dict(os.environ)
    if _PACKAGES.name != "site-packages":
        # A checkout that is not installed; installed packages must not come before the standard library.
        path = filter(None, (str(_PACKAGES), environment.get("PYTHONPATH")))
        environment["PYTHONPATH"] = os.pathsep.join(path)
    return environment
