"""Every user command once: keys, slash names, palette, help and docs/keys.md derive from here."""

from __future__ import annotations

import enum

import msgspec

_KEY_WORDS = {
    "escape": "Esc",
    "up": "Up/Down",
    "left": "Left/Right",
    "pageup": "PageUp",
    "pagedown": "PageDown",
    "left_square_bracket": "[ ]",
    "equals_sign": "=",
    "1": "1-9",
}


class Scope(enum.StrEnum):
    """Where a key counts."""

    EVERYWHERE = "everywhere"
    PROMPT = "in the prompt"
    MESSAGE = "on a message"
    PLAN = "in the plan"
    MODELS = "in the list of models"
    CODE = "on a model's own code"


class UserCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the person can ask for.

    Attributes:
        name: names the method that carries it out.
        title: its palette entry.
        help: one line of what it does.
        key: Textual's name of its key; empty for none.
        slash: its slash name without the slash; empty for none.
        arguments: what may follow the slash name, as the help line shows it.
        scope: where its key counts.
    """

    name: str
    title: str
    help: str
    key: str = ""
    slash: str = ""
    arguments: str = ""
    scope: Scope = Scope.EVERYWHERE

    @property
    def usage(self) -> str:
        """The slash name with its arguments: "/set NAME VALUE"; empty where there is none."""
        return f"/{self.slash} {self.arguments}".rstrip() if self.slash else ""

    @property
    def key_label(self) -> str:
        """The key as people write it: "Ctrl+Y"; empty where there is none."""
        *modifiers, last = self.key.split("+")
        if not modifiers:
            return _KEY_WORDS.get(last, last if len(last) == 1 else last.title())
        return "+".join([*modifiers, last]).title()


_PROMPT, _MESSAGE, _PLAN = Scope.PROMPT, Scope.MESSAGE, Scope.PLAN

COMMANDS = (
    UserCommand(name="send", title="Send", help="Send the prompt.", key="enter", scope=_PROMPT),
    UserCommand(
        name="newline",
        title="New line",
        help="Begin a new line (Shift+Enter too, where the terminal can).",
        key="ctrl+j",
        scope=_PROMPT,
    ),
    UserCommand(
        name="recall",
        title="Recall prompts",
        help="Earlier prompts, from the first and last line of the prompt.",
        key="up",
        scope=_PROMPT,
    ),
    UserCommand(
        name="complete",
        title="Complete",
        help="Complete a slash name or its argument; elsewhere move on to the transcript.",
        key="tab",
        scope=_PROMPT,
    ),
    UserCommand(
        name="stop", title="Stop", help="Stop the reply or the load, or close a dialog.", key="escape"
    ),
    UserCommand(name="palette", title="Palette", help="Find a command by its name.", key="ctrl+p"),
    UserCommand(name="new", title="New session", help="Begin a new session.", key="ctrl+n", slash="new"),
    UserCommand(
        name="sessions", title="Sessions", help="List, search and resume saved sessions.", slash="sessions"
    ),
    UserCommand(
        name="resume",
        title="Resume a session",
        help="Resume a session; without an id, choose one.",
        key="ctrl+r",
        slash="resume",
        arguments="[ID]",
    ),
    UserCommand(
        name="models", title="Models", help="Choose a model that is on this disk, or get one.", key="ctrl+o"
    ),
    UserCommand(
        name="model",
        title="Model",
        help="Load a model by name or folder; without one, choose.",
        slash="model",
        arguments="[NAME]",
    ),
    UserCommand(
        name="plan",
        title="Plan",
        help="What lies where and how fast it is, of the loaded or a named model.",
        key="f2",
        slash="plan",
        arguments="[NAME]",
    ),
    UserCommand(
        name="load",
        title="Load",
        help="Load the chosen model again.",
        slash="load",
        arguments="[NAME] [nf4|int8]",
    ),
    UserCommand(name="unload", title="Unload", help="Give the model's memory back.", slash="unload"),
    UserCommand(
        name="context",
        title="Context window",
        help="Show how full the context window is, or load the model again with another one.",
        slash="context",
        arguments="[TOKENS]",
    ),
    UserCommand(name="scroll_up", title="Scroll up", help="Show what was said above.", key="pageup"),
    UserCommand(name="scroll_down", title="Scroll down", help="Show what was said below.", key="pagedown"),
    UserCommand(name="memory", title="Memory panel", help="Show or hide the memory panel.", key="f3"),
    UserCommand(
        name="rename",
        title="Rename",
        help="Give the session another title.",
        slash="rename",
        arguments="TITLE",
    ),
    UserCommand(
        name="system",
        title="System prompt",
        help="Set what the model is told first; without text, show it; `clear` drops it.",
        slash="system",
        arguments="[TEXT|clear]",
    ),
    UserCommand(
        name="set",
        title="Sampling",
        help="Set a sampling value, or show them all; `default` gives it back to the checkpoint.",
        slash="set",
        arguments="[NAME VALUE]",
    ),
    UserCommand(name="regen", title="Regenerate", help="Another reply to the last prompt.", slash="regen"),
    UserCommand(
        name="resume_reply",
        title="Continue the reply",
        help="Go on with the last reply where it was stopped or interrupted.",
        slash="continue",
    ),
    UserCommand(name="edit", title="Edit", help="Write the last prompt anew, on a branch.", slash="edit"),
    UserCommand(
        name="branch",
        title="Branches",
        help="Go to the next branch, or to the one with this number.",
        slash="branch",
        arguments="[NUMBER]",
    ),
    UserCommand(
        name="undo", title="Undo", help="Take the last prompt and reply off the branch.", slash="undo"
    ),
    UserCommand(name="copy", title="Copy", help="Copy the last reply.", key="ctrl+y", slash="copy"),
    UserCommand(
        name="export",
        title="Export",
        help="Write the session to a file (.md or .json).",
        slash="export",
        arguments="[FILE]",
    ),
    UserCommand(
        name="find",
        title="Find",
        help="Find text in this talk, the newest message first; n and N go on.",
        slash="find",
        arguments="TEXT",
    ),
    UserCommand(name="stats", title="Statistics", help="Counts and speeds of the last reply.", slash="stats"),
    UserCommand(name="theme", title="Theme", help="Change the colours.", slash="theme", arguments="[NAME]"),
    UserCommand(name="keys", title="Keys", help="All keys and commands.", slash="keys"),
    UserCommand(name="help", title="Help", help="How to use this screen.", key="f1", slash="help"),
    UserCommand(
        name="editor",
        title="Write in $EDITOR",
        help="Write the prompt in $EDITOR.",
        key="ctrl+g",
    ),
    UserCommand(name="quit", title="Quit", help="Save and leave.", key="ctrl+q", slash="quit"),
    UserCommand(name="next", title="Next message", help="Next message.", key="j", scope=_MESSAGE),
    UserCommand(name="previous", title="Previous message", help="Previous message.", key="k", scope=_MESSAGE),
    UserCommand(
        name="find_above", title="Find above", help="The same text further up.", key="n", scope=_MESSAGE
    ),
    UserCommand(
        name="find_below", title="Find below", help="The same text further down.", key="N", scope=_MESSAGE
    ),
    UserCommand(name="copy_this", title="Copy message", help="Copy this message.", key="y", scope=_MESSAGE),
    UserCommand(
        name="edit_this", title="Edit message", help="Edit this prompt, on a branch.", key="e", scope=_MESSAGE
    ),
    UserCommand(
        name="regenerate_this", title="Regenerate", help="Another reply here.", key="r", scope=_MESSAGE
    ),
    UserCommand(name="first", title="First message", help="First message.", key="g", scope=_MESSAGE),
    UserCommand(name="last", title="Last message", help="Last message.", key="G", scope=_MESSAGE),
    UserCommand(
        name="plan_context",
        title="Context window",
        help="A shorter or longer context window (- and + too).",
        key="left",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_weights",
        title="Quantization",
        help="Weights as stored, int8 or nf4.",
        key="q",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_strategy",
        title="Strategy",
        help="The fastest predicted (auto), the same share of every GPU (balanced), or each GPU full "
        "before the next (sequential).",
        key="s",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_device",
        title="Choose",
        help="Choose a device, or below the devices another plan.",
        key="up",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_cap",
        title="Cap",
        help="Let the chosen device give less or more.",
        key="left_square_bracket",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_no_cap",
        title="No cap",
        help="Let the chosen device give all it has.",
        key="0",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_type_cap",
        title="Type a cap",
        help="Type what the chosen device may give: 20GiB.",
        key="equals_sign",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_choose",
        title="Another plan",
        help="Take another plan by its number.",
        key="1",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_measure",
        title="Measure",
        help="Measure this machine again; predicted speeds rest on it.",
        key="m",
        scope=_PLAN,
    ),
    UserCommand(
        name="plan_load",
        title="Load",
        help="Load as planned, or take the chosen other plan.",
        key="enter",
        scope=_PLAN,
    ),
    UserCommand(name="plan_page", title="Scroll", help="Scroll to what is above.", key="pageup", scope=_PLAN),
    UserCommand(
        name="models_load", title="Load", help="Load the chosen model.", key="enter", scope=Scope.MODELS
    ),
    UserCommand(
        name="models_plan",
        title="Plan",
        help="See its plan before it is loaded.",
        key="f2",
        scope=Scope.MODELS,
    ),
    UserCommand(
        name="models_get",
        title="Get",
        help="Get the model whose name is typed (hf:owner/name@revision, ms:...); pause, or go on.",
        key="f4",
        scope=Scope.MODELS,
    ),
    UserCommand(
        name="models_cancel",
        title="Cancel",
        help="Give up the model that is being fetched, and remove what has come of it.",
        key="f6",
        scope=Scope.MODELS,
    ),
    UserCommand(
        name="code_agree",
        title="Agree",
        help="Run the shown code of this model, now and until one of its files changes.",
        key="f8",
        scope=Scope.CODE,
    ),
    UserCommand(
        name="code_read", title="Read", help="Scroll what the file says.", key="up", scope=Scope.CODE
    ),
    UserCommand(
        name="code_file", title="File", help="The file before or after.", key="left", scope=Scope.CODE
    ),
    UserCommand(
        name="code_whole",
        title="Whole file",
        help="The whole file instead of what changed in it, and back.",
        key="d",
        scope=Scope.CODE,
    ),
)
BY_SLASH = {command.slash: command for command in COMMANDS if command.slash}
SCREEN_COMMANDS = tuple(command for command in COMMANDS if command.scope is Scope.EVERYWHERE)


def parse_slash(line: str) -> tuple[str, str] | None:
    """Split "/set top_p 0.9" into ("set", "top_p 0.9"); None when the line is no slash command.

    A line with two slashes at its start is text, so that a path can be talked about.
    """
    if not line.startswith("/") or line.startswith("//"):
        return None
    name, _, argument = line[1:].partition(" ")
    if "/" in name or "\n" in name:
        return None
    return name, argument.strip()


def completions(line: str, choices: dict[str, tuple[str, ...]]) -> list[str]:
    """Whole lines that a half-written slash command can become, best first.

    Args:
        line: what is written so far.
        choices: by command name, what its first argument may be.
    """
    parsed = parse_slash(line)
    if parsed is None:
        return []
    name, argument = parsed
    if " " not in line:
        return [f"/{slash}" for slash in BY_SLASH if slash.startswith(name)]
    command = BY_SLASH.get(name)
    known = choices.get(command.name, ()) if command else ()
    return [f"/{name} {choice}" for choice in known if choice.lower().startswith(argument.lower())]


def keys_page() -> str:
    """docs/keys.md: every key and every slash command as Markdown tables."""
    parts = ["# Keys and commands", "", "Drawn from `tui/commands.py`; write changes there.", ""]
    for scope in Scope:
        parts += [f"## Keys {scope.value}", "", "| key | what it does |", "| --- | --- |"]
        parts += [f"| {c.key_label} | {c.help} |" for c in COMMANDS if c.key and c.scope is scope]
        parts.append("")
    parts += ["## Slash commands", "", "| command | what it does |", "| --- | --- |"]
    parts += [f"| `{_in_table(c.usage)}` | {c.help} |" for c in COMMANDS if c.slash]
    return "\n".join(parts) + "\n"


def _in_table(cell: str) -> str:
    return cell.replace("|", "\\|")
