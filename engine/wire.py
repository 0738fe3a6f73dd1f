"""Length-prefixed msgpack of commands and events, between the screen's process and those that work for it.

A frame is four bytes, big endian, of length, and then that many bytes of one message.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from engine.commands import AnyCommand
from engine.downloads import AnyDownloadEvent
from engine.errors import EngineError, WireError
from engine.events import AnyEvent
from engine.values import Value

MAX_FRAME_BYTES = 64 * 2**20
_LENGTH = struct.Struct(">I")


class Cancel(Value, frozen=True, kw_only=True, tag=True):
    """A control frame: stop the command of that number and every earlier one.

    Attributes:
        turn_id: the last command to stop.
    """

    turn_id: int


ToEngine = AnyCommand | Cancel
Received = TypeVar("Received")


def encode(message: ToEngine | AnyEvent | AnyDownloadEvent) -> bytes:
    """One message as a frame; a lone surrogate becomes U+FFFD. Raises WireError when it is too long."""
    try:
        body = _ENCODER.encode(message)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(message, builtin_types=(bytes,), enc_hook=_enc_hook)
        body = _ENCODER.encode(_without_surrogates(plain))
    if len(body) > MAX_FRAME_BYTES:
        hint = "Start a new session, or shorten the conversation."
        raise WireError(f"A message of {len(body)} bytes is longer than the wire takes.", hint)
    return _LENGTH.pack(len(body)) + body


class FrameDecoder(Generic[Received]):
    """Turns bytes, split anywhere, into messages of one kind."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Received]) -> None:
        """Start between two frames."""
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Received]:
        """Messages that `data` completes, in order. Raises WireError for what is no frame."""
        self._buffer += data
        messages = []
        while (body := self._next_body()) is not None:
            messages.append(self._decode(body))
        return messages

    def close(self) -> None:
        """Say that no more bytes come. Raises WireError when they ended within a frame."""
        if self._buffer:
            raise WireError(f"The wire ended within a message, after {len(self._buffer)} bytes of it.")

    def _next_body(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise WireError(f"A frame announces {length} bytes, more than the wire takes.")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return body

    def _decode(self, body: bytes) -> Received:
        try:
            return self._decoder.decode(body)
        except (ValueError, RecursionError, EngineError) as error:  # msgspec's own errors are ValueErrors
            raise WireError(f"A frame of {len(body)} bytes is no message: {error}") from error


def command_decoder() -> FrameDecoder[ToEngine]:
    """The engine's end."""
    return FrameDecoder(msgspec.msgpack.Decoder(ToEngine, dec_hook=_dec_hook))


def event_decoder() -> FrameDecoder[AnyEvent]:
    """The screen's end."""
    return FrameDecoder(msgspec.msgpack.Decoder(AnyEvent, dec_hook=_dec_hook))


def download_decoder() -> FrameDecoder[AnyDownloadEvent]:
    """The screen's end of a download's wire."""
    return FrameDecoder(msgspec.msgpack.Decoder(AnyDownloadEvent, dec_hook=_dec_hook))


def _enc_hook(value: object) -> object:
    if isinstance(value, Path):
        # Names that are not UTF-8 exist on real disks; bytes carry them through.
        return str(value).encode("utf-8", "surrogatepass")
    raise TypeError(f"The wire does not carry {type(value).__name__}.")


def _dec_hook(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, bytes):
        return Path(value.decode("utf-8", "surrogatepass"))
    raise TypeError(f"The wire does not carry {kind.__name__} as {type(value).__name__}.")


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_enc_hook)
