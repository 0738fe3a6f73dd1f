"""Markdown laid out at once or as it would stream; for tests."""

from __future__ import annotations

from collections.abc import Iterable

from tui.markdown.piece import Piece
from tui.markdown.rows import Row
from tui.markdown.splitter import MarkdownSplitter, PlainSplitter

SAMPLE = """# Title with *emphasis*

Some **bold** text, `code`, ~~gone~~ and a [link](https://example.com/a) in one paragraph.
A second line of it.

- one
- two
  - nested
    1. deeper

  a paragraph of two
- [ ] to do
- [x] done

1. first
1. second

   ```python
   def f(x: int) -> str:
       return "a"
   ```
7. third

> quoted
> > twice
> - listed

| name | 中文 | number |
|:-----|:----:|-------:|
| a    | 表格  |      1 |
| a longer cell | b | 22 |

***

```rust
fn main() {}

// end
```
中文的文字很长，需要在这里换行，所以我们写了很多字。「引号」也是这样。

Setext
------
last words"""


def pieces_of(chunks: Iterable[str], splitter: MarkdownSplitter | PlainSplitter | None = None) -> list[Piece]:
    splitter = splitter or MarkdownSplitter()
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    opened = splitter.open_piece()
    return pieces + ([opened] if opened else [])


def rows_of(chunks: Iterable[str], width: int) -> list[Row]:
    return [row for piece in pieces_of(chunks) for row in piece.rows(width)]


def drawn(text: str, width: int = 60) -> list[str]:
    return [row.drawn.rstrip() for row in rows_of([text], width)]
