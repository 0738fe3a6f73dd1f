"""Which repository a word means: `hf:owner/name@revision`, checked before anything is asked of a hub."""

from __future__ import annotations

import re

from engine.checkpoint.files import shown
from engine.downloads import Repository
from engine.errors import InvalidValue
from engine.values import Hub

PREFIXES = {"hf:": Hub.HUGGINGFACE, "ms:": Hub.MODELSCOPE}
HUB_NAMES = {Hub.HUGGINGFACE: "Hugging Face", Hub.MODELSCOPE: "ModelScope"}
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_REPO_ID = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/+-]{0,126}[A-Za-z0-9_+-])?")
_HINT = "Write it like hf:owner/name or ms:owner/name, with @revision behind it for another than the default."


def parse_repository(word: str) -> Repository:
    """The repository that a word means; without a prefix, one on Hugging Face.

    Raises:
        InvalidValue: it cannot be one.
    """
    hub = PREFIXES.get(word[:3])
    repo_id, at, revision = (word[3:] if hub else word).partition("@")
    if not _is_repo_id(repo_id) or (at and not _is_revision(revision, hub)):
        raise InvalidValue(f"{shown(word)} is not the name of a model on a hub.", _HINT)
    return Repository(hub=hub or Hub.HUGGINGFACE, repo_id=repo_id, revision=revision)


def _is_repo_id(text: str) -> bool:
    # A cache writes owner/name as owner--name.
    return bool(_REPO_ID.fullmatch(text)) and "--" not in text and ".." not in text


def _is_revision(text: str, hub: Hub | None) -> bool:
    # ModelScope's cache has a folder for each, beside each other.
    if hub is Hub.MODELSCOPE and "/" in text:
        return False
    return bool(_REVISION.fullmatch(text)) and ".." not in text and "//" not in text
