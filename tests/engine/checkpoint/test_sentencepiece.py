from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint.sentencepiece import Kind, parse_sentencepieces, read_sentencepieces
from engine.errors import DamagedCheckpoint, UnsupportedModel

PIECES = Path(__file__).parents[1] / "hf" / "pieces"
BPE = (PIECES / "bpe.model").read_bytes()


def test_pieces_keep_their_ids_scores_and_kinds() -> None:
    found = read_sentencepieces(PIECES, "plain.model")
    assert [piece.text for piece in found.pieces[:5]] == ["<unk>", "<s>", "</s>", "<eoh>", "<eoa>"]
    kinds = [piece.kind for piece in found.pieces]
    assert kinds[:4] == [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, Kind.USER_DEFINED]
    assert kinds.count(Kind.BYTE) == 256
    assert found.unknown_id == 0
    assert (found.is_unigram, found.falls_back, found.adds_prefix, found.collapses) == (
        False,
        True,
        False,
        False,
    )
    normal = [piece.score for piece in found.pieces if piece.kind is Kind.NORMAL]
    assert len(set(normal)) == len(normal)
    assert min(normal) < max(normal) <= 0


def test_a_unigram_model_says_so() -> None:
    found = read_sentencepieces(PIECES, "unigram.model")
    assert (found.is_unigram, found.adds_prefix) == (True, True)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (BPE[:-1], "no sentencepiece model"),
        (b"\xff" * 40, "no sentencepiece model"),
        (b"\x0a\x02\x08", "no sentencepiece model"),
        (b"\x12\x02\x18\x02", "no sentencepiece model"),
    ],
)
def test_what_is_no_model_is_refused(content: bytes, cause: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=cause):
        read_sentencepieces(tmp_path)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match=r"tokenizer\.model is missing"):
        read_sentencepieces(tmp_path)


def test_a_model_of_words_is_refused_as_unsupported() -> None:
    with pytest.raises(UnsupportedModel, match="words or characters"):
        parse_sentencepieces(b"\x0a\x03\x0a\x01a\x12\x02\x18\x03")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(BPE)))
def test_damage_raises_nothing_but_what_parsing_raises(noise: bytes, at: int) -> None:
    import struct

    for content in (noise, BPE[:at] + noise + BPE[at + len(noise) :]):
        try:
            parse_sentencepieces(content)
        except (ValueError, IndexError, struct.error, UnsupportedModel):
            continue
