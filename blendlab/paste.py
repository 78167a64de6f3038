"""From R x R probabilities in a box to a mask of the image, and boxes at an image's border.

One letter legend: N boxes, R side of a mask, H x W image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import check


def paste_masks(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Put each instance's probabilities (N,R,R) into its box (N,4), x1, y1, x2, y2 in image pixels -> (N,H,W).

    image_size is (H, W). What a box has outside the image is dropped; outside its box a mask is 0. A pixel belongs to
    the instance where the value is at least 0.5. Bilinear between the centres of the R x R bins; beyond the outermost
    centres values fade to 0, as in detectron2's paste (layers/mask_ops.py), the rule the authors' results use.
    An empty box pastes nothing. Raises ValueError or TypeError that names the argument.
    """
    check.square("probabilities", probabilities, "(N,R,R)")
    H, W = _image_size(image_size)
    one_image = probabilities.new_empty(1, 1, 1, 1)
    boxes = check.rois(boxes, one_image)[:, 1:]
    if len(boxes) != len(probabilities):
        raise ValueError(f"probabilities and boxes must have one N; got {len(probabilities)} and {len(boxes)}")
    pasted = probabilities.new_zeros(len(boxes), H, W)
    for mask, box, canvas in zip(probabilities, boxes, pasted, strict=True):
        x1, y1, x2, y2 = box.tolist()
        left, top, right, bottom = max(int(x1), 0), max(int(y1), 0), min(int(x2) + 1, W), min(int(y2) + 1, H)
        if x2 > x1 and y2 > y1 and left < right and top < bottom:
            x = _in_box(left, right, x1, x2, mask)
            y = _in_box(top, bottom, y1, y2, mask)
            grid = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), -1)  # (h,w,2)
            canvas[top:bottom, left:right] = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
    return pasted


def clip_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes (N,4) cut to the image (H, W)."""
    H, W = _image_size(image_size)
    limit = boxes.new_tensor((W, H, W, H))
    return torch.minimum(boxes.clamp(min=0), limit)


def _in_box(first: int, end: int, low: float, high: float, like: Tensor) -> Tensor:
    """Pixel centres from `first` to `end`, in grid_sample's units: -1 and 1 are the box's ends."""
    centres = torch.arange(first, end, dtype=like.dtype, device=like.device) + 0.5
    return (centres - low) / (high - low) * 2 - 1


def _image_size(image_size: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(image_size, tuple | list | torch.Size) or len(image_size) != 2:
        raise TypeError(f"image_size must be (height, width); got {check.got(image_size)}")
    return check.side("image_size[0]", image_size[0]), check.side("image_size[1]", image_size[1])
