import pytest
from textual.geometry import Offset
from textual.pilot import Pilot

from tests.tui.markdown.layouts import SAMPLE
from tests.tui.widgets.transcript_app import TranscriptApp
from tui.messages import CopyRequested, EditRequested, RegenerateRequested
from tui.safe_text import safe
from tui.widgets.transcript import SCROLL_ROWS, Transcript
from tui.widgets.turn import PastTurn
from tui.widgets.turn_parts import TurnMark

SIZE = (80, 30)


def past(number: int, reply: str = SAMPLE, reasoning: str = "") -> PastTurn:
    return PastTurn(str(number), safe(f"prompt {number}"), safe("model"), safe(reply), safe(reasoning))


async def settle(app: TranscriptApp, pilot: Pilot[None]) -> Transcript:
    """Draw what was appended, and let the rest be laid out."""
    app.transcript.draw_now()
    for _ in range(200):
        await pilot.pause(0.01)
        if app.transcript.is_laid_out:
            break
    return app.transcript


async def test_a_prompt_and_its_reply_are_shown() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.add_turn("1", safe("why?"), safe("model"))
        app.transcript.append("1", safe("because **so**"))
        app.transcript.finish("1", safe("3 tok"))
        await settle(app, pilot)
        assert [row.strip() for row in app.rows()[:5]][:2] == ["you", "why?"]
        assert app.rows()[4].strip() == "because so"
        assert app.rows()[3].split() == ["model", "3", "tok"]
        assert app.transcript.text_of("1") == "because **so**"


async def test_appended_text_is_drawn_by_itself() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.add_turn("1", safe("why?"), safe("model"))
        app.transcript.append("1", safe("because"))
        for _ in range(100):
            await pilot.pause(0.02)
            if "because" in app.rows()[4]:
                return
        pytest.fail("nothing was drawn")


async def test_it_follows_a_growing_reply_by_whole_steps() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        transcript = app.transcript
        transcript.add_turn("1", safe("count"), safe("model"))
        places: set[int] = set()
        for number in range(100):
            transcript.append("1", safe(f"line {number}\n"))
            transcript.draw_now()
            places.add(transcript.scroll_offset.y)
        await pilot.pause()
        assert all(place % (SIZE[1] // 4) == 0 for place in places)
        assert SIZE[1] // 4 <= SCROLL_ROWS
        assert "line 99" in "\n".join(app.rows())


async def test_scrolling_up_stops_following_and_scrolling_down_begins_again() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number) for number in range(3)])
        transcript = await settle(app, pilot)
        followed = [transcript.is_following]
        transcript.scroll_relative(y=-20, animate=False)
        followed.append(transcript.is_following)
        before = app.rows()
        transcript.append("2", safe("\n\nmore\n\n" * 40))
        await settle(app, pilot)
        assert app.rows() == before
        transcript.scroll_end(animate=False)
        await pilot.pause()
        followed.append(transcript.is_following)
        assert followed == [True, False, True]


async def test_history_opens_at_its_end_with_heights_that_become_exact() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number) for number in range(30)])
        assert "last words" in "\n".join(app.rows())
        guessed = app.transcript.virtual_size.height
        transcript = await settle(app, pilot)
        assert transcript.virtual_size.height != guessed
        transcript.scroll_home(animate=False)
        await pilot.pause()
        assert app.rows()[1].strip() == "prompt 0"


async def test_another_width_keeps_the_row_at_the_top() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number) for number in range(12)])
        transcript = await settle(app, pilot)
        transcript.find("prompt 5")
        row = next(y for y, text in enumerate(app.rows()) if "prompt 5" in text)
        transcript.scroll_relative(y=row - 1, animate=False)
        await pilot.pause()
        for width in (50, 120, 33, 80):
            await pilot.resize_terminal(width, 24)
            await settle(app, pilot)
            assert "prompt 5" in "\n".join(app.rows()[:3]), width


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (40, 10), (200, 60), (500, 200)])
async def test_check_19_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number, reasoning="hm") for number in range(4)])
        await pilot.resize_terminal(*size)
        await settle(app, pilot)
        assert len(app.rows()) == size[1]


async def test_messages_are_chosen_copied_edited_and_asked_for_anew() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number, f"reply {number}") for number in range(3)])
        await settle(app, pilot)
        app.transcript.focus()
        await pilot.press("y", "k", "y", "g", "y", "e", "j", "r", "G", "y")
        await pilot.pause()
    copied = [message.text for message in app.asked if isinstance(message, CopyRequested)]
    assert copied == ["reply 2", "prompt 2", "prompt 0", "reply 2"]
    assert [message.prompt for message in app.asked if isinstance(message, EditRequested)] == ["prompt 0"]
    assert [message.turn_key for message in app.asked if isinstance(message, RegenerateRequested)] == ["0"]


async def test_the_chosen_message_has_a_bar_and_no_other_has() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number, f"reply {number}") for number in range(2)])
        await settle(app, pilot)
        app.transcript.focus()
        await pilot.press("g")
        await pilot.pause()
        assert [row[:1] for row in app.rows()[:6]] == ["▌", "▌", "", " ", " ", ""]


async def test_a_click_on_the_fold_opens_the_thinking() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(1, "answer", "deep thought")])
        await settle(app, pilot)
        assert "deep thought" not in "\n".join(app.rows())
        await pilot.click(app.transcript, offset=(6, 4))
        await pilot.pause()
        assert app.rows()[5].strip() == "deep thought"
        app.transcript.focus()
        await pilot.press("enter")
        assert app.rows()[5].split() == ["▌", "answer"]


async def test_the_mouse_selects_text_without_decoration() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(40, 20)) as pilot:
        reply = "- one two three four five six seven eight nine ten\n- last"
        app.transcript.show_history([past(1, reply)])
        await settle(app, pilot)
        await pilot.mouse_down(app.transcript, offset=(6, 4))
        await pilot.hover(app.transcript, offset=(10, 6))
        await pilot.mouse_up(app.transcript, offset=(10, 6))
        await pilot.pause()
        selected = app.screen.get_selected_text()
    assert selected == "one two three four five six seven eight nine ten\nlast"


async def test_the_context_line_moves_with_the_first_turn_that_is_seen() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number, "short") for number in range(3)])
        await settle(app, pilot)
        app.transcript.mark_context("1")
        rows = app.rows()
        line = next(y for y, row in enumerate(rows) if "no longer sees" in row)
        assert rows[line + 2].strip() == "you"
        assert rows[line + 3].strip() == "prompt 1"
        app.transcript.mark_context(None)
        assert "no longer sees" not in "\n".join(app.rows())


async def test_a_stopped_reply_says_so() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.add_turn("1", safe("why?"), safe("model"))
        app.transcript.append("1", safe("bec"))
        app.transcript.finish("1", safe(""), TurnMark.STOPPED)
        await settle(app, pilot)
        assert "■ stopped" in "\n".join(app.rows())


async def test_clearing_leaves_nothing() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        app.transcript.show_history([past(number) for number in range(3)])
        await settle(app, pilot)
        app.transcript.clear()
        await pilot.pause()
        assert app.rows() == [""] * SIZE[1]
        assert app.transcript.scroll_offset == Offset(0, 0)


async def test_search_goes_to_the_next_message_that_holds_the_text() -> None:
    app = TranscriptApp()
    async with app.run_test(size=SIZE) as pilot:
        turns = [
            past(number, f"{SAMPLE}\n\nneedle {number}" if number in {2, 7} else SAMPLE)
            for number in range(10)
        ]
        app.transcript.show_history(turns)
        transcript = await settle(app, pilot)
        assert transcript.find("NEEDLE")
        assert "needle 7" in "\n".join(app.rows())
        assert transcript.find("needle")
        assert "needle 2" in "\n".join(app.rows())
        assert transcript.find("needle")
        assert "needle 7" in "\n".join(app.rows())
        assert not transcript.find("haystack")
