"""One prompt and its answer, as blocks on top of one another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from tui.markdown.piece import Block
from tui.markdown.rows import BLANK, Row
from tui.markdown.splitter import MarkdownSplitter, PlainSplitter
from tui.safe_text import SafeText, safe, safe_line
from tui.widgets.column import Column
from tui.widgets.reasoning import Fold
from tui.widgets.stream import Stream
from tui.widgets.turn_parts import BODY_INDENT, HEAD_INDENT, ContextLine, Foot, Head, TurnMark

_NOTHING = safe("")
_UNLIKE = Row(lead=-1)
_MOST_AT_ONCE = 32_768
"""Characters that one frame cuts into pieces; more would hold up the keys."""


class PastTurn(NamedTuple):
    """A turn as it was saved.

    Attributes:
        turn_key: its name, unique in the transcript.
        prompt: what was asked.
        speaker: the model's name, one line.
        reply: the answer.
        reasoning: the thinking before it.
        footer: at the right of the reply's head.
        mark: how it ended.
        sentence: for `failed`, what happened.
        reasoning_tokens: of the thinking; 0 where it is not known.
    """

    turn_key: str
    prompt: SafeText
    speaker: SafeText
    reply: SafeText
    reasoning: SafeText = _NOTHING
    footer: SafeText = _NOTHING
    mark: TurnMark = TurnMark.NONE
    sentence: SafeText = _NOTHING
    reasoning_tokens: int = 0


class Turn:
    """A turn's text and its blocks; knows nothing of the screen but its width.

    Attributes:
        key: its name, unique in the transcript.
        prompt: what was asked.
        is_open: its reply is still being written.
    """

    def __init__(self, key: str, prompt: SafeText, speaker: SafeText, *, gap: bool) -> None:
        """Begin with a prompt.

        Args:
            key: its name.
            prompt: what was asked; shown as written.
            speaker: the model's name, one line.
            gap: leave a blank row above.
        """
        self.key = key
        self.prompt = prompt
        self.is_open = True
        self._width = 1
        self._asked = Stream(PlainSplitter())
        self._asked.append(prompt)
        self._reasoning = Stream(PlainSplitter(("reasoning",)))
        self._reply = Stream(MarkdownSplitter())
        self._you = Head(safe("you"), ("head", "you"), gap=gap)
        self._speaker = Head(safe_line(speaker), ("head", "speaker"), gap=True)
        self._fold = Fold()
        self._foot = Foot()
        self._context: ContextLine | None = None
        self._touched: set[Block] = set()
        self._blocks: Column[Block] = Column(self._measure)
        self._assemble()

    def _measure(self, block: Block) -> int:
        return block.height(self._width)

    @property
    def height(self) -> int:
        """Rows it takes; a guess as long as some of it is not laid out."""
        return self._blocks.height

    @property
    def reply(self) -> SafeText:
        """The answer, without its reasoning."""
        return self._reply.text

    @property
    def reasoning(self) -> SafeText:
        """The thinking."""
        return self._reasoning.text

    @property
    def reply_top(self) -> int:
        """The row at which the reply's head begins."""
        return self._blocks.top(self._speaker_index())

    def set_width(self, width: int) -> None:
        """Take another width; nothing is laid out before it is asked for."""
        self._width = width
        self._blocks.touch()

    def append(self, text: SafeText, *, reasoning: bool, tokens: int = 0) -> None:
        """Add to the reply; `advance` shows it.

        Args:
            text: any number of characters.
            reasoning: it is thinking.
            tokens: of the reply so far; 0 where it is not known.
        """
        (self._reasoning if reasoning else self._reply).append(text)
        self._fold.tokens = tokens or self._fold.tokens if reasoning else self._fold.tokens
        self._relabel_fold(is_over=self._fold.is_over or not reasoning)

    def finish(self, footer: SafeText, mark: TurnMark, sentence: SafeText) -> None:
        """End the reply; `advance` shows it."""
        self.is_open = False
        self._relabel_fold(is_over=True)
        self._speaker.note = footer
        self._touched |= {self._speaker, self._foot}
        self._foot.say(waiting=False, mark=mark, sentence=sentence)

    def _relabel_fold(self, *, is_over: bool) -> None:
        if not (self._fold.is_over and is_over):
            self._fold.is_over = is_over
            self._touched.add(self._fold)

    def mark_context(self, *, is_first_seen: bool) -> bool:
        """Draw or drop the line behind which the model no longer sees; True if that changed anything."""
        if is_first_seen == (self._context is not None):
            return False
        self._context = ContextLine() if is_first_seen else None
        self._assemble()
        return True

    def toggle_reasoning(self) -> bool:
        """Open or fold the thinking; False where there is none."""
        if not self._reasoning:
            return False
        self._fold.is_open = not self._fold.is_open
        self._assemble()
        return True

    def is_fold(self, row: int) -> bool:
        """Whether the row is the one that opens the thinking."""
        return self._blocks[self._blocks.at(row)[0]] is self._fold

    def row(self, row: int) -> tuple[Row, int]:
        """The row at a height within the turn, and its indentation."""
        index, within = self._blocks.at(row)
        block = self._blocks[index]
        rows = block.rows(self._width)
        is_head = isinstance(block, Head | ContextLine)
        return rows[within] if within < len(rows) else BLANK, HEAD_INDENT if is_head else BODY_INDENT

    def rows(self) -> list[Row]:
        """All of its rows, laid out."""
        self.catch_up()
        return [row for block in self._blocks for row in block.rows(self._width)]

    @property
    def is_behind(self) -> bool:
        """Some of the reply is not on the rows yet."""
        return self._reasoning.is_behind or self._reply.is_behind

    def catch_up(self, limit: int | None = None) -> None:
        """Cut all text into pieces, or the next `limit` characters of it."""
        streams = (self._asked, self._reasoning, self._reply)
        if any(stream.is_behind for stream in streams):
            kept = 0 if self._asked.is_behind else self._first_open()
            for stream in streams:
                stream.catch_up(limit)
            self._update_foot()
            self._assemble(kept)

    def settle(self, first: int, last: int) -> bool:
        """Lay out what lies in the rows `first` to `last`; True if that changed a height."""
        before = self.height
        if last < 0 or first >= before:
            return False
        self.catch_up()
        index = self._blocks.at(max(0, first))[0]
        while index < len(self._blocks) and self._blocks.top(index) <= last:
            self._blocks[index].rows(self._width)
            self._blocks.remeasure(index)
            index += 1
        return self.height != before

    def lay_out_rest(self) -> Iterator[None]:
        """Lay out block after block what is not yet; offsets stay as they were until `remeasure`."""
        self.catch_up()
        yield
        for block in reversed(list(self._blocks)):
            if not block.is_laid_out(self._width):
                block.rows(self._width)
                yield

    def remeasure(self) -> None:
        """Take the heights of all blocks as they are now."""
        self._blocks.touch()

    def place(self, row: int) -> tuple[int, int]:
        """The block at a row, and the row within it: a place that survives another width."""
        return self._blocks.at(row)

    def row_of(self, index: int, within: int) -> int:
        """The row of a place."""
        index = min(index, len(self._blocks) - 1)
        return self._blocks.top(index) + min(within, self._blocks[index].height(self._width) - 1)

    def advance(self) -> list[int]:
        """Show what was added since the last time; return the rows that look different now."""
        start = self._first_open()
        top = self._blocks.top(start)
        before = self._drawn_from(start)
        self._blocks.touch(len(self._blocks) - 1)
        self.catch_up(_MOST_AT_ONCE)
        after = self._rows_from(start)
        # A row that comes or goes may be blank and yet stand under the cursor.
        pairs = zip_longest(before, after, fillvalue=_UNLIKE)
        changed = [top + index for index, (old, new) in enumerate(pairs) if old != new]
        return self._touched_rows(start) + changed

    def _update_foot(self) -> None:
        is_empty = not self._reply and not self._reasoning
        foot = self._foot
        foot.say(waiting=self.is_open and is_empty, mark=foot.mark, sentence=foot.sentence)

    def _speaker_index(self) -> int:
        return (self._context is not None) + 1 + len(self._asked.blocks())

    def _first_open(self) -> int:
        """Index of the first block that more text may change."""
        index = self._speaker_index() + 1
        if self._reasoning:
            index += 1
            index += self._shown_reasoning()
        if not (self._fold.is_open and self._reasoning.is_behind):
            index += len(self._reply.closed)
        return min(index, len(self._blocks) - 1)

    def _shown_reasoning(self) -> int:
        """How many pieces of the thinking are shown and will not change now."""
        if not self._fold.is_open:
            return 0
        is_done = self._reasoning.opened is not None and not self._reasoning.is_behind
        return len(self._reasoning.closed) + is_done

    def _touched_rows(self, start: int) -> list[int]:
        """The rows above the open blocks that changed on their own: the reply's head and the fold."""
        speaker = self._speaker_index()
        blocks: dict[Block, int] = {self._speaker: speaker, self._fold: speaker + 1}
        self._touched.discard(self._foot)
        rows = [self._blocks.top(blocks[block] + 1) - 1 for block in self._touched if blocks[block] < start]
        self._touched.clear()
        return rows

    def _drawn_from(self, start: int) -> list[Row]:
        """The rows as they were drawn last; a foot that has changed meanwhile is unlike any other."""
        rows = self._rows_from(start)
        if self._foot not in self._touched:
            return rows
        foot_height = self._blocks.height - self._blocks.top(len(self._blocks) - 1)
        return rows[: len(rows) - len(self._foot.rows(self._width))] + [_UNLIKE] * foot_height

    def _rows_from(self, start: int) -> list[Row]:
        return [
            row for index in range(start, len(self._blocks)) for row in self._blocks[index].rows(self._width)
        ]

    def _assemble(self, kept: int = 0) -> None:
        """Put the blocks on top of one another; the first `kept` of them are as they were."""
        blocks: list[Block] = [] if self._context is None else [self._context]
        blocks += [self._you, *self._asked.blocks(), self._speaker]
        if self._reasoning:
            blocks.append(self._fold)
            blocks += self._reasoning.blocks() if self._fold.is_open else []
        blocks += self._reply.blocks()
        blocks.append(self._foot)
        self._blocks.replace(kept, blocks[kept:])
