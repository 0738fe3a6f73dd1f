"""The person's settings.toml: read strictly, changed a line at a time so that comments survive."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from engine import errors, values
from tui import paths
from tui.format import parse_gpu, parse_size
from tui.settings_text import change_line, whole_text

Parsed = TypeVar("Parsed")

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")


class SettingsError(Exception):
    """settings.toml does not say something usable; `message` names line and key, `hint` the next step."""

    def __init__(self, message: str, hint: str) -> None:
        """Keep the sentence and the next step.

        Args:
            message: what is wrong, and where.
            hint: what the person can do.
        """
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


class BudgetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan may use, as the person writes it; empty takes what is free.

    Attributes:
        gpu: caps per GPU ("0=20GiB").
        ram: cap for RAM ("8GiB").
        disk: cap for offloaded tensors ("100GiB").
        disk_folder: where those go; None takes the cache folder.
    """

    gpu: tuple[str, ...] = ()
    ram: str = ""
    disk: str = ""
    disk_folder: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        self.request()

    def request(self) -> values.BudgetRequest:
        """The same in bytes, as the engine wants it. Raises InvalidValue."""
        return values.BudgetRequest(
            gpu=tuple(_parsed("gpu", cap, parse_gpu) for cap in self.gpu),
            ram_bytes=_parsed("ram", self.ram, parse_size) if self.ram else None,
            disk_bytes=_parsed("disk", self.disk, parse_size) if self.disk else None,
            disk_folder=self.disk_folder.expanduser() if self.disk_folder else None,
        )


def _parsed(key: str, text: str, parse: Callable[[str], Parsed]) -> Parsed:
    try:
        return parse(text)
    except errors.InvalidValue as error:
        raise errors.InvalidValue(f"{key}: {error.message}", error.hint) from error


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything settings.toml may say.

    Attributes:
        last_model: what the next start loads; empty takes the built-in one.
        model_folders: folders that hold model folders.
        theme: a palette's name.
        memory_panel: the panel is shown.
        context_window: tokens; None takes the engine's default for the checkpoint.
        quantization: how linear weights are stored when a model is loaded.
        system_prompt: of new sessions.
        sampling: how tokens are chosen; what is absent, the model recommends.
        budgets: what a plan may use.
    """

    last_model: str = ""
    model_folders: tuple[Path, ...] = ()
    theme: str = "vramble"
    memory_panel: bool = True
    context_window: int | None = None
    quantization: values.Quantization = values.Quantization.NONE
    system_prompt: str = ""
    sampling: values.SamplingParams = values.SamplingParams()
    budgets: BudgetSettings = BudgetSettings()

    def __post_init__(self) -> None:
        """Refuse a context window that holds nothing."""
        if self.context_window is not None and self.context_window < 1:
            raise errors.InvalidValue(
                "context_window must be at least 1 token.", "Leave it out for the default."
            )


class SettingsFound(NamedTuple):
    """What a start works with.

    Attributes:
        settings: the file's, or the defaults where it is broken or absent.
        problem: one sentence about a broken file; empty when all is well.
    """

    settings: Settings
    problem: str = ""


def load_settings(file: Path) -> SettingsFound:
    """Read the settings, or take the defaults and say why; the file is left as it is."""
    try:
        return SettingsFound(read_settings(file))
    except SettingsError as broken:
        return SettingsFound(Settings(), f"{broken.message} The defaults are used. {broken.hint}")


def read_settings(file: Path) -> Settings:
    """Read the settings; an absent file holds the defaults. Raises SettingsError."""
    return _parse(_read(file), file)


def change_settings(file: Path, **changes: object) -> Settings:
    """Set some of the fields of Settings in the file, and return what it says then.

    Lines that do not change stay as they are, comments included.

    Raises:
        SettingsError: the file is broken, and therefore not touched, or cannot be written.
    """
    text = _read(file)
    before = _plain(_parse(text, file))
    after = before | _plain(msgspec.structs.replace(Settings(), **changes), only=set(changes))
    wanted = _convert(after)
    changed = _edit(text, before, after)
    if _parse_quietly(changed) != wanted:
        changed = whole_text(_told(after))
    try:
        paths.write_private(file, changed)
    except (OSError, paths.FolderError) as error:
        raise SettingsError(
            f"{file} cannot be written: {error}.", "The change holds until you quit."
        ) from error
    return wanted


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.", "Check its permissions.") from error


def _parse(text: str, file: Path) -> Settings:
    try:
        return _convert(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        reason = str(error).replace("end of document", f"line {len(text.splitlines())}")
        raise SettingsError(f"{file} is not TOML: {reason}.", "Correct that line.") from error
    except msgspec.ValidationError as error:
        raise _named(str(error), text, file) from error
    except errors.InvalidValue as error:
        key = error.message.split()[0].rstrip(":")
        raise SettingsError(f"{_where(file, text, key)}{error.message}", error.hint) from error


def _convert(plain: dict[str, object]) -> Settings:
    return msgspec.convert(plain, Settings, dec_hook=_path)


def _path(wanted: type, written: object) -> Path:
    if wanted is Path and isinstance(written, str):
        return Path(written)
    raise TypeError(f"Expected `path`, got `{type(written).__name__}`")


def _parse_quietly(text: str) -> Settings | None:
    try:
        return _convert(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, errors.InvalidValue):
        return None


def _named(complaint: str, text: str, file: Path) -> SettingsError:
    """Msgspec's complaint as a sentence that names the line and the key."""
    at = _AT.search(complaint)
    path = at["path"] if at else ""
    unknown = _UNKNOWN.match(complaint)
    if unknown:
        key = ".".join(part for part in (path, unknown["key"]) if part)
        message = f"{_where(file, text, key)}{key} is not a setting."
        return SettingsError(message, "Remove it, or correct its name.")
    key = re.sub(r"\[[^\]]*\]", "", path)
    reason = _AT.sub("", complaint).replace("`", "").lower()
    return SettingsError(f"{_where(file, text, key)}{key}: {reason}.", "Correct its value.")


def _where(file: Path, text: str, key: str) -> str:
    name = re.escape(key.rpartition(".")[2])
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"\s*(\[\s*)?[\"']?{name}[\"']?\s*[=\].]", line):
            return f"{file}, line {number}: "
    return f"{file}: "


def _plain(settings: Settings, only: set[str] | None = None) -> dict[str, object]:
    built = msgspec.to_builtins(settings, enc_hook=str)
    return {key: value for key, value in built.items() if only is None or key in only}


def _told(plain: dict[str, object]) -> dict[str, object]:
    """Without what equals the defaults."""
    defaults = _plain(Settings())
    return {
        key: _told_table(value, defaults[key]) if isinstance(value, dict) else value
        for key, value in plain.items()
        if value != defaults[key]
    }


def _told_table(table: dict[str, object], defaults: object) -> dict[str, object]:
    known = defaults if isinstance(defaults, dict) else {}
    return {key: value for key, value in table.items() if value != known.get(key)}


def _edit(text: str, before: dict[str, object], after: dict[str, object], table: str = "") -> str:
    for key, value in after.items():
        old = before[key]
        if isinstance(value, dict) and isinstance(old, dict):
            text = _edit(text, old, value, key)
        elif value != old:
            text = change_line(text, table, key, value)
    return text
