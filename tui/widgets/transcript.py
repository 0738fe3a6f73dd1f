"""The talk: turns as rows, of which only those that changed are drawn again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView

from tui.markdown.rows import Ink
from tui.messages import FollowingChanged
from tui.safe_text import SafeText, safe
from tui.widgets.column import Column
from tui.widgets.transcript_cursor import TranscriptCursor
from tui.widgets.transcript_look import COMPONENTS, CSS
from tui.widgets.transcript_paint import NOWHERE, Painter, Place, Reach, Selected
from tui.widgets.turn import PastTurn, Turn
from tui.widgets.turn_parts import BODY_INDENT, MARGIN, TurnMark

if TYPE_CHECKING:
    from textual import events
    from textual.selection import Selection
    from textual.strip import Strip
    from textual.timer import Timer

SECONDS_PER_FRAME = 0.05
SCROLL_ROWS = 8
"""Rows by which the end of a growing reply is scrolled at once; one redraw instead of eight."""
_SECONDS_PER_SLICE = 0.012
_NOTHING = safe("")


class Transcript(TranscriptCursor, ScrollView, can_focus=True):
    """Prompts and replies. It follows the end of the talk until the person scrolls up."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENTS)
    DEFAULT_CSS = CSS
    ALLOW_SELECT = True

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 # Textual's name
        """Begin empty.

        Args:
            id: Textual's name of the widget.
            classes: its CSS classes.
        """
        super().__init__(id=id, classes=classes)
        self._turns: Column[Turn] = Column(lambda turn: turn.height)
        self._keys: dict[str, int] = {}
        self._growing: set[str] = set()
        self._painter = Painter(self._resolve)
        self._is_following = True
        self._is_placing = False
        self._drawn: dict[int, Reach] = {}
        self._limit = 0
        self._frame_timer: Timer | None = None
        self._next_frame = 0.0
        self._rest: Iterator[None] = iter(())
        self._rest_timer: Timer | None = None
        self._laid_out_width = 0

    @property
    def is_following(self) -> bool:
        """It shows the end, and goes on to."""
        return self._is_following

    @property
    def is_laid_out(self) -> bool:
        """All that was given is on its rows: no frame and no slice is waited for."""
        return self._frame_timer is None and self._rest_timer is None

    def add_turn(self, turn_key: str, prompt: SafeText, speaker: SafeText) -> None:
        """Show a prompt, and wait for its reply.

        Args:
            turn_key: its name, new to this transcript.
            prompt: what was asked.
            speaker: the model's name.
        """
        self._put(Turn(turn_key, prompt, speaker, gap=len(self._turns) > 0))
        self.follow()

    def append(self, turn_key: str, text: SafeText, *, reasoning: bool = False, tokens: int = 0) -> None:
        """Add to a reply; it is drawn with the next frame.

        Args:
            turn_key: which turn.
            text: any number of characters.
            reasoning: it is thinking, which folds.
            tokens: of the reply so far; 0 where it is not known.
        """
        self._turn(turn_key).append(text, reasoning=reasoning, tokens=tokens)
        self._growing.add(turn_key)
        self._ask_for_frame()

    def finish(
        self,
        turn_key: str,
        footer: SafeText = _NOTHING,
        mark: TurnMark = TurnMark.NONE,
        sentence: SafeText = _NOTHING,
    ) -> None:
        """End a reply.

        Args:
            turn_key: which turn.
            footer: at the right of the reply's head ("212 tok · 31/s").
            mark: how it ended.
            sentence: what the mark says; a word of its own where this is empty.
        """
        self._turn(turn_key).finish(footer, mark, sentence)
        self._growing.add(turn_key)
        self._ask_for_frame()

    def show_history(self, turns: Iterable[PastTurn]) -> None:
        """Show saved turns in place of what is there, the last one in view."""
        self.clear()
        for past in turns:
            turn = Turn(past.turn_key, past.prompt, past.speaker, gap=len(self._turns) > 0)
            if past.reasoning:
                turn.append(past.reasoning, reasoning=True, tokens=past.reasoning_tokens)
            if past.reply:
                turn.append(past.reply, reasoning=False)
            turn.finish(past.footer, past.mark, past.sentence)
            self._put(turn)
        self.follow()
        self._begin_rest()

    def clear(self) -> None:
        """Drop all turns."""
        self._turns.replace(0, ())
        self._keys.clear()
        self._growing.clear()
        self._limit = 0
        self.drop_cursor()
        self.follow()

    def mark_context(self, turn_key: str | None) -> None:
        """Draw the line behind which the model no longer sees above a turn; None draws none."""
        changed = [turn.mark_context(is_first_seen=turn.key == turn_key) for turn in self._turns]
        if any(changed):
            self._turns.touch()
            self._show()

    def text_of(self, turn_key: str) -> SafeText:
        """The reply of a turn as the model wrote it, without its reasoning."""
        return self._turn(turn_key).reply

    def follow(self) -> None:
        """Go to the end, and stay there while it grows."""
        self._set_following(wanted=True)
        self._show()

    def _set_following(self, *, wanted: bool) -> None:
        if wanted is not self._is_following:
            self._is_following = wanted
            self.post_message(FollowingChanged())

    def toggle_reasoning(self, index: int) -> None:
        """Open or fold the thinking of the turn at `index`; what is above stays where it is."""
        if self._turns[index].toggle_reasoning():
            self._turns.touch(index)
            self._set_following(wanted=False)
            self._limit = 0
            self._settle()
            self._set_following(wanted=self.scroll_offset.y >= self._limit)
            self.refresh()

    def draw_now(self) -> None:
        """Show what was appended without waiting for the next frame."""
        if self._frame_timer is not None:
            self._frame_timer.stop()
        self._draw_frame()

    def _put(self, turn: Turn) -> None:
        turn.set_width(self._body_width())
        self._keys[turn.key] = len(self._turns)
        self._turns.append(turn)

    def _turn(self, turn_key: str) -> Turn:
        return self._turns[self._keys[turn_key]]

    def _body_width(self) -> int:
        return max(1, self.size.width - BODY_INDENT - MARGIN)

    def _resolve(self, ink: Ink) -> Style:
        return self.get_visual_style(*[f"transcript--{name}" for name in ink]).rich_style

    def _ask_for_frame(self) -> None:
        if self._frame_timer is None and self.is_attached:
            wait = max(0.001, self._next_frame - time.monotonic())
            self._frame_timer = self.set_timer(wait, self._draw_frame)

    def _draw_frame(self) -> None:
        """Show what came since the last frame."""
        self._frame_timer = None
        began = time.monotonic()
        rows: list[int] = []
        for turn_key in self._growing:
            index = self._keys[turn_key]
            top = self._turns.top(index)
            rows.extend(top + row for row in self._turns[index].advance())
            self._turns.remeasure(index)
        self._growing = {turn_key for turn_key in self._growing if self._turn(turn_key).is_behind}
        self._fit()
        self._refresh_rows(rows)
        now = time.monotonic()
        # A block that is slow to lay out is drawn less often, so that keys are still answered.
        self._next_frame = now + max(SECONDS_PER_FRAME, 3 * (now - began))
        if self._growing:
            self._ask_for_frame()

    def _refresh_rows(self, rows: Iterable[int]) -> None:
        """Have rows drawn again, only as far as they differ from what is on the screen."""
        top = self.scroll_offset.y
        regions = [self._region(row, row - top) for row in rows if 0 <= row - top < self.size.height]
        if regions:
            self.refresh(*regions)

    def _region(self, row: int, y: int) -> Region:
        new, old = self._place_at(row).reach, self._drawn.get(y)
        if old is None or old.fill != new.fill:
            return Region(0, y, self.size.width - (MARGIN if old else 0), 1)
        return Region(0, y, max(old.cells, new.cells), 1)

    def _fit(self) -> None:
        """Let the scrollable height grow by whole steps, and follow the end."""
        view = self.size.height
        step = max(1, min(SCROLL_ROWS, view // 4))
        hidden = max(0, self._turns.height - view)
        self._limit = max(self._limit, -(-hidden // step) * step)
        # Set past the reactive: a taller transcript needs no layout, and would be drawn anew as a whole.
        self.set_reactive(Transcript.virtual_size, Size(self.size.width, view + self._limit))
        if self._is_following:
            self._place(self._limit)

    def _place(self, row: int) -> None:
        self._is_placing = True
        self.scroll_to(y=row, animate=False, immediate=True, force=True)
        self._is_placing = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow the end again when the person has scrolled there, and not when they scroll away."""
        if not self._is_placing:
            # A window that grows moves the view to what is the end then; nobody has scrolled.
            self._set_following(wanted=round(new_value) >= min(self._limit, self.max_scroll_y))
            self._settle()
        if round(old_value) != round(new_value):
            self._refresh_rows(range(round(new_value), round(new_value) + self.size.height))

    def _show(self) -> None:
        """Draw everything anew after turns came, went or were marked."""
        if not self.is_attached or not self.size:
            return
        self._limit = 0
        self._settle()
        self.refresh()

    def _settle(self) -> None:
        """Lay out what is in view; what is above keeps its place, or what is below when following."""
        if not len(self._turns):
            self._fit()
            return
        anchor = None if self._is_following else self._anchor()
        while True:
            self._fit()
            if anchor is not None:
                self._place(self._turns.top(anchor[0]) + self._turns[anchor[0]].row_of(*anchor[1]))
            if not self._settle_view():
                return

    def _settle_view(self) -> bool:
        top = self.scroll_offset.y
        bottom = top + self.size.height - 1
        index = self._turns.at(top)[0]
        changed = False
        while index < len(self._turns) and (start := self._turns.top(index)) <= bottom:
            self._turns[index].settle(top - start, bottom - start)
            changed = self._turns.remeasure(index) or changed
            index += 1
        return changed

    def _anchor(self) -> tuple[int, tuple[int, int]]:
        index, row = self._turns.at(self.scroll_offset.y)
        return index, self._turns[index].place(row)

    def on_mount(self) -> None:
        """Lay out what came before there was a screen."""
        self.on_resize()

    def on_resize(self, _event: events.Resize | None = None) -> None:
        """Lay out what is in view at the new width now, and the rest in slices."""
        width = self._body_width()
        anchor = self._anchor() if len(self._turns) and not self._is_following else None
        if width != self._laid_out_width:
            self._laid_out_width = width
            for turn in self._turns:
                turn.set_width(width)
            self._turns.touch()
            self._begin_rest()
        self._limit = 0
        if anchor is not None:
            self._fit()
            self._place(self._turns.top(anchor[0]) + self._turns[anchor[0]].row_of(*anchor[1]))
        self._show()

    def _begin_rest(self) -> None:
        """Lay out in slices what is not in view, so that heights become exact."""
        self._rest = (None for turn in reversed(list(self._turns)) for _ in turn.lay_out_rest())
        if self._rest_timer is None and self.is_attached:
            self._rest_timer = self.set_timer(0.05, self._lay_out_slice)

    def _lay_out_slice(self) -> None:
        self._rest_timer = None
        end = time.monotonic() + _SECONDS_PER_SLICE
        for _ in self._rest:
            if time.monotonic() > end:
                self._rest_timer = self.set_timer(_SECONDS_PER_SLICE, self._lay_out_slice)
                return
        self._end_rest()

    def _end_rest(self) -> None:
        anchor = None if self._is_following or not len(self._turns) else self._anchor()
        for turn in self._turns:
            turn.remeasure()
        self._turns.touch()
        self._limit = 0
        self._fit()
        if anchor is not None:
            self._place(self._turns.top(anchor[0]) + self._turns[anchor[0]].row_of(*anchor[1]))

    def notify_style_update(self) -> None:
        """Draw in the new theme's colours."""
        super().notify_style_update()
        self._painter.forget()

    def render_line(self, y: int) -> Strip:
        """One row of the view, counted from its top."""
        width = self.size.width
        row = y + self.scroll_offset.y
        place = self._place_at(row)
        self._drawn[y] = place.reach
        selected = self._selected(row)
        if selected is None:
            return self._painter.strip(place, row, width)
        style = self.screen.get_component_rich_style("screen--selection")
        return self._painter.selected(place, row, width, Selected(*selected, style))

    def _selected(self, row: int) -> tuple[int, int] | None:
        selection = self.text_selection
        return None if selection is None else selection.get_span(row)

    def _place_at(self, y: int) -> Place:
        if y >= self._turns.height:
            return NOWHERE
        index, within = self._turns.at(y)
        row, indent = self._turns[index].row(within)
        return Place(row, indent, self.is_under_cursor(index, within))

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text under the mouse's selection: without decoration, wrapped lines joined."""
        first = selection.start.y if selection.start else 0
        last = selection.end.y if selection.end else self._turns.height - 1
        parts: list[str] = []
        for y in range(first, min(last, self._turns.height - 1) + 1):
            start, end = selection.get_span(y) or (0, 0)
            row, indent, _ = self._place_at(y)
            text = row.drawn[max(row.lead, start - indent) : None if end == -1 else max(0, end - indent)]
            parts.append(text if row.wraps or not parts else f"\n{text}")
        return "".join(parts), "\n"
