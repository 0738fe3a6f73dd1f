"""Makes training conversations out of the facts: several turns, typing habits, follow-up questions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from engine.guide.corpus import Fact, Unknown

Exchange = tuple[str, str]
"""A question and its answer."""

MORE = {
    "en": (
        "tell me more",
        "Tell me more.",
        "more?",
        "can you explain further?",
        "why?",
        "go on",
        "and then?",
    ),
    "zh": ("再多说一点", "详细说说", "为什么？", "继续", "还有呢？", "能展开讲讲吗", "多讲一些"),
}
NO_MORE = {
    "en": "That is all I know about it. A larger model can say more: Ctrl+O, or `vramble pull`.",
    "zh": "关于这一点我只知道这些。更大的模型能说得更多：按 Ctrl+O，或用 `vramble pull`。",
}
AGAIN = {
    "en": ("say that again", "repeat that please", "once more?", "what did you just say?"),
    "zh": ("再说一遍", "请重复一下", "你刚才说什么？", "再讲一次"),
}
IN_OTHER = {
    "en": ("in English please", "say that in English", "English?", "用英文说"),
    "zh": ("in Chinese please", "say that in Chinese", "用中文说", "请用中文回答"),
}
BEFORE = {
    "en": ("please tell me, ", "hi, ", "hello! ", "quick question: ", "sorry, ", "ok. ", "and ", "so "),
    "zh": ("请问", "你好，", "想问一下，", "请问一下，", "那", "好的，", "我想知道"),
}
AFTER = {"en": (" please", " thanks", " in vramble", "??", " ?"), "zh": ("谢谢", "呢", "？？", "吗", "啊")}
SYSTEM = ("You are a helpful assistant.", "Answer briefly.", "You are vramble's guide.", "请简短回答。")


@dataclass
class TalkMaker:
    """Draws conversations without end, from one seeded source of chance.

    Attributes:
        facts: in all languages.
        unknown: one entry per language.
        chance: where every choice comes from.
        unknown_share: share of questions that are off topic.
    """

    facts: list[Fact]
    unknown: list[Unknown]
    chance: random.Random
    unknown_share: float = 0.2

    def __post_init__(self) -> None:
        """Index facts by name, to find the same one in another language."""
        self._by_name = {(fact.name, fact.language): fact for fact in self.facts}

    def talks(self, exchanges: int) -> Iterator[tuple[str, list[Exchange]]]:
        """Yield (system prompt or "", exchanges) for ever, each of up to that many exchanges."""
        while True:
            system = self.chance.choice(SYSTEM) if self.chance.random() < 0.1 else ""
            talk: list[Exchange] = []
            while len(talk) < exchanges:
                talk.extend(self._topic())
            yield system, talk[:exchanges]

    def _topic(self) -> list[Exchange]:
        if self.chance.random() < self.unknown_share:
            return [self._off_topic()]
        fact = self.chance.choice(self.facts)
        first = (self._asked(fact.ask, fact.language), fact.answer)
        return [first, *self._follow_up(fact)]

    def _asked(self, phrasings: tuple[str, ...], language: str) -> str:
        """A question: often one of the plainest, else any, or the words of two, as somebody typed it."""
        if self.chance.random() < 0.3:
            return self._plain(self.chance.choice(phrasings[:3]))
        question = self.chance.choice(phrasings)
        if self.chance.random() < 0.06:
            question = self._spliced(question, self.chance.choice(phrasings), language)
        return self._typed(question, language)

    def _plain(self, question: str) -> str:
        """A question in whole words, with or without its capital and its question mark."""
        lowered = question.lower() if self.chance.random() < 0.4 else question
        return lowered.rstrip("?？") if self.chance.random() < 0.4 else lowered

    def _spliced(self, one: str, other: str, language: str) -> str:
        """The beginning of one phrasing and the end of another."""
        joint = " " if language == "en" else ""
        first, second = _parts(one, language), _parts(other, language)
        return joint.join((*first[: (len(first) + 1) // 2], *second[len(second) // 2 :]))

    def _off_topic(self) -> Exchange:
        unknown = self.chance.choice(self.unknown)
        return self._asked(unknown.ask, unknown.language), self.chance.choice(unknown.answers)

    def _follow_up(self, fact: Fact) -> list[Exchange]:
        draw = self.chance.random()
        if draw < 0.12:
            return [(self.chance.choice(MORE[fact.language]), fact.more or NO_MORE[fact.language])]
        if draw < 0.16:
            return [(self.chance.choice(AGAIN[fact.language]), fact.answer)]
        if draw < 0.22:
            other = "zh" if fact.language == "en" else "en"
            return [(self.chance.choice(IN_OTHER[other]), self._by_name[fact.name, other].answer)]
        return []

    def _typed(self, question: str, language: str) -> str:
        """The question as some person would have typed it."""
        if self.chance.random() < 0.35:
            question = question.lower()
        if self.chance.random() < 0.3:
            question = question.rstrip("?？。.!！")
        if self.chance.random() < 0.35:
            question = self._thinned(question, language)
        if language == "en" and self.chance.random() < 0.12:
            question = self._mistyped(question)
        if self.chance.random() < 0.15:
            question = self.chance.choice(BEFORE[language]) + question
        if self.chance.random() < 0.1:
            question += self.chance.choice(AFTER[language])
        return question

    def _thinned(self, question: str, language: str) -> str:
        """The question with a few words or characters missing, so that no single one is relied upon."""
        joint = " " if language == "en" else ""
        lost = self.chance.uniform(0.0, 0.25)
        kept = [part for part in _parts(question, language) if self.chance.random() > lost]
        return joint.join(kept) or question

    def _mistyped(self, question: str) -> str:
        if len(question) < 4:
            return question
        at = self.chance.randrange(len(question) - 1)
        return question[:at] + question[at + 1] + question[at] + question[at + 2 :]


def _parts(text: str, language: str) -> list[str]:
    """Words of English, characters of Chinese."""
    return text.split(" ") if language == "en" else list(text)
