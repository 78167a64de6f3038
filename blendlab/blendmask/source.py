"""What a network says about a picture, as a Source for the explorers: its bases, and the attention for each box.

Letters: N boxes, K bases, M attention side.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from .. import sources
from ..pictures import Picture
from .config import Config
from .measure import listen
from .model import BlendMask
from .predict import resized_size

FOUND = 0.5  # a detection is an instance's from this box IoU on


def network_source(
    picture: Picture,
    model: BlendMask,
    name: str,
    note: str,
    boxes: np.ndarray | str | None = None,
) -> sources.Source:
    """A Source named `name` from what `model` says about `picture`.

    boxes: None, the picture's own; "detected", those that the model finds itself; or (N,4) in image pixels, one an
    instance, by hand. The attention of a given box comes from the location nearest its centre, on the level of its
    size; the attention of a detection from the location that made it. An instance that the model does not find (no
    detection's box with IoU 0.5) keeps the picture's box, and the note says how many do.

    Where the two sides of the image do not shrink alike, bases and boxes are off by at most half a network pixel.
    ValueError or TypeError names boxes that do not fit.
    """
    detect = isinstance(boxes, str)
    if detect and boxes != "detected":
        raise ValueError(f"boxes must be None, 'detected' or an array (N,4); got {boxes!r}")
    if boxes is not None and not detect:
        picture = dataclasses.replace(picture, boxes=np.asarray(boxes, np.float32))
    whole = picture.size[::-1]  # (width, height), as the next
    seen = resized_size(whole, model.config.short_side, model.config.long_side)
    heard = listen(model, picture)
    found, attention = torch.from_numpy(picture.boxes.copy()), heard.attention
    if detect:
        found, attention, missed = _detected(picture, model, found, attention)
        note += f"; {len(picture) - missed} of {len(picture)} boxes are its own detections, the others the true ones"
    scale = math.sqrt(math.prod(seen) / math.prod(whole))
    return as_source(name, note, model.config, heard.bases, attention, found, seen, scale)


def as_source(
    name: str,
    note: str,
    config: Config,
    bases: Tensor,
    attention: Tensor,
    boxes: Tensor,
    network_size: tuple[int, int],
    scale: float,
) -> sources.Source:
    """A network's numbers as a Source: bases (1,K,H,W) without the padding, and what its config says that it serves.

    boxes (N,4) in image pixels; network_size: (width, height) without padding; scale: network pixels an image pixel.
    """
    width, height = network_size
    return sources.Source(
        name,
        note,
        bases[..., : math.ceil(height / 4), : math.ceil(width / 4)].contiguous(),
        attention,
        boxes,
        spatial_scale=scale / 4,
        K_range=(1 if config.nested else config.bases, config.bases),
        M_range=(1, config.attention_side),
        K1_normalizer="product",  # as it was trained, and as predict() reads it
    )


def _detected(picture: Picture, model: BlendMask, boxes: Tensor, attention: Tensor) -> tuple[Tensor, Tensor, int]:
    """Boxes and attention with each found instance's replaced by its detection's; how many were not found."""
    seen = model.predict(picture.image)
    boxes, attention, missed = boxes.clone(), attention.clone(), len(picture)
    if len(picture) == 0 or len(seen) == 0:
        return boxes, attention, missed
    from torchvision.ops import box_iou  # here: importing torchvision takes over a second

    overlap = box_iou(torch.from_numpy(picture.boxes), seen.boxes.cpu())  # (N,n)
    while overlap.max() >= FOUND:  # the best pair first; no detection serves two instances
        instance, best = divmod(int(overlap.argmax()), len(seen))
        boxes[instance], attention[instance] = seen.boxes[best], seen.trace.inputs.attention[best]
        overlap[instance], overlap[:, best], missed = 0, 0, missed - 1
    return boxes, attention, missed
