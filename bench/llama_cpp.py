"""The peer of `bench.native`: llama.cpp on random weights of the same shape, in a Python of its own.

`python -P bench/llama_cpp.py BF16|Q4_0 FOLDER`, with llama-cpp-python 0.3.36 and gguf installed there. It
writes the model once. A line {"do": "fill" | "decode", "tokens": n} is answered by {"seconds": [...]}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from llama_cpp import Llama

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, WIDTH, VOCABULARY = 2048, 8192, 16, 32, 8, 64, 32000
SHAPES = {
    "attn_q": (HEADS * WIDTH, HIDDEN),
    "attn_k": (KV_HEADS * WIDTH, HIDDEN),
    "attn_v": (KV_HEADS * WIDTH, HIDDEN),
    "attn_output": (HIDDEN, HEADS * WIDTH),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}
BYTES, SPECIAL = 256, 3
REPEATED_ROWS = 512
CONTEXT, BATCH, THREADS = 4352, 512, 2


def make(path: Path, kind: str) -> None:
    """Write the model; its tied embedding is stored once."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _describe(writer)
    dice = np.random.default_rng(0)
    stored = gguf.GGMLQuantizationType[kind]

    def add(name: str, rows: int, columns: int) -> None:
        part = (dice.standard_normal((REPEATED_ROWS, columns)) * 0.02).astype(np.float32)
        whole = np.tile(part, (-(-rows // REPEATED_ROWS), 1))[:rows]
        writer.add_tensor(name, gguf.quants.quantize(whole, stored), raw_dtype=stored)

    ones = np.ones(HIDDEN, np.float32)
    add("token_embd.weight", VOCABULARY, HIDDEN)
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", ones)
        for name, shape in SHAPES.items():
            add(f"blk.{layer}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any) -> None:  # noqa: ANN401 - gguf has no types
    writer.add_context_length(2 * CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("llama")
    plain = VOCABULARY - BYTES - SPECIAL
    words = [f"w{number}" for number in range(plain)]
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(BYTES)), *words])
    writer.add_token_scores([0.0] * VOCABULARY)
    kinds = gguf.TokenType
    writer.add_token_types(
        [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * BYTES, *[kinds.NORMAL] * plain]
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def answer(model: Any, asked: dict[str, Any]) -> list[float]:  # noqa: ANN401 - llama_cpp has no types
    """Compute what was asked for, and return the seconds."""
    dice = np.random.default_rng(asked["tokens"])
    token_ids = dice.integers(BYTES + SPECIAL, VOCABULARY, asked["tokens"]).tolist()
    if asked["do"] == "fill":
        model.reset()
        return [_seconds(model, token_ids)]
    return [_seconds(model, [token_id]) for token_id in token_ids]


def _seconds(model: Any, token_ids: list[int]) -> float:  # noqa: ANN401 - likewise
    began = time.perf_counter()
    model.eval(token_ids)
    return time.perf_counter() - began


def main() -> None:
    """Answer until the input ends."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    path = folder / f"random-1b-{kind}.gguf"
    if not path.exists():
        make(path, kind)
    model = Llama(
        str(path), n_ctx=CONTEXT, n_batch=BATCH, n_ubatch=BATCH, n_threads=THREADS, n_threads_batch=THREADS,
        verbose=False,
    )  # fmt: skip
    for line in sys.stdin:
        print(json.dumps({"seconds": answer(model, json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
