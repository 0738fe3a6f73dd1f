"""The message that is chosen with the keyboard, and what can be done with it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Offset
from textual.selection import Selection
from textual.widget import Widget

from tui.messages import CopyRequested, EditRequested, RegenerateRequested

if TYPE_CHECKING:
    from textual import events

    from tui.safe_text import SafeText
    from tui.widgets.column import Column
    from tui.widgets.turn import Turn


class TranscriptCursor(Widget):
    """Half of the Transcript: moves over its messages, a prompt and a reply for each turn.

    The cursor counts messages: twice the turn's index, and one more for its reply.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move(1)", "Next message", show=False),
        Binding("k", "move(-1)", "Previous message", show=False),
        Binding("g", "go_to_first", "First message", show=False),
        Binding("G", "go_to_last", "Last message", show=False),
        Binding("n", "find(-1)", "Find above", show=False),
        Binding("N", "find(1)", "Find below", show=False),
        Binding("y", "copy", "Copy", show=False),
        Binding("e", "edit", "Edit and branch", show=False),
        Binding("r", "regenerate", "Regenerate", show=False),
        Binding("enter,space", "toggle_reasoning", "Reasoning", show=False),
    ]
    _turns: Column[Turn]
    _cursor: int | None = None
    wanted = ""
    """What was looked for last."""

    def drop_cursor(self) -> None:
        """Choose no message."""
        self._cursor = None

    def is_under_cursor(self, index: int, row: int) -> bool:
        """Whether a row of a turn belongs to the chosen message."""
        if self._cursor is None or not self.has_focus or self._cursor // 2 != index:
            return False
        return (row >= self._turns[index].reply_top) == bool(self._cursor % 2)

    def on_focus(self) -> None:
        """Choose the last message, if none is."""
        self._choose_any()
        self.refresh()

    def _choose_any(self) -> None:
        if self._cursor is None and len(self._turns):
            self._cursor = 2 * len(self._turns) - 1

    def on_blur(self) -> None:
        """Take the cursor off the screen."""
        self.refresh()

    def action_move(self, step: int) -> None:
        """Choose the message `step` further down."""
        last = 2 * len(self._turns) - 1
        if last > 0:
            self._choose(max(0, min(last, (last if self._cursor is None else self._cursor) + step)))

    def action_go_to_first(self) -> None:
        """Choose the first message."""
        self.action_move(-2 * len(self._turns))

    def action_go_to_last(self) -> None:
        """Choose the last message, and follow the end again."""
        self.action_move(2 * len(self._turns))
        self.scroll_end(animate=False)

    def action_find(self, step: int) -> None:
        """Go on to the next message with the text that was looked for last."""
        if self.wanted:
            self.find(self.wanted, step)

    def find(self, text: str, step: int = -1) -> bool:
        """Choose the next message that holds `text`, in any case, and select where; False for none.

        Args:
            text: what to look for.
            step: -1 looks upwards, 1 downwards; both begin again at the other end.
        """
        count = 2 * len(self._turns)
        is_new = text.casefold() != self.wanted.casefold()
        start = count if self._cursor is None or is_new else self._cursor
        self.wanted = text
        for away in range(1, count + 1):
            cursor = (start + away * step) % count
            turn = self._turns[cursor // 2]
            if text.casefold() in (turn.reply if cursor % 2 else turn.prompt).casefold():
                self._choose(cursor)
                self._show_text(cursor, text.casefold())
                return True
        return False

    def _show_text(self, cursor: int, wanted: str) -> None:
        """Select the first place of a text in a message, and scroll there."""
        turn = self._turns[cursor // 2]
        rows = turn.rows()
        turn.remeasure()
        self._turns.touch(cursor // 2)
        first = turn.reply_top if cursor % 2 else 0
        found = next((row for row in range(first, len(rows)) if wanted in rows[row].text.casefold()), None)
        place = self._turns.top(cursor // 2) + (first if found is None else found)
        if not self.scroll_offset.y <= place < self.scroll_offset.y + self.size.height:
            self.scroll_to(y=max(0, place - self.size.height // 3), animate=False)
        if found is not None:
            start = turn.row(found)[1] + rows[found].lead + rows[found].text.casefold().find(wanted)
            ends = Offset(start, place), Offset(start + len(wanted), place)
            self.screen.selections = {self: Selection.from_offsets(*ends)}

    def _choose(self, cursor: int) -> None:
        self._cursor = cursor
        top = self._turns.top(cursor // 2)
        turn = self._turns[cursor // 2]
        first = top + turn.reply_top if cursor % 2 else top
        height = (turn.height if cursor % 2 else turn.reply_top) - (first - top)
        view = self.scroll_offset.y
        if first < view or first + height > view + self.size.height:
            self.scroll_to(y=first, animate=False)
        self.refresh()

    @property
    def _chosen(self) -> Turn | None:
        self._choose_any()
        return None if self._cursor is None else self._turns[self._cursor // 2]

    def _chosen_text(self, turn: Turn) -> SafeText:
        return turn.reply if self._cursor is not None and self._cursor % 2 else turn.prompt

    def action_copy(self) -> None:
        """Ask for a copy of the chosen message."""
        if turn := self._chosen:
            self.post_message(CopyRequested(turn.key, self._chosen_text(turn)))

    def action_edit(self) -> None:
        """Ask for the chosen turn's prompt to be written anew."""
        if turn := self._chosen:
            self.post_message(EditRequested(turn.key, turn.prompt))

    def action_regenerate(self) -> None:
        """Ask for another reply to the chosen turn's prompt."""
        if turn := self._chosen:
            self.post_message(RegenerateRequested(turn.key))

    def action_toggle_reasoning(self) -> None:
        """Open or fold the thinking of the chosen turn."""
        self._choose_any()
        if self._cursor is not None:
            self.toggle_reasoning(self._cursor // 2)

    def on_click(self, event: events.Click) -> None:
        """Open or fold the thinking whose row was clicked."""
        if not len(self._turns):
            return
        index, row = self._turns.at(event.y + self.scroll_offset.y)
        if self._turns[index].is_fold(row):
            self.toggle_reasoning(index)

    @abstractmethod
    def toggle_reasoning(self, index: int) -> None:
        """Open or fold the thinking of the turn at `index`."""
