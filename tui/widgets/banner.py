"""A sentence that stays until it is read, with one-key remedies where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tui.safe_text import safe_line

if TYPE_CHECKING:
    from textual import events
    from textual.app import RenderResult


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a single key does about a failure.

    Attributes:
        name: what is asked for ("shorter").
        label: as the banner shows it ("shorter context").
    """

    name: str
    label: str


OUT_OF_MEMORY_REMEDIES = (
    Remedy(name="shorter", label="shorter context"),
    Remedy(name="nf4", label="nf4"),
    Remedy(name="to_ram", label="more layers to RAM"),
)


class Banner(Widget, can_focus=True):
    """What went wrong and the next step; hidden when there is nothing to say."""

    class RemedyChosen(Message):
        """The person pressed a remedy's key.

        Attributes:
            name: of the remedy.
        """

        def __init__(self, name: str) -> None:
            """Name the remedy."""
            super().__init__()
            self.name = name

    class Typed(Message):
        """The person goes on writing, and looks at no remedy.

        Attributes:
            character: what was typed.
        """

        def __init__(self, character: str) -> None:
            """Carry the character to where it was meant for."""
            super().__init__()
            self.character = character

    class Dismissed(Message):
        """The person has read it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "choose(0)", show=False),
        Binding("2", "choose(1)", show=False),
        Binding("3", "choose(2)", show=False),
        Binding("escape,enter", "dismiss", show=False),
    ]
    DEFAULT_CSS = """
    Banner {
        display: none;
        height: auto;
        max-height: 4;
        padding: 0 2;
        background: $panel;
        color: $foreground;
    }
    Banner.-shown { display: block; }
    """
    content: reactive[Content] = reactive(Content(""), layout=True)

    def __init__(self) -> None:
        """Begin hidden."""
        super().__init__(id="banner")
        self._remedies: tuple[Remedy, ...] = ()

    def show(
        self, message: str, hint: str = "", remedies: tuple[Remedy, ...] = (), *, is_typing: bool = False
    ) -> None:
        """Say it; with remedies, take the focus so that one key chooses, unless a prompt is being written."""
        self._remedies = remedies
        keys = [
            Content.assemble((f" {n} ", "bold $accent"), r.label, "  ") for n, r in enumerate(remedies, 1)
        ]
        if keys:
            keys.append(Content.styled("Esc leaves it", "$muted"))
        self.content = Content.assemble(
            ("● ", "$error"),
            safe_line(message),
            " ",
            (safe_line(hint), "$muted"),
            "\n" if keys else "",
            *keys,
        )
        self.add_class("-shown")
        if remedies and not is_typing:
            self.focus()

    def hide(self) -> None:
        """Say nothing more."""
        self.remove_class("-shown")
        self._remedies = ()

    @property
    def is_shown(self) -> bool:
        """There is something to read."""
        return self.has_class("-shown")

    def render(self) -> RenderResult:
        """The sentence, the hint and the remedies."""
        return self.content

    def on_key(self, event: events.Key) -> None:
        """Hand on what is typed, but for the keys of remedies."""
        if event.is_printable and event.character and event.key not in self._bindings.key_to_bindings:
            event.stop()
            self.post_message(self.Typed(event.character))

    def action_choose(self, position: int) -> None:
        """Ask for the remedy at that place."""
        if position < len(self._remedies):
            self.post_message(self.RemedyChosen(self._remedies[position].name))
            self.action_dismiss()

    def action_dismiss(self) -> None:
        """Hide, and say so."""
        self.hide()
        self.post_message(self.Dismissed())
