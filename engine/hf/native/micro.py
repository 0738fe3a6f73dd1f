"""One-thread CPU-time comparison of a linear op to the probe; robust under load."""

import path, sys, time
from pathlib import Path
import torch
from engine.hf.native.library import kernels
from engine.hf.native.program import Program, Matrix
from engine.hf.native.library import Format

threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
torch.set_num_threads(threads)
from engine.hf.native.library import Kernels

K = Kernels(Path(sys.argv[2])) if len(sys.argv) > 2 else kernels(Path("/tmp/jobs/native/build"))
clock = time.thread_time if threads == 1 else time.perf_counter
big = torch.empty(1 << 27).fill_(1.0)


def probe():
    s = clock()
    K.read(big)
    return big.nbytes / (clock() - s)


def case(name, matrix, nbytes, tokens=1):
    p = Program(torch.bfloat16)
    x, y = torch.randn(8, matrix.columns).to(torch.bfloat16).float(), torch.zeros(8 * matrix.rows)
    step = 8192 if matrix.format == Format.NF4_PACKED else matrix.rows
    for a in range(0, matrix.rows, step):
        m = (
            matrix
            if step == matrix.rows
            else Matrix(
                matrix.format,
                step,
                matrix.columns,
                matrix.weights[a * matrix.columns // 2 : (a + step) * matrix.columns // 2],
                matrix.scales.view(-1)[a * matrix.columns // 64 : (a + step) * matrix.columns // 64],
                None,
                64,
            )
        )
        p.linear(m, x, y)
    prog = p.finished()
    best, top = 1e9, 0
    for _ in range(15):
        top = max(top, probe())
        for _ in range(3):
            s = clock()
            K.run(prog, [0] * tokens)
            best = min(best, clock() - s)
    print(
        f"{name:24} tokens {tokens} {nbytes / best / 1e9:.1f} GB/s probe {top / 1e9:.1f} ratio {nbytes / best / top:.3f}",
        flush=True,
    )


R, C = 1 << 17, 2048
w = torch.randn(R, C).to(torch.bfloat16)
for t in (1,):
    case("bf16 2048", Matrix(Format.BFLOAT16, R, C, w), w.nbytes, t)
case("bf16 8192", Matrix(Format.BFLOAT16, R // 4, C * 4, w), w.nbytes)
# case("fp16", Matrix(Format.FLOAT16, R, C, w), w.nbytes)
f = w.view(torch.float32)
# case("fp32", Matrix(Format.FLOAT32, R, C // 2, f), w.nbytes)
q = torch.randint(0, 255, (R * C // 2,), dtype=torch.uint8)
s = torch.rand(C // 64, R).to(torch.bfloat16)
for t in (1,):
    case("nf4 packed", Matrix(Format.NF4_PACKED, R, C, q, s, None, 64), q.nbytes + s.nbytes, t)
i8 = torch.randint(-127, 127, (R, C), dtype=torch.int8)
case("int8", Matrix(Format.INT8, R, C, i8, torch.rand(R)), i8.nbytes)
