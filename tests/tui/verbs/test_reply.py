"""One answer, gathered from its events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine import events, values
from tui.verbs.reply import Reply

LOADED = events.ModelLoaded(
    model=values.ModelRef(name="tiny", folder=Path("/models/tiny")),
    placement=values.Placement(context_window=512),
    architecture="LlamaForCausalLM",
    parameters=1,
    dtype="float32",
    context_window=512,
    max_context_window=512,
    load_seconds=0.5,
    sampling=values.SamplingParams(),
    notes=("computing on the CPU",),
)
USAGE = values.TurnUsage(
    prompt_tokens=7, completion_tokens=3, time_to_first_token=0.1, decode_tps=20.0, peak_ram_bytes=99
)


def played(*seen: events.AnyEvent, streams: bool = False) -> Reply:
    reply = Reply(LOADED, streams=streams)
    for event in seen:
        reply.watch(event)
    return reply


def finished(reason: values.FinishReason, message: str = "", hint: str = "") -> events.TurnFinished:
    return events.TurnFinished(
        finish_reason=reason, usage=USAGE, message=message, hint=hint, error="EngineFault"
    )


def test_the_document_holds_the_text_and_the_figures() -> None:
    reply = played(
        events.TextDelta(text="hm", reasoning=True),
        events.TextDelta(text="你"),
        events.TextDelta(text="好\x1b[2J"),
        finished(values.FinishReason.STOP),
    )
    document = reply.document()
    assert document["text"] == "你好\x1b[2J"
    assert document["reasoning"] == "hm"
    assert document["finish_reason"] == "stop"
    assert document["notes"] == ["computing on the CPU"]
    assert {name: document[name] for name in USAGE.__struct_fields__} == {
        name: getattr(USAGE, name) for name in USAGE.__struct_fields__
    }
    assert json.dumps(document)
    assert "error" not in document
    assert reply.is_good


def test_a_streamed_answer_is_written_without_its_reasoning_and_ends_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    played(
        events.TextDelta(text="hm", reasoning=True),
        events.TextDelta(text="one "),
        events.TextDelta(text="two"),
        finished(values.FinishReason.STOP),
        streams=True,
    )
    assert capsys.readouterr().out == "one two\n"


@pytest.mark.parametrize(
    ("ending", "said", "is_good"),
    [
        (finished(values.FinishReason.STOP), "", True),
        (finished(values.FinishReason.LENGTH), "limit of tokens", True),
        (finished(values.FinishReason.CANCELLED), "Stopped.", False),
        (
            finished(values.FinishReason.FAILED, "Out of memory.", "Try nf4."),
            "Out of memory. Try nf4.",
            False,
        ),
    ],
)
def test_how_it_ended_is_said_on_stderr(
    ending: events.TurnFinished, said: str, is_good: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = played(events.TextDelta(text="x"), ending)
    reply.complain()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert bool(captured.err) is bool(said)
    assert reply.is_good is is_good


def test_a_full_context_window_and_dropped_messages_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    reply = played(
        events.TurnStarted(prompt_tokens=500, dropped_messages=2),
        events.ContextFull(context_window=512),
        finished(values.FinishReason.LENGTH),
    )
    reply.complain()
    said = capsys.readouterr().err
    assert "512 tokens is full" in said
    assert "2 messages did not fit" in said


def test_a_failed_answer_keeps_its_text_beside_the_error() -> None:
    reply = played(
        events.TextDelta(text="half"), finished(values.FinishReason.FAILED, "It broke.", "Ask again.")
    )
    document = reply.document()
    assert document["text"] == "half"
    assert document["error"] == {"type": "EngineFault", "message": "It broke.", "hint": "Ask again."}
