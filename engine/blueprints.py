"""What a model is made of, and what a forward of it holds: the answer of a dry run."""

from __future__ import annotations

from engine.value import Value


class BuiltTensor(Value, frozen=True, kw_only=True):
    """One parameter or buffer of the built model.

    Attributes:
        name: its path in the built model ("model.layers.0.mlp.up_proj.weight").
        shape: in elements.
        itemsize: bytes of one element once loaded, without quantizing on load.
        packs: bitsandbytes stores it packed when that is asked for.
        rows: of the matrix that it packs, its output features; 0 takes the first side of the shape.
        active_share: the part of it that one token reads: k of n experts, one row of an embedding.
        is_buffer: it is computed by the model, not stored in the checkpoint.
    """

    name: str
    shape: tuple[int, ...]
    itemsize: int
    packs: bool = False
    rows: int = 0
    active_share: float = 1.0
    is_buffer: bool = False


class CacheGrowth(Value, frozen=True, kw_only=True):
    """What one layer's cache takes.

    Attributes:
        layer: its index in the main list.
        bytes_per_token: until `longest_tokens`.
        constant_bytes: whatever the length.
        longest_tokens: the cache grows no further than this; 0 has no end.
    """

    layer: int
    bytes_per_token: int = 0
    constant_bytes: int = 0
    longest_tokens: int = 0


class ActivationPeak(Value, frozen=True, kw_only=True):
    """The most bytes that one chunk of prefill held at once, beside weights and KV cache.

    Attributes:
        chunk_tokens: computed at once.
        context_tokens: in the cache when the chunk is done.
        bytes: at the peak, where the CPU computes it.
        gpu_bytes: where a GPU does, whose fused attention keeps no scores; 0 takes the same.
    """

    chunk_tokens: int
    context_tokens: int
    bytes: int
    gpu_bytes: int = 0


class Blueprint(Value, frozen=True, kw_only=True):
    """The structure of one model, from its class on the meta device.

    Attributes:
        architecture: the class that was built.
        parameters: distinct parameters, tied ones once.
        tensors: every distinct parameter and buffer once.
        layer_list: path of the list of layers ("model.layers").
        tied: (name, the name whose storage it shares).
        caches: one per layer that keeps something.
        peaks: of several chunks and lengths, ascending.
        step_ops: operations that one decode step dispatches, views not counted; 0 where none was followed.
        step_convolutions: among them.
        step_bytes: of large tensors that these read and write, weights and attention not counted.
        prompt_bytes: likewise, of a prompt of a few tokens: recurrent mixers fill a whole block for them.
    """

    architecture: str
    parameters: int
    tensors: tuple[BuiltTensor, ...]
    layer_list: str = ""
    tied: tuple[tuple[str, str], ...] = ()
    caches: tuple[CacheGrowth, ...] = ()
    peaks: tuple[ActivationPeak, ...] = ()
    step_ops: int = 0
    step_convolutions: int = 0
    step_bytes: int = 0
    prompt_bytes: int = 0
