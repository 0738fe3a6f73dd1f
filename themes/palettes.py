"""Palettes: TOML files of colour names, read into Textual themes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

from themes.colours import PRODUCT_COLOURS, TEXTUAL_COLOURS, widget_colours

_OWN_FOLDER = Path(__file__).parent
_HEAD: dict[str, type] = {"dark": bool, "ansi": bool}


class PaletteError(Exception):
    """A palette that cannot be used; `message` says which and why, `hint` the next step."""

    def __init__(self, message: str, hint: str) -> None:
        """Keep the sentence and the next step.

        Args:
            message: what is wrong, and in which file.
            hint: what the person can do.
        """
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


def palette_files(folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Every palette's file by its name: the product's, then those of the folders, which win."""
    files: dict[str, Path] = {}
    for folder in (_OWN_FOLDER, *folders):
        files |= {file.stem: file for file in sorted(folder.glob("*.toml"))}
    return files


def theme_named(name: str, folders: Iterable[Path] = ()) -> Theme:
    """The Textual theme of a palette. Raises PaletteError, also where there is none of the name."""
    files = palette_files(folders)
    if name not in files:
        raise PaletteError(f"There is no theme called {name!r}.", f"Choose one of: {', '.join(files)}.")
    return load_palette(files[name])


def load_palette(file: Path) -> Theme:
    """Read one palette into a Textual theme named like the file. Raises PaletteError."""
    palette = _read(file)
    head = {key: palette.pop(key, False) for key in _HEAD}
    _check_keys(file, palette, head)
    colours = {name: _colour(file, name, value) for name, value in palette.items()}
    product = {name: colours[name] for name in PRODUCT_COLOURS}
    theme = Theme(
        name=file.stem, primary=colours["primary"], dark=bool(head["dark"]), ansi=bool(head["ansi"])
    )
    for name in TEXTUAL_COLOURS:
        setattr(theme, name, colours[name])
    theme.variables = widget_colours(colours) | product
    return theme


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PaletteError(
            f"The palette {file} cannot be read: {error.strerror}.", "Check the file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PaletteError(f"The palette {file} is not TOML: {error}.", "Correct that line.") from error


def _check_keys(file: Path, palette: dict[str, object], head: dict[str, object]) -> None:
    known = {*TEXTUAL_COLOURS, *PRODUCT_COLOURS}
    unknown, missing = palette.keys() - known, known - palette.keys()
    if unknown:
        hint = "Remove it, or correct its name."
        raise PaletteError(f"The palette {file} names no such colour: {', '.join(sorted(unknown))}.", hint)
    if missing:
        raise PaletteError(f"The palette {file} lacks {', '.join(sorted(missing))}.", "Give each a colour.")
    for key, wanted in _HEAD.items():
        if not isinstance(head[key], wanted):
            raise PaletteError(f"In the palette {file}, {key} is {head[key]!r}.", "Write true or false.")


def _colour(file: Path, name: str, value: object) -> str:
    try:
        Color.parse(str(value))
    except ColorParseError as error:
        hint = 'Write it like "#8fb3a5" or "ansi_cyan".'
        raise PaletteError(f"In the palette {file}, {name} is no colour: {value!r}.", hint) from error
    return str(value)
