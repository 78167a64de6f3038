"""Wrong numbers: which known mistake gives the same ones, or where they go wrong, or what they have in common."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .exercise import Answer, Exercise, Mistake, close, tried

UNKNOWN = "No known mistake gives these numbers; it may be two at once. Follow the first differing element by hand."


def diagnose(exercise: Exercise, answers: list[Answer]) -> str:
    """A sentence or two on what it looks like the function does; the first wrong answer is a tensor."""
    answers = [answer for answer in answers if not answer.trouble]
    wrong = [answer for answer in answers if not answer.right]
    first, before = wrong[0], answers.index(wrong[0])
    alike = [mistake for mistake in exercise.mistakes if _gives(mistake, first)]
    for mistake in alike:
        if all(_gives(mistake, answer) for answer in answers):
            return mistake.diagnosis
    if traits := _traits(wrong, answers):
        return f"Right in plain cases, wrong where {' and '.join(traits)}. {_hints(exercise, traits)}".strip()
    if alike and not _constant(first.value):  # zeros are the zeros of many a mistake
        best = max(alike, key=lambda mistake: sum(_gives(mistake, answer) for answer in wrong))
        return f"{best.diagnosis} Some cases differ from that too: put this right first."
    if first.value.shape != first.expected.shape:
        return f"{_shapes(first, exercise.shape)}."
    likeness = _likeness(wrong)
    if not before or not first.case.traits:
        return likeness or _constant_line(first) or UNKNOWN
    plainer = "plainest case" if before == 1 else f"{before} plainer cases"
    start = f"Right in the {plainer}; it first goes wrong where {' and '.join(first.case.traits)}."
    return f"{start} {likeness or _hints(exercise, first.case.traits)}".strip()


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


def _traits(wrong: list[Answer], answers: list[Answer]) -> list[str]:
    """What the wrong answers' cases share: the one trait that tells them from the right ones, or all of them."""
    shared = [trait for trait in wrong[0].case.traits if all(trait in answer.case.traits for answer in wrong)]
    telling = [t for t in shared if not any(answer.right for answer in answers if t in answer.case.traits)]
    return telling[:1] or shared


def _hints(exercise: Exercise, traits: Sequence[str]) -> str:
    return " ".join(exercise.hints[trait] for trait in traits if trait in exercise.hints)


def _shapes(answer: Answer, axes: str) -> str:
    right = f"{axes} = {tuple(answer.expected.shape)}" if answer.expected.dim() else "a scalar, ()"
    line = f"It returns shape {tuple(answer.value.shape)} where {right} is expected"
    try:
        np.broadcast_shapes(answer.value.shape, answer.expected.shape)
    except ValueError:
        return line
    return line + "; the two would broadcast, which hides the slip further on"


def _likeness(wrong: list[Answer]) -> str:
    """What the numbers have to do with the right ones; empty if nothing shows."""
    yours, expected = wrong[0].value.detach().double(), wrong[0].expected
    if not yours.isfinite().all():
        return "It gives NaN or infinity: look for a division by 0, a logarithm of 0 or an exponential that overflows."
    for word, slip, relation in (
        ("{:.4g} times the right one", "a missing or doubled division", _factor),
        ("off by {:.4g}", "a constant that is added once too often", _offset),
    ):
        values = [relation(answer) for answer in wrong if answer.expected.numel()]
        if values[0] is None or (len(values) == 1 and yours.numel() == 1):
            continue  # one number alone is a multiple of every other
        if all(value is not None and abs(value - values[0]) < 1e-3 * (1 + abs(value)) for value in values):
            return f"Every number is {word.format(values[0])}: look for {slip}."
        if yours.numel() > 1:
            return (
                f"Every number is {word.format(values[0])} in that case, and not so in others: look for {slip}, "
                "whose size depends on the input."
            )
    for i in range(yours.dim()):
        if close(yours.flip(i), expected):
            return f"The right numbers in reverse order along axis {i}: look at the order in which it is filled."
        for j in range(i):
            if yours.shape[i] == yours.shape[j] and close(yours.transpose(i, j), expected):
                return f"The right numbers with axes {j} and {i} swapped: look at the order of your indices."
    if yours.numel() > 1 and not _constant(yours) and close(yours.flatten().sort()[0], expected.flatten().sort()[0]):
        return "The right numbers in other places: look at indices, at view, reshape and permute, or for an offset."
    return ""


def _factor(answer: Answer) -> float | None:
    """By what number the right result must be multiplied to give this one; None where that does not do it."""
    yours, expected = answer.value.detach().double(), answer.expected
    if yours.shape != expected.shape or _constant(yours):
        return None
    factor = (yours * expected).sum() / expected.square().sum().clamp(min=1e-12)
    return factor.item() if close(yours, factor * expected) else None


def _offset(answer: Answer) -> float | None:
    """What number must be added to the right result to give this one; None where that does not do it."""
    yours, expected = answer.value.detach().double(), answer.expected
    if yours.shape != expected.shape:
        return None
    offset = (yours - expected).mean()
    return offset.item() if close(yours, expected + offset) else None


def _constant(value: Tensor) -> bool:
    """Whether several numbers are all one."""
    return value.numel() > 1 and bool((value - value.flatten()[0]).abs().max() < 1e-6)


def _constant_line(answer: Answer) -> str:
    if not _constant(answer.value):
        return ""
    number = answer.value.flatten()[0].item()
    return f"It gives {number:.4g} everywhere: " + (
        "does the result depend on the input at all?" if number else "is the result ever filled?"
    )


def _indices(axes: str) -> list[str]:
    """Names of the coordinates: the axes' letters in lower case, rows and columns for the last two of a map."""
    letters = ["i" if letter.isdigit() else letter.lower() for letter in axes.strip("()").split(",") if letter]
    return letters if len(letters) < 2 else [*letters[:-2], "row", "column"]
