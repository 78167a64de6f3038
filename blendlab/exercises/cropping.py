"""RoIAlign in three exercises: one bilinear sample, one box, all boxes.

One letter legend: B images, N boxes, K maps, R output side, H x W map.
"""

import math

import torch
from torch import Generator, Tensor

from .. import steps
from .bank_crop import ROI_ALIGN, ROI_ALIGN_OPTIONS, SCALE_FIXED
from .exercise import Case, Exercise, Mistake

INSIDE, ACROSS, OUTSIDE = "boxes lie on the map", "boxes leave the map", "boxes lie off the map"
SMALL, EMPTY = "a box is smaller than a cell", "a box is empty"
EDGE = "Up to one cell outside the map a sample takes the edge's value, farther out it is 0."


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


def roi_align_one_box(features: Tensor, box: Tensor, output_size: int, spatial_scale: float = 0.25) -> Tensor:
    return steps.roi_align(features[None], box[None], output_size, spatial_scale)[0]


def roi_align(
    features: Tensor,
    boxes: Tensor,
    output_size: int,
    spatial_scale: float = 0.25,
    sampling_ratio: int = 1,
    aligned: bool = True,
) -> Tensor:
    return steps.roi_align(features, boxes, output_size, spatial_scale, sampling_ratio, aligned)


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * 2


def draw_boxes(generator: Generator, where: str, count: int, features: Tensor, R: int, *settings) -> Tensor:
    """(count,5) boxes as `where` says, images in any order, drawn until no sample lies so near to where the value jumps
    to 0 that rounding would decide."""
    B, _, H, W = features.shape
    scale = settings[0] if settings else 0.25
    side = torch.tensor((W, H)) / scale  # of the image
    while True:
        share = torch.rand(count, 2, 2, generator=generator).sort(1).values  # start and end, x and y
        if where == ACROSS:
            share = share * 0.4 + torch.tensor((-0.3, 0.9)).view(2, 1)  # from before the map to behind it
        elif where == OUTSIDE:
            share = share + torch.tensor((1.2, 0.2))  # to the right of the map
        else:
            share = share * 0.5 + torch.tensor((0.0, 0.45)).view(2, 1)
        image = torch.randint(B, (count, 1), generator=generator).float()
        image[: min(B, count)] = torch.arange(B).flip(0)[:count, None].float()  # every image, the last one first
        boxes = torch.cat((image, (share * side).flatten(1)), 1)
        if not _on_the_brink(boxes, (W, H), R, *settings):
            return boxes


def _on_the_brink(boxes: Tensor, lengths: tuple[int, int], R: int, scale=0.25, ratio=1, aligned=True) -> bool:
    for axis, length in enumerate(lengths):
        start, end = (boxes[:, [1 + axis, 3 + axis]].double() * scale - 0.5 * aligned).unbind(1)
        samples = (end - start) / R
        if ratio <= 0 and ((samples - samples.round()).abs() < 1e-3).any():
            return True
        for low, high, n in zip(start.tolist(), end.tolist(), samples.ceil().int().tolist(), strict=True):
            count = R * (ratio if ratio > 0 else max(n, 1))
            side = high - low if aligned else max(high - low, 1)
            at = low + (torch.arange(count) + 0.5) * side / count
            if torch.minimum((at + 1).abs(), (at - length).abs()).min() < 1e-3:
                return True
    return False


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


def one_box_cases(generator: Generator) -> list[Case]:
    def case(where: str, K: int, H: int, W: int, R: int, *scale: float, traits: tuple[str, ...] = ()) -> Case:
        features = normal(generator, K, H, W)
        box = draw_boxes(generator, where, 1, features[None], R, *scale)[0, 1:]
        return Case((features, box, R, *scale), traits)

    def resized(width: float, height: float, trait: str) -> Case:
        made = case(INSIDE, 2, 8, 8, 3, traits=(trait,))
        made.args[1][2:] = made.args[1][:2] + torch.tensor((width, height))
        return made

    return [
        case(INSIDE, 2, 8, 8, 4),
        case(INSIDE, 3, 6, 9, 5, traits=("the map is not square",)),
        resized(1.5, 2.25, SMALL),
        resized(9.5, 0, EMPTY),
        case(ACROSS, 2, 8, 8, 6, traits=(ACROSS,)),
        case(ACROSS, 2, 5, 9, 6, traits=(ACROSS, "the map is not square")),
        case(OUTSIDE, 2, 8, 8, 3, traits=(OUTSIDE,)),
        case(INSIDE, 1, 8, 8, 4, traits=("K is 1",)),
        case(INSIDE, 2, 8, 8, 1, traits=("R is 1",)),
        case(INSIDE, 2, 7, 10, 5, 0.5, traits=("the scale is not 1/4",)),
        case(ACROSS, 2, 7, 10, 6, 0.125, traits=("the scale is not 1/4",)),
    ]


def roi_align_cases(generator: Generator) -> list[Case]:
    def case(
        where: str, N: int, B: int, K: int, H: int, W: int, R: int, *settings, traits: tuple[str, ...] = ()
    ) -> Case:
        features = normal(generator, B, K, H, W)
        return Case((features, draw_boxes(generator, where, N, features, R, *settings), R, *settings), traits)

    square = (1, 2, 8, 8)  # B, K, H, W
    least = case(INSIDE, 2, *square, 4, 0.25, 1, False, traits=("aligned is False", SMALL))
    small = case(INSIDE, 2, *square, 4, traits=(SMALL,))
    for made in (small, least):
        made.args[1][:, 3:] = made.args[1][:, 1:3] + torch.tensor((1.5, 2.25))
    flat = case(INSIDE, 2, *square, 3, traits=(EMPTY,))
    flat.args[1][:, 3] = flat.args[1][:, 1]
    return [
        case(INSIDE, 1, *square, 4),
        case(INSIDE, 3, *square, 5, traits=("there are several boxes",)),
        case(INSIDE, 2, 1, 3, 6, 9, 5, traits=("the map is not square",)),
        case(INSIDE, 4, 3, 2, 8, 7, 3, traits=("there are several images",)),
        small,
        case(ACROSS, 3, *square, 6, traits=(ACROSS,)),
        case(ACROSS, 2, 1, 2, 5, 9, 6, traits=(ACROSS, "the map is not square")),
        case(OUTSIDE, 2, *square, 3, traits=(OUTSIDE,)),
        case(INSIDE, 1, 1, 1, 8, 8, 4, traits=("K is 1",)),
        case(INSIDE, 2, *square, 1, traits=("R is 1",)),
        flat,
        case(INSIDE, 2, *square, 4, 0.5, traits=("the scale is not 1/4",)),
        case(ACROSS, 2, 2, 2, 6, 9, 4, 0.125, traits=("the scale is not 1/4", ACROSS)),
        case(INSIDE, 2, *square, 3, 0.25, 2, traits=("sampling_ratio is not 1",)),
        case(ACROSS, 2, *square, 2, 0.25, 3, traits=("sampling_ratio is not 1", ACROSS)),
        case(INSIDE, 3, 2, 2, 9, 12, 2, 0.25, 0, traits=("sampling_ratio is not 1", "sampling_ratio is 0")),
        case(INSIDE, 2, *square, 4, 0.25, 1, False, traits=("aligned is False",)),
        least,
        Case((normal(generator, 1, 2, 8, 8), torch.zeros(0, 5), 4), ("there are no boxes",)),
    ]


ROI_HINTS = {
    ACROSS: EDGE,
    OUTSIDE: EDGE,
    "the map is not square": "Are H and W, or y and x, confused?",
    "there are several boxes": "Is every box read, and written to its own place?",
    "there are several images": "The first of a box's five numbers names its image.",
    "there are no boxes": "The result is then (0,K,R,R): an empty list cannot be stacked.",
    "K is 1": "Does a squeeze drop the axis?",
    "R is 1": "One sample, at the box's centre; does a squeeze drop the axes, or R - 1 divide?",
    "the scale is not 1/4": "Use spatial_scale, not 1/4.",
    "sampling_ratio is not 1": "Average ratio x ratio samples in each bin, at (i + 0.5) / ratio of its side.",
    "sampling_ratio is 0": "It means ceil(box side in map pixels / output_size), for each box and axis.",
    "aligned is False": "No half pixel is subtracted, and a side is at least one map pixel.",
    SMALL: "With aligned=True a box keeps its size, with aligned=False a side is at least one map pixel.",
    EMPTY: "With one sample a bin, all of them fall on one point or line.",
}


CROP = ("blendlab.steps.roi_align", "blendlab.steps.crop", "blendlab.blender._blend")


def _sample(change) -> object:
    return lambda features, y, x: bilinear_sample(*change(features, y, x))


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
ROI_ALIGN_ONE_BOX = Exercise(
    "roi_align_one_box",
    roi_align_one_box,
    one_box_cases,
    tuple(
        Mistake(m.name, lambda f, box, *rest, wrong=m.function: _one(wrong, f, box, *rest), m.diagnosis)
        for m in (*ROI_ALIGN, SCALE_FIXED)
        if m.name != "image index ignored"
    ),
    "(K,R,R)",
    CROP,
    ROI_HINTS,
)
ROI_ALIGN_ALL = Exercise(
    "roi_align",
    roi_align,
    roi_align_cases,
    (*ROI_ALIGN, *ROI_ALIGN_OPTIONS),
    "(N,K,R,R)",
    CROP,
    ROI_HINTS,
    ("features",),
)


def _one(wrong, features: Tensor, box: Tensor, *rest) -> Tensor:
    return wrong(features[None], torch.cat((box.new_zeros(1), box))[None], *rest)[0]
