"""Guess and Guesses without a browser: a choice made in code is the one that a hand makes."""

import pytest

from blendlab.explorers import Guess, Guesses

QUESTION = "Which is < 3?"


def make(asking=Guess) -> Guess:
    return asking(QUESTION, ["two & a half", "four"], answer=0, why="2.5 < 3.")


def test_a_right_guess_held_and_the_reason_is_said_only_after_it():
    guess = make()
    assert guess.held is None and guess.picked is None and guess.verdict.value == ""
    guess.choice.index = 0
    assert guess.held is True and "It held" in guess.verdict.value and "2.5 &lt; 3" in guess.verdict.value


def test_the_first_choice_counts():
    guess = make()
    guess.choice.index = 1
    assert guess.held is False and "did not hold: two &amp; a half" in guess.verdict.value
    guess.choice.index = 0
    assert guess.picked == 1 and guess.held is False
    assert "It held" in guess.verdict.value  # of what is now chosen


def test_a_choice_taken_back_is_no_guess():
    guess = make()
    guess.choice.index = 1
    guess.choice.index = None
    assert guess.picked == 1 and "did not hold" in guess.verdict.value


@pytest.mark.parametrize("answer", [-1, 2])
def test_an_answer_that_is_no_option_is_refused(answer):
    with pytest.raises(ValueError, match=f"answer must be from 0 to 1; got {answer}"):
        Guess("?", ["a", "b"], answer, "")


def test_what_a_notebook_without_a_kernel_shows():
    bundle = make()._repr_mimebundle_()
    assert bundle["text/plain"] == f"Predict: {QUESTION} (two & a half / four)"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_unanswered_questions_are_said_to_be_and_not_given_away():
    guesses = Guesses()
    assert repr(guesses) == "No prediction has been made yet."
    make(guesses.ask)
    assert repr(guesses) == f"No prediction has been made yet; 1 not answered.\n– {QUESTION} Not answered yet."
    assert guesses._repr_mimebundle_()["text/plain"] == repr(guesses)


def test_the_summary_follows_each_guess():
    guesses = Guesses()
    guess = make(guesses.ask)
    other = guesses.ask("And this?", ["yes", "no"], 0, "")
    shown = guesses.children[0]
    guess.choice.index = 0
    assert "<b>1 of 1 predictions held; 1 not answered.</b>" in shown.value
    assert "✓ Which is &lt; 3? You said: two &amp; a half. It held." in shown.value
    other.choice.index = 1
    assert repr(guesses).startswith("1 of 2 predictions held.\n")
    assert repr(guesses).endswith("✗ And this? You said: no. It did not hold: yes.")
    assert "Not answered" not in shown.value


def test_a_cell_that_runs_again_keeps_what_was_guessed():
    guesses = Guesses()
    make(guesses.ask).choice.index = 1
    assert make(guesses.ask).picked == 1 and len(guesses.asked) == 1
    changed = guesses.ask(QUESTION, ["one", "four"], 0, "")
    assert changed.picked is None and len(guesses.asked) == 2
