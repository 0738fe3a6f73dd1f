"""Guesses of the next tokens, and when they pay."""

from __future__ import annotations

import random

import pytest

from engine.hf.drafts import LOOKED_UP, MOST_GUESSED, PAUSE_STEPS, TRIALS, Drafts, Worth


def test_what_followed_the_last_tokens_before_is_guessed_again() -> None:
    drafts = Drafts([1, 2, 3, 4, 5, 6, 7, 8, 1, 2])
    assert drafts.guess() == []
    drafts.add(3)
    assert drafts.guess() == [4, 5, 6, 7]
    assert drafts.guess(2) == [4, 5]


def test_the_latest_place_counts() -> None:
    drafts = Drafts([1, 2, 3, 7, 1, 2, 3, 9, 1, 2, 3])
    assert drafts.guess(1) == [9]


def test_a_run_of_one_token_guesses_its_going_on() -> None:
    assert Drafts([5] * 8).guess() == [5]


@pytest.mark.parametrize("length", range(LOOKED_UP + 1))
def test_a_conversation_too_short_to_repeat_itself_guesses_nothing(length: int) -> None:
    assert Drafts(range(length)).guess() == []


def test_a_guess_always_stood_behind_the_same_tokens() -> None:
    dice = random.Random(4)
    said: list[int] = []
    drafts = Drafts(said)
    for _ in range(500):
        token = dice.randrange(4)
        said.append(token)
        drafts.add(token)
        guess = drafts.guess()
        assert len(guess) <= MOST_GUESSED
        if guess:
            run = [*said[-LOOKED_UP:], *guess]
            assert any(said[at : at + len(run)] == run for at in range(len(said) - len(run) + 1))


def steps_until_open(worth: Worth) -> int:
    return next(steps for steps in range(10**6) if worth.is_open())


def test_nothing_is_guessed_before_a_step_alone_was_timed() -> None:
    worth = Worth()
    assert not worth.is_open()
    worth.note_alone(1.0)
    assert worth.is_open()


def test_guesses_that_are_right_go_on() -> None:
    worth = Worth()
    worth.note_alone(1.0)
    for _ in range(50):
        worth.note_guess(kept=3, seconds=1.5)
        assert worth.is_open()


def test_guesses_that_are_wrong_pause_longer_each_time() -> None:
    worth = Worth()
    worth.note_alone(1.0)
    pauses = []
    for _ in range(3):
        for _ in range(TRIALS):
            worth.note_guess(kept=0, seconds=1.3)
        pauses.append(steps_until_open(worth))
    assert pauses == [PAUSE_STEPS, 2 * PAUSE_STEPS, 4 * PAUSE_STEPS]


def test_right_guesses_that_cost_more_than_they_give_pause_too() -> None:
    worth = Worth()
    worth.note_alone(1.0)
    for _ in range(TRIALS):
        worth.note_guess(kept=1, seconds=4.0)
    assert not worth.is_open()
