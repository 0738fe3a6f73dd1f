"""Markdown laid out into rows of styled text, block by block, while it streams. Knows no widget."""
