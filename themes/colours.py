"""The names a palette gives colours to: Textual's own, and the product's."""

from __future__ import annotations

TEXTUAL_COLOURS = (
    "primary",
    "secondary",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "success",
    "warning",
    "error",
)

PRODUCT_COLOURS = {
    "weights": "gauge and label: a model's weights",
    "kv": "gauge and label: the KV cache",
    "activations": "gauge and label: activations and what torch keeps in reserve",
    "page-cache": "gauge and label: reclaimable file pages in RAM",
    "others": "gauge and label: other processes",
    "free": "gauge: what nobody uses",
    "you": "the person's name above a prompt",
    "model": "the model's name above a reply",
    "reasoning": "thinking text",
    "muted": "labels, hints, counts",
    "line": "borders and rules",
    "selection": "background of the chosen row",
    "selection-text": "text of the chosen row",
    "heading": "Markdown headings",
    "link": "link text",
    "quote": "quoted text",
    "code": "code",
    "code-background": "behind code blocks",
    "code-keyword": "in code",
    "code-string": "in code",
    "code-number": "in code",
    "code-comment": "in code",
    "code-function": "in code",
    "code-builtin": "in code",
    "code-deleted": "in code",
}
"""Theme variables of every palette: in CSS `$kv`, in Python `app.theme_variables["kv"]`."""


def widget_colours(palette: dict[str, str]) -> dict[str, str]:
    """Textual's variables for lists, inputs and scrollbars, so that all of them look alike."""
    return {
        "ansi-background": "transparent",
        "ansi-foreground": "transparent",
        "border": palette["line"],
        "border-blurred": palette["line"],
        "block-cursor-background": palette["selection"],
        "block-cursor-foreground": palette["selection-text"],
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": palette["selection"],
        "block-cursor-blurred-foreground": palette["selection-text"],
        "block-hover-background": palette["selection"],
        "input-selection-background": palette["selection"],
        "input-selection-foreground": palette["selection-text"],
        "screen-selection-background": palette["selection"],
        "screen-selection-foreground": palette["selection-text"],
        "footer-key-foreground": palette["accent"],
        "scrollbar": palette["line"],
        "scrollbar-hover": palette["muted"],
        "scrollbar-active": palette["muted"],
        "scrollbar-background": palette["background"],
        "scrollbar-background-hover": palette["background"],
        "scrollbar-background-active": palette["background"],
        "scrollbar-corner-color": palette["background"],
        "link-color": palette["link"],
        "link-color-hover": palette["link"],
        "link-background-hover": palette["background"],
    }
