"""The C++ compilers that can build our CPU kernels, and what switches the kernels off."""

from __future__ import annotations

import os
import shutil

VARIABLE = "VRAMBLE_KERNELS"
"""Names the folder of the builds; OFF for none."""
OFF = "off"
COMPILERS = ("g++", "c++", "clang++")


def kernels_are_off() -> bool:
    """Whether the person wants no kernels of ours."""
    return os.environ.get(VARIABLE) == OFF


def found_compilers() -> list[str]:
    """Return the paths of the compilers there are, the first to be tried first."""
    return [found for name in COMPILERS if (found := shutil.which(name))]
