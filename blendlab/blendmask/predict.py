"""An image in, masks out: resize, network, proposals, blend, paste. Each stage can be called alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..blender import Blender, BlendTrace
from ..paste import paste_masks
from .nested import read, sizes
from .postprocess import Proposals, propose

if TYPE_CHECKING:
    from .model import BlendMask, Output


@dataclasses.dataclass
class Detections:
    """n objects found in one H x W image, best first; everything in image pixels but the trace.

    boxes (n,4) x1,y1,x2,y2, within the image; scores (n,) = sqrt(class * centerness); labels (n,) index into
    `categories`; masks (n,H,W) bool; location (n,2) x, y of the cell that spoke; level (n,) with 0 for stride 8.
    trace: every step of the blend, in the network's pixels. scale: network pixels for each image pixel.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor
    location: Tensor
    level: Tensor
    trace: BlendTrace
    scale: float
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)


def predict(
    model: BlendMask,
    image: np.ndarray | Image.Image,
    score_threshold: float = 0.3,
    K: int | None = None,
    M: int | None = None,
    R: int = 56,
) -> Detections:
    """Run `model` on one image: H x W x 3 uint8 RGB array, or PIL image, of any size.

    score_threshold: on sqrt(class * centerness), 0 to 1. K, M: bases read and attention side, the config's own where
    None; R: output side. An image without objects gives a Detections of length 0. TypeError or ValueError for what is
    no image or no size.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold is {score_threshold!r}; expected 0 to 1")
    K, M, R = sizes(model.config, K, M, R)
    picture = to_rgb(image)
    resized = resize(picture, model.config.short_side, model.config.long_side)
    with torch.inference_mode():
        output = run(model, resized)
        proposals = propose(output.dense, 0, model.config, threshold=score_threshold**2)
        return finish(model, output, proposals, resized.size, picture.size, K, M, R)


def to_rgb(image: np.ndarray | Image.Image) -> Image.Image:
    """The image as PIL RGB; TypeError or ValueError names what else came."""
    if isinstance(image, Image.Image):
        picture = image.convert("RGB")
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image is {image.dtype} of shape {image.shape}; expected uint8 of shape (H, W, 3), RGB")
        if 0 in image.shape:
            raise ValueError(f"image has shape {image.shape}; expected at least one pixel")
        picture = Image.fromarray(np.ascontiguousarray(image))
    else:
        raise TypeError(f"image is {type(image).__name__}; expected an H x W x 3 uint8 array or a PIL image")
    if 0 in picture.size:
        raise ValueError(f"image is {picture.size[0]} x {picture.size[1]}; expected at least one pixel")
    return picture


def resize(picture: Image.Image, short_side: int, long_side: int) -> Image.Image:
    """The short side to `short_side` unless the long one would pass `long_side`; antialiased bilinear, as upstream."""
    width, height = picture.size
    scale = min(short_side / min(width, height), long_side / max(width, height))
    size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)


def run(model: BlendMask, picture: Image.Image) -> Output:
    """The network on one already resized RGB picture."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3,h,w)
    return model(model.normalise(pixels.to(model.mean.device)))


def finish(
    model: BlendMask,
    output: Output,
    proposals: Proposals,
    network_size: tuple[int, int],
    image_size: tuple[int, int],
    K: int,
    M: int,
    R: int,
) -> Detections:
    """Blend the proposals' masks and paste them. Sizes are (width, height), the network's without padding."""
    scale = np.array(network_size) / np.array(image_size)  # per axis: rounding makes them differ a little
    per_axis = torch.tensor([*scale, *scale], dtype=torch.float32, device=proposals.boxes.device)
    limit = torch.tensor([*network_size, *network_size], dtype=torch.float32, device=proposals.boxes.device)
    clipped = proposals.boxes.clamp(min=torch.zeros_like(limit), max=limit)
    kept = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1)  # a box beside the image has nothing to paste
    location, clipped = proposals.location[kept], clipped[kept]
    attention = model.attention_at(output.dense, torch.zeros_like(location), location)
    boxes = clipped if model.config.clip_before_blend else proposals.boxes[kept]
    trace = blender(K, R)(*read(output.bases, attention, K, M), boxes)
    image_boxes = clipped / per_axis
    width, height = image_size
    masks = paste_masks(trace.probabilities, image_boxes, (height, width)) >= 0.5
    return Detections(
        boxes=image_boxes,
        scores=proposals.scores[kept],
        labels=proposals.labels[kept],
        masks=masks,
        location=output.dense.points[location] / per_axis[:2],
        level=output.dense.level[location],
        trace=trace,
        scale=float(scale[0]),
        categories=model.config.categories,
    )


def blender(K: int, R: int, **options: object) -> Blender:
    """The blender for K bases: softmax over K, or at K = 1, where softmax is inert, the paper's sigmoid * sigmoid."""
    return Blender(R, normalizer="product" if K == 1 else "softmax", **options)
