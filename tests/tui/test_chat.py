"""The chat: asking, stopping, branching, resuming, and every command."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from engine.values import ChatMessage, Role
from sessions import Turn, TurnState
from tests.tui.chat_support import LONG, ChatPilot, chat_pilot
from tui.chat import Chat
from tui.history import messages_for

HELLO = {"text": "You said: {prompt}", "tokens_per_second": 0}
SLOW = {"text": LONG, "tokens_per_second": 200}


def chat_of(running: ChatPilot) -> Chat:
    assert running.screen.chat is not None
    return running.screen.chat


async def ready(running: ChatPilot) -> None:
    await running.until(lambda: running.is_idle, "the model")


async def stream_some(running: ChatPilot, word: int = 2) -> None:
    """Ask, and wait until so many words of the reply are shown."""
    talk = chat_of(running).talk
    before = talk.last
    await running.type("tell me")
    await running.until(lambda: talk.last is not before, "the turn")
    await running.until(lambda: f"word{word}" in shown_reply(running), "text")


def shown_reply(running: ChatPilot) -> str:
    last = chat_of(running).talk.last
    return running.screen.transcript.text_of(str(last.id)) if last else ""


async def test_a_reply_streams_is_saved_and_titles_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        assert await running.ask("why is the sky blue?") == "You said: why is the sky blue?"
        talk = chat_of(running).talk
        assert talk.last is not None
        assert talk.last.state is TurnState.FINISHED
        assert talk.last.counts.completion_tokens > 0
        assert running.screen.title_line.session == "why is the sky blue?"
        assert running.screen.status_line.status.context_used > 0


async def test_continue_goes_on_with_a_stopped_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = {"text": " and the rest", "tokens_per_second": 0}
    async with chat_pilot(tmp_path, monkeypatch, replies=[SLOW, rest]) as running:
        await ready(running)
        await stream_some(running)
        await running.pilot.press("escape")
        await running.until(lambda: running.is_idle, "the stop")
        stopped = running.reply
        await running.type("/continue")
        await running.until(lambda: running.is_idle and running.reply != stopped, "the rest")
        assert running.reply == f"{stopped} and the rest"
        last = chat_of(running).talk.last
        assert last is not None
        assert last.state is TurnState.FINISHED


async def test_check_06_a_stop_at_any_token_leaves_a_session_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_stops(30, tmp_path, monkeypatch)


@pytest.mark.stress
@pytest.mark.timeout(3600)
async def test_check_06_a_hundred_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await check_stops(100, tmp_path, monkeypatch)


async def check_stops(stops: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = 6
    moments = random.Random(seed)
    fast = {"text": LONG, "tokens_per_second": 400}
    thinking = {"text": "x", "reasoning": LONG, "tokens_per_second": 400}
    async with chat_pilot(tmp_path, monkeypatch, replies=[fast, thinking, fast]) as running:
        await ready(running)
        chat = chat_of(running)
        for number in range(stops):
            last = await stopped_turn(
                running, f"prompt {number}", moments.choice([0, 0, 0.01, 0.03, 0.08, 0.15])
            )
            assert last.state is TurnState.STOPPED, (seed, number)
            roles = [message.role for message in messages_for(chat.talk.turns, "next")]
            assert roles == [Role.USER, Role.ASSISTANT] * (len(roles) // 2) + [Role.USER], (seed, number)
        last = await stopped_turn(running, "the last one", 0.1)
        settled = running.screen.transcript.text_of(str(last.id))
        await running.pilot.pause(0.25)
        assert running.screen.transcript.text_of(str(last.id)) == settled == last.reply


async def test_a_prompt_while_a_reply_streams_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[SLOW]) as running:
        await ready(running)
        await stream_some(running)
        await running.type("and another thing")
        await running.until(lambda: "Esc stops it" in running.notices, "the notice")
        assert running.screen.prompt.text == "and another thing"
        assert len(chat_of(running).talk.turns) == 1


async def test_prompts_wait_for_the_model_and_are_sent_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO], load={"seconds": 1.5}) as running:
        await running.until(lambda: running.app.bridge.loading, "the load")
        await running.type("first")
        await running.type("second")
        await running.until(lambda: "first and 1 more" in str(running.screen.waiting.content), "the line")
        await running.until(lambda: len(chat_of(running).talk.turns) == 2 and running.is_idle, "replies")
        assert [turn.prompt for turn in chat_of(running).talk.turns] == ["first", "second"]
        assert running.reply == "You said: second"
        assert not running.screen.waiting.has_class("-shown")


async def test_escape_stops_a_load_and_gives_waiting_prompts_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(
        tmp_path, monkeypatch, replies=[HELLO], load={"seconds": 60, "steps": 600}
    ) as running:
        await running.until(lambda: running.screen.load_bar.progress is not None, "progress")
        await running.type("wait for me")
        await running.until(lambda: chat_of(running).queued, "the queue")
        await running.pilot.press("escape")
        await running.until(lambda: not running.screen.load_bar.has_class("-loading"), "the end", 3)
        assert running.screen.prompt.text == "wait for me"
        assert running.state == "no model"


async def test_a_dead_engine_is_named_and_the_next_message_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[SLOW]) as running:
        await ready(running)
        await stream_some(running, word=40)
        pid = running.app.bridge.engine_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await running.until(lambda: running.screen.banner.is_shown, "the cause", 3)
        assert "killed" in running.screen.banner.content.plain
        await ready(running)
        last = chat_of(running).talk.last
        assert last is not None
        assert last.state is TurnState.FAILED
        assert "word40" in last.reply
        await stream_some(running)


async def stopped_turn(running: ChatPilot, prompt: str, seconds: float) -> Turn:
    """Ask, and stop the reply that long after the turn began."""
    talk = chat_of(running).talk
    before = talk.last
    await running.type(prompt)
    await running.until(lambda: talk.last is not before, "the turn")
    await running.pilot.pause(seconds)
    await running.pilot.press("escape")
    await running.until(lambda: running.is_idle, "the stop", 5)
    assert talk.last is not None
    assert talk.last.prompt == prompt
    return talk.last


@pytest.mark.stress
@pytest.mark.timeout(3600)
async def test_check_02_ten_killed_engines_cost_no_partial_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[SLOW]) as running:
        await ready(running)
        for number in range(10):
            await stream_some(running, word=5 + number)
            shown = shown_reply(running)
            pid = running.app.bridge.engine_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await running.until(
                lambda: running.state != "ready" and running.app.bridge.loaded is None, "death", 3
            )
            # Deaths that follow one another within seconds make the engine rest.
            await running.pilot.pause(0.1)
            if number % 2:
                await running.pilot.pause(10)
            await running.until(lambda: not chat_of(running).events.is_answering, "the end of the turn")
            assert running.reply.startswith(shown)
            await ready(running)


async def test_out_of_memory_keeps_the_reply_and_offers_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {"text": LONG, "tokens_per_second": 0, "fault": {"kind": "out_of_memory", "at": 50}}
    async with chat_pilot(tmp_path, monkeypatch, replies=[full, HELLO]) as running:
        await ready(running)
        await running.type("fill it")
        banner = running.screen.banner
        await running.until(lambda: banner.is_shown and banner.has_focus, "the remedies")
        assert "1 shorter context" in " ".join(banner.content.plain.split())
        await running.pilot.press("s", "o")
        assert running.screen.prompt.text == "so"
        assert running.screen.prompt.has_focus
        running.screen.prompt.replace_all("")
        banner.focus()
        assert "word1" in running.reply
        window = running.app.bridge.loaded
        assert window is not None
        await running.pilot.press("1")
        half = window.context_window // 2
        bridge = running.app.bridge
        await running.until(lambda: bridge.loaded and bridge.loaded.context_window == half, "the load")
        await ready(running)
        assert await running.ask("again") == "You said: again"


async def test_regenerate_edit_undo_and_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [{"text": f"answer {n}", "tokens_per_second": 0} for n in range(9)]
    async with chat_pilot(tmp_path, monkeypatch, replies=replies) as running:
        await ready(running)
        assert await running.ask("first") == "answer 0"
        assert await running.ask("/regen") == "answer 1"
        chat = chat_of(running)
        assert [turn.prompt for turn in chat.talk.turns] == ["first"]
        await running.type("/branch")
        await running.until(lambda: running.reply == "answer 0", "the other branch")
        await running.type("/edit")
        await running.until(lambda: running.screen.prompt.text == "first", "the prompt")
        assert await running.ask("second thoughts") == "answer 2"
        assert [turn.prompt for turn in chat.talk.turns] == ["second thoughts"]
        await running.type("/undo")
        await running.until(lambda: not chat.talk.turns, "the undo")


async def test_the_message_keys_edit_and_regenerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [{"text": f"answer {n}", "tokens_per_second": 0} for n in range(9)]
    async with chat_pilot(tmp_path, monkeypatch, replies=replies) as running:
        await ready(running)
        await running.ask("first")
        await running.pilot.press("tab")
        assert running.screen.transcript.has_focus
        await running.pilot.press("r")
        await running.until(lambda: running.reply == "answer 1" and running.is_idle, "another reply")
        await running.pilot.press("e")
        await running.until(lambda: running.screen.prompt.text == "first", "the prompt")


async def test_a_session_is_resumed_with_its_talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.ask("remember seven")
        await running.type("/rename numbers")
        await running.until(lambda: running.screen.title_line.session == "numbers", "the title")
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO], options={"resume_last": True}) as running:
        await ready(running)
        assert running.screen.title_line.session == "numbers"
        assert running.screen.prompt._recalled == ["remember seven"]
        assert await running.ask("and eight") == "You said: and eight"
        assert [turn.prompt for turn in chat_of(running).talk.turns] == ["remember seven", "and eight"]
        await running.pilot.press("ctrl+n")
        await running.until(lambda: not chat_of(running).talk.turns, "the new session")


async def test_the_model_sees_the_branch_and_the_system_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chat_pilot(tmp_path, monkeypatch, replies=[HELLO]) as running:
        await ready(running)
        await running.type("/system be brief")
        await running.until(lambda: chat_of(running).talk.system_prompt == "be brief", "the system prompt")
        await running.ask("hello")
        talk = chat_of(running).talk
        assert messages_for(talk.turns, "next", talk.system_prompt) == (
            ChatMessage(role=Role.SYSTEM, content="be brief"),
            ChatMessage(role=Role.USER, content="hello"),
            ChatMessage(role=Role.ASSISTANT, content="You said: hello"),
            ChatMessage(role=Role.USER, content="next"),
        )
