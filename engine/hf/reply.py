"""The text of one reply: detokenized, ended at stop strings, its reasoning apart."""

from __future__ import annotations

from collections.abc import Iterator

from engine.events import TextDelta
from engine.hf.detokenize import Detokenizer, decoder_of
from engine.hf.loaded import LoadedModel
from engine.hf.prompt import Prompt
from engine.hf.reasoning import Piece, ReasoningSplitter
from engine.hf.stopping import StopStrings


class Reply:
    """Turns token ids into TextDeltas as they come."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt, stop: tuple[str, ...], *, goes_on: bool) -> None:
        """Start a reply.

        Args:
            loaded: whose tokens they are.
            prompt: what the reply answers.
            stop: strings that end it.
            goes_on: it continues text at the end of the prompt.
        """
        self._loaded = loaded
        self._goes_on = goes_on
        self._detokenizer = Detokenizer(loaded.tokenizer, prompt.token_ids if goes_on else ())
        self._stops = StopStrings(stop)
        self._splitter = ReasoningSplitter(thinking=prompt.thinking, anywhere=loaded.tags_anywhere)
        self._pieces: list[Piece] = []
        self.token_ids: list[int] = []
        self.completion_tokens = 0

    @property
    def stopped(self) -> bool:
        """A stop string is complete."""
        return self._stops.met

    def add(self, token_id: int) -> Iterator[TextDelta]:
        """Yield the text that one more token made certain."""
        self.token_ids.append(token_id)
        text = self._stops.add(self._detokenizer.add(token_id))
        yield from self._deltas(self._splitter.add(text) if text else [])
        if self.stopped:
            yield from self._deltas(self._splitter.flush())

    def finish(self) -> Iterator[TextDelta]:
        """Yield what was held back, and let the writer remember the ids where they are the text's own."""
        if not self.stopped:
            rest = self._stops.add(self._detokenizer.flush())
            rest += "" if self.stopped else self._stops.flush()
            yield from self._deltas([*self._splitter.add(rest), *self._splitter.flush()])
        text = "".join(piece.text for piece in self._pieces)
        thought = any(piece.reasoning for piece in self._pieces)
        if text and not thought and not self._goes_on and self._is_whole(text):
            self._loaded.writer.remember(text, self.token_ids)

    def _is_whole(self, text: str) -> bool:
        return decoder_of(self._loaded.tokenizer)(self.token_ids) == text

    def _deltas(self, pieces: list[Piece]) -> Iterator[TextDelta]:
        self._pieces += pieces
        for text, reasoning in pieces:
            yield TextDelta(text=text, reasoning=reasoning, completion_tokens=self.completion_tokens)
