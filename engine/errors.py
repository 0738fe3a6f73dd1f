"""Every way the engine can refuse or fail.

EngineError
├── CheckpointError          the folder cannot be loaded as it is
│   ├── NotACheckpoint       no config.json, or nothing that holds weights
│   ├── DamagedCheckpoint    truncated, malformed, missing or escaping files
│   ├── UnsafeCheckpoint     pickles, or code that would have to run
│   │   └── NeedsConsent     its own code could run, and the person has not agreed to these files
│   └── UnsupportedModel     a known shape that this version cannot run
├── UnknownModel             a name that nothing on this machine answers to
├── DownloadError            a model could not be fetched from its hub
│   ├── UnknownRepository    the hub has no such model or revision, or does not show it
│   ├── AccessDenied         the hub wants a token, or terms accepted
│   ├── HubUnreachable       no network, no answer, or one that makes no sense
│   ├── UnsafeListing        the repository names files that would lie outside its folder
│   ├── NothingToLoad        the repository has no safetensors
│   ├── DiskFull             less space than the files need
│   ├── ChecksumMismatch     a file is not what the hub says it is
│   └── DownloadBusy         another process is fetching the same model
├── DoesNotFit               the plan needs more than the devices have
├── InvalidValue             a parameter outside its range
├── OutOfMemory              an allocation failed while loading or generating
├── ContextOverflow          one message is longer than the context window
├── TemplateError            the chat template failed or ran too long
├── LoadCancelled            the person stopped a load
├── NoModelLoaded            Generate without a model
├── EngineDied               the engine process ended
├── WireError                bytes between screen and engine that are no message
└── EngineFault              anything else the engine thread met

Each carries `message`, what happened and why in one sentence, and `hint`, the next step.
"""

from __future__ import annotations


class EngineError(Exception):
    """The root of the tree: a sentence of cause and a next step, both fit to show to a person."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep the sentence and the next step.

        Args:
            message: what happened and why, one sentence.
            hint: what the person can do now; empty when there is nothing to do.
        """
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Join message and hint into one line."""
        return f"{self.message} {self.hint}".strip()


class CheckpointError(EngineError):
    """A model folder cannot be loaded as it is."""


class NotACheckpoint(CheckpointError):
    """The folder has no config.json, or nothing that holds weights."""


class DamagedCheckpoint(CheckpointError):
    """A file of the checkpoint is truncated, malformed, missing, or leads out of its folder."""


class UnsafeCheckpoint(CheckpointError):
    """Loading would have to unpickle, or run code that the repository brought."""


class NeedsConsent(UnsafeCheckpoint):
    """The repository's own code would have to run, and the person has not agreed to it as it is now."""


class UnsupportedModel(CheckpointError):
    """The checkpoint is sound, and this version cannot run its architecture or format."""


class UnknownModel(EngineError):
    """Nothing on this machine answers to the name."""


class DownloadError(EngineError):
    """A model could not be fetched from its hub."""


class UnknownRepository(DownloadError):
    """The hub has no such model or revision, or does not show it to this person."""


class AccessDenied(DownloadError):
    """The hub wants a token, or terms accepted on its page."""


class HubUnreachable(DownloadError):
    """There is no network, the hub does not answer, or its answer makes no sense."""


class UnsafeListing(DownloadError):
    """The repository names files that would lie outside its folder."""


class NothingToLoad(DownloadError):
    """The repository has no safetensors."""


class DiskFull(DownloadError):
    """The disk has less space than the files need."""


class ChecksumMismatch(DownloadError):
    """A file is not what the hub says it is, or the hub does not say what it is."""


class DownloadBusy(DownloadError):
    """Another process is fetching the same model."""


class DoesNotFit(EngineError):
    """The model needs more than the budgets of the devices allow."""


class InvalidValue(EngineError):
    """A parameter lies outside its range."""


class OutOfMemory(EngineError):
    """An allocation failed while loading or generating."""


class ContextOverflow(EngineError):
    """The system prompt and the last message alone are longer than the context window."""


class TemplateError(EngineError):
    """The chat template is missing, failed, or ran beyond its limits."""


class LoadCancelled(EngineError):
    """The person stopped the load."""


class NoModelLoaded(EngineError):
    """There is no model to generate with."""


class EngineDied(EngineError):
    """The engine process ended; the message names the exit code, the signal or the OOM kill."""


class WireError(EngineError):
    """Bytes between the screen's process and the engine's that are no message, or too long for one."""


class EngineFault(EngineError):
    """An exception that no other class names."""
