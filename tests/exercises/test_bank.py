"""Each known mistake is rejected with its own diagnosis, on whatever inputs are drawn."""

import pytest
import torch

from blendlab import exercises
from blendlab.exercises import EXERCISES, WRONG_BLENDERS
from blendlab.exercises.exercise import Case, close, tried

MISTAKES = [(e.name, mistake) for e in EXERCISES.values() for mistake in e.mistakes]
# the twelve that the course names
NAMED = (
    "softmax over boxes",
    "softmax over rows",
    "softmax before interpolation",
    "align_corners",
    "half pixel missing",
    "x and y swapped in the box",
    "scale forgotten",
    "no normalisation",
    "nearest",
    "nearest cell",
    "sum over rows",
    "attention read as (M,M,K)",
    "attention transposed",
    "sigmoid inside the blend",
)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=lambda v: getattr(v, "name", v))
def test_each_mistake_is_named(name, mistake, seed):
    result = getattr(exercises, f"check_{name}")(mistake.function, seed=seed)
    assert not result.passed
    assert result.diagnosis == mistake.diagnosis, result


def test_the_bank_of_wrong_blenders_is_large_and_holds_what_the_course_names():
    names = [mistake.name for mistake in WRONG_BLENDERS]
    assert len(names) >= 16 and len(set(names)) == len(names)
    assert set(NAMED) <= set(names)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.name)
def test_no_diagnosis_is_shared_by_mistakes_that_differ_in_kind(exercise):
    """Two mistakes may share a sentence where they are one slip (two ways to round, two orders of sigmoid and log)."""
    sentences = [mistake.diagnosis for mistake in exercise.mistakes]
    assert len(sentences) - len(set(sentences)) <= 1
    assert all(sentence.endswith((".", "?")) for sentence in sentences)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.name)
def test_the_reference_is_right_and_no_mistake_is(exercise):
    cases = exercise.cases(torch.Generator().manual_seed(11))
    assert all(isinstance(case, Case) for case in cases) and not cases[0].traits
    for case in cases:
        assert close(tried(exercise.reference, case), exercise.expected(case)), case.traits
    for mistake in exercise.mistakes:
        values = [tried(mistake.function, case) for case in cases]
        assert not all(v is not None and close(v, exercise.expected(c)) for v, c in zip(values, cases, strict=True))
