"""What a fit aims at: soft masks cropped to boxes, and boxes that are not quite right.

One letter legend: N boxes, R output side, H x W image.
"""

import math

import torch
from torch import Generator, Tensor

from ..steps import roi_align


def soft_targets(masks: Tensor, boxes: Tensor, R: int) -> Tensor:
    """Masks (N,H,W) float, each cropped to its box (N,4) -> (N,R,R): the share of every bin that the object fills.

    Soft, since at small R a 0 or 1 a bin costs points of IoU. At least 112 samples an axis whatever the box: adaptive
    sampling would take seconds on a photograph of ten megapixels.
    """
    rois = torch.cat(
        (torch.arange(len(boxes), device=boxes.device)[:, None], boxes), 1
    )  # (N,5): each box looks at its own mask
    return roi_align(masks[:, None], rois, R, spatial_scale=1.0, sampling_ratio=max(2, math.ceil(112 / R)))[:, 0]


def disturbed(boxes: Tensor, rng: Generator) -> Tensor:
    """Boxes (N,4) as a hand drags them: three in five as they are, one in five moved, one enlarged.

    A mask fitted inside exact boxes alone falls apart when its box is dragged: bases are then free outside, and the
    attention, which stretches with the box, holds what the bases should.
    """
    kind = torch.rand(len(boxes), 1, generator=rng, dtype=torch.float32)
    outward = boxes.new_tensor([-1.0, -1.0, 1.0, 1.0])
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # (N,4): width, height, width, height

    # every edge by up to 8 px, but inward by at most a fifth of the box
    moved = outward * torch.maximum(
        8 * (2 * torch.rand(boxes.shape, generator=rng, dtype=torch.float32) - 1), -sides / 5
    )
    # all edges outward, each by its own share of up to 24 px or 30 % of the box, whichever is more
    reach = torch.maximum(0.3 * sides, torch.full_like(sides, 24)) * torch.rand(
        kind.shape, generator=rng, dtype=torch.float32
    )
    grown = outward * reach * (1 + torch.rand(boxes.shape, generator=rng, dtype=torch.float32)) / 2
    return boxes + torch.where(kind < 0.6, torch.zeros_like(boxes), torch.where(kind < 0.79, moved, grown))
