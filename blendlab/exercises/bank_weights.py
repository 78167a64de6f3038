"""The bank, part two: known wrong ways to write interpolate and softmax, each with what to tell who wrote it.

One letter legend: N boxes, K bases, M attention side, R output side.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import steps
from .exercise import Mistake

# ---- interpolate: (attention, output_size, mode, align_corners)


def _positioned(position: Callable[[Tensor, int, int], Tensor], held: bool = True) -> Callable[..., Tensor]:
    """Bilinear reading at other positions: `position` takes i (R,), M and R; `held` at the outermost cells or not."""

    def interpolate(attention, output_size, *_):
        M = attention.shape[-1]
        at = position(torch.arange(output_size, dtype=attention.dtype), M, output_size)
        at = at.clamp(0, M - 1) if held else at
        U = (1 - (at[:, None] - torch.arange(M)).abs()).clamp(min=0).to(attention)  # (R,M)
        return U @ attention @ U.T

    return interpolate


def k_last(attention: Tensor) -> Tensor:
    """The K*M*M numbers read as (M,M,K)."""
    N, K, M, _ = attention.shape
    return attention.reshape(N, M, M, K).permute(0, 3, 1, 2)


def _tiles(attention, output_size, *_):
    M, R = attention.shape[-1], output_size
    big = attention.repeat_interleave(max(R // M, 1), 2).repeat_interleave(max(R // M, 1), 3)
    return F.pad(big, (0, max(R - big.shape[-1], 0)) * 2, "replicate")[..., :R, :R]


INTERPOLATE = (
    Mistake(
        "align_corners",
        lambda attention, output_size, *_: steps.interpolate(attention, output_size, "bilinear", True),
        "It looks like align_corners=True: the blender's grid puts cell centres at (i + 0.5) M / R - 0.5.",
    ),
    Mistake(
        "nearest",
        lambda attention, output_size, *_: steps.interpolate(attention, output_size, "nearest"),
        "It looks as if the attention is enlarged by nearest cell: bilinear mixes the four cells around each position.",
    ),
    Mistake(
        "even tiles",
        _tiles,
        "It looks as if each cell is repeated R // M times: that is no bilinear reading, nor does M always divide R.",
    ),
    Mistake(
        "half cell missing in the enlargement",
        _positioned(lambda i, M, R: i * (M / R)),
        "It looks as if the half cell is missing in the interpolation: output i reads at (i + 0.5) M / R - 0.5.",
    ),
    Mistake(
        "half cell not subtracted",
        _positioned(lambda i, M, R: (i + 0.5) * (M / R)),
        "It looks as if only the output's half cell is there: subtract the attention's, (i + 0.5) M / R - 0.5.",
    ),
    Mistake(
        "half cell not added",
        _positioned(lambda i, M, R: i * (M / R) - 0.5),
        "It looks as if only the attention's half cell is there: add the output's, (i + 0.5) M / R - 0.5.",
    ),
    Mistake(
        "fades at the border",
        _positioned(lambda i, M, R: (i + 0.5) * (M / R) - 0.5, held=False),
        "It looks as if the outermost outputs fade: hold the position between 0 and M - 1, so that weights sum to 1.",
    ),
    Mistake(
        "bicubic",
        lambda attention, output_size, *_: F.interpolate(attention, (output_size,) * 2, mode="bicubic"),
        "It looks as if the attention is enlarged bicubically: bilinear is asked for.",
    ),
    Mistake(
        "smoothed on the way down",
        lambda attention, output_size, *_: F.interpolate(
            attention, (output_size,) * 2, mode="bilinear", antialias=True
        ),
        "It looks as if it smooths where M is larger than R (antialias): the step only samples.",
    ),
    Mistake(
        "attention read as (M,M,K)",
        lambda attention, *args: steps.interpolate(k_last(attention), *args),
        "It looks as if the attention is read as (M,M,K): K is the slowest axis, then rows, then columns.",
    ),
    Mistake(
        "attention transposed",
        lambda attention, *args: steps.interpolate(attention.transpose(-1, -2), *args),
        "It looks as if the attention's rows and columns are swapped: the last axis counts columns.",
    ),
    Mistake(
        "attention reversed in K",
        lambda attention, *args: steps.interpolate(attention.flip(1), *args),
        "It looks as if the attention's K maps come in reverse order: map k belongs to basis k.",
    ),
)

INTERPOLATE_ALONE = (  # in a whole blender these are slips of its softmax or of its order
    Mistake(
        "softmax as well",
        lambda *args: steps.interpolate(*args).softmax(1),
        "It looks as if softmax is applied as well: this step only enlarges, the next one normalises.",
    ),
    Mistake(
        "softmax first",
        lambda attention, *args: steps.interpolate(attention.softmax(1), *args),
        "It looks as if softmax is applied first: this step enlarges the attention as it comes.",
    ),
)
INTERPOLATE_OPTIONS = (
    Mistake(
        "align_corners ignored",
        lambda attention, output_size, mode="bilinear", *_: steps.interpolate(attention, output_size, mode),
        "It looks as if align_corners is ignored: True puts the centres of the corner cells onto the corners.",
    ),
    Mistake(
        "mode ignored",
        lambda attention, output_size, mode="bilinear", align_corners=False: steps.interpolate(
            attention, output_size, "bilinear", align_corners
        ),
        'It looks as if mode is ignored: "nearest" takes one cell for each output.',
    ),
)

# ---- softmax: (attention)

AXIS = "It looks as if softmax runs over {} instead of over the K bases (dim=1): look at its dim."
SOFTMAX = (
    Mistake("softmax over boxes", lambda a: a.softmax(0), AXIS.format("the N boxes (dim=0)")),
    Mistake("softmax over rows", lambda a: a.softmax(2), AXIS.format("the rows (dim=2)")),
    Mistake("softmax over columns", lambda a: a.softmax(3), AXIS.format("the columns (dim=3)")),
    Mistake("softmax over pixels", lambda a: a.flatten(2).softmax(2).view_as(a), AXIS.format("all pixels of a map")),
    Mistake("softmax over everything", lambda a: a.flatten(1).softmax(1).view_as(a), AXIS.format("all K*R*R numbers")),
    Mistake(
        "no normalisation",
        lambda a: a * 1,
        "It looks as if the attention is not normalised: softmax over K makes weights that sum to 1 at every pixel.",
    ),
    Mistake(
        "not divided",
        lambda a: a.exp(),
        "It looks as if the exponentials are not divided: divide each by their sum over K.",
    ),
    Mistake(
        "divided without exponential",
        lambda a: a / a.sum(1, keepdim=True),
        "It looks as if the attention is divided by its sum without an exponential: softmax is exp(a) over its sum.",
    ),
    Mistake(
        "sigmoid for softmax",
        lambda a: a.sigmoid(),
        "It looks like a sigmoid of each number by itself: softmax weighs the K bases against one another.",
    ),
    Mistake(
        "tanh for softmax", lambda a: a.tanh(), "It looks like tanh, as in YOLACT: BlendMask takes softmax over K."
    ),
    Mistake(
        "sigmoids divided by their sum",
        lambda a: a.sigmoid() / a.sigmoid().sum(1, keepdim=True),
        "It looks like sigmoids divided by their sum: softmax divides exponentials by theirs.",
    ),
    Mistake(
        "temperature 2",
        lambda a: (a / 2).softmax(1),
        "It looks as if the attention is halved before softmax (a temperature of 2): take it as it is.",
    ),
    Mistake(
        "temperature 1/2",
        lambda a: (a * 2).softmax(1),
        "It looks as if the attention is doubled before softmax (a temperature of 1/2): take it as it is.",
    ),
    Mistake(
        "divided by the root of K",
        lambda a: (a / a.shape[1] ** 0.5).softmax(1),
        "It looks as if the attention is divided by the root of K, as in a transformer: BlendMask takes it as it is.",
    ),
    Mistake("softmin", lambda a: (-a).softmax(1), "It looks as if the sign is turned: a larger attention weighs more."),
    Mistake(
        "softmax twice",
        lambda a: a.softmax(1).softmax(1),
        "It looks as if softmax is applied twice: the second flattens what the first has weighed.",
    ),
    Mistake(
        "log softmax",
        lambda a: a.log_softmax(1),
        "It looks like the logarithm of softmax: weights lie between 0 and 1.",
    ),
    Mistake(
        "hardest choice",
        lambda a: (a == a.amax(1, keepdim=True)).to(a),
        "It looks as if the largest takes all (argmax): softmax leaves every basis a weight.",
    ),
)
