"""int8 and nf4 against bitsandbytes' own, one layer at a time and as a model."""

import path, sys
from pathlib import Path
import torch, bitsandbytes as bnb, warnings, logging

logging.disable(logging.WARNING)
from engine.hf.native.library import kernels, Kernels
from engine.hf.native.linears import NativeLinear
from engine.hf.native.matrix import matrix_of

K = (
    Kernels(Path(sys.argv[1]))
    if sys.argv[1:] and sys.argv[1][0] == "/"
    else kernels(Path("/tmp/jobs/native/build"))
)
torch.manual_seed(0)
SCALES = (1,) if "--small" in sys.argv else (1, 4)
for rows, cols in ((256, 128), (96, 320), (1024, 2048)):
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        for bias in (False, True):
            lin = torch.nn.Linear(cols, rows, bias=bias).to(dtype)
            for kind in ("plain", "int8", "nf4", "nf4 nested"):
                if kind == "plain":
                    new = lin
                elif kind == "int8":
                    new = bnb.nn.Linear8bitLt(cols, rows, bias=bias, has_fp16_weights=False, threshold=6.0)
                    new.weight = bnb.nn.Int8Params(
                        lin.weight.data.clone(), requires_grad=False, has_fp16_weights=False
                    )
                    new.bias = lin.bias
                    new = new.to("cpu").eval()
                else:
                    new = bnb.nn.Linear4bit(cols, rows, bias=bias, compute_dtype=dtype, quant_type="nf4")
                    new.weight = bnb.nn.Params4bit(
                        lin.weight.data.clone(),
                        requires_grad=False,
                        quant_type="nf4",
                        compress_statistics="nested" in kind,
                    )
                    new.bias = lin.bias
                    new = new.to("cpu").eval()
                worst = []
                with torch.inference_mode():
                    m = matrix_of(new, K)
                    if m is None:
                        print(rows, cols, dtype, bias, kind, "not served")
                        continue
                    nl = NativeLinear(new, m, K)
                    for scale in SCALES:
                        for tokens in (1, 3, 8):
                            x = torch.randn(1, tokens, cols, dtype=dtype) * scale
                            if kind == "int8":
                                a = torch.cat([new(x[:, i : i + 1].clone()) for i in range(tokens)], 1)
                            else:
                                a = new(x.clone())
                            b = nl(x.clone())
                            assert b.shape == a.shape and b.dtype == a.dtype
                            worst.append(((a.float() - b.float()).abs().max() / a.float().std()).item())
                print(
                    rows,
                    cols,
                    str(dtype)[6:],
                    "bias" if bias else "",
                    kind,
                    m.format.name,
                    "%.1e" % max(worst),
                )
