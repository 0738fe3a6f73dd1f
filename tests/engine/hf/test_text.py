"""Detokenizing, stop strings and reasoning, piece by piece."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.hf.detokenize import Detokenizer
from engine.hf.reasoning import Piece, ReasoningSplitter
from engine.hf.stopping import StopStrings
from tests import tiny_models

SEED = 20261120
SCRIPTS = ((0x20, 0x7E), (0xA0, 0x2FF), (0x370, 0x52F), (0x600, 0x6FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF))
EMOJI = (0x1F300, 0x1F9FF)


def byte_fallback() -> PreTrainedTokenizerFast:
    """Like Llama 2's: a few letters, and bytes for everything else."""
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    for letter in "▁abcdefghijklmnop":
        vocabulary.setdefault(letter, len(vocabulary))
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core)


def sentence_piece() -> PreTrainedTokenizerFast:
    """Like T5's or ALBERT's: a unigram model with bytes for what it does not know."""
    pieces = [("<unk>", 0.0)] + [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    pieces += [
        (word, -2.0 - n / 10)
        for n, word in enumerate(["▁", "▁the", "▁a", "e", "t", "o", "in", "er", "▁世界"])
    ]
    core = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    core.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(replacement="▁", prepend_scheme="first")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core)


TOKENIZERS = {
    "byte-level": tiny_models.make_tokenizer,
    "byte-fallback": byte_fallback,
    "sentencepiece": sentence_piece,
}


def random_string(rng: random.Random) -> str:
    spans = [rng.choice((*SCRIPTS, EMOJI)) for _ in range(rng.randrange(1, 16))]
    return "".join(chr(rng.randint(*span)) + rng.choice(("", "", " ", "\u0301", "\u200d")) for span in spans)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_check_32_pieces_join_to_the_one_shot_decode_and_no_character_is_halved(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    rng = random.Random(SEED)
    for _ in range(5000):
        text = random_string(rng)
        token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        detokenizer = Detokenizer(tokenizer)
        pieces = [detokenizer.add(token_id) for token_id in token_ids]
        pieces.append(detokenizer.flush())
        assert "".join(pieces) == tokenizer.backend_tokenizer.decode(token_ids), (SEED, text)
        assert not any("\ufffd" in piece for piece in pieces), (SEED, text)


def test_a_reply_cut_inside_a_character_ends_with_a_replacement_mark() -> None:
    tokenizer = tiny_models.make_tokenizer()
    token_ids = tokenizer("ok 𐍈", add_special_tokens=False)["input_ids"]
    detokenizer = Detokenizer(tokenizer)
    text = "".join(detokenizer.add(token_id) for token_id in token_ids[:-1])
    assert text == "ok "
    assert set(detokenizer.flush()) == {"\ufffd"}


def test_tokens_without_a_text_cost_no_more_and_more_memory() -> None:
    tokenizer = tiny_models.make_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    assert not any(detokenizer.add(tokenizer.pad_token_id) for _ in range(1000))
    assert len(detokenizer._new) <= 32
    assert "".join(map(detokenizer.add, tokenizer("a fox")["input_ids"])) == "a fox"


def test_a_tokenizer_without_a_rust_backend_decodes_the_same() -> None:
    class Slow:
        def __init__(self) -> None:
            self.inner = tiny_models.make_tokenizer()
            self.decode = self.inner.decode
            self.get_added_vocab = self.inner.get_added_vocab

    slow = Slow()
    token_ids = slow.inner("你好 fox 🙂", add_special_tokens=False)["input_ids"]
    detokenizer = Detokenizer(slow)  # type: ignore[arg-type]  # only what decoding needs
    assert "".join(map(detokenizer.add, token_ids)) + detokenizer.flush() == "你好 fox 🙂"


def test_text_that_goes_on_keeps_its_leading_space() -> None:
    tokenizer = byte_fallback()
    token_ids = tokenizer("a cab", add_special_tokens=False)["input_ids"]
    detokenizer = Detokenizer(tokenizer, token_ids[:2])
    assert "".join(map(detokenizer.add, token_ids[2:])) == " cab"


def cut(text: str, cuts: list[int]) -> list[str]:
    borders = [0, *sorted({at % (len(text) + 1) for at in cuts}), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


@settings(max_examples=200, deadline=None)
@given(st.text("abSTOP\n", max_size=30), st.lists(st.integers(0, 60), max_size=8))
def test_stop_strings_end_the_text_wherever_they_are_cut(text: str, cuts: list[int]) -> None:
    stops = StopStrings(("STOP", "\nab"))
    shown = ""
    for piece in cut(text, cuts):
        shown += stops.add(piece)
        if stops.met:
            break
    else:
        shown += stops.flush()
    ends = [at for at in (text.find("STOP"), text.find("\nab")) if at >= 0]
    assert stops.met == bool(ends)
    assert text.startswith(shown)
    assert "STOP" not in shown
    assert "\nab" not in shown
    assert ends or shown == text


def split(text: str, cuts: list[int], *, thinking: bool = False, anywhere: bool = True) -> tuple[str, str]:
    splitter = ReasoningSplitter(thinking=thinking, anywhere=anywhere)
    pieces: list[Piece] = []
    for piece in cut(text, cuts):
        pieces += splitter.add(piece)
    pieces += splitter.flush()
    return (
        "".join(p.text for p in pieces if p.reasoning),
        "".join(p.text for p in pieces if not p.reasoning),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=12))
def test_reasoning_is_split_out_wherever_the_tags_are_cut(cuts: list[int]) -> None:
    assert split("<think>\nLet me\n\nsee.\n</think>\n\nIt is 4 < 5.", cuts) == (
        "Let me\n\nsee.",
        "It is 4 < 5.",
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=12))
def test_a_prompt_that_opened_the_tag_begins_in_reasoning(cuts: list[int]) -> None:
    assert split("\nHm.\n</think>\nYes", cuts, thinking=True, anywhere=False) == ("Hm.", "Yes")


def test_reasoning_that_is_never_closed_stays_reasoning() -> None:
    assert split("<think>on and on <", [9]) == ("on and on <", "")


def test_an_answer_may_speak_of_the_tag_where_it_is_no_token() -> None:
    assert split("Write <think> and </think> so.", [8], anywhere=False) == (
        "",
        "Write <think> and </think> so.",
    )


def test_a_stray_closing_tag_is_not_shown_where_it_is_a_token() -> None:
    assert split("Well</think>, yes", [6]) == ("", "Well, yes")


def test_an_answer_keeps_its_own_line_ends() -> None:
    assert split("\n\nHi\n\n", [1, 4]) == ("", "\n\nHi\n\n")
