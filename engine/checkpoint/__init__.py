"""What a model folder says before anything of it is loaded; without torch, and running nothing."""

from engine.checkpoint.config import ModelConfig, read_config
from engine.checkpoint.inspect import inspect_folder
from engine.checkpoint.look import look_at
from engine.checkpoint.tensors import StoredTensor, read_tensors
from engine.checkpoint.verdict import Verdict

__all__ = [
    "ModelConfig",
    "StoredTensor",
    "Verdict",
    "inspect_folder",
    "look_at",
    "read_config",
    "read_tensors",
]
