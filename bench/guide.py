"""How much of what the guide was never trained on it still answers rightly: `python -m bench.guide`.

Asks every held-out phrasing, greedily, each in a talk of its own, through the engine process that any model
goes through; then off-topic questions, which it has to decline; then a talk of several turns.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from dataclasses import dataclass, field

from engine import EngineProcess
from engine.commands import Generate, LoadModel
from engine.events import AnyEvent, Failed, ModelLoaded, TextDelta, TurnFinished
from engine.guide import FOLDER
from engine.guide.corpus import LANGUAGES, Fact, read_facts, read_unknown
from engine.values import BudgetRequest, ChatMessage, FinishReason, ModelRef, Role, SamplingParams

TARGET_SHARE = 0.9
TARGET_FACTS = 150
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=160)


@dataclass
class Talk:
    """A conversation with one engine process, one question at a time."""

    events: queue.Queue[AnyEvent] = field(default_factory=queue.Queue)
    turn_id: int = 0

    def __post_init__(self) -> None:
        """Start the process and load the guide."""
        self.engine = EngineProcess(self.events.put)
        self.engine.start()
        self.turn_id += 1
        guide = ModelRef(name="guide", folder=FOLDER)
        self.engine.submit(LoadModel(turn_id=self.turn_id, model=guide, budgets=BudgetRequest()))
        while not isinstance(event := self.events.get(timeout=120), ModelLoaded):
            if isinstance(event, Failed):
                raise SystemExit(event.message)

    def answer(self, *messages: ChatMessage) -> str:
        """The whole reply to a conversation."""
        self.turn_id += 1
        self.engine.submit(Generate(turn_id=self.turn_id, messages=messages, sampling=GREEDY))
        text = ""
        while not isinstance(event := self.events.get(timeout=120), TurnFinished):
            text += event.text if isinstance(event, TextDelta) else ""
        if event.finish_reason is FinishReason.FAILED:
            raise SystemExit(event.message)
        return text

    def ask(self, question: str) -> str:
        """The reply to one question without a history."""
        return self.answer(ChatMessage(role=Role.USER, content=question))


def held_share(talk: Talk, facts: list[Fact], missed: list[str]) -> float:
    """Share of held-out phrasings whose answer holds the fact; the others are described in `missed`."""
    asked = [(fact, question) for fact in facts for question in fact.held_out]
    held = 0
    for fact, question in asked:
        said = talk.ask(question)
        held += fact.is_held_by(said)
        if not fact.is_held_by(said):
            missed.append(f"{fact.language} {fact.name}: {question} -> {said}")
    return held / len(asked)


def declined_share(talk: Talk, questions: tuple[str, ...], missed: list[str]) -> float:
    """Share of off-topic questions answered by pointing to a larger model."""
    declined = 0
    for question in questions:
        said = talk.ask(question)
        is_declined = "vramble pull" in said and "Ctrl+O" in said
        declined += is_declined
        if not is_declined:
            missed.append(f"off topic: {question} -> {said}")
    return declined / len(questions)


def later_turn_share(talk: Talk, facts: list[Fact], turns: int = 6) -> float:
    """Share of held-out phrasings answered rightly as the later turns of one talk, languages mixed."""
    held = asked = 0
    for start in range(0, len(facts) - turns, turns * 4):
        history: list[ChatMessage] = []
        for fact in facts[start : start + turns]:
            history.append(ChatMessage(role=Role.USER, content=fact.held_out[0]))
            said = talk.answer(*history)
            history.append(ChatMessage(role=Role.ASSISTANT, content=said))
            held += fact.is_held_by(said)
            asked += 1
    return held / asked


def main() -> None:
    """Print the table, what was missed when asked for with -v, and the JSON line."""
    started = time.monotonic()
    facts, talk = read_facts(), Talk()
    missed: list[str] = []
    figures: dict[str, float] = {}
    for unknown in read_unknown():
        spoken = [fact for fact in facts if fact.language == unknown.language]
        figures[f"{unknown.language}_facts"] = len(spoken)
        figures[f"{unknown.language}_held_out_share"] = held_share(talk, spoken, missed)
        figures[f"{unknown.language}_off_topic_declined"] = declined_share(talk, unknown.held_out, missed)
    figures["later_turns_share"] = later_turn_share(talk, facts)
    talk.engine.close()
    report(figures, missed if "-v" in sys.argv else [])
    print(json.dumps({"bench": "guide", "seconds": round(time.monotonic() - started, 1), **figures}))


def report(figures: dict[str, float], missed: list[str]) -> None:
    """Print each figure beside its target."""
    for line in missed:
        print(line)
    for language in LANGUAGES:
        print(f"{language}: facts {figures[f'{language}_facts']:.0f} (target >= {TARGET_FACTS})")
        share = figures[f"{language}_held_out_share"]
        print(f"{language}: held-out phrasings that hold the fact {share:.3f} (target >= {TARGET_SHARE})")
        print(f"{language}: off-topic questions declined {figures[f'{language}_off_topic_declined']:.3f}")
    print(f"held-out phrasings answered in later turns of a talk {figures['later_turns_share']:.3f}")


if __name__ == "__main__":
    main()
