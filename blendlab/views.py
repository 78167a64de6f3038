"""From a BlendTrace to what is drawn: panels of plain numbers with their colours, titles and one-line descriptions.

Pure functions: no widget, no figure, nothing that a browser is needed to test. One letter legend: N boxes, K bases,
M attention side, R output side, H x W map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .blender import BlendTrace

WEIGHTS = {
    "softmax": "s = softmaxₖ(a′)",
    "sigmoid": "s = σ(a′)",
    "tanh": "s = tanh(a′)",
    "none": "s = a′",
    "product": "s = σ(a′)",
}


@dataclass(frozen=True)
class Lattice:
    """Points drawn over a panel at every crossing of `xs` and `ys`, in cells of its map: the first cell's centre is at
    0.5. shape: "dot", "ring" or "cross", told apart without colour; or "frame", one rectangle from xs[0], ys[0] to
    xs[1], ys[1]. only: the one basis k over whose map it is drawn, absent over all."""

    shape: str
    xs: Sequence[float]
    ys: Sequence[float]
    only: int | None = None


@dataclass(frozen=True, eq=False)
class Panel:
    """One step: a map for each basis, or a single one.

    values       (n,h,w) floating tensor; n is K, or 1 where the bases have been summed.
    colours      "diverging", centred on 0, or "magnitude".
    low, high    the numbers at the ends of the colours; what lies beyond is drawn as the end.
    title        the step's name; `equation` is the step itself.
    description  one line that says what is seen, for a tooltip and a screen reader.
    space        "box": the map covers the box. "image": it covers the image, stride by stride.
    large        drawn beside the grid, larger: for a single map.
    marks        points drawn over it.
    cells        a click chooses one of its own cells, not a mask pixel.
    ends         words that stand at the ends of the colours in place of low and high.
    """

    name: str
    values: Tensor
    colours: str
    low: float
    high: float
    title: str
    equation: str
    description: str
    space: str = "box"
    large: bool = False
    marks: tuple[Lattice, ...] = ()
    cells: bool = False
    ends: tuple[str, str] | None = None

    def codes(self) -> np.ndarray:
        """(n,h,w) uint8: indices into the 256 colours. NaN is drawn as the low end; `not_finite` counts them."""
        scale = 255 / (self.high - self.low)
        # NumPy, not torch: one thread. A slider's step is too small to share out between threads.
        codes = np.clip(self.values.detach().cpu().numpy(), self.low, self.high)  # first: no number overflows
        codes *= scale
        codes += 0.5 - self.low * scale
        missing = np.isnan(codes)
        if missing.any():
            codes[missing] = 0
        return codes.astype(np.uint8)


@dataclass(frozen=True)
class Limits:
    """The largest magnitudes to colour, fixed for a source so that a slider or a box does not change the colours."""

    base: float
    attention: float

    @classmethod
    def of(cls, bases: Tensor, attention: Tensor) -> "Limits":
        # A trained attention has a few cells of +-50 in the midst of +-3, a trained basis some of +-40 in the midst of
        # +-4. A softmax is decided by differences of 3, a mask by signs: one cell in twenty, one in ten at the end of
        # the colours hide nothing that matters, and the others are seen.
        return cls(_reach(bases, 0.9), _reach(attention, 0.95))


def written(number: float, digits: int) -> str:
    """With so many decimals, and never as -0.00."""
    return f"{round(number, digits) + 0.0:.{digits}f}"


def _reach(values: Tensor, share: float) -> float:
    """The magnitude that this share of the numbers does not pass, so that a few do not wash out the rest; 1 of none."""
    magnitudes = values.detach().abs().flatten()
    magnitudes = magnitudes[magnitudes.isfinite()]
    if not len(magnitudes):
        return 1.0
    return max(float(np.quantile(magnitudes.cpu().numpy(), share)), 1e-6)


def base_panel(bases: Tensor, limits: Limits) -> Panel:
    """The bases (1,K,H,W) of the whole image; they do not depend on the instance. A board shows the first K of them."""
    H, W = bases.shape[2:]
    return Panel(
        "bases",
        bases[0].detach(),
        "diverging",
        -limits.base,
        limits.base,
        "bases",
        "B",
        f"bases of {H} × {W} cells, shared by all instances",
        "image",
        cells=True,
    )


def step_panels(trace: BlendTrace, limits: Limits) -> list[Panel]:
    """The steps of the first instance of a trace, in the paper's order: r, a, a', s, products, m, p."""
    settings = trace.settings
    K, M, R = trace.inputs.K, trace.inputs.M, settings.output_size
    base, attention = limits.base, limits.attention
    first = settings.order == "normalize-first"
    crop = "RoIPool" if settings.pooling == "pool" else "RoIAlign"
    reach = {"tanh": 1.0, "none": attention}.get(settings.normalizer)  # of weights that may be negative
    weight = ("diverging", -reach, reach) if reach else ("magnitude", 0.0, 1.0)
    product = settings.normalizer == "product"
    return [
        Panel("regions", trace.regions[0], "diverging", -base, base, "cropped", f"r = {crop}(B, box)",
              f"{K} bases cropped to the box, {R} × {R}"),
        Panel("attention", trace.attention[0], "diverging", -attention, attention, "attention", "a",
              f"{K} × {M} × {M} attention numbers of this instance", cells=True),
        Panel("upsampled", trace.upsampled[0], *(weight if first else ("diverging", -attention, attention)),
              "interpolated", "a′ = interpolate(norm(a))" if first else "a′ = interpolate(a)",
              f"attention brought from {M} × {M} to {R} × {R}, {settings.interpolation}"),
        Panel("scores", trace.scores[0], *weight, "weights", "s = a′" if first else WEIGHTS[settings.normalizer],
              f"{K} weights at each of {R} × {R} pixels, normaliser {settings.normalizer}"),
        Panel("products", trace.products[0], *(("magnitude", 0.0, 1.0) if product else ("diverging", -base, base)),
              "products", "s · σ(r)" if product else "s · r", f"{K} weighted bases, {R} × {R}"),
        Panel("logits", trace.logits[:1], "diverging", -base, base, "mask logits",
              "m = logit(s · σ(r))" if product else "m = Σₖ s · r",
              f"mask logits, {R} × {R}; 0 is probability 0.5", large=True),
        Panel("probabilities", trace.probabilities[:1], "magnitude", 0.0, 1.0, "mask", "p = σ(m)",
              f"mask probabilities, {R} × {R}", large=True),
    ]  # fmt: skip


@dataclass(frozen=True)
class PixelSum:
    """How one mask pixel came about, in numbers that add up as shown.

    rows: K of (base value, weight, product); `total` is the sum of the products, `probability` its sigmoid. Under the
    "product" normaliser the product is already a probability: `total` is its logit. No rows: a pixel that is chosen,
    with no sum to show.
    """

    row: int
    column: int
    rows: list[tuple[float, float, float]]
    total: float
    probability: float
    multiplied: bool

    DIGITS = 4


def pixel_sum(trace: BlendTrace, row: int, column: int) -> PixelSum:
    """The sum behind pixel (row, column) of the first instance's mask, rounded so that the column adds up exactly."""
    regions, scores, products, logit = (
        values[0, ..., row, column].double().tolist()
        for values in (trace.regions, trace.scores, trace.products, trace.logits)
    )
    product = trace.settings.normalizer == "product"
    # summed again in float64: of a large float32 logit the last digits shown are its rounding, not the column's sum
    total = round(logit if product else sum(products), PixelSum.DIGITS)
    shown = [round(p, PixelSum.DIGITS) for p in products] if product else _adding_up(products, total)
    rounded = [(round(r, PixelSum.DIGITS), round(s, PixelSum.DIGITS)) for r, s in zip(regions, scores, strict=True)]
    rows = [(r, s, p) for (r, s), p in zip(rounded, shown, strict=True)]
    probability = torch.tensor(total, dtype=torch.float64).sigmoid().item()
    return PixelSum(row, column, rows, total, round(probability, PixelSum.DIGITS), product)


def _adding_up(values: list[float], total: float) -> list[float]:
    """Round `values` so that they sum to `total`: those nearest to the next step take the missing last digits."""
    unit = 10**-PixelSum.DIGITS
    if not all(np.isfinite(values)) or not np.isfinite(total):
        return values
    steps = [int(np.floor(v / unit)) for v in values]
    missing = round(total / unit) - sum(steps)
    by_remainder = sorted(range(len(values)), key=lambda i: steps[i] - values[i] / unit)
    for i in range(abs(missing)):  # at most K of them, or float noise
        steps[by_remainder[i % len(values)]] += 1 if missing > 0 else -1
    return [round(step * unit, PixelSum.DIGITS) for step in steps]


def not_finite(trace: BlendTrace) -> int:
    """How many of the mask logits are NaN or infinite: a picture cannot show them."""
    return int((~trace.logits.isfinite()).sum())
