"""The plan: what lies where, of the loaded model or of one that could be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tui.screens.dialog import Dialog, Line
from tui.widgets.placement_view import PlacementView

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.values import Placement

_KEYS = "Up/Down scroll · Esc close"
_KEYS_LOAD = "Enter load · Up/Down scroll · Esc close"


class PlanScreen(Dialog[bool]):
    """A placement; the result is True when the model is to be loaded as planned."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "load", show=False, priority=True),
        Binding("f2,q", "close", show=False),
    ]

    def __init__(self, name: str, placement: Placement | None = None, *, is_loaded: bool = False) -> None:
        """Show a placement, or wait for it.

        Args:
            name: of the model.
            placement: None until `show_placement`.
            is_loaded: it is what runs now, so there is nothing to load.
        """
        super().__init__()
        self._name = name
        self._placement = placement
        self._is_loaded = is_loaded

    def compose(self) -> ComposeResult:
        """One page that scrolls, and a line for what goes wrong."""
        keys = _KEYS if self._is_loaded else _KEYS_LOAD
        with self.frame(f"plan · {self._name}", keys):
            yield Line(id="say")
            with VerticalScroll(id="page"):
                yield PlacementView()

    def on_mount(self) -> None:
        """Draw what is there, or say that it comes."""
        if self._placement is not None:
            self.show_placement(self._placement)
        else:
            self.query_one(Line).say("Reading the checkpoint's headers …")

    def show_placement(self, placement: Placement) -> None:
        """Draw a placement."""
        self._placement = placement
        self.query_one(Line).say("")
        self.query_one(PlacementView).show_placement(placement)

    def show_problem(self, message: str, hint: str = "") -> None:
        """Say why there is no placement."""
        self.query_one(Line).say(f"{message} {hint}".strip(), is_warning=True)

    def action_load(self) -> None:
        """Load as planned."""
        if self._placement is not None and not self._is_loaded:
            self.dismiss(True)
