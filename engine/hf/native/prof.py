import sys; kind = sys.argv[1]; sys.argv = ["bench.py", kind, "64"]
src = open("bench.py").read().split("with torch.inference_mode():")[0]
exec(src)
from engine.hf.native.library import Operation, Kind
with torch.inference_mode():
    model = make() if kind == "bf16" else quantized(kind); d = NativeDecoder(model, K); own = fill(model, 64)
    d.feed([7], own.layers); d.feed([7], own.layers)
    ops = list(d._program); out = torch.empty(1, 32000); ops[-1].output = out.data_ptr()
    def sub(f, free=False):
        sel = [Operation.from_buffer_copy(o) for o in ops if f(o)]
        if free:
            for o in sel[:-1]: o.flags |= 1
        return (Operation * len(sel))(*sel), sum(o.rows * o.columns * (2 if o.format == 2 else 0.53125) for o in sel if o.kind == 3)
    lin = lambda o: o.kind == 3
    cases = {"all": sub(lambda o: True), "linears": sub(lin), "linears free": sub(lin, True), "no linears": sub(lambda o: not lin(o)),
      "8192 cols": sub(lambda o: lin(o) and o.columns == 8192), "2048 cols big": sub(lambda o: lin(o) and o.columns == 2048 and o.rows == 8192, True), "head": sub(lambda o: lin(o) and o.rows == 32000), "qkvo": sub(lambda o: lin(o) and o.rows < 4000 and o.columns == 2048)}
    res = {k: [] for k in cases}
    for _ in range(20):
        for k, (p, nb) in cases.items():
            quiet()
            pr = probe(); b = 1e9
            for _ in range(4):
                s = time.perf_counter(); K.run(p, [7], 70); b = min(b, time.perf_counter() - s)
            pr = max(pr, probe()); res[k].append((b, nb / b / pr))
    for k in res: print(f"{k:16} min {min(r[0] for r in res[k])*1e3:.2f} ms  share median {statistics.median(r[1] for r in res[k]):.3f} best {max(r[1] for r in res[k]):.3f}")
