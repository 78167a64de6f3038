"""One value between the cells of a map: what RoIAlign asks for, again and again.

One letter legend: K maps, H x W map.
"""

import math

import torch
from torch import Generator, Tensor

from .cropping import EDGE, normal
from .exercise import Case, Exercise, Mistake


def bilinear_sample(features: Tensor, y: float, x: float) -> Tensor:
    K, H, W = features.shape
    if not (-1 <= y <= H and -1 <= x <= W):
        return features.new_zeros(K)
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, H - 1), min(left + 1, W - 1)
    down, across = y - top, x - left
    upper = features[:, top, left] * (1 - across) + features[:, top, right] * across
    lower = features[:, bottom, left] * (1 - across) + features[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def bilinear_cases(generator: Generator) -> list[Case]:
    features = normal(generator, 3, 5, 7)
    y, x = (1 + 2 * torch.rand(2, generator=generator)).tolist()
    between = [Case((features, y, x)), Case((features, x + 0.4, y + 2.4))]
    cells = [Case((features, 3.0, 2.0), ("the point is a cell's centre",)), Case((features, 1.0, x), ("y is whole",))]
    last = [Case((features, 4.0, 6.0), ("the point is the last cell's centre",))]
    edge = [(-0.4, x), (y, -0.7), (4.6, x), (y, 6.3), (-0.3, 6.8)]
    off = [(-1.2, x), (y, -3.5), (5.3, x), (y, 7.2), (40.0, -40.0)]
    limit = [Case((features, *p), ("the point lies just one cell outside",)) for p in ((-1.0, x), (y, 7.0))]
    near = [Case((features, *p), ("the point lies up to a cell outside the map",)) for p in edge]
    far = [Case((features, *p), ("the point lies more than a cell outside the map",)) for p in off]
    few = [Case((normal(generator, 2, 4, 3), -2.0, 1.0), (*far[0].traits, "K is not 3"))]
    single = [Case((normal(generator, 1, 1, 1), 0.0, 0.0), ("the map is one cell", "K is not 3"))]
    return [*between, *cells, *last, *near, *far, *limit, *few, *single]


def _sample(change) -> object:
    return lambda features, y, x: bilinear_sample(*change(features, y, x))


def _clamped(features: Tensor, y: float, x: float) -> tuple[Tensor, float, float]:
    """The same point held on the map; one that is too far out stays there."""
    _, H, W = features.shape
    held = -1 <= y <= H and -1 <= x <= W
    return (features, min(max(y, 0), H - 1), min(max(x, 0), W - 1)) if held else (features, y, x)


def _held(change) -> object:
    """`_sample` of a point that is on the map."""
    return lambda *args: bilinear_sample(*change(*_clamped(*args)))


def _plain_mean(features: Tensor, y: float, x: float) -> Tensor:
    _, y, x = _clamped(features, y, x)
    corners = [(math.floor(y) + down, math.floor(x) + across) for down in (0, 1) for across in (0, 1)]
    return sum(bilinear_sample(features, *corner) for corner in corners) / 4


def _padded(features: Tensor, y: float, x: float) -> Tensor:
    padded = torch.nn.functional.pad(features, (2, 2, 2, 2))
    return bilinear_sample(padded, y + 2, x + 2)


BILINEAR = (
    Mistake(
        "nearest cell",
        _sample(lambda f, y, x: (f, math.floor(y + 0.5), math.floor(x + 0.5))),
        "It looks as if it takes the nearest cell: mix the four cells around the point.",
    ),
    Mistake(
        "upper left cell",
        _sample(lambda f, y, x: (f, math.floor(y), math.floor(x))),
        "It looks as if it takes the cell to the upper left: mix the four cells around the point.",
    ),
    Mistake(
        "x and y swapped",
        _sample(lambda f, y, x: (f, x, y)),
        "It looks as if x and y are swapped: y counts rows, x columns, and a map is indexed [k, row, column].",
    ),
    Mistake(
        "weights exchanged",
        _sample(lambda f, y, x: (f, 2 * math.floor(y) + 1 - y, 2 * math.floor(x) + 1 - x)),
        "It looks as if the weights are exchanged: the nearer cell weighs more, 1 - (y - top) for the upper one.",
    ),
    Mistake(
        "right and lower weights exchanged",
        _held(lambda f, y, x: (f, math.floor(y) + x % 1, math.floor(x) + y % 1)),
        "It looks as if the weights of the upper right and the lower left cell are exchanged: the upper right one has "
        "(1 - (y - top)) (x - left).",
    ),
    Mistake(
        "mixed along x alone",
        _held(lambda f, y, x: (f, math.floor(y), x)),
        "It looks as if it mixes along x alone: mix the upper and the lower row along y, too.",
    ),
    Mistake(
        "mixed along y alone",
        _held(lambda f, y, x: (f, y, math.floor(x))),
        "It looks as if it mixes along y alone: mix the left and the right column along x, too.",
    ),
    Mistake(
        "plain mean",
        _plain_mean,
        "It looks as if the four cells are simply averaged: the nearer a cell, the more it weighs.",
    ),
    Mistake(
        "half pixel subtracted",
        _sample(lambda f, y, x: (f, y - 0.5, x - 0.5)),
        "It looks as if half a pixel is subtracted: y and x count cells already, and cell i's centre is at i.",
    ),
    Mistake(
        "half pixel added",
        _sample(lambda f, y, x: (f, y + 0.5, x + 0.5)),
        "It looks as if half a pixel is added: y and x count cells already, and cell i's centre is at i.",
    ),
    Mistake(
        "zero padding",
        _padded,
        "It looks as if cells outside the map count as 0: up to one cell outside, the edge keeps its value in full.",
    ),
    Mistake(
        "border padding",
        _sample(lambda f, y, x: (f, min(max(y, 0), f.shape[1] - 1), min(max(x, 0), f.shape[2] - 1))),
        "It looks as if the edge's value goes on for ever: more than one cell outside the map the sample is 0.",
    ),
    Mistake(
        "no limit below 0",
        lambda f, y, x: bilinear_sample(f, y, x) if y >= 0 and x >= 0 else f.new_zeros(len(f)),
        "It looks as if it is 0 as soon as y or x is negative: from -1 to 0 the sample takes the edge's value.",
    ),
)

BILINEAR_SAMPLE = Exercise(
    "bilinear_sample",
    bilinear_sample,
    bilinear_cases,
    BILINEAR,
    "(K)",
    (),
    {
        "the point lies up to a cell outside the map": EDGE,
        "the point lies more than a cell outside the map": EDGE,
        "the point lies just one cell outside": "Exactly one cell outside still has the edge's value.",
        "the point is a cell's centre": "The sample is that cell's value: do the four weights still sum to 1?",
        "y is whole": "The upper two cells weigh 1: do the four weights still sum to 1?",
        "K is not 3": "Take K from the map's shape.",
        "the point is the last cell's centre": "There is no cell to its right or below: keep the indices on the map.",
        "the map is one cell": "There is no cell to its right or below: keep the indices on the map.",
    },
)
