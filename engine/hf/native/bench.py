"""1B-shaped decode: stock transformers, ours, and the bandwidth probe around each block.

python bench.py [bf16|nf4|int8] [contexts...]
"""

import path, sys, time, json, statistics
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, LlamaConfig, BitsAndBytesConfig
from engine.hf.native.library import kernels
from engine.hf.native.decoder import NativeDecoder
from engine.hf.native.growing import grow_in_place

torch.set_num_threads(2)
K = kernels(Path("/tmp/jobs/native/build"))
kind = sys.argv[1] if len(sys.argv) > 1 else "bf16"
contexts = [int(a) for a in sys.argv[2:] if a.isdigit()] or [64, 2048]


def shape():
    return LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=32000,
        max_position_embeddings=131072,
        rope_theta=500000.0,
        tie_word_embeddings=True,
        initializer_range=0.02,
    )


def make():
    torch.manual_seed(0)
    config = shape()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.to_empty(device="cpu")
    for n, p in model.named_parameters():
        if "norm" in n:
            p.data.fill_(1)
        else:
            p.data.view(-1)[:] = (
                (torch.randn(1 << 20) * 0.02)
                .to(torch.bfloat16)
                .repeat(p.numel() // (1 << 20) + 1)[: p.numel()]
            )
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.tie_weights()
    return model.eval()


def quantized(kind):
    import bitsandbytes as bnb

    model = make()
    for name, m in list(model.named_modules()):
        for child, lin in list(m.named_children()):
            if isinstance(lin, torch.nn.Linear) and child != "lm_head":
                if kind == "nf4":
                    new = bnb.nn.Linear4bit(
                        lin.in_features,
                        lin.out_features,
                        bias=False,
                        compute_dtype=torch.bfloat16,
                        quant_type="nf4",
                    )
                    new.weight = bnb.nn.Params4bit(
                        lin.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False
                    )
                else:
                    new = bnb.nn.Linear8bitLt(
                        lin.in_features, lin.out_features, bias=False, has_fp16_weights=False, threshold=6.0
                    )
                    new.weight = bnb.nn.Int8Params(
                        lin.weight.data, requires_grad=False, has_fp16_weights=False
                    )
                setattr(m, child, new.to("cpu"))
    return model.eval()


probe_tensor = torch.empty(1 << 28).fill_(1.0)  # 1 GiB


def probe():
    best = 0
    for _ in range(3):
        s = time.perf_counter()
        K.read(probe_tensor)
        best = max(best, probe_tensor.nbytes / (time.perf_counter() - s))
    return best


def weight_bytes(model):
    total = 0
    for n, m in model.named_modules():
        for p in m._parameters.values():
            if p is not None and not n.endswith("embed_tokens"):
                total += p.nbytes
        st = getattr(getattr(m, "weight", None), "quant_state", None)
        if st is not None:
            total += st.absmax.nbytes
    return total


def fill(model, n):
    cache = DynamicCache(config=model.config)
    grow_in_place(cache)
    kv = torch.randn(1, 8, n, 64).to(torch.bfloat16)
    for i in range(16):
        cache.update(kv, kv, i)
    return cache


def quiet():
    """Wait until nobody else runs, for 20 seconds at most."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if all(not time.sleep(0.05) and int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) <= 1 for _ in range(3)):
            return


def block(step, n=8):
    before = probe()
    times = []
    for _ in range(n):
        s = time.perf_counter()
        step()
        times.append(time.perf_counter() - s)
    after = probe()
    return min(times), statistics.median(times), max(before, after)


with torch.inference_mode():
    model = make() if kind == "bf16" else quantized(kind)
    d = NativeDecoder(model, K)
    for n in contexts:
        own, ref = fill(model, n), DynamicCache(config=model.config)
        for i, l in enumerate(own.layers):
            ref.update(l.keys.clone(), l.values.clone(), i)
        a = (
            model(torch.tensor([[7]]), past_key_values=ref, position_ids=torch.tensor([[n]]))
            .logits[0, -1]
            .float()
        )
        b = d.feed([7], own.layers)[0]
        err = ((a - b).pow(2).mean().sqrt() / a.std()).item()
        total = weight_bytes(model) + 2 * 16 * 8 * 64 * 2 * n

        def stock():
            model(
                torch.tensor([[7]]), past_key_values=ref, position_ids=torch.tensor([[ref.get_seq_length()]])
            )

        def ours():
            d.feed([7], own.layers)

        rows = []
        for i in range(int(__import__("os").environ.get("BLOCKS", "24"))):
            quiet()
            rows.append(("ours", *block(ours, 3)))
            if "--no-stock" not in sys.argv and i % 4 == 0:
                quiet()
                rows.append(("stock", *block(stock, 2)))
        for who in ("ours", "stock"):
            sel = [r for r in rows if r[0] == who]
            if not sel:
                continue
            best = sorted(total / r[1] / r[3] for r in sel)
            print(
                f"{kind} ctx {n} {who:6} min {min(r[1] for r in sel) * 1e3:.1f} ms  median of block mins {statistics.median(r[1] for r in sel) * 1e3:.1f} ms  share of the block's probe: best {best[-1]:.3f} upper quartile {best[3 * len(best) // 4]:.3f} median {statistics.median(best):.3f}  probe max {max(r[3] for r in sel) / 1e9:.1f} median {statistics.median(r[3] for r in sel) / 1e9:.1f} GB/s  bytes {total / 1e9:.3f} GB err {err:.4f}",
                flush=True,
            )
