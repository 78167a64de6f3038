"""What a wrong box costs a mask: true boxes moved by a known amount, and the masks that come of them.

BlendMask is trained on true boxes and tested on the detector's. Letters: N boxes, K bases, M attention side, R output
side, H x W image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torchvision.ops import box_iou

from ..paste import paste_masks
from .measure import Spoken
from .nested import read
from .predict import blender


@dataclasses.dataclass(frozen=True)
class Point:
    """Means over all instances at one amount of jitter: IoU of boxes, of masks, and the best that any mask could be.

    best: the IoU with the true mask of the part of it that lies within the moved box.
    """

    amount: float
    box_iou: float
    mask_iou: float
    best: float


def jitter(boxes: Tensor, amount: float, generator: Generator) -> Tensor:
    """Boxes (N,4) with each side moved on its own, evenly between -amount and +amount of the box's width or height."""
    if not 0 <= amount < 0.5:
        raise ValueError(f"amount is {amount!r}; expected 0 to below 0.5, where opposite sides could cross")
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # (N,4)
    return boxes + amount * size * (2 * torch.rand(boxes.shape, generator=generator) - 1)


@torch.no_grad()
def curve(
    heard: Sequence[Spoken], amounts: Sequence[float], K: int = 8, M: int = 14, R: int = 56, seed: int = 0
) -> list[Point]:
    """One Point for each amount of jitter. The attention stays that of the true box's location; only the box moves.

    heard: what `measure.listen` gave for each picture. ValueError where no picture has an instance.
    """
    heard = [spoken for spoken in heard if len(spoken.boxes)]
    if not heard:
        raise ValueError("heard has no instance; expected at least one")
    return [_point(heard, amount, K, M, R, seed) for amount in amounts]


def _point(heard: Sequence[Spoken], amount: float, K: int, M: int, R: int, seed: int) -> Point:
    generator = torch.Generator().manual_seed(seed)  # the same directions at every amount, so that the curve is smooth
    rows = []
    for spoken in heard:
        boxes = jitter(spoken.boxes, amount, generator)
        trace = blender(K, R)(*read(spoken.bases, spoken.attention, K, M), boxes)
        true_boxes, true = torch.from_numpy(spoken.picture.boxes), torch.from_numpy(spoken.picture.masks)  # (N,H,W)
        scale = (true_boxes[:, 2:] - true_boxes[:, :2]) / (spoken.boxes[:, 2:] - spoken.boxes[:, :2])
        moved = boxes * scale.repeat(1, 2)  # in image pixels
        masks = paste_masks(trace.probabilities, moved, spoken.picture.size) >= 0.5
        within = paste_masks(torch.ones(len(boxes), 2, 2), moved, spoken.picture.size) > 0
        rows.append(torch.stack([box_iou(moved, true_boxes).diagonal(), iou(masks, true), iou(true & within, true)]))
    return Point(amount, *torch.cat(rows, 1).mean(1).tolist())


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(N,) intersection over union of masks (N,H,W), pair by pair; 0 where both are empty."""
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)
