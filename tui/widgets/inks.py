"""Names of the palette's colours as styles, for widgets that draw their own lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.style import Style
from textual.color import Color

if TYPE_CHECKING:
    from rich.color import Color as RichColor
    from textual.widget import Widget

_PLAIN = {"text": Style(), "strong": Style(bold=True)}


class Inks:
    """The styles of one widget, made once each; made anew when the theme changes."""

    def __init__(self, widget: Widget) -> None:
        """Draw for this widget, on its background."""
        self._widget = widget
        self._theme = ""
        self._styles: dict[tuple[str, str], Style] = {}

    def forget(self) -> None:
        """Make every style anew."""
        self._styles.clear()

    def style(self, ink: str, ground: str = "") -> Style:
        """Text in a colour of the palette.

        Args:
            ink: a colour's name, or "text", "strong".
            ground: a colour's name for the background; empty for the widget's own.
        """
        theme = self._widget.app.theme
        if theme != self._theme:
            self._styles.clear()
            self._theme = theme
        if (ink, ground) not in self._styles:
            self._styles[ink, ground] = self._made(ink, ground)
        return self._styles[ink, ground]

    def _made(self, ink: str, ground: str) -> Style:
        tint = _PLAIN[ink] if ink in _PLAIN else Style.from_color(self._colour(ink))
        back = Style.from_color(bgcolor=self._colour(ground))
        return self._widget.visual_style.rich_style + tint + back

    def _colour(self, name: str) -> RichColor | None:
        from_palette = self._widget.app.theme_variables.get(name)
        return Color.parse(from_palette).rich_color if from_palette else None
