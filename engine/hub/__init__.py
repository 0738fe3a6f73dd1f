"""What is on this disk, and how more gets here; without torch or a hub's own library."""

from engine.hub.download import Download
from engine.hub.find import find_model
from engine.hub.local import LocalModel, count_parameters, list_models
from engine.hub.repositories import parse_repository

__all__ = ["Download", "LocalModel", "count_parameters", "find_model", "list_models", "parse_repository"]
