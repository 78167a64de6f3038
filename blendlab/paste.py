"""From R x R probabilities in a box to a mask of the image, and boxes at an image's border.

One letter legend: N boxes, R side of a mask, H x W image.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import check
from .steps import working_dtype


def paste_masks(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Put each instance's probabilities (N,R,R) into its box (N,4), x1, y1, x2, y2 in image pixels -> (N,H,W).

    image_size is (H, W). What a box has outside the image is dropped; a pixel whose centre lies outside its box is 0.
    A pixel belongs to the instance where the value is at least 0.5. Bilinear between the centres of the R x R bins;
    beyond the outermost centres values fade towards 0, as in detectron2's paste (layers/mask_ops.py), the rule the
    authors' results use.
    An empty box pastes nothing. Raises ValueError or TypeError that names the argument.
    """
    check.square("probabilities", probabilities, "(N,R,R)")
    H, W = _image_size(image_size)
    boxes = _image_boxes(boxes, probabilities)
    if len(boxes) != len(probabilities):
        raise ValueError(f"probabilities and boxes must have one N; got {len(probabilities)} and {len(boxes)}")
    pasted = probabilities.new_zeros(len(boxes), H, W)
    masks = probabilities.to(working_dtype(probabilities))  # half precision has too few digits for a coordinate
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        (left, right), (top, bottom) = _pixels(x1, x2, W), _pixels(y1, y2, H)
        if x2 > x1 and y2 > y1 and left < right and top < bottom:
            x = _in_box(left, right, x1, x2, masks)
            y = _in_box(top, bottom, y1, y2, masks)
            grid = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), -1)  # (h,w,2)
            inside = F.grid_sample(masks[None, n : n + 1], grid[None], align_corners=False)[0, 0]
            pasted[n, top:bottom, left:right] = inside.to(pasted.dtype)
    return pasted


def mask_iou(probabilities: Tensor, box: Sequence[float], truth: np.ndarray) -> float:
    """IoU of one instance's pasted mask (R,R), kept where it is at least 0.5, with its true mask (H,W) bool."""
    pasted = paste_masks(
        probabilities[None], torch.tensor([[float(c) for c in box]], device=probabilities.device), truth.shape
    )[0]
    return iou((pasted >= 0.5).cpu().numpy(), truth)


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Of two masks (H,W) bool; 0 where both are empty."""
    both = np.count_nonzero(mask & other)
    return float(both / max(np.count_nonzero(mask) + np.count_nonzero(other) - both, 1))


def clip_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes (N,4) cut to the image (H, W); one that lies outside becomes empty."""
    H, W = _image_size(image_size)
    boxes = _image_boxes(boxes, boxes)
    limit = boxes.new_tensor((W, H, W, H))
    return torch.minimum(boxes.clamp(min=0), limit)


def _image_boxes(boxes: Tensor, like: Tensor) -> Tensor:
    one_image = torch.empty(1, 1, 1, 1, device=like.device if isinstance(like, Tensor) else None)
    return check.rois(boxes, one_image)[:, 1:]


def _pixels(low: float, high: float, length: int) -> tuple[int, int]:
    """The pixels whose centres lie between low and high: the first, and the end."""
    return max(math.ceil(low - 0.5), 0), min(math.floor(high - 0.5) + 1, length)


def _in_box(first: int, end: int, low: float, high: float, like: Tensor) -> Tensor:
    """Pixel centres from `first` to `end`, in grid_sample's units: -1 and 1 are the box's ends."""
    centres = torch.arange(first, end, dtype=like.dtype, device=like.device) + 0.5
    return (centres - low) / (high - low) * 2 - 1


def _image_size(image_size: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(image_size, tuple | list | torch.Size) or len(image_size) != 2:
        raise TypeError(f"image_size must be (height, width); got {check.got(image_size)}")
    return check.side("image_size[0]", image_size[0]), check.side("image_size[1]", image_size[1])
