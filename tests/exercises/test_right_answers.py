"""Right answers pass, however they are written; and the cases leave no room for rounding to decide."""

import pytest
from right_answers import RIGHT

from blendlab import exercises
from blendlab.exercises import EXERCISES

ANSWERS = [(name, function) for name, functions in RIGHT.items() for function in functions]
pytestmark = pytest.mark.usefixtures("one_thread")


def check(name):
    return getattr(exercises, f"check_{name}")


def test_every_exercise_has_right_answers_here():
    assert set(RIGHT) == set(EXERCISES) and all(len(functions) >= 2 for functions in RIGHT.values())


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize(("name", "function"), ANSWERS, ids=lambda v: getattr(v, "__name__", None))
def test_a_right_answer_passes(name, function, seed):
    result = check(name)(function, seed=seed)
    assert result.passed, result
    assert result.diagnosis == "" and result.exercise == name
