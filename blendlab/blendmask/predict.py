"""An image in, masks out: resize, network, proposals, blend, paste. Each stage can be called alone, and is kept.

The rules are the authors': AdelaiDet at commit 3672122 on detectron2; each function says which one it holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import check
from ..blender import Blender, BlendTrace
from ..paste import clip_boxes, paste_masks
from ..pictures import convert
from .nested import read, sizes
from .postprocess import Funnel, Proposals, funnel

if TYPE_CHECKING:
    from .model import BlendMask, Output


@dataclasses.dataclass
class Detections:
    """n objects found in one H x W image, best first; everything in image pixels but the trace.

    boxes (n,4) x1,y1,x2,y2, within the image; scores (n,) = sqrt(class * centerness); labels (n,) index into
    `categories`; masks (n,H,W) bool; location (n,2) x, y of the cell that spoke, which may lie in
    the padding right of the image or below it; level (n,) with 0 for stride 8.
    trace: every step of the blend, in the network's pixels. scale: network pixels for each image pixel along the longer
    side; along the shorter one, whose length is rounded, it is off by at most half a network pixel in all.
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


@dataclasses.dataclass
class Stages:
    """One image on its way to `detections`: what each stage made of it, in order.

    picture: PIL RGB, as it came. resized: PIL RGB, at the network's size. pixels (1,3,H,W): normalised, in the config's
    order of colours, padded. output: feature maps, bases, and what FCOS says everywhere. funnel: the proposals after
    each decision. detections: the last proposals' blend (`detections.trace`) and their pasted masks.
    """

    picture: Image.Image
    resized: Image.Image
    pixels: Tensor
    output: Output
    funnel: Funnel
    detections: Detections


def predict(
    model: BlendMask,
    image: np.ndarray | Image.Image,
    score_threshold: float = 0.3,
    K: int | None = None,
    M: int | None = None,
    R: int = 56,
    clip_before_blend: bool | None = None,
) -> Detections:
    """Run `model` on one image: H x W x 3 uint8 RGB array, or PIL image, of any size. A PIL image is taken as its
    pixels lie: turn a photograph upright first (PIL.ImageOps.exif_transpose), so that its masks fit what you see.

    score_threshold: on sqrt(class * centerness), 0 to 1. K, M: bases read and attention side, the config's own where
    None; R: output side. clip_before_blend: see `finish`; the config's own where None. An image without objects gives a
    Detections of length 0. A model in training mode is read, and left, as it is: batch norms keep to their statistics.
    TypeError or ValueError for what is no image or no size.
    """
    return stages(model, image, score_threshold, K, M, R, clip_before_blend).detections


@torch.no_grad()  # and not inference_mode: a reader may go on to take gradients through what was kept
def stages(
    model: BlendMask,
    image: np.ndarray | Image.Image,
    score_threshold: float = 0.3,
    K: int | None = None,
    M: int | None = None,
    R: int = 56,
    clip_before_blend: bool | None = None,
) -> Stages:
    """As `predict`, with everything on the way kept."""
    if not isinstance(score_threshold, Real) or not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold is {score_threshold!r}; expected 0 to 1")
    if clip_before_blend is not None:
        check.flag("clip_before_blend", clip_before_blend)
    K, M, R = sizes(model.config, K, M, R)
    picture = to_rgb(image)
    resized = resize(picture, model.config.short_side, model.config.long_side)
    pixels = to_pixels(model, resized)
    with at_rest(model), pixels.device:  # and not on the device that the reader may have set for new tensors
        output = model(pixels)
        decided = funnel(output.dense, 0, model.config, threshold=float(score_threshold) ** 2)
        found = finish(model, output, decided.best, resized.size, picture.size, K, M, R, clip_before_blend)
    return Stages(picture, resized, pixels, output, decided, found)


@contextlib.contextmanager
def at_rest(model: BlendMask) -> Iterator[None]:
    """Within it the model is in eval mode: to look at a model in training neither depends on the batch nor moves its
    batch norms' statistics."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def to_rgb(image: np.ndarray | Image.Image) -> Image.Image:
    """The image as PIL RGB; TypeError or ValueError names what else came."""
    if isinstance(image, Image.Image):
        plain = image.mode in ("RGB", "L", "I", "F")
        try:  # of other modes PIL's convert cuts 16 bits off and forgets transparency
            picture = image.convert("RGB") if plain else Image.fromarray(convert.pixels(image))
        except (OSError, SyntaxError) as error:  # a file is decoded only now
            raise ValueError(f"image cannot be read: its file may be damaged or cut short ({error})") from error
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
    """The picture at `resized_size`, by PIL's antialiased bilinear, on uint8."""
    size = resized_size(picture.size, short_side, long_side)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)


def resized_size(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """(width, height) with the short side at `short_side`, unless the long one would pass `long_side`.

    detectron2's ResizeShortestEdge, which the authors' models were trained and tested with (800, at most 1333).
    """
    width, height = size
    scale = short_side / min(width, height)
    width, height = (scale * width, short_side) if height < width else (short_side, scale * height)
    if max(width, height) > long_side:  # two steps, as upstream: one rounds to another size for some images
        scale = long_side / max(width, height)
        width, height = scale * width, scale * height
    return max(1, int(width + 0.5)), max(1, int(height + 0.5))


def to_pixels(model: BlendMask, picture: Image.Image) -> Tensor:
    """(1,3,H,W) of an already resized RGB picture, on the model's device: see `BlendMask.normalise`."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3,h,w)
    return model.normalise(pixels.to(model.mean.device))


def run(model: BlendMask, picture: Image.Image) -> Output:
    """The network on one already resized RGB picture."""
    pixels = to_pixels(model, picture)
    with at_rest(model), pixels.device:
        return model(pixels)


def finish(
    model: BlendMask,
    output: Output,
    proposals: Proposals,
    network_size: tuple[int, int],
    image_size: tuple[int, int],
    K: int,
    M: int,
    R: int,
    clip_before_blend: bool | None = None,
) -> Detections:
    """Blend the proposals' masks and paste them. Sizes are (width, height), the network's without padding.

    clip_before_blend: clip a box to the image before its mask is blended, so that the mask is made for the very box it
    is pasted into; or, as upstream and so by default for the authors' models, blend in the box as FCOS drew it and
    paste that mask, squeezed, into the clipped box. The two differ where a box leaves the image.
    """
    config = model.config
    if clip_before_blend is None:
        clip_before_blend = config.clip_before_blend
    scale = np.array(network_size) / np.array(image_size)  # per axis: rounding makes them differ a little
    per_axis = torch.tensor([*scale, *scale], dtype=torch.float32, device=proposals.boxes.device)
    clipped = clip_boxes(proposals.boxes, network_size[::-1])
    kept = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1)  # a box beside the image has nothing to paste
    proposals, clipped = proposals[kept], clipped[kept]
    attention = model.attention_at(output.dense, torch.zeros_like(proposals.location), proposals.location)
    boxes = clipped if clip_before_blend else proposals.boxes
    trace = blender(K, R)(*read(output.bases, attention, K, M), boxes)
    return Detections(
        boxes=clipped / per_axis,
        scores=proposals.scores,
        labels=proposals.labels,
        masks=paste(trace.probabilities, clipped / per_axis, image_size[::-1]),
        location=output.dense.points[proposals.location] / per_axis[:2],
        level=proposals.level,
        trace=trace,
        scale=float(scale[np.argmax(image_size)]),
        categories=config.categories,
    )


def blender(K: int, R: int, **options: object) -> Blender:
    """The blender for K bases: softmax over K, or at K = 1, where softmax is inert, the paper's sigmoid * sigmoid."""
    return Blender(R, normalizer="product" if K == 1 else "softmax", **options)


def paste(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Masks (n,H,W) bool: probabilities (n,R,R) pasted into boxes (n,4), kept where at least 0.5. image_size: (H, W).

    detectron2's paste_masks_in_image. One by one: together, the probabilities of a large image would fill the memory.
    """
    masks = torch.zeros(len(boxes), *image_size, dtype=torch.bool, device=boxes.device)
    for mask, probability, box in zip(masks, probabilities, boxes, strict=True):
        mask.copy_(paste_masks(probability[None], box[None], image_size)[0] >= 0.5)
    return masks
