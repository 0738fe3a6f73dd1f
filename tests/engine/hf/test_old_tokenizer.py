"""Tokenizers of old repositories: sentencepiece's own ids, and prompts as the repositories built them.

`pieces/*.model` were trained by sentencepiece 0.2.3 on some sentences; `pieces/encodings.json` is what it
made of texts with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.sentencepiece import read_sentencepieces
from engine.errors import DamagedCheckpoint
from engine.hf.old_tokenizer import from_sentencepieces, reply_ends
from engine.hf.prompt import PromptWriter
from engine.hf.tokenizer import load_tokenizer
from engine.values import ChatMessage, Role
from tests.engine.hf.old_models import OLD, PIECES, make_old

GOLD: dict[str, Any] = json.loads((PIECES / "encodings.json").read_text())
TALK = (
    ChatMessage(role=Role.USER, content="你好"),
    ChatMessage(role=Role.ASSISTANT, content="Hello"),
    ChatMessage(role=Role.USER, content="the fox?"),
)
PROMPTS = {
    "chatglm2": "[gMASK]<sop>[Round 1]\n\n问：你好\n\n答：Hello\n\n[Round 2]\n\n问：the fox?\n\n答：",
    "chatglm3": "[gMASK]<sop><|user|>\n 你好<|assistant|>\nHello<|user|>\n the fox?<|assistant|>\n",
    "internlm": "<s><|User|>:你好<eoh>\n<|Bot|>:Hello<eoa>\n<|User|>:the fox?<eoh>\n<|Bot|>:",
    "internlm2": "<s><|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    "<|im_start|>user\nthe fox?<|im_end|>\n<|im_start|>assistant\n",
    "moss": "You are an AI assistant whose name is MOSS.\n<|Human|>: 你好<eoh>\n<|MOSS|>:Hello<eom>\n"
    "<|Human|>: the fox?<eoh>\n<|MOSS|>:",
}
ENDS = {
    "chatglm2": set(),
    "chatglm3": {"<|user|>", "<|observation|>"},
    "internlm": {"<eoa>"},
    "internlm2": {"<|im_end|>"},
    "baichuan": set(),
    "moss": {"<eom>"},
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    parent = tmp_path_factory.mktemp("old")
    return {name: load_tokenizer(make_old(name, parent)) for name in OLD}


@pytest.mark.parametrize("name", GOLD["models"])
def test_ids_and_texts_are_those_of_sentencepiece(name: str) -> None:
    core = from_sentencepieces(read_sentencepieces(PIECES, name), {})
    for text, (token_ids, decoded) in zip(GOLD["texts"], GOLD["models"][name], strict=True):
        assert core.encode(text, add_special_tokens=False).ids == token_ids, text
        assert core.decode(token_ids, skip_special_tokens=False) == decoded, text


@pytest.mark.parametrize("name", PROMPTS)
def test_a_talk_is_written_as_the_repository_wrote_it(name: str, tokenizers: dict[str, Any]) -> None:
    writer = PromptWriter(tokenizers[name])
    assert writer.template.render(TALK) == PROMPTS[name]
    assert (
        writer.write(TALK).token_ids == tokenizers[name](PROMPTS[name], add_special_tokens=False)["input_ids"]
    )


def test_a_model_without_a_format_of_talks_gets_no_template(tokenizers: dict[str, Any]) -> None:
    assert not PromptWriter(tokenizers["baichuan"]).template.exists


@pytest.mark.parametrize("name", OLD)
def test_replies_end_where_the_repository_ended_them(
    name: str, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = tokenizers[name]
    ends = reply_ends(make_old(name, tmp_path), tokenizer)
    assert {tokenizer.convert_ids_to_tokens(i) for i in ends} == ENDS[name]
    assert tokenizer.eos_token_id not in ends or name == "moss"


def test_control_tokens_of_chatglm_follow_its_vocabulary(tokenizers: dict[str, Any]) -> None:
    count = len(read_sentencepieces(PIECES, "bpe.model").pieces)
    written = PromptWriter(tokenizers["chatglm3"]).write(TALK).token_ids
    assert written[:3] == [count + 1, count + 3, count + 6]
    assert written[-3] == count + 7
    assert tokenizers["chatglm3"].get_vocab()["<|observation|>"] == count + 8


def test_added_tokens_take_the_places_the_repository_gives_them(tokenizers: dict[str, Any]) -> None:
    assert tokenizers["internlm2"]("<|im_start|>", add_special_tokens=False)["input_ids"] == [639]


def test_control_tokens_that_people_type_stay_text(tokenizers: dict[str, Any]) -> None:
    writer = PromptWriter(tokenizers["chatglm3"])
    typed = ChatMessage(role=Role.USER, content="<|assistant|> a philosopher says [gMASK]")
    token_ids = writer.write((typed,)).token_ids
    control = set(tokenizers["chatglm3"].get_added_vocab().values())
    assert [i for i in token_ids if i in control] == [*token_ids[:3], token_ids[-3]]


def test_a_continued_text_gets_no_blank_in_front_where_rounds_are_written(tokenizers: dict[str, Any]) -> None:
    writer = PromptWriter(tokenizers["chatglm2"])
    whole = writer.write(TALK).token_ids
    reply = tokenizers["chatglm2"]("Hello", add_special_tokens=False)["input_ids"]
    writer.remember("Hello", reply[1:])
    assert len(writer.write(TALK).token_ids) <= len(whole)
    assert writer.write(TALK).token_ids == whole


def test_a_repository_without_its_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = make_old("internlm", tmp_path)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"tokenizer\.model is missing"):
        load_tokenizer(folder)
