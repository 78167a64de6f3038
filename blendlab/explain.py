"""Where a mask pixel comes from, and where a number of the bases or the attention goes.

One letter legend: B images, N boxes, K bases, M attention side, R output side, H x W map.

RoIAlign and the interpolation read a map through weights that depend on the box and the sizes alone, and that are a
product of one weight along y and one along x:

    r  = Wy B Wx^T      Wy (R,H), Wx (R,W): row i says how much bin i takes of each cell
    a' = U  a U^T       U  (R,M)

Forward, a mask pixel (i, j) reads row i of Wy and row j of Wx. In reverse, a cell (y, x) is read by the pixels in
column y of Wy and column x of Wx: the same weights, the other way round. Softmax, product and sum stay in one pixel, so
the gradient is that weight times the pixel's own slope. All values are the trace's; the weights are worked out in
`reads`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import check, reads
from .blender import BlendTrace
from .reads import Cell


@dataclass(frozen=True)
class Term:
    """One basis's part in a mask pixel.

    base_cells       of basis k; their weight * value add up to `base`, r_k.
    attention_cells  of attention map k (under "normalize-first", normalised already); they add up to `upsampled`, a'_k.
    score            the weight s_k; `product` is s_k * r_k, under "product" s * sigmoid(r).
    """

    k: int
    base_cells: tuple[Cell, ...]
    base: float
    attention_cells: tuple[Cell, ...]
    upsampled: float
    score: float
    product: float


@dataclass(frozen=True)
class PixelOrigin:
    """How one mask pixel came about. The terms' products add up to `logit`; under "product" the one is a probability.

    points: where RoIAlign sampled the bases for this pixel, (y, x) in map cells, cell centres at whole numbers; empty
    under RoIPool, which samples nowhere but takes the largest cell. normalizer, order: the trace's settings.
    """

    instance: int
    row: int
    column: int
    points: tuple[tuple[float, float], ...]
    terms: tuple[Term, ...]
    logit: float
    probability: float
    normalizer: str
    order: str

    def line(self, digits: int = 2) -> str:
        """The sum in one line: `m = 0.10*-1.20 + 0.90*3.00 = 2.58, p = 0.93`."""
        (first, *_), end = self.terms, f"{self.logit:.{digits}f}"
        if self.normalizer == "product":
            return (
                f"p = {first.score:.{digits}f}*sigmoid({first.base:.{digits}f}) = {first.product:.{digits}f}, m = {end}"
            )
        total = " + ".join(f"{term.score:.{digits}f}*{term.base:.{digits}f}" for term in self.terms)
        return f"m = {total} = {end}, p = {self.probability:.{digits}f}"


@dataclass(frozen=True, eq=False)
class Reach:
    """Where one number of the bases or of the attention goes.

    step      "bases" or "attention"; k, row and column are its place there, `value` is the number.
    depends   (N,R,R) bool: the mask pixels that read it.
    slopes    (N,R,R): the derivative of each mask logit with respect to it.
    gradient  the derivative of the mean cross-entropy against the target; None where no target was given.
    """

    step: str
    k: int
    row: int
    column: int
    value: float
    depends: Tensor
    slopes: Tensor
    gradient: float | None

    def line(self, digits: int = 2) -> str:
        """Which number, how many mask pixels read it, and what comes back to it, in one line."""
        name = {"bases": "base", "attention": "attention"}[self.step]
        text = f"{name} cell k={self.k}, row {self.row}, column {self.column} = {self.value:.{digits}f}: "
        pixels = int(self.depends.sum())
        text += f"read by {pixels} mask pixel{'s' * (pixels != 1)}"
        if pixels:
            largest = self.slopes.flatten()[self.slopes.abs().argmax()]
            text += f"; a step of 1 moves one logit by {largest:.{digits}g} at most"
        return text if self.gradient is None else f"{text}; gradient of the loss {self.gradient:.2e}"


def pixel(trace: BlendTrace, row: int, column: int, instance: int = 0) -> PixelOrigin:
    """Every number behind pixel (row, column) of an instance's mask. ValueError or TypeError for a place off it."""
    _a_trace(trace)
    R, K = trace.settings.output_size, trace.inputs.K
    _within(row=(row, R), column=(column, R), instance=(instance, trace.inputs.N))
    at = (instance, slice(None), row, column)
    regions, upsampled, scores, products = (
        values[at].tolist() for values in (trace.regions, trace.upsampled, trace.scores, trace.products)
    )
    base_cells = reads.base_cells(trace, instance, row, column)
    attention_cells = reads.attention_cells(trace, _interpolated(trace)[instance].detach(), row, column)
    terms = zip(range(K), base_cells, regions, attention_cells, upsampled, scores, products, strict=True)
    logit = trace.logits[instance, row, column].detach()
    return PixelOrigin(
        instance,
        row,
        column,
        reads.points(trace, instance, row, column),
        tuple(Term(*term) for term in terms),
        logit.item(),
        logit.sigmoid().item(),
        trace.settings.normalizer,
        trace.settings.order,
    )


def base_cell(
    trace: BlendTrace, k: int, row: int, column: int, *, image: int = 0, target: Tensor | None = None
) -> Reach:
    """Which mask pixels read cell (row, column) of basis k, and the gradient that comes back to it.

    target (N,R,R) in 0..1: the loss is the cross-entropy of the logits against it, averaged over everything.
    """
    _a_trace(trace)
    B, K, H, W = trace.inputs.bases.shape
    _within(k=(k, K), row=(row, H), column=(column, W), image=(image, B))
    weights = torch.zeros_like(trace.logits)  # (N,R,R): the share that each pixel's r_k takes of the cell
    for n in range(trace.inputs.N):
        if int(trace.inputs.boxes[n, 0]) == image:
            weights[n] = reads.base_cell_weights(trace, n, k, row, column)
    value = trace.inputs.bases[image, k, row, column].item()
    return _reach(trace, ("bases", k, row, column, value), weights, weights * _base_slopes(trace, k), target)


def attention_cell(
    trace: BlendTrace, k: int, row: int, column: int, *, instance: int = 0, target: Tensor | None = None
) -> Reach:
    """Which mask pixels read cell (row, column) of an instance's attention k, and the gradient that comes back."""
    _a_trace(trace)
    N, K, M = trace.inputs.N, trace.inputs.K, trace.inputs.M
    _within(k=(k, K), row=(row, M), column=(column, M), instance=(instance, N))
    U = reads.attention_weights(trace)
    weights = torch.zeros_like(trace.logits)  # (N,R,R)
    weights[instance] = torch.outer(U[:, row], U[:, column])
    slopes = weights.clone()
    slopes[instance] *= _attention_slopes(trace, instance, k, row, column)
    value = trace.inputs.attention[instance, k, row, column].item()
    return _reach(trace, ("attention", k, row, column, value), weights, slopes, target)


# ---------------------------------------------------------------- the slope of each logit in its own pixel


def _base_slopes(trace: BlendTrace, k: int) -> Tensor:
    """(N,R,R): dm / dr_k. The weight s_k; for the product form see `_rest`."""
    if trace.settings.normalizer != "product":
        return trace.scores[:, k].detach()
    return (-trace.regions[:, 0].detach() - _rest(trace)).sigmoid()


def _attention_slopes(trace: BlendTrace, n: int, k: int, row: int, column: int) -> Tensor:
    """(R,R): the slope of each logit of instance n to attention cell (row, column), apart from its weight in U.

    Interpolated first, the normaliser's slope is taken at the pixel; normalised first, at the cell.
    """
    normalizer, r = trace.settings.normalizer, trace.regions[n].detach()  # (K,R,R)
    first = trace.settings.order == "normalize-first"
    if normalizer == "product" and not first:
        return (F.softplus(r[0]) - trace.upsampled[n, 0].detach()).sigmoid()
    s = _interpolated(trace)[n, :, row, column].detach()[:, None, None] if first else trace.scores[n].detach()
    slope = {
        "softmax": s[k] * (r[k] - (s * r).sum(0)),  # raising one weight lowers the others
        "sigmoid": s[k] * (1 - s[k]) * r[k],
        "tanh": (1 - s[k].square()) * r[k],
        "none": r[k],
        "product": s[k] * (1 - s[k]),
    }[normalizer]
    if normalizer != "product":
        return slope
    mean, limits = trace.scores[n, 0].detach(), torch.finfo(trace.scores.dtype)  # of sigmoids; it may round to 0 or 1
    held = mean.clamp(limits.tiny, 1 - limits.eps)
    share = (r[0] + _rest(trace)[n]).sigmoid()
    return slope * (1 / held + share / (1 - held)) * (held == mean)


def _rest(trace: BlendTrace) -> Tensor:
    """log(1 - s), (N,R,R), of the product form p = s * sigmoid(r), without losing the digits of 1 - s."""
    if trace.settings.order == "interpolate-first":
        return -F.softplus(trace.upsampled[:, 0].detach())
    limits = torch.finfo(trace.scores.dtype)
    return (-trace.scores[:, 0].detach().clamp(limits.tiny, 1 - limits.eps)).log1p()


def _interpolated(trace: BlendTrace) -> Tensor:
    """(N,K,M,M): what the interpolation reads: the attention, or under "normalize-first" its normalised form."""
    if trace.settings.order == "normalize-first":
        return trace.settings.normalized(trace.attention)
    return trace.attention


def _reach(trace: BlendTrace, number: tuple, weights: Tensor, slopes: Tensor, target: Tensor | None) -> Reach:
    gradient = None if target is None else float((slopes * loss_slopes(trace, target)).sum())
    return Reach(*number, weights != 0, slopes, gradient)


def loss_slopes(trace: BlendTrace, target: Tensor) -> Tensor:
    """(N,R,R): the derivative of the mean cross-entropy against target (N,R,R), in 0..1, to each mask logit."""
    check.square("target", target, "(N,R,R)")
    if target.shape != trace.logits.shape:
        raise ValueError(f"target must have the logits' shape {tuple(trace.logits.shape)}; got {check.got(target)}")
    if target.device != trace.logits.device:
        raise ValueError(f"target must be on the logits' device, {trace.logits.device}; got {check.got(target)}")
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError(f"target must lie in 0..1; got values from {target.min():g} to {target.max():g}")
    return (trace.probabilities.detach() - target) / target.numel()


def _a_trace(trace: BlendTrace) -> None:
    if not isinstance(trace, BlendTrace):
        raise TypeError(f"trace must be a BlendTrace, what a Blender returns; got {check.got(trace)}")


def _within(**places: tuple[int, int]) -> None:
    for name, (value, length) in places.items():
        if length == 0:
            raise ValueError(f"{name} must be one that the trace has, and it has none; got {value}")
        if not 0 <= check.whole(name, value) < length:
            raise ValueError(f"{name} must be from 0 to {length - 1}; got {value}")
