"""The Markdown that is streamed: headings, lists, a table, a code block and CJK, with numbered words."""

from __future__ import annotations

from itertools import count

MARK = "q{:04d}"
_SECTION = """## Part {mark}: how memory is used

The weights {mark} of a model rest where they were placed, and **every token** of the context adds its keys
and values to the cache. When the cache grows {mark} beyond what is free, the oldest layers move to `RAM`,
and each step waits for the bus. That is why a shorter context {mark} is often the *cheapest* remedy.

- weights {mark} are read once for every token, whatever its length
- the KV cache {mark} grows by a fixed number of bytes a token
- activations {mark} peak in prefill and are small in decode

1. measure what is free {mark} before anything is loaded
2. place the layers {mark} from the fastest device down

```python
def footprint(layers: int, bytes_per_layer: int, tokens: int) -> int:
    \"\"\"Bytes that {mark} a model takes with its cache.\"\"\"
    cache = tokens * KV_BYTES  # {mark}
    return layers * bytes_per_layer + cache
```

模型的权重 {mark} 放在显存里，上下文越长，键值缓存就越大。如果显存不够，一部分层会放到内存里，速度就会变慢。

| device | holds {mark} | speed |
|---|---|---:|
| GPU | weights and cache | 4800 GB/s |
| RAM | what is left over | 60 GB/s |

"""


def markdown(tokens: int, characters_per_token: int = 4) -> str:
    """Markdown of so many tokens; its marked words count up, so that each is found once."""
    parts: list[str] = []
    numbers = count()
    length = 0
    while length < tokens * characters_per_token:
        for part in _SECTION.split("{mark}"):
            parts.append(part)
            parts.append(MARK.format(next(numbers)))
            length += len(parts[-1]) + len(parts[-2])
        parts.append("\n\n")
    return "".join(parts)[: tokens * characters_per_token]
