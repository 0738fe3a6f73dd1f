"""Where the person writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.strip import Strip
from textual.widgets import TextArea

from tui.messages import PromptSubmitted
from tui.safe_text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual import events
    from textual.binding import BindingType

LONG_PASTE = 8_000
"""Characters above which a paste is shown as one short line, and sent whole."""

_PLACEHOLDER = "ask something · Enter sends · Ctrl+J new line"


class Prompt(TextArea):
    """A text area of some lines: Enter sends, Ctrl+J breaks the line, Up and Down recall at the edges."""

    BINDINGS: ClassVar[list[BindingType]] = []
    DEFAULT_CSS = """
    Prompt {
        height: auto;
        min-height: 1;
        max-height: 8;
        border: none;
        padding: 0 1;
        background: transparent;
        &:focus { border: none; }
    }
    """

    def __init__(self, complete: Callable[[str], Sequence[str]]) -> None:
        """Begin empty.

        Args:
            complete: the whole lines that a half-written slash command can become.
        """
        super().__init__(placeholder=_PLACEHOLDER, soft_wrap=True, tab_behavior="focus", id="prompt")
        self.cursor_blink = False
        self.highlight_cursor_line = False
        self._complete = complete
        self._recalled: list[str] = []
        self._position: int | None = None
        self._draft = ""
        self._pastes: dict[str, str] = {}
        self._offers: list[str] = []

    def remember(self, prompts: Sequence[str]) -> None:
        """Recall these prompts from now on, oldest first."""
        self._recalled = list(dict.fromkeys(reversed(prompts)))[::-1]
        self._position = None

    def accept(self, text: str) -> None:
        """What was submitted is taken: keep it for recall."""
        self.remember([*self._recalled, text])

    def take_back(self, text: str) -> None:
        """What was submitted is not taken: it stands here again, before what was typed meanwhile."""
        self.replace_all(text + self.whole_text)

    @property
    def whole_text(self) -> str:
        """What is written, with every long paste in its place."""
        text = self.text
        for label, pasted in self._pastes.items():
            text = text.replace(label, pasted)
        return text

    def replace_all(self, text: str) -> None:
        """Put text in, with the cursor at its end; long pastes of before are forgotten."""
        self._pastes.clear()
        self.text = ""
        self._insert_pasted(text)
        self.move_cursor(self.document.end)

    def render_line(self, y: int) -> Strip:
        """One row; nothing where there is no room, which Textual's placeholder cannot stand."""
        return super().render_line(y) if self.content_size.width > 0 else Strip.blank(self.size.width)

    async def _on_key(self, event: events.Key) -> None:
        action = {
            "enter": self._submit,
            "ctrl+j": self._break_line,
            "shift+enter": self._break_line,
            "up": self._recall_earlier,
            "down": self._recall_later,
            "tab": self._complete_slash,
        }.get(event.key)
        if event.key != "tab":
            self._offers = []
        if action is not None and action():
            event.stop()
            event.prevent_default()
            return
        if await self._run_binding(event.key):
            event.stop()
            event.prevent_default()
            return
        await super()._on_key(event)

    async def _run_binding(self, key: str) -> bool:
        """Carry out an editing key at once; Textual lets characters that came with it overtake it."""
        bindings = self._bindings.key_to_bindings.get(key, ())
        return any([await self.app.run_action(binding.action, self) for binding in bindings[:1]])

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self._insert_pasted(event.text)

    def _insert_pasted(self, text: str) -> None:
        cleaned = safe(text.replace("\r\n", "\n").replace("\r", "\n"))
        if len(cleaned) <= LONG_PASTE:
            self.insert(cleaned)
            return
        label = f"[pasted text {len(self._pastes) + 1}: {len(cleaned):,} characters]"
        self._pastes[label] = cleaned
        self.insert(label)

    def _submit(self) -> bool:
        text = safe(self.whole_text.strip())
        if text:
            # Cleared at once: keys that came with Enter in one packet are the next prompt's.
            self.replace_all("")
            self.post_message(PromptSubmitted(text))
        return True

    def _break_line(self) -> bool:
        self.insert("\n")
        return True

    def _recall_earlier(self) -> bool:
        if not self.navigator.is_first_wrapped_line(self.cursor_location) or not self._recalled:
            return False
        if self._position is None:
            self._draft = self.whole_text
            self._position = len(self._recalled)
        self._show_recalled(max(0, self._position - 1))
        return True

    def _recall_later(self) -> bool:
        if self._position is None or not self.navigator.is_last_wrapped_line(self.cursor_location):
            return False
        self._show_recalled(self._position + 1)
        return True

    def _show_recalled(self, position: int) -> None:
        is_draft = position >= len(self._recalled)
        self.replace_all(self._draft if is_draft else self._recalled[position])
        self._position = None if is_draft else position
        if not is_draft:
            self.move_cursor((0, 0) if len(self.document.lines) > 1 else self.document.end)

    def _complete_slash(self) -> bool:
        if not self.text.startswith("/"):
            return False
        if self.text in self._offers:
            following = self._offers.index(self.text) + 1
            self.replace_all(self._offers[following % len(self._offers)])
            return True
        self._offers = list(self._complete(self.text))
        if self._offers:
            self.replace_all(_common_start(self._offers, self.text))
        return True


def _common_start(offers: Sequence[str], written: str) -> str:
    if len(offers) == 1:
        return offers[0] + ("" if " " in offers[0] else " ")
    shared = _shared_prefix(min(offers), max(offers))
    return shared if len(shared) > len(written) else offers[0]


def _shared_prefix(first: str, last: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length]
