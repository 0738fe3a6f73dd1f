"""What a model folder turned out to be."""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.config import ModelConfig
from engine.checkpoint.parameters import parameters_of
from engine.checkpoint.tensors import StoredTensor
from engine.values import Value


class LoraPair(Value, frozen=True, kw_only=True):
    """Two matrices of an adapter, and the weight W that becomes W + scale * B A.

    Attributes:
        path: of the module, as the adapter calls it.
        target: name of the base model's weight, as stored.
        a: [rank, columns].
        b: [rows, rank].
        scale: their product's factor.
        is_embedding: W is [columns, rows], of an embedding.
    """

    path: str
    target: str
    a: StoredTensor
    b: StoredTensor
    scale: float
    is_embedding: bool = False


class WholeWeight(Value, frozen=True, kw_only=True):
    """A weight that an adapter brings whole, in place of the base model's.

    Attributes:
        target: name of the base model's weight, as stored.
        tensor: of the same shape.
    """

    target: str
    tensor: StoredTensor


class Lora(Value, frozen=True, kw_only=True):
    """A LoRA adapter that fits its base model.

    Attributes:
        folder: the adapter's own.
        format: in a word or two: "LoRA r16".
        pairs: each of another weight.
        wholes: what the pairs' shares are added to where the base model's own weights are not.
    """

    folder: Path
    format: str
    pairs: tuple[LoraPair, ...]
    wholes: tuple[WholeWeight, ...] = ()


class Verdict(Value, frozen=True, kw_only=True):
    """What a sound folder says; an unsound one raises instead.

    Attributes:
        folder: the model's folder.
        config: of the language model.
        tensors: every tensor as stored.
        native_class: the class that runs it: transformers' own, unless it `runs_code`.
        warnings: what the person should know before loading.
        is_on_disk: the tensors are read from headers; otherwise config.json alone describes them.
        is_renamed: the tensors bear the names that the native class gives them, not those of the files.
        runs_code: the class is the repository's own, and the person agreed to that.
        adapter: is merged into the weights while they are loaded.
    """

    folder: Path
    config: ModelConfig
    tensors: tuple[StoredTensor, ...]
    native_class: str
    warnings: tuple[str, ...] = ()
    is_on_disk: bool = True
    is_renamed: bool = False
    runs_code: bool = False
    adapter: Lora | None = None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """Distinct parameters; a tied head that is stored as well counts once."""
        return sum(parameters_of(tensor, self.config) for tensor in self.tensors)

    @property
    def dtype(self) -> str:
        """The dtype that most bytes are stored in, by safetensors' name; empty without tensors."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
        return max(sizes, key=lambda dtype: sizes[dtype], default="")
