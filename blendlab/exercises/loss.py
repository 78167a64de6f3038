"""What masks cost in training.

One letter legend: P positive locations, R output side.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .cropping import normal
from .exercise import Case, Exercise, Mistake


def mask_loss(logits: Tensor, targets: Tensor, centerness: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((1, 2))  # (P,)
    return (each * centerness).sum() / centerness.sum().clamp(min=1e-6)


def loss_cases(generator: Generator) -> list[Case]:
    def case(P: int, R: int, scale: float = 1, hard: bool = False, traits: tuple[str, ...] = ()) -> Case:
        targets = torch.rand(P, R, R, generator=generator)
        weights = torch.rand(P, generator=generator) * 0.9 + 0.05
        return Case((normal(generator, P, R, R) * scale, targets.round() if hard else targets, weights), traits)

    none = (torch.zeros(0, 4, 4), torch.zeros(0, 4, 4), torch.zeros(0))
    return [
        case(3, 4, hard=True),
        case(5, 6),
        case(4, 3, traits=("there are several locations",)),
        case(1, 5, traits=("there is one location",)),
        case(3, 1, traits=("R is 1",)),
        case(4, 4, traits=("P is R",)),
        case(3, 4, 60.0, traits=("logits are large",)),
        Case((*case(2, 3).args[:2], torch.tensor([0.6, 0.0])), ("a centerness is 0",)),
        Case(none, ("there are no locations",)),
    ]


def _loss(change) -> object:
    """mask_loss with another last line: `change` takes the P losses and the P weights."""
    return lambda logits, targets, weights: change(_each(logits, targets), weights)


def _each(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((1, 2))


def _clamped(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    each = F.binary_cross_entropy(logits.sigmoid(), targets, reduction="none").mean((1, 2))
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


def _logs(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    p = logits.sigmoid()
    each = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean((1, 2))
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


UNSTABLE = (
    "It looks as if the sigmoid comes first and the logarithm after: for large logits a probability rounds to 0 or 1. "
    "Use binary_cross_entropy_with_logits."
)
LOSS_MISTAKES = (
    Mistake(
        "not weighted",
        _loss(lambda each, w: each.mean()),
        "It looks as if centerness is left out: each location's loss is weighted by it.",
    ),
    Mistake(
        "divided by the count",
        _loss(lambda each, w: (each * w).mean()),
        "It looks as if the weighted sum is divided by the number of locations: divide by the sum of centerness.",
    ),
    Mistake(
        "divisor at least 1",
        _loss(lambda each, w: (each * w).sum() / w.sum().clamp(min=1)),
        "It looks as if the divisor is kept at 1 or more: where centerness sums to less, the loss comes out too small. "
        "Keep the divisor just above 0.",
    ),
    Mistake(
        "not divided",
        _loss(lambda each, w: (each * w).sum()),
        "It looks as if the weighted sum is not divided: divide by the sum of centerness.",
    ),
    Mistake(
        "0 divided by 0",
        _loss(lambda each, w: (each * w).sum() / w.sum()),
        "Right, but without any location it divides 0 by 0: the loss is then 0. Keep the divisor from being 0.",
    ),
    Mistake(
        "summed over pixels",
        lambda x, t, w: mask_loss(x, t, w) * x.shape[1] * x.shape[2],
        "It looks as if the loss is summed over the R x R pixels: take their mean.",
    ),
    Mistake(
        "divided by R alone",
        lambda x, t, w: mask_loss(x, t, w) * x.shape[1],
        "It looks as if the mean is taken along one side alone: divide by all R x R pixels.",
    ),
    Mistake(
        "one location a loss",
        _loss(lambda each, w: each * w / w.sum().clamp(min=1e-6)),
        "It gives one number for each location: sum them to a scalar.",
    ),
    Mistake("sigmoid, then cross-entropy", _clamped, UNSTABLE),
    Mistake("sigmoid, then logarithms", _logs, UNSTABLE),
    Mistake(
        "sigmoid twice",
        lambda x, t, w: mask_loss(x.sigmoid(), t, w),
        "It looks as if a sigmoid is taken twice: binary_cross_entropy_with_logits takes logits.",
    ),
    Mistake(
        "logits and targets exchanged",
        lambda x, t, w: mask_loss(t, x, w),
        "It looks as if logits and targets are exchanged: binary_cross_entropy_with_logits takes the logits first.",
    ),
    Mistake(
        "mask and background exchanged",
        lambda x, t, w: mask_loss(x, 1 - t, w),
        "It looks as if mask and background are exchanged: t goes with log(p), 1 - t with log(1 - p).",
    ),
    Mistake(
        "divisor one larger",
        _loss(lambda each, w: (each * w).sum() / (w.sum() + 1)),
        "It looks as if 1 is added to the divisor: divide by the sum of centerness, kept just above 0.",
    ),
    Mistake(
        "targets rounded",
        lambda x, t, w: mask_loss(x, (t >= 0.5).float(), w),
        "It looks as if targets are cut to 0 and 1: they are shares of area, take them as they are.",
    ),
    Mistake(
        "sign turned",
        lambda *args: -mask_loss(*args),
        "It looks as if the sign is turned: cross-entropy is minus the logarithm.",
    ),
    Mistake(
        "only the object's pixels",
        lambda x, t, w: ((-t * F.logsigmoid(x)).mean((1, 2)) * w).sum() / w.sum().clamp(min=1e-6),
        "It looks as if the background is left out: the term (1 - t) log(1 - p) is missing.",
    ),
    Mistake(
        "mean squared error",
        lambda x, t, w: (((x.sigmoid() - t) ** 2).mean((1, 2)) * w).sum() / w.sum().clamp(min=1e-6),
        "It looks like a squared error: the mask loss is binary cross-entropy.",
    ),
    Mistake(
        "mean absolute error",
        lambda x, t, w: ((x.sigmoid() - t).abs().mean((1, 2)) * w).sum() / w.sum().clamp(min=1e-6),
        "It looks like an absolute error: the mask loss is binary cross-entropy.",
    ),
    Mistake(
        "weighted by the root",
        lambda x, t, w: mask_loss(x, t, w.sqrt()),
        "It looks as if the root of centerness is taken: centerness has its root already.",
    ),
)
MASK_LOSS = Exercise(
    "mask_loss",
    mask_loss,
    loss_cases,
    LOSS_MISTAKES,
    "()",
    ("blendlab.blendmask.losses.mask_loss",),
    {
        "there are no locations": "The loss is then 0, with a gradient of 0: keep the divisor from being 0.",
        "a centerness is 0": "It weighs nothing; nothing is divided by it.",
        "logits are large": "Is something rounded or cut off there? binary_cross_entropy_with_logits stays exact.",
        "R is 1": "Does a squeeze drop the axes?",
        "there is one location": "Does a squeeze drop the axis?",
        "P is R": "Are the axes confused? One weight belongs to one whole R x R mask: (P,) does not broadcast to that.",
    },
    ("logits",),
)
