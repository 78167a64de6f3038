"""From a function and an exercise to a verdict: call it on every case, shape before value, then find out why."""

import copy
from collections.abc import Callable
from dataclasses import is_dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from .calling import TooLong, complaint, limited, listening, now, parameter_names, takes, undisturbed
from .diagnose import diagnose, difference
from .exercise import Answer, Exercise, close
from .result import Result

STEPS = ("roi_align", "interpolate", "softmax", "blend")
# What a student calls, of functions that are heard below it
PUBLIC = {"blendlab.blender._blend": "blendlab.Blender", "blendlab.fused._blend": "blendlab.fused.fused_blend"}


def judge(function: Callable, exercise: Exercise, seed: int) -> Result:
    """Try `function` on the exercise's cases, drawn from `seed`. Nothing that it does is raised."""
    if not callable(function):
        return Result(
            exercise.name,
            False,
            f"A function is expected, got {kind(function)}: write check_{exercise.name}(my_function), "
            "without calling the function.",
        )
    own, ours = parameter_names(function), [p.name for p in exercise.parameters]
    if len(own) > 1 and own != ours[: len(own)] and sorted(own) == sorted(ours[: len(own)]):
        return Result(
            exercise.name,
            False,
            f"Its parameters are in another order: {', '.join(own)}. It is called as {exercise.call}.",
        )
    lengths = [n for n in range(1, len(exercise.parameters) + 1) if takes(function, n)]
    with undisturbed():
        cases = exercise.cases(Generator().manual_seed(seed))
        given = [(case, exercise.arguments(case, lengths)) for case in cases]
        put = [(case, args) for case, args in given if args is not None]
        if not put:
            return Result(exercise.name, False, f"It cannot be called as {exercise.call}: check its parameters.")
        began, heard = now(), set()
        answers = _answers(function, exercise, put, began, heard)
        wrong = next((answer for answer in answers if not answer.right), None)
        if wrong is not None:
            return _failed(exercise, answers, wrong)
        trouble = gradient_trouble(function, exercise, put[min(1, len(put) - 1)][1], began) if exercise.gradient else ""
    if borrowed := sorted({PUBLIC.get(name, name) for name in exercise.borrowed(heard)}):
        return Result(
            exercise.name,
            False,
            f"The numbers are right, but this calls blendlab's own code ({', '.join(borrowed)}) instead of doing the "
            "step. Write the step itself, and compare with the package's outside of your function.",
        )
    if trouble:
        return Result(exercise.name, False, trouble, (f"the numbers are right in all {len(put)} cases",))
    return Result(exercise.name, True, details=(f"{len(put)} cases",), note=_note(exercise, lengths, given, heard))


def _answers(function: Callable, exercise: Exercise, put: list, began: list[float], heard: set[str]) -> list[Answer]:
    """One answer a case, up to the first that is no tensor of numbers. `heard` takes the names that ran."""
    answers: list[Answer] = []
    for case, args in put:
        with listening(heard):
            value, trouble = attempt(function, exercise, args, began)
        answers.append(Answer(case, exercise.expected(case), value, trouble))
        if trouble:
            break
    return answers


def attempt(function: Callable, exercise: Exercise, args: tuple, began: list[float]) -> tuple[Tensor | None, str]:
    """The function's result on copies of `args`; or None, and a sentence that says what it did instead."""
    given = copy.deepcopy(args)
    try:
        value = limited(function, given, began)
    except (Exception, SystemExit, TooLong) as error:
        return None, complaint(error)
    for parameter, before, after in zip(exercise.parameters, args, given, strict=False):
        if not same(before, after):
            return None, (
                f"It changes its input {parameter.name}, which belongs to the caller: look for an operation in place "
                "(x -= …, x[…] = …, a method that ends in _), and work on a new tensor."
            )
    if trouble := misfit(value):
        return None, trouble
    return value.detach().clone(), ""  # a function may hand out one buffer again and again


def misfit(value: object) -> str:
    """Why a result is no float32 tensor on the inputs' device; empty if it is one."""
    if value is None:
        return "It returns None: is the return missing?"
    if isinstance(value, np.ndarray | np.generic):
        return "It returns a NumPy array where a torch tensor is expected: stay in torch, so that gradients can pass."
    if not isinstance(value, Tensor):
        return f"It returns {kind(value)} where a torch tensor is expected."
    if value.device.type != "cpu":
        return f"It returns a tensor on the device {value.device}, while its inputs are on cpu: make new tensors there."
    if value.layout != torch.strided or value.is_nested:
        return "It returns a sparse or nested tensor where a plain one is expected."
    if value.dtype != torch.float32:
        return f"It returns {value.dtype} where the inputs are torch.float32: keep the inputs' dtype."
    return ""


def gradient_trouble(function: Callable, exercise: Exercise, args: tuple, began: list[float]) -> str:
    """Whether the gradients arrive that training needs; a sentence if not."""
    names = [p.name for p in exercise.parameters]
    chosen = [names.index(name) for name in exercise.gradient]

    def gradients(step: Callable, dtype: torch.dtype) -> tuple[Tensor, ...] | None:
        given = [a.to(dtype) if isinstance(a, Tensor) else a for a in copy.deepcopy(args)]
        leaves = [given[i].requires_grad_() for i in chosen]
        out = step(*given)
        if not out.requires_grad:
            return None
        weights = torch.linspace(-1, 1, out.numel(), dtype=dtype).view(out.shape) + 0.1
        return torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True)

    try:
        found = limited(gradients, (function, torch.float32), began)
    except (Exception, SystemExit, TooLong) as error:
        return f"Called as in training, with gradients, something goes wrong. {complaint(error)}"
    expected = gradients(exercise.reference, torch.float64)
    for i, name in enumerate(exercise.gradient):
        if found is None or found[i] is None:
            return (
                f"No gradient comes back to {name}, so nothing before this step could learn: something cuts it off, "
                "such as detach(), item(), tolist(), numpy(), torch.tensor(...) or no_grad()."
            )
        if not close(found[i], expected[i]):
            return f"The values are right, but the gradient that comes back to {name} is not: is a part of it detached?"
    return ""


def _failed(exercise: Exercise, answers: list[Answer], wrong: Answer) -> Result:
    where = f"where {' and '.join(wrong.case.traits)}" if wrong.case.traits else "in the plainest case"
    call = f"{where}; {exercise.described(wrong.case)}"
    if wrong.trouble:
        before = answers.index(wrong)
        diagnosis = wrong.trouble
        if before and wrong.case.traits:
            plainer = "plainest case is" if before == 1 else f"{before} plainer cases are"
            diagnosis += f" It does so {where}; the {plainer} right."
            diagnosis += "".join(f" {exercise.hints[t]}" for t in wrong.case.traits if t in exercise.hints)
        return Result(exercise.name, False, diagnosis, (call,))
    line, yours, expected, cell = difference(wrong, exercise.shape)
    return Result(exercise.name, False, diagnose(exercise, answers), (call, line), "", yours, expected, cell)


def _note(exercise: Exercise, lengths: list[int], given: list, heard: set[str]) -> str:
    notes = []
    if any(args is None for _, args in given):
        missing = [p.name for p in exercise.parameters[max(lengths) :]]
        notes.append(f"Not tried, since your function does not take it: {', '.join(missing)}.")
    if any(name.startswith("torchvision.") for name in heard):
        notes.append("torchvision's operator does the work: right, but the inside of the step stays hidden.")
    if used := [step for step in STEPS if f"blendlab.steps.{step}" in heard]:
        notes.append(f"It uses blendlab's own {', '.join(used)}.")
    return " ".join(notes)


def same(before: object, after: object) -> bool:
    """Whether an argument is untouched."""
    if isinstance(before, Tensor):
        kept = isinstance(after, Tensor) and before.dtype == after.dtype and before.device == after.device
        return kept and torch.equal(before, after)
    if type(before) is not type(after):
        return False
    if is_dataclass(before):
        return same([*vars(before).values()], [*vars(after).values()])
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(same, before, after))
    return before == after


def kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
