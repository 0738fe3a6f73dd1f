"""One thread, CPU time: attention of one 1B layer at 2,048 tokens against its bytes."""

import path, sys, time
from pathlib import Path
import torch
from engine.hf.native.library import *
from engine.hf.native.library import kernels
from engine.hf.native.program import Program, scratch

torch.set_num_threads(1)
K = kernels(Path("/tmp/jobs/native/build"))
big = torch.empty(1 << 27).fill_(1.0)
L, N = 16, 2048
p = Program(torch.bfloat16)
q = torch.randn(8, 2048)
out = torch.zeros(8, 2048)
sc = scratch(32, 64, 1)
keep = []
for i in range(L):
    k, v = (torch.randn(8, N + 128, 64).to(torch.bfloat16) for _ in range(2))
    keep += [k, v]
    room = Room(k.data_ptr(), v.data_ptr(), N + 128, N)
    shape = dict(
        format=2,
        heads=32,
        kv_heads=8,
        cache=room,
        head_width=64,
        value_width=64,
        splits=1,
        scale=0.125,
        scratch=sc,
    )
    p.add(Kind.ATTEND, input=q, output=out, **shape)
    p.add(Kind.JOIN, input=q, output=out, **shape)
prog = p.finished()
c = time.thread_time
best, top = 1, 0
for _ in range(20):
    s = c()
    K.read(big)
    top = max(top, big.nbytes / (c() - s))
    s = c()
    K.run(prog, [0])
    best = min(best, c() - s)
print(
    f"attention, 16 layers, one thread: {best * 1e3:.2f} ms; {L * 2 * 8 * 64 * 2 * N / best / 1e9:.1f} GB/s of {top / 1e9:.1f}"
)
