"""What the inks of the transcript look like, in the words of the theme."""

from __future__ import annotations

_INKS = (
    "head you speaker note context fold reasoning mark stopped interrupted failed length cursor "
    "strong em strike code link address heading h1 h2 h3 h4 h5 h6 quote bar marker rule "
    "block comment keyword string number function builtin deleted"
)
COMPONENTS = frozenset(f"transcript--{ink}" for ink in _INKS.split())

CSS = """
Transcript {
    overflow-x: hidden;
    overflow-y: scroll;
    scrollbar-size-vertical: 1;
    scrollbar-background: $background;
    scrollbar-background-hover: $background;
    scrollbar-background-active: $background;
    scrollbar-color: $foreground 20%;
    scrollbar-color-hover: $foreground 40%;
    scrollbar-color-active: $primary;

    & > .transcript--you { color: $text-muted; text-style: bold; }
    & > .transcript--speaker { color: $text-primary; text-style: bold; }
    & > .transcript--note { color: $foreground 50%; }
    & > .transcript--context { color: $text-warning; }
    & > .transcript--fold { color: $foreground 55%; text-style: italic; }
    & > .transcript--reasoning { color: $foreground 55%; }
    & > .transcript--stopped { color: $text-warning; }
    & > .transcript--interrupted { color: $text-warning; }
    & > .transcript--length { color: $text-warning; }
    & > .transcript--failed { color: $text-error; }
    & > .transcript--cursor { color: $primary; }

    & > .transcript--strong { text-style: bold; }
    & > .transcript--em { text-style: italic; }
    & > .transcript--strike { text-style: strike; color: $foreground 60%; }
    & > .transcript--code { color: $text-accent; }
    & > .transcript--link { text-style: underline; }
    & > .transcript--address { color: $foreground 50%; text-style: none; }
    & > .transcript--heading { color: $text-primary; text-style: bold; }
    & > .transcript--h1 { text-style: bold underline; }
    & > .transcript--quote { color: $foreground 75%; }
    & > .transcript--bar { color: $foreground 30%; }
    & > .transcript--marker { color: $text-secondary; }
    & > .transcript--rule { color: $foreground 30%; }

    & > .transcript--block { background: $foreground 6%; }
    & > .transcript--comment { color: $foreground 50%; text-style: italic; }
    & > .transcript--keyword { color: $text-accent; }
    & > .transcript--string { color: $text-success; }
    & > .transcript--number { color: $text-warning; }
    & > .transcript--function { color: $text-primary; }
    & > .transcript--builtin { color: $text-secondary; }
    & > .transcript--deleted { color: $text-error; }
}
"""
