"""The App: themes, screens, and the bridge that it starts after the first frame and closes at the end."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand

from themes import PaletteError, theme_named
from tui.bridge import Bridge
from tui.commands import SCREEN_COMMANDS
from tui.guard import TerminalGuard
from tui.options import ChatOptions
from tui.paths import settings_file
from tui.safe_text import install_strip_filter, safe
from tui.screens.chat import ChatScreen
from tui.settings import Settings, load_settings
from tui.terminal import TerminalDriver

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import PurePath

    from textual.screen import Screen


_SWITCH_SECONDS = 0.001
"""How long a thread that plans or reads may keep the loop waiting; Python's own is five times as long."""


class VrambleApp(App[int]):
    """The screen; it begins with the chat."""

    TITLE = "vramble"
    # Textual does not load the CSS of the default screen by itself.
    CSS_PATH: ClassVar[list[str | PurePath]] = ["app.tcss", "screens/chat.tcss"]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 # as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (6, "-low"), (18, "-high")]  # noqa: RUF012 # as Textual declares it

    def __init__(
        self,
        bridge: Bridge | None = None,
        settings: Settings | None = None,
        guard: TerminalGuard | None = None,
    ) -> None:
        """Prepare; nothing runs before the first frame.

        Args:
            bridge: to the engine and to the saved talk; opened here, closed by the caller.
            settings: the person's; None reads them.
            guard: gives the terminal back; None where there is no terminal.
        """
        # Textual's own answer to NO_COLOR is grey, unless it thinks the colours are the terminal's.
        no_color = True if "NO_COLOR" in os.environ else None
        super().__init__(driver_class=TerminalDriver if guard else None, ansi_color=no_color)
        install_strip_filter()
        self.settings = settings or load_settings(settings_file()).settings
        self.bridge = bridge or Bridge(ChatOptions(), self.settings)
        self.guard, self.farewell = guard, ""
        self.known_models: frozenset[str] = frozenset()
        self.animation_level = "none"
        self.show_theme(self.settings.theme)

    def get_default_screen(self) -> Screen[None]:
        """The chat, in the shape that its first size asks for: changing it later costs a layout."""
        columns, rows = self.size
        shape = [name for least, name in self.HORIZONTAL_BREAKPOINTS if columns >= least][-1:]
        shape += [name for least, name in self.VERTICAL_BREAKPOINTS if rows >= least][-1:]
        return ChatScreen(self.bridge, " ".join(shape))

    def on_load(self) -> None:
        """Have signals end the program in order, before the terminal changes its mode."""
        if self.guard is not None:
            self.guard.watch_signals(asyncio.get_running_loop(), self.leave)
            self.guard.watch_terminal()

    def leave(self, farewell: str = "") -> None:
        """End the screen.

        Args:
            farewell: why, told below it when it is gone; for a failure.
        """
        self.farewell = farewell
        if self.guard is not None:
            self.guard.expect_end()
        self.exit(1 if farewell else 0)

    def _fatal_error(self) -> None:
        # Textual's own shows a traceback with the values of variables, prompts among them.
        if (error := sys.exception()) is not None:
            from tui import crash

            self.farewell = crash.tell(error)
        if self.guard is not None:
            self.guard.expect_end()
        self._close_messages_no_wait()

    async def action_quit(self) -> None:
        """End the screen on the person's wish."""
        self.leave()

    def say(self, text: str, *, is_warning: bool = False) -> None:
        """Show a passing notice; it is text, never markup."""
        self.notify(safe(text), severity="warning" if is_warning else "information", markup=False)

    def write_control(self, sequence: str) -> None:
        """Write a control sequence of ours to the terminal; from any thread."""
        if self._driver is not None:
            self._driver.write(sequence)

    def show_theme(self, name: str) -> bool:
        """Change the palette; an unknown one becomes a notice, and the result False."""
        try:
            theme = theme_named(name)
        except PaletteError as error:
            if self.is_running:
                self.say(str(error), is_warning=True)
                return False
            theme = theme_named(Settings().theme)
        self.register_theme(theme)
        self.theme = theme.name
        return True

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette's entries: every command of the chat, while it is on top."""
        if not isinstance(screen, ChatScreen):
            return
        for command in SCREEN_COMMANDS:
            if command.name not in {"palette", "stop"}:
                yield SystemCommand(command.title, command.help, screen.command_caller(command.name))


def run_chat(options: ChatOptions) -> int:
    """Open the chat and stay until it ends.

    Returns:
        The exit code: 0 good, 1 it failed, 128 + n after signal n.
    """
    if options.plain:
        from tui.plain import run_plain

        gc.enable()
        return run_plain(options)
    sys.setswitchinterval(_SWITCH_SECONDS)
    found = load_settings(settings_file())
    bridge = Bridge(options, found.settings)
    guard = TerminalGuard(bridge.abandon)
    app = VrambleApp(bridge, found.settings, guard)
    if options.theme:
        app.show_theme(options.theme)
    app.run()
    bridge.close()
    if app.farewell:
        sys.stderr.write(f"{safe(app.farewell)}\n")
    return guard.exit_code or app.return_code or 0
