"""Bases and attention found by Adam so that the blender draws one picture's true masks.

One letter legend: N boxes, K bases, M attention side, R output side, H x W map.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from .. import check
from ..blender import Blender, BlenderInputs
from ..pictures import Picture
from ..sources import Source, average, map_size
from ..threads import one_thread
from .targets import disturbed, soft_targets

Progress = Callable[[int, int, float], None]  # step (from 1), steps, loss

NOTE = "these bases have seen the answer: they were optimised on this picture's own masks"
STEPS = 1500
K_MAX, M_MAX = 8, 28

# The settings that a step of the nested fit draws from. Every K and M must be read somewhere in between; those at
# which an explorer opens, and the ends of the sliders, come more often.
KS = (1, 1, 2, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 8, 8)
MS = (1, 2, 3, 4, 5, 7, 9, 12, 14, 14, 14, 14, 20, 28, 28, 28, 28)
RS = (14, 28, 56, 56)
K1_FIRST = 0.1  # this share of the steps goes to K = 1 before all: later its attention no longer learns to cut

SMOOTH_BASES, SMOOTH_ATTENTION = 0.015, 0.002  # weights of the total variation, small enough to cost about a point
LIMIT = 8.0  # a base value beyond it adds nothing to a mask (its probability is 0.9997) and spoils the colour scale


@torch.inference_mode(False)
@torch.enable_grad()  # whatever mode the reader is in
def fit(
    picture: Picture,
    K: int = 4,
    M: int = 14,
    R: int = 56,
    *,
    steps: int = 150,
    seed: int = 0,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> BlenderInputs:
    """The ceiling of one setting: inputs fitted at this K, M and R alone, on the exact boxes.

    K = 1 is fitted in the paper's form (normalizer="product"), since under softmax its attention is inert.
    seed, progress, device: as in `fit_nested`. ValueError where the picture has no instances.
    """
    K, M, R = (check.side(letter, value) for letter, value in (("K", K), ("M", M), ("R", R)))
    steps = check.side("steps", steps)
    masks, boxes = (array.to(device) for array in _truth(picture))
    bases, attention = _start(picture, K, M, _rng(seed), device)
    adam = torch.optim.Adam((bases, attention), lr=0.5, fused=True)
    target = soft_targets(masks, boxes, R)
    with one_thread(), _reporting(progress, steps, f"fitting {picture.name}") as report:
        for step in range(1, steps + 1):
            loss = _mask_loss(_logits(bases, attention, boxes, R, "product" if K == 1 else "softmax"), target)
            _descend(adam, loss)
            report(step, loss)
    return BlenderInputs(bases.detach(), attention.detach(), boxes)


@torch.inference_mode(False)
@torch.enable_grad()
def fit_nested(
    picture: Picture,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> Source:
    """One result for every K in 1..8, M in 1..28 and R in 7..112, which also keeps its masks when a box is dragged.

    Every step draws a K, an M and an R, reads the first K bases and the attention averaged to M x M, and asks for the
    true masks, in boxes some of which are moved or enlarged; outside its object a mask is to be 0. So the first base
    learns what one base can do, the second what one more can add, and so on. At K = 1 the paper's form,
    sigmoid(a) * sigmoid(r), takes turns with the softmax, under which the first base alone is the mask.

    seed      the same seed gives the same result on the same machine.
    progress  called after every step with (step, steps, loss); absent, a bar appears after a second.
    device    where it is computed, and where the result lies. All draws are made on the CPU, the same everywhere.

    ValueError where the picture has no instances. An interrupted fit raises KeyboardInterrupt, and leaves nothing.
    """
    steps = check.side("steps", steps)
    masks, boxes = _truth(picture)
    masks, rng = masks.to(device), _rng(seed)
    bases, attention = _start(picture, K_MAX, M_MAX, rng, device)
    adam = torch.optim.Adam((bases, attention), lr=0.3, betas=(0.9, 0.99), fused=True)
    cooling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=0.005)
    with one_thread(), _reporting(progress, steps, f"fitting {picture.name}") as report:
        for step in range(1, steps + 1):
            K, M, R = (_draw(choices, rng) for choices in (KS, MS, RS))
            K = 1 if step < K1_FIRST * steps else K
            form = "product" if K == 1 and step % 4 else "softmax"
            looked_at = disturbed(boxes, rng).to(device)
            logits = _logits(bases[:, :K], average(attention[:, :K], M), looked_at, R, form)
            loss = _mask_loss(logits, soft_targets(masks, looked_at, R))
            roughness = SMOOTH_BASES * _variation(bases) + SMOOTH_ATTENTION * _variation(attention)
            excess = (bases.abs() - LIMIT).relu().square().mean() / 10
            _descend(adam, loss + roughness + excess)
            cooling.step()
            report(step, loss)
    return Source("fitted", NOTE, bases.detach(), attention.detach(), boxes.to(device))


def check_picture(picture: Picture) -> None:
    if not isinstance(picture, Picture):
        raise TypeError(f"picture must be a Picture; got {check.got(picture)}")
    if len(picture) == 0:
        raise ValueError(f"picture {picture.name!r} has no instances: there is no mask to fit")


def _truth(picture: Picture) -> tuple[Tensor, Tensor]:
    """Masks (N,H,W) float32 and boxes (N,4)."""
    check_picture(picture)
    return torch.from_numpy(picture.masks).float(), torch.from_numpy(picture.boxes.copy())


def _start(picture: Picture, K: int, M: int, rng: Generator, device: str | torch.device) -> tuple[Tensor, Tensor]:
    """Bases (1,K,H,W) that say background everywhere, so that what no box ever looks at stays background, and
    attention (N,K,M,M) near 0; the noise tells the bases apart."""
    bases = 0.1 * torch.randn(1, K, *map_size(picture), generator=rng, dtype=torch.float32) - 2
    attention = 0.5 * torch.randn(len(picture), K, M, M, generator=rng, dtype=torch.float32)
    return bases.to(device).requires_grad_(), attention.to(device).requires_grad_()


def _logits(bases: Tensor, attention: Tensor, boxes: Tensor, R: int, form: str) -> Tensor:
    return Blender(R, normalizer=form).logits(bases, attention, boxes)


def _mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus 1 - IoU of the soft masks (N,R,R), mean over instances.

    Cross-entropy alone gives up on an object that fills little of its box, such as a chair behind a table.
    """
    p = logits.sigmoid()
    both = (p * target).sum((1, 2))
    either = (p + target).sum((1, 2)) - both
    return binary_cross_entropy_with_logits(logits, target) + 1 - ((both + 1) / (either + 1)).mean()


def _variation(maps: Tensor) -> Tensor:
    """Mean step between neighbouring cells: with a small weight on it, maps stay flat where no mask needs an edge."""
    return maps.diff(dim=-1).abs().mean() + maps.diff(dim=-2).abs().mean()


def _descend(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def _rng(seed: int) -> Generator:
    return Generator().manual_seed(check.whole("seed", seed))


def _draw(choices: tuple[int, ...], rng: Generator) -> int:
    return choices[int(torch.randint(len(choices), (), generator=rng))]


@contextmanager
def _reporting(progress: Progress | None, steps: int, what: str) -> Iterator[Callable[[int, Tensor], None]]:
    """A function of (step, loss) that calls `progress`, or moves a bar that is shown only if this takes a second."""
    from tqdm.auto import tqdm  # here, since in a notebook it imports widgets

    done = 0

    def report(step: int, loss: Tensor) -> None:
        nonlocal done
        done = step
        bar.update()
        if progress is not None:
            progress(step, steps, loss.item())

    with tqdm(total=steps, desc=what, unit="step", delay=1, leave=False, disable=progress is not None) as bar:
        try:
            yield report
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{what}: stopped after {done} of {steps} steps, nothing is kept") from None
