"""Wrong numbers: which known mistake gives the same ones, or where they go wrong, or what they have in common."""

import numpy as np
import torch
from torch import Tensor

from .exercise import Answer, Exercise, Mistake, close, tried


def diagnose(exercise: Exercise, answers: list[Answer]) -> str:
    """A sentence or two on what it looks like the function does; the first wrong answer is a tensor."""
    answers = [answer for answer in answers if not answer.trouble]
    wrong = [answer for answer in answers if not answer.right]
    first = wrong[0]
    alike = [mistake for mistake in exercise.mistakes if _gives(mistake, first)]
    for mistake in alike:
        if all(_gives(mistake, answer) for answer in answers):
            return mistake.diagnosis
    if trait := _trait(wrong, answers):
        return f"Right in plain cases, wrong where {trait}. {exercise.hints.get(trait, '')}".strip()
    if alike:
        best = max(alike, key=lambda mistake: sum(_gives(mistake, answer) for answer in wrong))
        return f"{best.diagnosis} Some cases differ from that too: put this right first."
    if first.value.shape != first.expected.shape:
        return f"{_shapes(first, exercise.shape)}."
    return _likeness(first.value.detach().double(), first.expected)


def difference(answer: Answer, axes: str) -> tuple[str, np.ndarray | None, np.ndarray | None, tuple[int, int]]:
    """A line on the first element that differs, the map of both in which it lies, and its cell there."""
    if answer.value.shape != answer.expected.shape:
        return _shapes(answer, axes), None, None, (0, 0)
    yours, expected = answer.value.detach().double(), answer.expected
    apart = ~torch.isclose(yours, expected, 1e-4, 1e-4, equal_nan=True)
    at = tuple(apart.nonzero()[0].tolist())
    place = ", ".join(f"{letter}={i}" for letter, i in zip(_indices(axes), at, strict=True))
    line = (
        f"first difference{f' at [{place}]' if place else ''}: yours {yours[at]:.4g}, reference {expected[at]:.4g}; "
        f"{int(apart.sum())} of {apart.numel()} elements differ"
    )
    maps = [t[at[:-2]] if t.dim() >= 2 else t.reshape(1, -1) for t in (yours, expected)]
    cell = at[-2:] if len(at) >= 2 else (0, *at)[-2:] if at else (0, 0)
    return line, maps[0].numpy(), maps[1].numpy(), cell


def _gives(mistake: Mistake, answer: Answer) -> bool:
    value = tried(mistake.function, answer.case)
    return value is not None and close(value, answer.value)


def _trait(wrong: list[Answer], answers: list[Answer]) -> str:
    """The narrowest trait that all wrong answers share, if every other answer is right."""
    shared = set.intersection(*(set(answer.case.traits) for answer in wrong))
    return min(shared, key=lambda trait: sum(trait in a.case.traits for a in answers), default="")


def _shapes(answer: Answer, axes: str) -> str:
    right = f"{axes} = {tuple(answer.expected.shape)}" if answer.expected.dim() else "a scalar, ()"
    line = f"It returns shape {tuple(answer.value.shape)} where {right} is expected"
    try:
        np.broadcast_shapes(answer.value.shape, answer.expected.shape)
    except ValueError:
        return line
    return line + "; the two would broadcast, which hides the slip further on"


def _likeness(yours: Tensor, expected: Tensor) -> str:
    """What the numbers have to do with the right ones."""
    if not yours.isfinite().all():
        return "It gives NaN or infinity: look for a division by 0, a logarithm of 0 or an exponential that overflows."
    if yours.numel() > 1 and (yours == yours.flatten()[0]).all():
        return f"It gives {yours.flatten()[0]:.4g} everywhere: is the result ever filled?"
    factor = (yours * expected).sum() / expected.square().sum().clamp(min=1e-12)
    if close(yours, factor * expected):
        return f"Every number is {factor:.4g} times the right one: look for a missing or doubled division."
    offset = (yours - expected).mean()
    if close(yours, expected + offset):
        return f"Every number is off by {offset:.4g}: look for a constant that is added once too often."
    for i in range(yours.dim()):
        if close(yours.flip(i), expected):
            return f"The right numbers in reverse order along axis {i}: look at the order in which it is filled."
        for j in range(i):
            if yours.shape[i] == yours.shape[j] and close(yours.transpose(i, j), expected):
                return f"The right numbers with axes {j} and {i} swapped: look at the order of your indices."
    return "No known mistake gives these numbers; it may be two at once. Follow the first differing element by hand."


def _indices(axes: str) -> list[str]:
    """Names of the coordinates: the axes' letters in lower case, rows and columns for the last two of a map."""
    letters = ["i" if letter.isdigit() else letter.lower() for letter in axes.strip("()").split(",") if letter]
    return letters if len(letters) < 2 else [*letters[:-2], "row", "column"]
