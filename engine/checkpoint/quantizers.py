"""What each way of storing a checkpoint quantized needs here, as transformers' own quantizers demand it.

Read in transformers 5.23, `quantizers/`. A method that is not listed would need code from a hub (kernels) or
another kind of device, or nobody tried it; it is refused by its name.
"""

from __future__ import annotations

import importlib.metadata
import re
from typing import NamedTuple

from engine.capability import gpu_capability


class Package(NamedTuple):
    """A distribution that must be installed.

    Attributes:
        name: as pip knows it.
        floor: the oldest version that will do; empty for any.
    """

    name: str
    floor: str = ""

    @property
    def requirement(self) -> str:
        """What to write behind `pip install`."""
        return f"'{self.name}>={self.floor}'" if self.floor else self.name

    @property
    def version(self) -> str:
        """The installed one; empty where there is none."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return ""

    @property
    def is_there(self) -> bool:
        """It is installed, and new enough."""
        return bool(self.version) and _numbers(self.version) >= _numbers(self.floor)


class Quantizer(NamedTuple):
    """One method.

    Attributes:
        packages: without which transformers does not load it.
        capability: of the GPU that it must have; None where the CPU will do.
        is_unpacked: the weights are loaded in the dtype they are computed in: what computes them packed is
            code from a hub, or unpacks them at the first token.
    """

    packages: tuple[Package, ...] = ()
    capability: tuple[int, int] | None = None
    is_unpacked: bool = False

    @property
    def missing(self) -> tuple[Package, ...]:
        """Packages that are not there, or too old."""
        return tuple(package for package in self.packages if not package.is_there)


ANY_GPU = (0, 0)
QUANTIZERS = {
    "bitsandbytes": Quantizer((Package("bitsandbytes", "0.46.1"),)),
    "fp8": Quantizer(is_unpacked=True),
    "mxfp4": Quantizer(is_unpacked=True),
    "gptq": Quantizer((Package("optimum", "1.24.0"), Package("gptqmodel", "1.4.3"))),
    "awq": Quantizer((Package("gptqmodel"),)),
    "compressed-tensors": Quantizer((Package("compressed-tensors", "0.15.0"),), is_unpacked=True),
    "torchao": Quantizer((Package("torchao", "0.15.0"),)),
    "aqlm": Quantizer((Package("aqlm"),)),
    "auto-round": Quantizer((Package("auto-round", "0.5.0"),)),
    "hqq": Quantizer((Package("hqq", "0.2.1"),), ANY_GPU),
    "vptq": Quantizer((Package("vptq", "0.0.4"),), ANY_GPU),
    "spqr": Quantizer((Package("spqr_quant"),), ANY_GPU),
    "fbgemm_fp8": Quantizer((Package("fbgemm-gpu"),), (9, 0)),
}
"""By the `quant_method` of config.json."""
_UNQUANTIZED = "Get the unquantized model, and load it with nf4 or int8."


class Obstacle(NamedTuple):
    """Why weights that are stored by a method cannot be loaded.

    Attributes:
        lack: what is missing, to follow "needs".
        hint: the next step.
    """

    lack: str
    hint: str


def obstacle(method: str) -> Obstacle | None:
    """What keeps a checkpoint that is stored by a method from being loaded; None when nothing does."""
    quantizer = QUANTIZERS.get(method)
    if quantizer is None:
        return Obstacle("a quantizer that this version does not know", _UNQUANTIZED)
    if missing := quantizer.missing:
        names = " and ".join(_lacking(package) for package in missing)
        asked = " ".join(package.requirement for package in missing)
        return Obstacle(names, f"`pip install {asked}` beside vramble. Or: {_UNQUANTIZED}")
    return None if quantizer.capability is None else _gpu_obstacle(quantizer.capability)


def _lacking(package: Package) -> str:
    return f"{package.name} {package.floor} (it is {package.version})" if package.version else package.name


def _gpu_obstacle(wanted: tuple[int, int]) -> Obstacle | None:
    found = gpu_capability()
    if found is not None and found >= wanted:
        return None
    which = "an NVIDIA GPU" if wanted == ANY_GPU else f"a GPU of compute capability {_dotted(wanted)}"
    here = "this machine has none" if found is None else f"this machine's is {_dotted(found)}"
    return Obstacle(f"{which}, and {here}", _UNQUANTIZED)


def is_unpacked(method: str) -> bool:
    """Loading unpacks weights that are stored by this method."""
    return method in QUANTIZERS and QUANTIZERS[method].is_unpacked


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


class QuantizerState(NamedTuple):
    """How one method fares on this machine.

    Attributes:
        method: the `quant_method` of config.json.
        versions: of the packages that are there ("gptqmodel 5.0.0").
        is_unpacked: loading unpacks the weights.
        obstacle: why such a checkpoint cannot be loaded; None where it can.
    """

    method: str
    versions: tuple[str, ...]
    is_unpacked: bool
    obstacle: Obstacle | None


def quantizer_states() -> tuple[QuantizerState, ...]:
    """Every known method, from the metadata of installed packages and the driver; nothing is imported."""
    return tuple(
        QuantizerState(
            method=method,
            versions=tuple(f"{p.name} {p.version}" for p in quantizer.packages if p.version),
            is_unpacked=quantizer.is_unpacked,
            obstacle=obstacle(method),
        )
        for method, quantizer in QUANTIZERS.items()
    )
