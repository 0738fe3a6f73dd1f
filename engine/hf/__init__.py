"""Runs Hugging Face checkpoints with transformers; entered by the engine's child process only."""
