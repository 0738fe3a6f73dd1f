import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pty_driver import Terminal
from tests.tui.widgets.transcript_app import TranscriptApp
from tests.vt_oracle import intruders
from tui.safe_text import safe, safe_line
from tui.widgets.turn_parts import TurnMark

SEED = 20
SEQUENCES = [
    *(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))),
    *(f"\x1b]{number};payload\x07" for number in (0, 2, 7, 8, 52, 133, 777, 1337)),
    *(f"\x1b]{number};payload\x1b\\" for number in (0, 2, 7, 8, 52, 133, 777, 1337)),
    *("\x1b[31m", "\x1b[2J", "\x1b[?1049l", "\x1b[?25l", "\x1b[6n", "\x1b[5i", "\x1b[999;999H", "\x1b[3;5r"),
    *(
        "\x1bP1$qm\x1b\\",
        "\x1b_Gf=24;AAAA\x1b\\",
        "\x1b^pm\x1b\\",
        "\x1bXsos\x1b\\",
        "\x1bc",
        "\x1b#8",
        "\x1b(0",
    ),
    *(
        "\x1b",
        "\x1b[",
        "\x1b]52;c;",
        "\x1bP",
        "\x9b31m",
        "\x9d52;c;aGk=\x9c",
        "\x90q\x9c",
        "\u202e",
        "\u2066",
    ),
    *("e" + "\u0301" * 10_000, "\u200d" * 5000, "\ufe0f" * 5000, "\ud800", "\ufffe", "\ufeff", "\U000e0041"),
]


def hostile_texts(count: int) -> Iterator[str]:
    source = random.Random(SEED)
    yield from SEQUENCES
    for _ in range(count - len(SEQUENCES)):
        parts = source.choices(SEQUENCES, k=source.randint(2, 5))
        yield "中 word ".join(parts)[:2000]


def test_check_15_hostile_text_in_the_transcript_writes_no_sequence_of_its_own(tmp_path: Path) -> None:
    texts = list(hostile_texts(300))
    assert len(texts) == 300
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(texts))
    program = (sys.executable, "-m", "tests.tui.widgets.transcript_app", "hostile", str(file))
    terminal = Terminal(program, columns=100)
    try:
        assert terminal.wait(60) == 0
    finally:
        terminal.close()
    assert terminal.raw.count(b"payload") > 300
    assert intruders(bytes(terminal.raw)) == []


MARKUP = st.text(
    st.one_of(
        st.sampled_from("[]/@click= link$\\'\"()#."), st.characters(codec="utf-8", categories=["L", "N"])
    ),
    max_size=40,
) | st.sampled_from(
    ["[@click=app.bell]x[/]", "[/", "[link=file:///]a[/link]", "[$error]", "\\[b]", "[b]a[/b"]
)


@settings(max_examples=20)
@given(st.lists(MARKUP, min_size=50, max_size=50))
async def test_check_16_markup_is_text_and_runs_nothing(texts: list[str]) -> None:
    app = TranscriptApp()
    actions: list[object] = []
    app.run_action = lambda *arguments, **_: actions.append(arguments)  # type: ignore[method-assign, assignment] # records
    async with app.run_test(size=(120, 40)) as pilot:
        for index, text in enumerate(texts):
            key = str(index)
            app.transcript.clear()
            app.transcript.add_turn(key, safe(f"p{text}"), safe_line(f"m{text}"))
            app.transcript.append(key, safe(f"```\nc{text}\n```"))
            app.transcript.finish(key, safe("1 tok"), TurnMark.FAILED, safe(f"f{text}"))
            app.transcript.draw_now()
            rows = app.rows()
            assert rows[1].strip() == f"p{text}".strip()
            assert rows[3].strip().removesuffix("1 tok").strip() == f"m{text}".strip()
            assert rows[4].strip() == f"c{text}".strip()
            assert rows[6].strip() == f"■ f{text}".strip()
        await pilot.click(app.transcript, offset=(6, 1))
        await pilot.click(app.transcript, offset=(6, 4))
    assert actions == []


LINKS = [
    "[click](javascript:alert(1))",
    "[click](file:///etc/passwd)",
    "[click](data:text/html,x)",
    "<https://example.com/auto>",
    "![image](http://127.0.0.1:1/i.png)",
    f"[long](https://example.com/{'a' * 500})",
    "[puny](https://xn--80ak6aa92e.com/)",
    "https://example.com/bare",
]


async def test_check_17_links_are_shown_and_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    app = TranscriptApp()
    opened: list[str] = []
    monkeypatch.setattr(app, "open_url", lambda url, **_: opened.append(url))
    monkeypatch.setattr("webbrowser.open", lambda url, *_: opened.append(url))
    async with app.run_test(size=(100, 40)) as pilot:
        app.transcript.add_turn("1", safe("links"), safe("model"))
        app.transcript.append("1", safe("\n\n".join(LINKS[index % len(LINKS)] for index in range(1000))))
        app.transcript.finish("1")
        app.transcript.draw_now()
        for y in range(0, 40, 3):
            await pilot.click(app.transcript, offset=(6, y))
        strips = [app.transcript.render_line(y) for y in range(40)]
    styles = [segment.style for strip in strips for segment in strip if segment.style]
    assert opened == []
    assert all(style.link is None and "@click" not in style.meta for style in styles)
    assert any("https://example.com" in strip.text for strip in strips)
