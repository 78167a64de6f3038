"""What an exercise is made of: its rule, the calls that try it, and the mistakes that it knows."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

TOLERANCE = 1e-4  # |yours - reference| <= TOLERANCE (1 + |reference|); float32 arithmetic stays ten times below


@dataclass(frozen=True, eq=False)
class Case:
    """One call. `args` are positional; `traits` say what is special about it, in words that fit after "where"."""

    args: tuple
    traits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mistake:
    """A known wrong way: a function of the exercise's signature, and what to tell who wrote it."""

    name: str
    function: Callable
    diagnosis: str


@dataclass(frozen=True)
class Exercise:
    """A step to write.

    reference  a right function; its parameters and defaults are the exercise's signature.
    cases      generator -> the calls, plain ones first.
    mistakes   the bank, in the order in which they are looked for.
    shape      the result's axes, "(N,K,R,R)".
    own        dotted names of blendlab's functions that do the step: who calls one of them, or the
               reference, has not done the exercise.
    parts      dotted names of functions that may serve, but not all of them at once.
    hints      trait -> where to look if all goes wrong just there.
    gradient   the parameters that a gradient must reach.
    """

    name: str
    reference: Callable
    cases: Callable[[Generator], list[Case]]
    mistakes: tuple[Mistake, ...]
    shape: str
    own: tuple[str, ...]
    hints: dict[str, str] = field(default_factory=dict)
    gradient: tuple[str, ...] = ()
    parts: frozenset[str] = frozenset()

    @property
    def parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.reference).parameters.values())

    def borrowed(self, heard: set[str]) -> set[str]:
        """Which of the names that ran did the step in the student's place."""
        forbidden = {*self.own, f"{self.reference.__module__}.{self.reference.__name__}"}
        return heard & forbidden | (self.parts if self.parts and self.parts <= heard else set())

    @property
    def call(self) -> str:
        """How it is called, "blend(regions, scores)"."""
        words = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in self.parameters]
        return f"{self.name}({', '.join(words)})"

    def arguments(self, case: Case, lengths: list[int]) -> tuple | None:
        """The case's arguments for a function that takes one of these numbers of them; None where it cannot be put.

        Defaults are added for a function that needs them said, and left out for one that does not take them.
        """
        count, defaults = len(case.args), tuple(p.default for p in self.parameters)
        for n in sorted(lengths, key=lambda n: (n < count, abs(n - count))):
            if n >= count or case.args[n:] == defaults[n:count]:
                return (case.args + defaults[count:])[:n]
        return None

    def expected(self, case: Case) -> Tensor:
        """What is right, computed in float64."""
        return self.reference(*(lifted(argument) for argument in case.args)).double()

    def described(self, case: Case) -> str:
        """The call in words, with shapes for tensors."""
        words = (f"{p.name} {shown(a)}" for p, a in zip(self.parameters, case.args, strict=False))
        return "called with " + ", ".join(words)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a function made of one case: a tensor of some shape, or a sentence about what else it did."""

    case: Case
    expected: Tensor
    value: Tensor | None
    trouble: str = ""

    @property
    def right(self) -> bool:
        return not self.trouble and close(self.value, self.expected)


def close(value: Tensor, expected: Tensor) -> bool:
    """Equal in shape, then in value."""
    if value.shape != expected.shape:
        return False
    return torch.allclose(value.detach().double(), expected.detach().double(), TOLERANCE, TOLERANCE, equal_nan=True)


def lifted(argument: object) -> object:
    return argument.double() if isinstance(argument, Tensor) else argument


def shown(argument: object) -> str:
    if isinstance(argument, float):
        return f"{argument:.4g}"
    return str(tuple(argument.shape)) if isinstance(argument, Tensor) else repr(argument)


def tried(function: Callable, case: Case) -> Tensor | None:
    """A known function on a copy of the case; None where it cannot."""
    try:
        return function(*copy.deepcopy(case.args))
    except (RuntimeError, ValueError, IndexError):
        return None
