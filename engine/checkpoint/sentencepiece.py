"""What a sentencepiece model says, read from its protocol buffer without that library."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from engine.checkpoint.files import DOWNLOAD_AGAIN, contained, known_impostor, open_plain, shown
from engine.errors import DamagedCheckpoint, UnsupportedModel

MODEL_LIMIT = 64 << 20
"""Bytes; vocabularies of 256,000 pieces take about 5 MB."""
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_MORE = 128
"""A byte from here on is not the last one of its number."""
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_UNIGRAM, _BPE = 1, 2
_MODEL_TYPE = 3
_BYTE_FALLBACK = 35

Message = dict[int, list[int | bytes]]
"""Values by field number, as often as they occur."""


class Kind(IntEnum):
    """What a piece is."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One entry of the vocabulary; its place is its id.

    Attributes:
        text: with U+2581 for a blank.
        score: a higher one is preferred.
        kind: of it.
    """

    text: str
    score: float
    kind: Kind


class SentencePieces(NamedTuple):
    """A whole model.

    Attributes:
        pieces: by id.
        is_unigram: the likeliest segmentation; otherwise merges, best score first.
        falls_back: what no piece covers becomes bytes.
        charsmap: normalizes characters; empty for none.
        adds_prefix: a text begins as if behind a blank.
        collapses: several blanks become one, those at the ends none.
    """

    pieces: tuple[Piece, ...]
    is_unigram: bool
    falls_back: bool
    charsmap: bytes
    adds_prefix: bool
    collapses: bool

    @property
    def unknown_id(self) -> int | None:
        """Id of what stands for unknown characters."""
        return next((i for i, piece in enumerate(self.pieces) if piece.kind is Kind.UNKNOWN), None)


def read_sentencepieces(folder: Path, name: str = "tokenizer.model") -> SentencePieces:
    """Read a model file of a folder.

    Raises:
        DamagedCheckpoint: it is missing, leads out of the folder, or is no such model.
        UnsupportedModel: it segments in another way than these libraries do.
    """
    with open_plain(contained(folder, name)) as file:
        content = file.read(MODEL_LIMIT + 1)
    try:
        return parse_sentencepieces(content)
    except (ValueError, IndexError, struct.error) as error:
        cause = known_impostor(content) or "it is no sentencepiece model"
        raise DamagedCheckpoint(f"{shown(name)} is damaged: {cause}.", DOWNLOAD_AGAIN) from error


def parse_sentencepieces(content: bytes) -> SentencePieces:
    """Parse a model.

    Raises:
        ValueError, IndexError, struct.error: the bytes are no such message.
        UnsupportedModel: it segments by words or characters.
    """
    message = _message(content)
    pieces = tuple(_piece(_message(_bytes(entry))) for entry in message.get(_PIECES, ()))
    trainer = _message(_last_bytes(message, _TRAINER))
    normalizer = _message(_last_bytes(message, _NORMALIZER))
    if not pieces or len(content) > MODEL_LIMIT:
        text = "no pieces, or too many"
        raise ValueError(text)
    kind = _number(trainer, _MODEL_TYPE, _UNIGRAM)
    if kind not in {_UNIGRAM, _BPE}:
        text = (
            "Its sentencepiece model segments by words or characters, and vramble reads BPE and unigram ones."
        )
        raise UnsupportedModel(text, "Get the model with a tokenizer.json.")
    return SentencePieces(
        pieces=pieces,
        is_unigram=kind == _UNIGRAM,
        falls_back=bool(_number(trainer, _BYTE_FALLBACK, 0)),
        charsmap=_last_bytes(normalizer, 2),
        adds_prefix=bool(_number(normalizer, 3, 1)),
        collapses=bool(_number(normalizer, 4, 1)),
    )


def _piece(message: Message) -> Piece:
    text = _last_bytes(message, 1).decode("utf-8")
    score = message.get(2, [0])[-1]
    bits = score if isinstance(score, int) else 0
    (value,) = struct.unpack("<f", struct.pack("<I", bits))
    return Piece(text, value, Kind(_number(message, 3, Kind.NORMAL)))


def _number(message: Message, field: int, default: int) -> int:
    value = message.get(field, [default])[-1]
    if not isinstance(value, int):
        text = f"field {field} is no number"
        raise ValueError(text)  # noqa: TRY004 - what parsing raises
    return value


def _last_bytes(message: Message, field: int) -> bytes:
    return _bytes(message.get(field, [b""])[-1])


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        text = "a field is no string"
        raise ValueError(text)  # noqa: TRY004 - what parsing raises
    return value


def _message(content: bytes) -> Message:
    fields: Message = {}
    for number, value in _fields(content):
        fields.setdefault(number, []).append(value)
    return fields


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(content, at)
        elif kind in {_FIXED_32, _FIXED_64}:
            length = 4 if kind == _FIXED_32 else 8
        else:
            text = f"wire type {kind}"
            raise ValueError(text)
        if length > len(content) - at:
            text = "it ends within a field"
            raise ValueError(text)
        part = content[at : at + length]
        at += length
        yield key >> 3, part if kind == _BYTES else int.from_bytes(part, "little")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position in range(_LONGEST_VARINT):
        byte = content[at + position]
        value |= (byte % _MORE) << (7 * position)
        if byte < _MORE:
            return value, at + position + 1
    text = "a number is too long"
    raise ValueError(text)
