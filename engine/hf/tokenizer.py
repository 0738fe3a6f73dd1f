"""A folder's tokenizer, and an adapter's in its place."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from engine.checkpoint import read_config
from engine.checkpoint.adapted import family_of
from engine.checkpoint.files import read_json
from engine.errors import DamagedCheckpoint
from engine.hf.adapted import LOCAL, config_of
from engine.hf.old_tokenizer import old_tokenizer
from engine.hf.own_code import OwnCode
from engine.hf.protocols import TextTokenizer


def load_tokenizer(folder: Path, own: OwnCode | None = None, adapter: Path | None = None) -> TextTokenizer:
    """Load a folder's tokenizer, running nothing of it but what the person agreed to.

    Args:
        folder: of the model.
        own: the classes that may run.
        adapter: folder of the model's adapter, whose tokenizer takes the model's place where it brings one.

    Raises:
        DamagedCheckpoint: there is none, or it cannot be read, or it is not for this model.
    """
    family = family_of(read_json(folder, "config.json"))
    try:
        if family is not None:
            return old_tokenizer(folder, family)
        if adapter is not None and (adapter / "tokenizer.json").is_file():
            return _adapters_tokenizer(folder, adapter)
        tokenizer: TextTokenizer = (
            AutoTokenizer.from_pretrained(folder, **LOCAL) if own is None else own.load_tokenizer(folder)
        )
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        line = str(error).strip().partition("\n")[0]
        raise DamagedCheckpoint(
            f"The tokenizer cannot be read: {line}", "Download the model again; it needs tokenizer.json."
        ) from error
    return tokenizer


def _adapters_tokenizer(folder: Path, adapter: Path) -> TextTokenizer:
    """Load what an adapter brings; its words must all be in the model's embedding."""
    tokenizer: TextTokenizer = AutoTokenizer.from_pretrained(adapter, config=config_of(folder), **LOCAL)
    rows = read_config(folder).vocab_size
    if max(tokenizer.get_vocab().values(), default=0) >= rows:
        raise DamagedCheckpoint(
            f"The adapter's tokenizer knows more words than the {rows:,} of its base model.",
            "Merge it into a base model with as many (peft: merge_and_unload), and load that.",
        )
    return tokenizer
