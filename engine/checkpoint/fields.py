"""Reading single fields of a config.json, each with the range outside which it cannot be true."""

from __future__ import annotations

from collections.abc import Mapping

from engine.checkpoint.defaults import DEFAULTS
from engine.checkpoint.files import JsonObject, shown
from engine.errors import DamagedCheckpoint

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
_HINT = "Get config.json again from where the model came from."
LARGEST = 2**31 - 1


class Fields:
    """The fields of a config.json: its language model's, then the outer ones, then the family's defaults."""

    def __init__(self, config: JsonObject) -> None:
        """Find the language model's own part.

        Args:
            config: the whole of config.json.
        """
        self.outer = config
        parts = [part for name in _TEXT_CONFIGS if isinstance(part := config.get(name), dict)]
        self.text: JsonObject = parts[0] if parts else config
        self.defaults: Mapping[str, object] = DEFAULTS.get(self.family, {})
        self._lists: dict[str, tuple[str, ...]] = {}
        self._sets: dict[str, frozenset[int]] = {}

    @property
    def family(self) -> str:
        """The language model's own `model_type`; empty where there is none."""
        family = self.text.get("model_type", self.outer.get("model_type"))
        return family if isinstance(family, str) else ""

    def find(self, *names: str) -> object:
        """The first of these fields that is there and not null, or the family's default for one left out."""
        for fields in (self.text, self.outer):
            for name in names:
                if fields.get(name) is not None:
                    return fields[name]
        if any(name in self.text for name in names):
            return None
        return next((self.defaults[name] for name in names if name in self.defaults), None)

    def integer(self, *names: str, low: int = 1, high: int = LARGEST, default: int | None = None) -> int:
        """A whole number within a range.

        Raises:
            DamagedCheckpoint: absent without a default, no whole number, or outside the range.
        """
        value = self.find(*names)
        if value is None and default is not None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            is_absent = "does not say" if value is None else f"says {shown(value)} for"
            raise DamagedCheckpoint(f"config.json {is_absent} {names[0]}.", _HINT)
        return value

    def widest(self, *names: str, high: int, default: int) -> int:
        """A whole number above zero; of a list of them, one per layer, the largest.

        Raises:
            DamagedCheckpoint: the field is something else, or beyond `high`.
        """
        value = self.find(*names)
        if not isinstance(value, list):
            return self.integer(*names, high=high, default=default)
        numbers = [item for item in value if isinstance(item, int) and 0 < item <= high]
        if not numbers or len(numbers) != len(value):
            raise DamagedCheckpoint(f"config.json says {shown(value)} for {names[0]}.", _HINT)
        return max(numbers)

    def positive(self, *names: str) -> float:
        """A number above zero and no larger than LARGEST, or 0 where the field is absent.

        Raises:
            DamagedCheckpoint: the field is something else.
        """
        value = self.find(*names)
        if value is None:
            return 0.0
        if not isinstance(value, int | float) or not 0 < value <= LARGEST:
            raise DamagedCheckpoint(f"config.json says {shown(value)} for {names[0]}.", _HINT)
        return float(value)

    def string(self, *names: str) -> str:
        """A string; empty where the field is absent or something else."""
        value = self.find(*names)
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool | None:
        """True or false; None where the field is absent or something else."""
        value = self.find(name)
        return value if isinstance(value, bool) else None

    def part(self, *names: str) -> Fields:
        """A nested object's fields; without any where it is absent or something else."""
        value = self.find(*names)
        return Fields(value if isinstance(value, dict) else {})

    def strings(self, name: str) -> tuple[str, ...]:
        """A list's strings; none where the field is absent or something else."""
        if name not in self._lists:
            value = self.find(name)
            items = value if isinstance(value, list) else []
            self._lists[name] = tuple(item for item in items if isinstance(item, str))
        return self._lists[name]

    def numbers(self, name: str) -> frozenset[int] | None:
        """A list's whole numbers; None where the field is absent or something else."""
        if name not in self._sets:
            value = self.find(name)
            if not isinstance(value, list):
                return None
            self._sets[name] = frozenset(item for item in value if isinstance(item, int))
        return self._sets[name]
