"""The bank, part one: known wrong ways to write RoIAlign, each with what to tell who wrote it.

One letter legend: B images, N boxes, K bases, R output side, H x W map.
Most are the right step with one thing changed; what is changed is the line to read.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import roi_pool, steps
from .exercise import Mistake

# every function: (features, boxes, output_size, spatial_scale, sampling_ratio, aligned)


def _moved(move: Callable[[Tensor, int, float], Tensor]) -> Callable[..., Tensor]:
    """RoIAlign of other boxes: `move` takes x1,y1,x2,y2 (N,4), R and the scale."""

    def crop(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
        corners = move(boxes[:, 1:], output_size, spatial_scale)
        corners = torch.cat((corners[:, :2], torch.maximum(corners[:, :2], corners[:, 2:])), 1)
        boxes = torch.cat((boxes[:, :1], corners), 1)
        return steps.roi_align(features, boxes, output_size, spatial_scale, sampling_ratio, aligned)

    return crop


def _changed(change: Callable[[float, int, bool], tuple[float, int, bool]]) -> Callable[..., Tensor]:
    """RoIAlign with other settings: `change` takes and gives scale, ratio and aligned."""

    def crop(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
        return steps.roi_align(features, boxes, output_size, *change(spatial_scale, sampling_ratio, aligned))

    return crop


def _sampled(mode: str = "bilinear", padding: str = "zeros", strict: bool = False) -> Callable[..., Tensor]:
    """RoIAlign by grid_sample's own rule at the map's edge, or with another interpolation; `strict` makes 0 of every
    sample that is not among the cells' centres."""

    def crop(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
        (H, W), R, out = features.shape[2:], output_size, []
        for image, *box in boxes.tolist():
            x1, y1, x2, y2 = (c * spatial_scale - 0.5 * aligned for c in box)
            x2, y2 = (x2, y2) if aligned else (max(x2, x1 + 1), max(y2, y1 + 1))
            rx, ry = (sampling_ratio or max(-int(-(side // R)), 1) for side in (x2 - x1, y2 - y1))
            x = x1 + (torch.arange(R * rx) + 0.5) * (x2 - x1) / (R * rx)
            y = y1 + (torch.arange(R * ry) + 0.5) * (y2 - y1) / (R * ry)
            grid = torch.stack(torch.meshgrid((2 * x + 1) / W - 1, (2 * y + 1) / H - 1, indexing="xy"), -1)
            crop = F.grid_sample(features[[int(image)]], grid[None], mode, padding, align_corners=False)
            if strict:
                crop = crop * ((y >= 0) & (y <= H - 1))[:, None] * ((x >= 0) & (x <= W - 1))
            out.append(F.avg_pool2d(crop, (ry, rx))[0])
        return torch.stack(out) if out else features.new_zeros(0, features.shape[1], R, R)

    return crop


def _first_image(features, boxes, *settings):
    return steps.roi_align(features, torch.cat((boxes[:, :1] * 0, boxes[:, 1:]), 1), *settings)


def _index_as_corner(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    shifted = torch.cat((boxes[:, :1], boxes[:, :4]), 1)
    return steps.crop(features, shifted, output_size, spatial_scale, sampling_ratio, aligned)  # may be inverted


def _clipped(features, boxes, output_size, spatial_scale=0.25, *settings):
    H, W = (side / spatial_scale for side in features.shape[2:])
    corners = torch.minimum(boxes[:, 1:].clamp(min=0), boxes.new_tensor((W, H, W, H)))
    clipped = torch.cat((boxes[:, :1], corners), 1)
    return steps.roi_align(features, clipped, output_size, spatial_scale, *settings)


def _strongest_sample(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    ratio = max(sampling_ratio, 1)
    fine = steps.roi_align(features, boxes, output_size * ratio, spatial_scale, 1, aligned)
    return F.max_pool2d(fine, ratio)


def _pooled(features, boxes, output_size, spatial_scale=0.25, *_):
    return roi_pool(features, boxes, output_size, spatial_scale)


def _no_least_size(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    shifted = boxes if aligned else torch.cat((boxes[:, :1], boxes[:, 1:] + 0.5 / spatial_scale), 1)
    return steps.roi_align(features, shifted, output_size, spatial_scale, sampling_ratio, True)


def _stretched(corners: Tensor, before: float, after: float) -> Tensor:
    """Boxes moved by shares of their own side: the start by `before`, the end by `after`."""
    side = (corners[:, 2:] - corners[:, :2]).repeat(1, 2)
    return corners + side * corners.new_tensor((before, before, after, after))


HALF = "RoIAlign is half a pixel of the map off"
ROI_ALIGN = (
    Mistake(
        "half pixel missing",
        _changed(lambda scale, ratio, aligned: (scale, ratio, False)),
        f"{HALF}: it looks as if the half pixel is missing. Subtract 0.5 after scaling the corners (aligned=True).",
    ),
    Mistake(
        "half pixel missing and ratio adaptive",
        _changed(lambda scale, ratio, aligned: (scale, 0, False)),
        "It looks as if aligned and sampling_ratio keep torchvision's defaults, False and adaptive: the blender has "
        "aligned=True and sampling_ratio=1.",
    ),
    Mistake(
        "torchvision's defaults",
        _changed(lambda scale, ratio, aligned: (1.0, 0, False)),
        "It looks like torchvision's roi_align with its own defaults: give it spatial_scale, sampling_ratio=1 and "
        "aligned=True.",
    ),
    Mistake(
        "scale and half pixel forgotten",
        _changed(lambda scale, ratio, aligned: (1.0, ratio, False)),
        "It looks as if both the scale and the half pixel are forgotten: times spatial_scale, then minus 0.5.",
    ),
    Mistake(
        "half pixel from the start alone",
        _moved(lambda c, R, scale: c + c.new_tensor((0, 0, 0.5, 0.5)) / scale),
        "It looks as if 0.5 is subtracted from x1 and y1 alone: x2 and y2 move too, or the box grows.",
    ),
    Mistake(
        "half pixel added",
        _moved(lambda c, R, scale: c + 1 / scale),
        f"{HALF} to the wrong side: it looks as if 0.5 is added after scaling where it must be subtracted.",
    ),
    Mistake(
        "half pixel before scaling",
        _moved(lambda c, R, scale: c - 0.5 + 0.5 / scale),
        "It looks as if 0.5 is subtracted before scaling: half a pixel of the image, where it is half one of the map.",
    ),
    Mistake(
        "half pixel twice",
        _moved(lambda c, R, scale: c - 0.5 / scale),
        f"{HALF} to the left and up: it looks as if 0.5 is subtracted twice, where once is right.",
    ),
    Mistake(
        "side one map pixel longer",
        _moved(lambda c, R, scale: c + c.new_tensor((0, 0, 1, 1)) / scale),
        "It looks as if a side is x2 - x1 + 1 map pixels: corners are points and not pixels, so it is x2 - x1.",
    ),
    Mistake(
        "side one image pixel longer",
        _moved(lambda c, R, scale: c + c.new_tensor((0, 0, 1, 1))),
        "It looks as if a side is x2 - x1 + 1 image pixels: corners are points and not pixels, so it is x2 - x1.",
    ),
    Mistake(
        "box cut to whole image pixels",
        _moved(lambda c, R, scale: c.trunc()),
        "It looks as if the box loses its fractions (int, long): RoIAlign never rounds a coordinate.",
    ),
    Mistake(
        "box clipped first",
        _clipped,
        "It looks as if the box is clipped to the image before it is cropped: the bins keep their places, and samples "
        "outside the map have a rule of their own.",
    ),
    Mistake(
        "x and y swapped in the box",
        _moved(lambda c, R, scale: c[:, [1, 0, 3, 2]]),
        "It looks as if x and y are swapped in the box: boxes are x1, y1, x2, y2, and x counts columns.",
    ),
    Mistake(
        "crop transposed",
        lambda *args: steps.roi_align(*args).transpose(-1, -2),
        "It looks as if the crop's rows and columns are swapped: the first of the two indices is y.",
    ),
    Mistake(
        "scale forgotten",
        _changed(lambda scale, ratio, aligned: (1.0, ratio, aligned)),
        "It looks as if the scale is forgotten: boxes are in image pixels; times spatial_scale they are in map pixels.",
    ),
    Mistake(
        "scaled twice",
        _changed(lambda scale, ratio, aligned: (scale * scale, ratio, aligned)),
        "It looks as if the box is scaled twice: times spatial_scale once, it is in map pixels.",
    ),
    Mistake(
        "divided by the scale",
        _changed(lambda scale, ratio, aligned: (1 / scale, ratio, aligned)),
        "It looks as if the box is divided by the scale: multiply, since a map has fewer pixels than its image.",
    ),
    Mistake(
        "width for both sides",
        _moved(lambda c, R, scale: torch.cat((c[:, :3], c[:, 1:2] + c[:, 2:3] - c[:, :1]), 1)),
        "It looks as if the box's width serves for both axes: rows take the height, y2 - y1.",
    ),
    Mistake(
        "height for both sides",
        _moved(lambda c, R, scale: torch.cat((c[:, :2], c[:, :1] + c[:, 3:] - c[:, 1:2], c[:, 3:]), 1)),
        "It looks as if the box's height serves for both axes: columns take the width, x2 - x1.",
    ),
    Mistake(
        "nearest cell",
        _sampled("nearest", "border"),
        "It looks as if each sample takes the nearest cell: mix the four cells around it bilinearly.",
    ),
    Mistake(
        "zero padding",
        _sampled("bilinear", "zeros"),
        "It looks as if the map is padded with zeros: up to one cell outside, a sample keeps the edge's value in full.",
    ),
    Mistake(
        "zero beyond the outermost centres",
        _sampled("bilinear", "border", strict=True),
        "It looks as if a sample is 0 as soon as it leaves the centres of the outermost cells: up to one cell outside "
        "the map it keeps the edge's value.",
    ),
    Mistake(
        "border padding",
        _sampled("bilinear", "border"),
        "It looks as if the edge's value goes on for ever: a sample more than one cell outside the map is 0.",
    ),
    Mistake(
        "RoIPool",
        _pooled,
        "It looks like RoIPool: corners rounded to whole cells, and the largest cell of a bin. RoIAlign never rounds.",
    ),
    Mistake(
        "corners rounded",
        _moved(lambda c, R, scale: (c * scale).round() / scale),
        "It looks as if the box's corners are rounded to whole cells: RoIAlign never rounds a coordinate.",
    ),
    Mistake(
        "image index ignored",
        _first_image,
        "It looks as if every box is read from image 0: the first of a box's five numbers names its image.",
    ),
    Mistake(
        "image index read as a corner",
        _index_as_corner,
        "It looks as if the image's index is read as x1: a box is index, x1, y1, x2, y2, its corners boxes[:, 1:].",
    ),
    Mistake(
        "ratio fixed at 2",
        _changed(lambda scale, ratio, aligned: (scale, 2, aligned)),
        "It looks as if each bin takes 2 x 2 samples: the blender takes one, at the bin's centre (sampling_ratio=1).",
    ),
    Mistake(
        "adaptive ratio always",
        _changed(lambda scale, ratio, aligned: (scale, 0, aligned)),
        "It looks as if the number of samples follows the box's size (sampling_ratio=0): the default is one a bin.",
    ),
    Mistake(
        "sampled at the bin's corner",
        _moved(lambda c, R, scale: _stretched(c, -0.5 / R, -0.5 / R)),
        "It looks as if bins are sampled at their upper left corner: add half a bin, (i + 0.5) times the bin's side.",
    ),
    Mistake(
        "sampled from edge to edge",
        _moved(lambda c, R, scale: _stretched(c, -0.5 / max(R - 1, 1), 0.5 / max(R - 1, 1))),
        "It looks as if samples run from one edge of the box to the other (linspace): they lie at the bins' centres.",
    ),
    Mistake(
        "box read as x, y, width, height",
        _moved(lambda c, R, scale: torch.cat((c[:, :2], c[:, :2] + c[:, 2:]), 1)),
        "It looks as if the box is read as x, y, width, height: it is x1, y1, x2, y2.",
    ),
    Mistake(
        "crop mirrored",
        lambda *args: steps.roi_align(*args).flip(-1),
        "It looks as if the crop is mirrored from left to right: columns run from x1 to x2.",
    ),
)


# what goes wrong with the options alone
SCALE_FIXED = Mistake(
    "scale fixed",
    _changed(lambda scale, ratio, aligned: (0.25, ratio, aligned)),
    "It looks as if the scale is always 1/4: use spatial_scale.",
)
ROI_ALIGN_OPTIONS = (
    SCALE_FIXED,
    Mistake(
        "aligned ignored",
        _changed(lambda scale, ratio, aligned: (scale, ratio, True)),
        "It looks as if aligned is ignored: with aligned=False no half pixel is subtracted, and a box has at least one "
        "map pixel a side.",
    ),
    Mistake(
        "ratio fixed at 1",
        _changed(lambda scale, ratio, aligned: (scale, 1, aligned)),
        "It looks as if sampling_ratio is ignored: it says how many samples a bin and axis are averaged.",
    ),
    Mistake(
        "adaptive ratio taken as 1",
        _changed(lambda scale, ratio, aligned: (scale, max(ratio, 1), aligned)),
        "It looks as if a sampling_ratio of 0 is read as 1: it means ceil(box side in map pixels / output_size), for "
        "each box and axis.",
    ),
    Mistake(
        "largest sample of a bin",
        _strongest_sample,
        "It looks as if a bin takes the largest of its samples: take their mean.",
    ),
    Mistake(
        "no least size",
        _no_least_size,
        "It looks as if small boxes keep their size with aligned=False: there, a side is at least one map pixel.",
    ),
)
