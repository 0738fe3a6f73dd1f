"""64 greedy tokens of every family: stock generate against the whole step, and against single layers."""

import path, sys, copy
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

logging.disable_progress_bar()
from tests import tiny_models
from engine.hf.native.library import kernels
from engine.hf.native.trial import translated, fresh_cache
from engine.hf.native.linears import swap_linears, use_attention

K = kernels(Path("/tmp/jobs/native/build"))
dtype = getattr(torch, sys.argv[1])
torch.set_num_threads(1)


@torch.inference_mode()
def greedy(model, ids, step, cache):
    out = []
    logits = model(torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0, -1]
    for _ in range(64):
        out.append(int(logits.argmax()))
        logits = step(out[-1])
    return out


for fam in tiny_models.FAMILIES:
    m = AutoModelForCausalLM.from_pretrained(tiny_models.checkpoint(fam), dtype=dtype).eval()
    ids = torch.randint(3, 300, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    name = "cache_params" if fam in ("mamba",) else "past_key_values"

    def stock(cache):
        return lambda t: m(torch.tensor([[t]]), past_key_values=cache, use_cache=True).logits[0, -1]

    c = DynamicCache(config=m.config)
    ref = greedy(m, ids, stock(c), c)
    d = translated(m, K, list(range(5, 17)))
    res = "-"
    if d:
        c = fresh_cache(m)
        own = greedy(m, ids, lambda t: d.feed([t], c.layers)[-1], c)
        res = sum(a == b for a, b in zip(own, ref))
    c = fresh_cache(m)
    grow = greedy(m, ids, stock(c), c)
    if "--fast" in sys.argv: print(fam, res, flush=True); continue
    n = swap_linears(m, K)
    a = "--no-attention" not in sys.argv and use_attention(m, K)
    c = fresh_cache(m)
    gen = greedy(m, ids, stock(c), c)
    print(
        f"{fam:12} whole step {res} growing cache {sum(a == b for a, b in zip(grow, ref))} single layers {sum(a == b for a, b in zip(gen, ref))} (linears {n}, attention {a})",
        flush=True,
    )
