"""RoIPool, the quantised ancestor of RoIAlign, for comparison.

One letter legend: B images, N boxes, K maps, R output side, H x W map.
"""

import torch
from torch import Tensor

from . import check, steps
from .check import Boxes


def roi_pool(features: Tensor, boxes: Boxes, output_size: int, spatial_scale: float = 0.25) -> Tensor:
    """The largest value in each of R x R bins of each box, after rounding the box to whole map cells.

    features (B,K,H,W); boxes as in roi_align; returns (N,K,R,R) in the features' dtype.
    Raises ValueError or TypeError that names the argument.
    Source: Girshick, "Fast R-CNN", ICCV 2015; the rule to the last cell is torchvision's: corners rounded half away
    from 0, both ends inclusive, at least one cell, bins from floor to ceil so that neighbours may share a cell, 0 for a
    bin that lies off the map.
    """
    check.floating("features", features, "(B,K,H,W)")
    R = check.side("output_size", output_size)
    return pool(features, check.rois(boxes, features), R, check.scale("spatial_scale", spatial_scale))


def pool(features: Tensor, rois: Tensor, R: int, scale: float) -> Tensor:
    """roi_pool without its checks. A maximum over a rectangle is a maximum over its rows, then its columns."""
    in_y, in_x = members(rois, R, scale, features)  # (N,R,H), (N,R,W)
    K = features.shape[1]
    regions = features.new_zeros(len(rois), K, R, R)
    for n, image in enumerate(rois[:, 0].long().tolist()):  # box by box: (K,R,H,W) would be too large for all at once
        rows = torch.stack([_largest(features[image][:, inside], 1) for inside in in_y[n]], 1)  # (K,R,W)
        regions[n] = torch.stack([_largest(rows[:, :, inside], 2) for inside in in_x[n]], 2)  # (K,R,R)
    return regions


def members(rois: Tensor, R: int, scale: float, features: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows (N,R,H) and which columns (N,R,W) of features (B,K,H,W) each bin of `rois` (N,5) covers, bool."""
    H, W = features.shape[2:]
    rois = rois.detach().to(steps.working_dtype(features))
    corners = _round(rois[:, 1:] * scale).view(-1, 2, 2)  # (N,2,2): first and last cell, x and y
    first, last = corners.unbind(1)
    side = (last - first + 1).clamp(min=1) / R  # (N,2)
    bins = torch.arange(R + 1, dtype=side.dtype, device=side.device)
    edges = side[:, :, None] * bins  # (N,2,R+1)
    low = edges[:, :, :-1].floor() + first[:, :, None]  # (N,2,R), kept floating: a far corner fits no integer
    high = edges[:, :, 1:].ceil() + first[:, :, None]
    return _members(low[:, 1], high[:, 1], H), _members(low[:, 0], high[:, 0], W)


def _members(low: Tensor, high: Tensor, length: int) -> Tensor:
    """Which cells of an axis belong to each bin: (N,R,length) bool."""
    cell = torch.arange(length, device=low.device)
    return (low[:, :, None] <= cell) & (cell < high[:, :, None])


def _largest(values: Tensor, dim: int) -> Tensor:
    """The maximum along `dim`, 0 where nothing is there."""
    if values.shape[dim] == 0:
        return values.sum(dim)
    return values.amax(dim)


def _round(value: Tensor) -> Tensor:
    """Half away from 0, as C's round; torch.round goes to the even number."""
    whole = value.abs().floor()
    return value.sign() * (whole + (value.abs() - whole >= 0.5))  # adding 0.5 first would round 0.49999997 up
