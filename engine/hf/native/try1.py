import path, sys, time
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, DynamicCache

sys.path.insert(0, "/work/main")
from tests import tiny_models
from engine.hf.native.library import kernels
from engine.hf.native.decoder import NativeDecoder
from engine.hf.native.layers import Untranslatable
from engine.hf.native.growing import grow_in_place

K = kernels(Path("/tmp/jobs/native/build"))
print("kernels", K, K and K.packs_nf4)
torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16, torch.float16)[: int(sys.argv[1])]:
    for fam in tiny_models.FAMILIES:
        m = AutoModelForCausalLM.from_pretrained(tiny_models.checkpoint(fam), dtype=dtype).eval()
        ids = torch.randint(3, 300, (1, 40))
        best = None
        for inter in (False, True):
            try:
                d = NativeDecoder(m, K, interleaved=inter)
                with torch.inference_mode():
                    ref = DynamicCache(config=m.config)
                    own = DynamicCache(config=m.config)
                    grow_in_place(own)
                    m(ids, past_key_values=ref)
                    m(ids, past_key_values=own)
                    errs = []
                    nxt = [5, 77, 130, 9]
                    for t in nxt:
                        a = m(torch.tensor([[t]]), past_key_values=ref).logits[0, -1].float()
                        b = d.feed([t], own.layers)[0]
                        errs.append(((a - b).abs().max() / a.std()).item())
                    # several at once
                    a = m(torch.tensor([[t]]), past_key_values=ref).logits[0, -1].float()
                    a = m(torch.tensor([[4]]), past_key_values=ref).logits[0, -1].float()
                    a = m(torch.tensor([[6]]), past_key_values=ref).logits[0, -1].float()
                    b = d.feed([t, 4, 6], own.layers)[2]
                    errs.append(((a - b).abs().max() / a.std()).item())
                print(dtype, fam, inter, ["%.1e" % e for e in errs])
                if max(errs) < 0.1:
                    break
            except Untranslatable as e:
                print(dtype, fam, "untranslatable:", e)
                break
            except Exception as e:
                print(dtype, fam, "ERROR", type(e), e)
                break
