"""RoIAlign in two exercises, after the bilinear sample: one box, all boxes.

One letter legend: B images, N boxes, K maps, R output side, H x W map.
"""

import torch
from torch import Generator, Tensor

from .. import steps
from .bank_crop import ROI_ALIGN, ROI_ALIGN_OPTIONS, SCALE_FIXED
from .exercise import Case, Exercise, Mistake

INSIDE, ACROSS, OUTSIDE = "boxes lie on the map", "boxes leave the map", "boxes lie off the map"
SMALL, EMPTY = "a box is smaller than a cell", "a box is empty"
EDGE = "Up to one cell outside the map a sample takes the edge's value, farther out it is 0."


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


ROI_ALIGN_ONE_BOX = Exercise(
    "roi_align_one_box",
    roi_align_one_box,
    one_box_cases,
    tuple(
        Mistake(m.name, lambda f, box, *rest, wrong=m.function: _one(wrong, f, box, *rest), m.diagnosis)
        for m in (*ROI_ALIGN, SCALE_FIXED)
        if m.name not in ("image index ignored", "image index read as a corner")
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
