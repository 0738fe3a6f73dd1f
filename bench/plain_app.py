"""An app for measured screens: the product's palette, no animations, no screen of its own."""

from __future__ import annotations

from textual.app import App

from themes import theme_named


class PlainApp(App[None]):
    """An app in the product's own palette, on which nothing moves by itself."""

    def __init__(self) -> None:
        """Begin without a screen of its own."""
        super().__init__()
        self.animation_level = "none"
        self.register_theme(theme_named("vramble"))
        self.theme = "vramble"
