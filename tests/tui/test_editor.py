"""The prompt in the person's own editor, on a real terminal."""

from __future__ import annotations

from pathlib import Path

from tests.tui.chat_support import chat_terminal, write_script


def test_what_the_editor_wrote_becomes_the_prompt_and_is_sent(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "written elsewhere" > "$1"\n')
    editor.chmod(0o700)
    write_script(tmp_path, replies=[{"text": "You said: {prompt}", "tokens_per_second": 0}])
    with chat_terminal(tmp_path, env={"EDITOR": str(editor), "VISUAL": ""}) as program:
        program.wait_for("ready")
        program.send("\x07")
        program.wait_for("written elsewhere")
        program.send("\r")
        program.wait_for("You said: written elsewhere")
        assert "You said: written elsewhere" in program.text
