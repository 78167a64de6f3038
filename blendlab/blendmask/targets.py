"""Which location answers for which object: FCOS's assignment, and what each positive location should then say."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .config import Config


@dataclasses.dataclass
class Truth:
    """The objects of one image, in network pixels: boxes (n,4), labels (n,) int64, masks (n,H,W) bool; n may be 0."""

    boxes: Tensor
    labels: Tensor
    masks: Tensor

    def to(self, device: torch.device | str) -> Truth:
        return Truth(self.boxes.to(device), self.labels.to(device), self.masks.to(device))


def assign(points: Tensor, level: Tensor, boxes: Tensor, config: Config) -> Tensor:
    """For each of L locations the index of the box that it answers for, or -1.

    points (L,2), level (L,), boxes (n,4). A location is positive for a box where it lies inside the box and within
    `centre_radius` strides of its centre, and where max(l,t,r,b) is in its level's range; of several boxes the smallest
    wins. Source: FCOS with centre sampling, as in AdelaiDet's fcos_outputs.
    """
    if len(boxes) == 0:
        return torch.full((len(points),), -1, device=points.device)
    ltrb = distances(points[:, None], boxes[None])  # (L,n,4)
    strides = torch.tensor(config.strides, device=points.device)[level]  # (L,)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2  # (n,2)
    from_centre = (points[:, None] - centre).abs().amax(-1)  # (L,n)
    low, high = torch.tensor(config.size_ranges, device=points.device)[level].unbind(1)  # (L,) each
    reach = ltrb.amax(-1)  # (L,n)
    positive = (ltrb.amin(-1) > 0) & (from_centre < config.centre_radius * strides[:, None])
    positive &= (reach >= low[:, None]) & (reach <= high[:, None])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)  # (n,)
    smallest, index = area.expand_as(reach).masked_fill(~positive, torch.inf).min(1)
    return index.masked_fill(smallest.isinf(), -1)


def distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances l, t, r, b (...,4) from points (...,2) to the sides of boxes (...,4); negative outside."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def centerness(ltrb: Tensor) -> Tensor:
    """sqrt(min(l,r)/max(l,r) * min(t,b)/max(t,b)) of distances (...,4): 1 at the box's centre, 0 at its sides."""
    horizontal, vertical = ltrb[..., 0::2], ltrb[..., 1::2]
    ratio = horizontal.amin(-1) / horizontal.amax(-1) * (vertical.amin(-1) / vertical.amax(-1))
    return ratio.clamp(min=0).sqrt()


def speaker(points: Tensor, level: Tensor, boxes: Tensor, config: Config) -> Tensor:
    """For each box (n,4) the location (n,) that speaks for it when its box is given: nearest its centre, on its level.

    A box's level is the one whose range holds half its longer side, the least max(l,t,r,b) that a location can have.
    """
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1) / 2  # (n,)
    own_level = torch.bucketize(half, torch.tensor(config.sizes_of_interest, device=boxes.device, dtype=half.dtype))
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = torch.cdist(centre, points.to(centre.dtype))  # (n,L)
    return distance.masked_fill(level[None] != own_level[:, None], torch.inf).argmin(1)
