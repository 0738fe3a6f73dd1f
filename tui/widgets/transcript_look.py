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
    scrollbar-size: 0 0;

    & > .transcript--you { color: $you; text-style: bold; }
    & > .transcript--speaker { color: $model; text-style: bold; }
    & > .transcript--note { color: $muted; }
    & > .transcript--context { color: $warning; }
    & > .transcript--fold { color: $reasoning; text-style: italic; }
    & > .transcript--reasoning { color: $reasoning; }
    & > .transcript--stopped { color: $warning; }
    & > .transcript--interrupted { color: $warning; }
    & > .transcript--length { color: $warning; }
    & > .transcript--failed { color: $error; }
    & > .transcript--cursor { color: $accent; }

    & > .transcript--strong { text-style: bold; }
    & > .transcript--em { text-style: italic; }
    & > .transcript--strike { text-style: strike; }
    & > .transcript--code { color: $code; }
    & > .transcript--link { color: $link; text-style: underline; }
    & > .transcript--address { color: $muted; text-style: none; }
    & > .transcript--heading { color: $heading; text-style: bold; }
    & > .transcript--h1 { text-style: bold underline; }
    & > .transcript--quote { color: $quote; }
    & > .transcript--bar { color: $line; }
    & > .transcript--marker { color: $muted; }
    & > .transcript--rule { color: $line; }

    & > .transcript--block { color: $code; background: $code-background; }
    & > .transcript--comment { color: $code-comment; }
    & > .transcript--keyword { color: $code-keyword; }
    & > .transcript--string { color: $code-string; }
    & > .transcript--number { color: $code-number; }
    & > .transcript--function { color: $code-function; }
    & > .transcript--builtin { color: $code-builtin; }
    & > .transcript--deleted { color: $code-deleted; }
}
"""
