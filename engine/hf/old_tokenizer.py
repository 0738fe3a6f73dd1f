"""Tokenizers of old repositories, made from their vocabulary files; none of their code runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.checkpoint.adapted import Family, family_of
from engine.checkpoint.files import (
    JsonObject,
    contained,
    open_plain,
    read_json,
    read_optional_json,
    shown,
)
from engine.checkpoint.sentencepiece import Kind, Piece, SentencePieces, read_sentencepieces
from engine.errors import DamagedCheckpoint
from engine.hf.protocols import TextTokenizer

PIECES_FILE = "tokenizer.model"
WORDS_FILE, MERGES_FILE = "vocab.json", "merges.txt"
VOCABULARY_LIMIT = 64 << 20
"""Bytes of a file of words or merges."""
_BLANK = "▁"
_NEW_TEXT = Regex(r"\A(?!\n)")
_MATCHED = (Kind.CONTROL, Kind.USER_DEFINED)
_HINT = "Get the model again, with its tokenizer's files."
_MOST_TOKENS = 2**22
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


def old_tokenizer(folder: Path, family: Family) -> TextTokenizer:
    """Make the tokenizer of an old repository, with our template of how it talks.

    Raises:
        DamagedCheckpoint: its vocabulary is missing or malformed.
        UnsupportedModel: its sentencepiece model is of a kind that is not read.
    """
    config = read_optional_json(folder, "tokenizer_config.json")
    core, names = _core(folder, config, family)
    own = config.get("chat_template")
    is_own = isinstance(own, str) and not family.speech.overrules
    tokenizer: TextTokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        chat_template=own if is_own else family.speech.template or None,
        clean_up_tokenization_spaces=False,
        **names,
    )
    return tokenizer


def reply_ends(folder: Path, tokenizer: TextTokenizer) -> frozenset[int]:
    """Return the ids that end a reply of an old family, beside the end of text; none for any other model."""
    family = family_of(read_json(folder, "config.json"))
    if family is None:
        return frozenset()
    known = tokenizer.get_vocab()
    return frozenset(known[text] for text in family.speech.ends if text in known)


def _core(folder: Path, config: JsonObject, family: Family) -> tuple[Tokenizer, dict[str, str]]:
    """Return the tokenizer, and the names of its special tokens."""
    names = _said_names(config)
    if os.path.lexists(folder / WORDS_FILE):
        return _byte_level(folder, config), {"bos_token": "<|endoftext|>", "eos_token": "<eom>"} | names
    found = read_sentencepieces(folder)
    tokens = dict(enumerate(family.speech.appended, len(found.pieces))) | _said_tokens(folder, config)
    core = from_sentencepieces(found, tokens, continues=family.speech.continues)
    return core, _piece_names(found) | names


def _said_names(config: JsonObject) -> dict[str, str]:
    """The names of special tokens, each a string or an object that has one."""
    found = {}
    for name in _NAMED:
        text = _content(config.get(name))
        if isinstance(text, str) and text:
            found[name] = text
    return found


def _piece_names(found: SentencePieces) -> dict[str, str]:
    known = {piece.text for piece in found.pieces}
    usual = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return {name: text for name, text in usual.items() if text in known}


def _said_tokens(folder: Path, config: JsonObject) -> dict[int, str]:
    """Added tokens by id, from either of the files that name them."""
    added = read_optional_json(folder, "added_tokens.json")
    listed: dict[object, object] = {number: text for text, number in added.items()}
    decoder = config.get("added_tokens_decoder")
    entries = decoder.items() if isinstance(decoder, dict) else ()
    listed |= {int(number): _content(entry) for number, entry in entries if str(number).isdecimal()}
    return {
        number: text
        for number, text in listed.items()
        if isinstance(number, int) and 0 <= number < _MOST_TOKENS and isinstance(text, str) and text
    }


def _content(entry: object) -> object:
    """The text of a token that is told as an object, or as itself."""
    return entry.get("content") if isinstance(entry, dict) else entry


def from_sentencepieces(
    found: SentencePieces, tokens: Mapping[int, str], *, continues: bool = False
) -> Tokenizer:
    """Make a tokenizer that gives the same ids as sentencepiece.

    Args:
        found: the model.
        tokens: matched as whole strings, by id; one that is a piece's id takes its place.
        continues: a text that begins with a line end gets no blank in front.
    """
    pieces = list(found.pieces)
    for number in sorted(tokens):
        _extend(pieces, number, tokens[number])
    core = Tokenizer(_unigram(pieces, found) if found.is_unigram else _merging(pieces, found))
    core.normalizer = normalizers.Sequence(list(_normalizers(found, continues=continues)))
    core.decoder = decoders.Sequence(list(_decoders(found)))
    kinds = ((piece.text, piece.kind) for piece in pieces)
    matched = [(text, kind) for text, kind in kinds if kind in _MATCHED]
    core.add_special_tokens([_whole(text) for text, kind in matched if kind is Kind.CONTROL])
    core.add_tokens([_whole(text) for text, kind in matched if kind is Kind.USER_DEFINED])
    return core


def _extend(pieces: list[Piece], number: int, text: str) -> None:
    """Put a control token at its id; ids that nothing names in between are filled."""
    while len(pieces) <= number:
        pieces.append(Piece(f"<unused {len(pieces)}>", 0.0, Kind.UNUSED))
    pieces[number] = Piece(text, 0.0, Kind.CONTROL)


def _whole(text: str) -> AddedToken:
    return AddedToken(text, normalized=False)


def _unigram(pieces: Sequence[Piece], found: SentencePieces) -> models.Model:
    lowest = min(piece.score for piece in pieces) - 100.0
    usable = (Kind.NORMAL, Kind.USER_DEFINED, Kind.BYTE)
    scored = [(piece.text, piece.score if piece.kind in usable else lowest) for piece in pieces]
    return models.Unigram(scored, unk_id=found.unknown_id, byte_fallback=found.falls_back)


def _merging(pieces: Sequence[Piece], found: SentencePieces) -> models.Model:
    unknown = found.unknown_id
    vocabulary = {piece.text: number for number, piece in enumerate(pieces)}
    if len(vocabulary) < len(pieces):
        raise DamagedCheckpoint(f"{shown(PIECES_FILE)} is damaged: a piece occurs twice.", _HINT)
    return models.BPE(
        vocabulary,
        list(_merges(pieces)),
        unk_token=None if unknown is None else pieces[unknown].text,
        fuse_unk=True,
        byte_fallback=found.falls_back,
    )


def _merges(pieces: Sequence[Piece]) -> Iterator[tuple[str, str]]:
    """Every way to make a piece of two others, best piece first."""
    normal = {piece.text: number for number, piece in enumerate(pieces) if piece.kind is Kind.NORMAL}
    for text in sorted(normal, key=lambda text: -pieces[normal[text]].score):
        halves = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
        made = [pair for pair in halves if pair[0] in normal and pair[1] in normal]
        yield from sorted(made, key=lambda pair: (normal[pair[0]], normal[pair[1]]))


def _normalizers(found: SentencePieces, *, continues: bool) -> Iterator[normalizers.Normalizer]:
    if found.charsmap:
        yield normalizers.Precompiled(found.charsmap)
    if found.collapses:
        yield normalizers.Strip()
        yield normalizers.Replace(Regex(" {2,}"), " ")
    if found.adds_prefix:
        yield normalizers.Replace(_NEW_TEXT, _BLANK) if continues else normalizers.Prepend(_BLANK)
    yield normalizers.Replace(" ", _BLANK)


def _decoders(found: SentencePieces) -> Iterator[decoders.Decoder]:
    yield decoders.Replace(_BLANK, " ")
    yield decoders.ByteFallback()
    yield decoders.Fuse()
    if found.adds_prefix:
        yield decoders.Strip(" ", 1, 0)


def _byte_level(folder: Path, config: JsonObject) -> Tokenizer:
    """Make a tokenizer of GPT-2's kind from its words and merges."""
    words = {
        text: i for text, i in read_json(folder, WORDS_FILE, VOCABULARY_LIMIT).items() if isinstance(i, int)
    }
    core = Tokenizer(models.BPE(words, list(_pairs(folder, words))))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokens = _said_tokens(folder, config)
    core.add_special_tokens([_whole(tokens[number]) for number in sorted(tokens)])
    return core


def _pairs(folder: Path, words: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Merges whose parts and result are words; the file's first line is a version."""
    with open_plain(contained(folder, MERGES_FILE)) as file:
        lines = file.read(VOCABULARY_LIMIT).decode("utf-8", "replace").split("\n")
    for line in lines:
        left, _, right = line.partition(" ")
        if left in words and right in words and left + right in words:
            yield left, right
