"""One thread, CPU time (fair under load): the whole step against the probe at 64 and 2,048 tokens."""
import sys; kind = sys.argv[1]; sys.argv = ["bench.py", kind]
exec(open("bench.py").read().split("with torch.inference_mode():")[0])
c = time.thread_time
with torch.inference_mode():
    model = make() if kind == "bf16" else quantized(kind); d = NativeDecoder(model, K); torch.set_num_threads(1)
    for n in (64, 2048):
        own = fill(model, n); d.feed([7], own.layers); b, top = 1e9, 0
        for _ in range(10):
            s = c(); K.read(probe_tensor); top = max(top, probe_tensor.nbytes / (c() - s))
            for _ in range(2): s = c(); d.feed([7], own.layers); b = min(b, c() - s)
        total = weight_bytes(model) + 2 * 16 * 8 * 64 * 2 * n
        print(f"{kind} ctx {n} one thread {b*1e3:.1f} ms CPU, {total/b/1e9:.1f} GB/s of {top/1e9:.1f} = {total/b/top:.3f}", flush=True)
