"""LoRA adapters, read and checked against their base model before anything is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.checkpoint.adapter import ADAPTER_CONFIG, HIGHEST_RANK, Adapter, read_adapter
from engine.checkpoint.files import DOWNLOAD_AGAIN, JsonObject, contained, read_json, shown
from engine.checkpoint.parameters import HEADS
from engine.checkpoint.tensors import StoredTensor, read_header
from engine.checkpoint.verdict import Lora, LoraPair, Verdict, WholeWeight
from engine.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedModel

ADAPTER_FILE = "adapter_model.safetensors"
_SAVE_AGAIN = "Save the adapter again as safetensors (peft: save_pretrained with safe_serialization=True)."
_MERGE = "Merge it into its base model (peft: merge_and_unload), and load that."
_PREFIX = "base_model.model."
_PAIRS = {
    "lora_A.weight": ("a", False), "lora_B.weight": ("b", False),
    "lora_embedding_A": ("a", True), "lora_embedding_B": ("b", True),
}  # fmt: skip
_WHOLES = (".base_layer.weight", ".weight")
_FLOATS = ("F32", "F16", "BF16")
_WAYS = {
    "use_dora": "DoRA", "use_qalora": "QA-LoRA", "use_bdlora": "block-diagonal LoRA", "kasa_config": "KaSA",
    "arrow_config": "Arrow", "monteclora_config": "MonteCLoRA", "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "copied layers", "target_parameters": "adapted parameters outside of linear layers",
}  # fmt: skip
"""Fields of the config that make the adapter compute something else than W + scale * B A."""
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin training that leave the base model's weights alone."""
_LARGEST_SCALE = 1e6


class _Half(NamedTuple):
    """One matrix of the adapter, and the module that it is of."""

    path: str
    side: str
    is_embedding: bool
    tensor: StoredTensor


def with_adapter(verdict: Verdict, folder: Path) -> Verdict:
    """A base model's verdict with an adapter, every matrix of which is known to fit.

    Args:
        verdict: of the base model.
        folder: of the adapter.

    Raises:
        DamagedCheckpoint: a file is missing or malformed, or shapes contradict each other or the base model.
        UnsafeCheckpoint: its weights are pickles.
        UnsupportedModel: it is of a kind that is not merged, or the base model is stored packed.
    """
    adapter = read_adapter(folder)
    _refuse_base(verdict, folder.name)
    if adapter.kind != "LoRA":
        raise adapter.refusal(folder.name)
    config = read_json(folder, ADAPTER_CONFIG)
    _refuse_ways(config, folder.name)
    tensors = _tensors(folder)
    pairs = tuple(_pairs(tensors, _Scales(config), verdict))
    wholes = tuple(_wholes(tensors, verdict))
    if not pairs:
        raise DamagedCheckpoint(f"{ADAPTER_FILE} holds no LoRA matrices.", DOWNLOAD_AGAIN)
    for parts in (pairs, wholes):
        if len({part.target for part in parts}) < len(parts):
            raise DamagedCheckpoint(f"{ADAPTER_FILE} changes a weight twice.", DOWNLOAD_AGAIN)
    lora = Lora(folder=folder, format=adapter.format, pairs=pairs, wholes=wholes)
    told = f"{adapter.format} ({shown(folder.name)}) is merged into {len(pairs)} weights of its base model."
    return msgspec.structs.replace(verdict, adapter=lora, warnings=(told, *verdict.warnings))


def refuse_adapter(folder: Path, adapter: Adapter) -> None:
    """Refuse what an adapter's configuration and the names of its files tell, its headers unread.

    Raises:
        DamagedCheckpoint: its configuration cannot be read.
        UnsafeCheckpoint: its weights are pickles.
        UnsupportedModel: it is of a kind that is not merged.
    """
    if adapter.kind != "LoRA":
        raise adapter.refusal(folder.name)
    _refuse_ways(read_json(folder, ADAPTER_CONFIG), folder.name)
    _refuse_pickle(folder)


def _refuse_base(verdict: Verdict, name: str) -> None:
    config = verdict.config
    pairs = (
        (config.quantization, f"is stored as {shown(config.quantization)}; a plain copy of it is needed"),
        (verdict.runs_code, "runs code of its own"),
        (verdict.is_renamed, "is an old repository whose weights bear other names here"),
    )
    for condition, reason in pairs:
        if condition:
            message = f"{shown(name)} cannot be merged on load: its base model {reason}."
            raise UnsupportedModel(message, _MERGE)


def _refuse_ways(config: JsonObject, name: str) -> None:
    found = [title for field, title in _WAYS.items() if config.get(field)]
    start = config.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        found.append(f"LoRA begun by {shown(start, 20)}, which changes the base model")
    if found:
        raise UnsupportedModel(f"{shown(name)} uses {found[0]}, which is not merged here.", _MERGE)


def _refuse_pickle(folder: Path) -> None:
    is_there = os.path.lexists(folder / ADAPTER_FILE)
    if not is_there and os.path.lexists(folder / "adapter_model.bin"):
        message = f"{shown(folder.name)} has its weights in adapter_model.bin, a pickle, which is not opened."
        raise UnsafeCheckpoint(message, _SAVE_AGAIN)


def _tensors(folder: Path) -> tuple[StoredTensor, ...]:
    _refuse_pickle(folder)
    return read_header(contained(folder, ADAPTER_FILE), ADAPTER_FILE)


class _Scales:
    """What B A is multiplied with, and its rank, module by module, as peft computes them."""

    def __init__(self, config: JsonObject) -> None:
        """Read the configuration's ranks and alphas."""
        self._rank = config.get("r")
        self._alpha = config.get("lora_alpha")
        self._ranks = _pattern(config, "rank_pattern")
        self._alphas = _pattern(config, "alpha_pattern")
        self._by_root = bool(config.get("use_rslora"))

    def scale(self, path: str, rank: int) -> float:
        """The factor of one module's matrices, which are of this rank. Raises DamagedCheckpoint."""
        wanted = _matched(self._ranks, path, self._rank)
        alpha = _matched(self._alphas, path, self._alpha)
        if wanted != rank or not 0 < rank <= HIGHEST_RANK:
            raise _damaged(f"{shown(path)} is of rank {rank}, and {ADAPTER_CONFIG} says {shown(wanted)}")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            raise _damaged(f"{ADAPTER_CONFIG} says {shown(alpha)} for lora_alpha")
        scale = float(min(max(alpha, -1e9), 1e9)) / (math.sqrt(rank) if self._by_root else rank)
        if not abs(scale) <= _LARGEST_SCALE:
            raise _damaged(f"{ADAPTER_CONFIG} multiplies with {scale:.0e}")
        return scale


def _pattern(config: JsonObject, field: str) -> dict[str, object]:
    """Ends of modules' names, and what holds for them. Raises UnsupportedModel for regular expressions."""
    pattern = config.get(field) or {}
    if not isinstance(pattern, dict):
        raise _damaged(f"{ADAPTER_CONFIG} says {shown(pattern)} for {field}")
    for name in pattern:
        if not name.removeprefix("^").replace(".", "").replace("_", "").isalnum():
            message = f"{ADAPTER_CONFIG} chooses modules by the expression {shown(name)}."
            raise UnsupportedModel(message, _MERGE)
    return pattern


def _matched(pattern: Mapping[str, object], path: str, default: object) -> object:
    """The first entry that the end of a path fits, or all of it after a ^."""
    for name, value in pattern.items():
        if path == name.removeprefix("^") or path.endswith(f".{name}"):
            return value
    return default


def _pairs(tensors: tuple[StoredTensor, ...], scales: _Scales, verdict: Verdict) -> Iterator[LoraPair]:
    halves = [half for tensor in tensors if (half := _half(tensor))]
    found: dict[tuple[str, bool], dict[str, StoredTensor]] = {}
    for half in halves:
        found.setdefault((half.path, half.is_embedding), {})[half.side] = half.tensor
    stored = {tensor.name: tensor for tensor in verdict.tensors}
    for (path, is_embedding), sides in found.items():
        if len(sides) != len("ab"):
            raise _damaged(f"{shown(path)} has one LoRA matrix of two")
        target = _target(path, stored)
        _refuse_tied(target, verdict)
        rank = _checked_rank(sides["a"], sides["b"], target, is_embedding=is_embedding)
        yield LoraPair(
            path=path, target=target.name, a=sides["a"], b=sides["b"], scale=scales.scale(path, rank),
            is_embedding=is_embedding,
        )  # fmt: skip


def _wholes(tensors: tuple[StoredTensor, ...], verdict: Verdict) -> Iterator[WholeWeight]:
    """What it brings beside LoRA's matrices. Raises UnsupportedModel for what is no weight of the base."""
    stored = {tensor.name: tensor for tensor in verdict.tensors}
    for tensor in tensors:
        if _half(tensor) is not None:
            continue
        ending = next((ending for ending in _WHOLES if tensor.name.endswith(ending)), None)
        if ending is None or not tensor.name.startswith(_PREFIX):
            message = f"The adapter also brings {shown(tensor.name)}, which is no matrix of LoRA."
            raise UnsupportedModel(message, _MERGE)
        target = _target(tensor.name.removeprefix(_PREFIX).removesuffix(ending), stored)
        _refuse_tied(target, verdict)
        if tensor.dtype not in _FLOATS or tensor.shape != target.shape:
            raise _damaged(f"it has {shown(target.name)} as {_by(tensor)}, not {_by(target)}")
        yield WholeWeight(target=target.name, tensor=tensor)


def _half(tensor: StoredTensor) -> _Half | None:
    """What a tensor is of LoRA; None for anything else."""
    for ending, (side, is_embedding) in _PAIRS.items():
        if tensor.name.startswith(_PREFIX) and tensor.name.endswith(f".{ending}"):
            path = tensor.name.removeprefix(_PREFIX).removesuffix(f".{ending}")
            return _Half(path, side, is_embedding, tensor)
    return None


def _target(path: str, stored: Mapping[str, StoredTensor]) -> StoredTensor:
    """The base model's weight of a module, which a checkpoint may name with its prefix or without."""
    for name in (f"{path}.weight", f"{path.partition('.')[2]}.weight"):
        if name in stored:
            return stored[name]
    ends = [name for name in stored if name.endswith(f".{path}.weight")]
    if len(ends) == 1:
        return stored[ends[0]]
    message = f"The adapter changes {shown(path)}, and its base model stores no weight of that name."
    raise UnsupportedModel(message, f"See whether it is the right base model. {_MERGE}")


def _refuse_tied(target: StoredTensor, verdict: Verdict) -> None:
    """Refuse to change an embedding that is the head as well: peft changes one of them, a merge both."""
    config = verdict.config
    has_head = any(tensor.name.endswith(HEADS) for tensor in verdict.tensors)
    is_tied = config.is_tied or (config.is_tied is None and not has_head)
    if is_tied and target.shape[:1] == (config.vocab_size,):
        message = f"The adapter changes {shown(target.name)}, which the embedding and the head share."
        raise UnsupportedModel(message, "Untie them, merge the adapter with peft, and load that.")


def _checked_rank(a: StoredTensor, b: StoredTensor, target: StoredTensor, *, is_embedding: bool) -> int:
    """The rank of two matrices that fit each other and the base model's weight. Raises DamagedCheckpoint."""
    shapes = f"{_by(a)} and {_by(b)} for {_by(target)} of {shown(target.name)}"
    if any(tensor.dtype not in _FLOATS for tensor in (a, b, target)):
        dtypes = ", ".join(dict.fromkeys(tensor.dtype for tensor in (a, b, target)))
        message = f"The adapter and {shown(target.name)} are stored as {dtypes}; {', '.join(_FLOATS)} merge."
        raise UnsupportedModel(message, _MERGE)
    if any(len(tensor.shape) != len("ab") or not tensor.elements for tensor in (a, b, target)):
        raise _damaged(f"it has matrices of {shapes}")
    (rank, columns), (rows, inner) = a.shape, b.shape
    merged = (columns, rows) if is_embedding else (rows, columns)
    is_turned = not is_embedding and target.shape == merged[::-1]
    if rank != inner or (target.shape != merged and not is_turned):
        raise _damaged(f"it has matrices of {shapes}")
    return rank


def _by(tensor: StoredTensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _damaged(cause: str) -> DamagedCheckpoint:
    message = f"The adapter does not fit its base model: {cause}."
    return DamagedCheckpoint(message, "Get the adapter again, and see whether it is the right base model.")
