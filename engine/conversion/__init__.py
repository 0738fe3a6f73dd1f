"""Pickles to safetensors beside them, in a process of its own without network; nothing here imports torch."""

from engine.conversion.convert import convert_pickles
from engine.conversion.sources import Pickles, pickles_of
from engine.conversion.told import Converted, ConvertProgress

__all__ = ["ConvertProgress", "Converted", "Pickles", "convert_pickles", "pickles_of"]
