"""The four steps of the blender, in the paper's order: RoIAlign, interpolate, softmax, blend.

One letter legend: B images, N boxes, K bases, M attention side, R output side, H x W map.

    r  = RoIAlign(bases, box)       (N,K,R,R)   crop every basis to the box
    a' = interpolate(a, R)          (N,K,R,R)   bring the attention from M x M to R x R
    s  = softmax_k(a')              (N,K,R,R)   make K weights that sum to 1 at every pixel
    m  = sum_k s_k * r_k            (N,R,R)     blend: the mask logits

Source: Chen et al., "BlendMask: Top-Down Meets Bottom-Up for Instance Segmentation", CVPR 2020, equations 1 to 4.
Everything here is differentiable in the bases and the attention; boxes carry no gradient, as in torchvision.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from . import check
from .check import Boxes


def roi_align(
    features: Tensor,
    boxes: Boxes,
    output_size: int,
    spatial_scale: float = 0.25,
    sampling_ratio: int = 1,
    aligned: bool = True,
) -> Tensor:
    """Crop every map to every box with bilinear samples, never rounding a coordinate (equation 1).

    features        (B,K,H,W), floating.
    boxes           x1, y1, x2, y2 in pixels of the image that the map was made from, pixel centres at +0.5:
                    (N,5) with the image index first, a list of B tensors (n,4), or (N,4) where B is 1.
    output_size     R, at least 1.
    spatial_scale   map pixels for each image pixel: 1/4 at stride 4.
    sampling_ratio  samples a bin and axis; 0 or less means ceil(box side in map pixels / R), box by box.
    aligned         True puts pixel centres where they are, half a map pixel back; False is the older rule, which also
                    raises a box's sides to at least one map pixel.

    Returns (N,K,R,R) in the features' dtype; the arithmetic is in float32 at least.
    Raises ValueError or TypeError that names the argument (NaN, infinite or inverted boxes among them).
    The rule, to the last bit of meaning, is torchvision's kernel: a sample more than one pixel outside the map is 0,
    one within that pixel takes the value of the edge.
    """
    check.floating("features", features, "(B,K,H,W)")
    R = check.side("output_size", output_size)
    scale = check.scale("spatial_scale", spatial_scale)
    ratio = check.whole("sampling_ratio", sampling_ratio)
    check.flag("aligned", aligned)
    rois = check.rois(boxes, features)
    with full_precision(features):
        return crop(features, rois, R, scale, ratio, aligned).to(features.dtype)


def interpolate(attention: Tensor, output_size: int, mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    """Bring attention (N,K,M,M) to (N,K,R,R) (equation 2), in the attention's dtype.

    output_size    R, at least 1. M > R samples down, without smoothing first.
    mode           "bilinear", or "nearest", whose tiles are uneven where M does not divide R.
    align_corners  for bilinear: True pins the centres of the corner cells to the corners; the reference has False.

    The rule is torch.nn.functional.interpolate's. Raises ValueError or TypeError that names the argument.
    """
    check.square("attention", attention, "(N,K,M,M)")
    R = check.side("output_size", output_size)
    check.choice("mode", mode, ("bilinear", "nearest"))
    check.flag("align_corners", align_corners)
    if align_corners and mode == "nearest":
        raise ValueError("align_corners=True needs mode='bilinear'; got mode='nearest'")
    with full_precision(attention):
        return resize(attention.to(working_dtype(attention)), R, mode, align_corners).to(attention.dtype)


def softmax(attention: Tensor) -> Tensor:
    """Scores s (N,K,R,R) over the K bases: at every pixel K positive weights that sum to 1 (equation 3)."""
    check.floating("attention", attention, "(N,K,R,R)")
    return attention.softmax(1)


def blend(regions: Tensor, scores: Tensor) -> Tensor:
    """Mask logits m (N,R,R): regions r times scores s, summed over K (equation 4). A logit of 0 is probability 0.5."""
    check.square("regions", regions, "(N,K,R,R)")
    check.square("scores", scores, "(N,K,R,R)")
    if regions.shape != scores.shape:  # broadcasting would hide a wrong K, N or R
        raise ValueError(f"regions and scores must have one shape; got {check.got(regions)} and {check.got(scores)}")
    check.together(regions=regions, scores=scores)
    return (regions * scores).sum(1)


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Half precision is lifted to float32 for arithmetic."""
    return torch.promote_types(tensor.dtype, torch.float32)


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Under autocast a matrix product would fall to half precision; the steps are small and stay exact."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


# What follows has no checks: roi_align, interpolate and Blender make them first.

LARGEST_ADAPTIVE_SIDE = 8192  # map pixels: its samples take some 2 GB; a photograph's side is about 300 at stride 4


def crop(features: Tensor, rois: Tensor, R: int, scale: float, ratio: int, aligned: bool) -> Tensor:
    """RoIAlign of checked `rois` (N,5) -> (N,K,R,R) in the working dtype."""
    features = features.to(working_dtype(features))
    start, size = start_and_size(rois, scale, aligned, features.dtype)
    if len(rois) == 0 or (ratio > 0 and len(features) == 1):
        return _sample(features[:1], start, size, R, max(ratio, 1), max(ratio, 1))
    # Boxes of one image that take the same number of samples a bin go together.
    samples = (size / R).ceil() if ratio <= 0 else torch.full_like(size, ratio)  # (N,2)
    if ratio <= 0:
        refuse_endless(size)
    keys = torch.cat((rois[:, :1], samples), 1).long()  # (N,3): image, samples along x, along y
    keys, group = keys.unique(dim=0, return_inverse=True)
    members, parts = [], []
    for g, (image, rx, ry) in enumerate(keys.tolist()):
        mine = (group == g).nonzero().squeeze(1)  # (n,)
        members.append(mine)
        if rx and ry:
            parts.append(_sample(features[image : image + 1], start[mine], size[mine], R, rx, ry))
        else:  # an empty side takes no sample: zeros
            parts.append(features.new_zeros(len(mine), features.shape[1], R, R))
    return torch.cat(parts)[torch.cat(members).argsort()]


def start_and_size(rois: Tensor, scale: float, aligned: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Where boxes (N,5) start in map cells, whose centres are whole numbers if aligned, and how large they are: (N,2)
    each, x and y."""
    corners = rois.detach().to(dtype)[:, 1:] * scale  # (N,4) in map pixels
    start, end = (corners - 0.5 if aligned else corners).chunk(2, 1)
    return start, end - start if aligned else (end - start).clamp(min=1)


def refuse_endless(size: Tensor) -> None:
    """ValueError for boxes of so many map pixels a side, (N,2), that adaptive sampling would not end in a lifetime."""
    if len(size) and size.max() > LARGEST_ADAPTIVE_SIDE:
        raise ValueError(
            f"boxes must be at most {LARGEST_ADAPTIVE_SIDE} map pixels a side where sampling_ratio is 0 or less;"
            f" got one of {size.max():g}: give a positive sampling_ratio"
        )


def _sample(features: Tensor, start: Tensor, size: Tensor, R: int, rx: int, ry: int) -> Tensor:
    """From one map (1,K,H,W), the mean of rx x ry bilinear samples in each of R x R bins; start, size (N,2)."""
    (_, K, H, W), N = features.shape, len(start)
    if rx == ry:  # both axes in one pass: for a single box the time goes to calling operators
        x, y = _along(start, size, R * rx, (W, H)).unbind(1)  # (N,R*rx), (N,R*ry)
    else:
        x = _along(start[:, :1], size[:, :1], R * rx, (W,)).squeeze(1)
        y = _along(start[:, 1:], size[:, 1:], R * ry, (H,)).squeeze(1)
    grid = torch.stack((x[:, None].expand(-1, R * ry, -1), y[:, :, None].expand(-1, -1, R * rx)), -1)
    grid = grid.view(1, N * R * ry, R * rx, 2)  # all boxes below one another: one call, and the map is not repeated
    samples = F.grid_sample(features, grid, "bilinear", "zeros", align_corners=False)
    if rx * ry > 1:
        samples = F.avg_pool2d(samples.view(K * N, 1, R * ry, R * rx), (ry, rx))
    return samples.view(K, N, R, R).transpose(0, 1)


def _along(start: Tensor, size: Tensor, S: int, lengths: tuple[int, ...]) -> Tensor:
    """Where S samples of boxes start, size (N,A) fall along A axes of these lengths: (N,A,S) in grid_sample's units.

    A sample up to one cell outside the map is held at the edge; one farther out is sent where grid_sample reads 0.
    """
    steps, first, last, origin, unit = _axis_constants(S, lengths, start.dtype, start.device)
    # this order of operations puts a sample meant for an outer limit exactly there: rounding would make it 0
    position = torch.addcmul(start[..., None], (size / S)[..., None], steps)
    held = position.clamp(first, last)
    return torch.addcmul(origin, held, unit).masked_fill((position - held).abs() > 1, 9.0)


@lru_cache(maxsize=256)
def _axis_constants(S: int, lengths: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """The centres of S equal bins, in bins; then, (A,1) each: the first cell, the last cell, and for
    grid_sample, to whom a map reaches from -1 to 1, where cell 0 lies and how long a cell is."""
    with torch.inference_mode(False):  # cached, so it must serve training after it served inference
        length = torch.tensor(lengths, dtype=dtype, device=device)[:, None]
        steps = torch.arange(S, dtype=dtype, device=device) + 0.5
        return steps, torch.zeros_like(length), length - 1, 1 / length - 1, 2 / length


def resize(attention: Tensor, R: int, mode: str, align_corners: bool) -> Tensor:
    """(N,K,M,M) -> (N,K,R,R). Bilinear interpolation is linear and separable: U a U^T with the (R,M) matrix U."""
    if mode == "nearest":
        return F.interpolate(attention, size=(R, R), mode="nearest")
    U = interpolation_matrix(attention.shape[-1], R, align_corners, attention.dtype, attention.device)
    return U @ (attention @ U.T)  # in this order: one product of all rows, then the small ones


@lru_cache(maxsize=256)
def interpolation_matrix(M: int, R: int, align_corners: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """U (R,M): row i holds the weights with which output i reads the M cells: at most two are not 0, their sum is 1."""
    with torch.inference_mode(False):  # cached, so it must serve training after it served inference
        i = torch.arange(R, dtype=dtype, device=device)
        position = i * ((M - 1) / max(R - 1, 1)) if align_corners else (i + 0.5) * (M / R) - 0.5
        position = position.clamp(0, M - 1)
        cell = torch.arange(M, dtype=dtype, device=device)
        return (1 - (position[:, None] - cell).abs()).clamp(min=0)
