"""What a model folder says before anything of it is loaded; without torch, and running nothing."""

from engine.checkpoint.config import ModelConfig, read_config
from engine.checkpoint.inspect import Verdict, inspect_folder
from engine.checkpoint.tensors import StoredTensor, read_tensors

__all__ = ["ModelConfig", "StoredTensor", "Verdict", "inspect_folder", "read_config", "read_tensors"]
