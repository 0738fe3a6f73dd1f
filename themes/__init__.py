"""Colour only: `*.toml` palettes, their loader, and the product's own colour names."""

from themes.colours import PRODUCT_COLOURS
from themes.palettes import PaletteError, load_palette, palette_files, theme_named

__all__ = ["PRODUCT_COLOURS", "PaletteError", "load_palette", "palette_files", "theme_named"]
