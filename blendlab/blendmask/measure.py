"""Masks judged apart from the detector: boxes are given; the attention is the own, another instance's, or the mean.

The swap answers what attention is for. Two overlapping instances share much of one crop; where another's attention
serves as well as the own, the bases alone tell them apart, and the attention is a template.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..paste import paste_masks
from ..pictures.picture import Picture
from ..sources import Source
from .model import BlendMask
from .nested import read
from .predict import blender, resize, run
from .targets import speaker

OVERLAP = 0.3  # box IoU from which two instances count as overlapping


@dataclasses.dataclass
class Spoken:
    """What a model says about one picture's n true boxes.

    bases (1,K,H,W); attention (n,K,M,M) of the location nearest each box's centre, on the level that its size belongs
    to; boxes (n,4) in network pixels.
    """

    picture: Picture
    bases: Tensor
    attention: Tensor
    boxes: Tensor

    @property
    def overlaps(self) -> Tensor:
        """(n,) bool: the box shares at least `OVERLAP` IoU with another's."""
        return self._iou_with_others().amax(1) >= OVERLAP if len(self.boxes) > 1 else torch.zeros(len(self.boxes)) > 0

    def partners(self) -> Tensor:
        """(n,) the other instance of the scene whose box overlaps most (if none does, the nearest); itself if alone."""
        if len(self.boxes) < 2:
            return torch.arange(len(self.boxes))
        centre = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        nearness = 1e-6 / (1 + torch.cdist(centre, centre))  # decides only where no box overlaps
        return (self._iou_with_others() + nearness.fill_diagonal_(-1)).argmax(1)

    def _iou_with_others(self) -> Tensor:
        from torchvision.ops import box_iou  # here: importing torchvision takes over a second

        return box_iou(self.boxes, self.boxes).fill_diagonal_(-1)


@torch.inference_mode()
def listen(model: BlendMask, picture: Picture) -> Spoken:
    """Run the network on a picture and take the attention of the location that speaks for each true box."""
    whole = Image.fromarray(picture.image)
    resized = resize(whole, model.config.short_side, model.config.long_side)
    output = run(model, resized)
    scale = np.array([*resized.size, *resized.size]) / np.array([*whole.size, *whole.size])
    boxes = torch.from_numpy(picture.boxes * scale.astype(np.float32)).to(output.bases.device)
    location = speaker(output.dense.points, output.dense.level, boxes, model.config)
    attention = model.attention_at(output.dense, torch.zeros_like(location), location)
    return Spoken(picture, output.bases.cpu(), attention.cpu(), boxes.cpu())


@torch.inference_mode()
def mask_ious(spoken: Spoken, attention: Tensor, K: int, M: int, R: int) -> Tensor:
    """(n,) IoU with the true masks of the masks that `attention` (n,K,M,M) blends in the true boxes."""
    trace = blender(K, R)(*read(spoken.bases, attention, K, M), spoken.boxes)
    picture = spoken.picture
    masks = paste_masks(trace.probabilities, torch.from_numpy(picture.boxes), picture.image.shape[:2]) >= 0.5
    true = torch.from_numpy(picture.masks)
    return (masks & true).sum((1, 2)) / (masks | true).sum((1, 2)).clamp(min=1)


def spoken(picture: Picture, source: Source) -> Spoken:
    """What a Source says about a picture. Of detections (`found.look`) the masks are their own, not the true ones."""
    return Spoken(picture, source.bases, source.attention, source.boxes * (4 * source.spatial_scale))


def swap_test(model: BlendMask, pictures: Iterable[Picture], K: int, M: int, R: int) -> dict[str, float]:
    """`swap` of what `model` says about `pictures`, in their true boxes and against their true masks."""
    return swap([listen(model, picture) for picture in pictures], K, M, R)


def swap(heard: Sequence[Spoken], K: int, M: int, R: int) -> dict[str, float]:
    """Mean IoU over all instances with their own attention, their partner's (`Spoken.partners`), and the mean of all.

    Keys iou_own, iou_swapped, iou_mean_attention, and the three again with "_overlap" for instances whose box overlaps
    another's by `OVERLAP` or more. Instances alone in their picture take no part in the swap. NaN where there is none.
    """
    everyone = torch.cat([each.attention for each in heard])
    mean = everyone.mean(0, keepdim=True)
    found: dict[str, list[Tensor]] = {"iou_own": [], "iou_swapped": [], "iou_mean_attention": []}
    overlap, alone = [], []
    for each in heard:
        n = len(each.boxes)
        if n == 0:
            continue
        variants = (each.attention, each.attention[each.partners()], mean.expand(n, -1, -1, -1))
        for ious, attention in zip(found.values(), variants, strict=True):
            ious.append(mask_ious(each, attention, K, M, R))
        overlap.append(each.overlaps)
        alone.append(torch.full((n,), n == 1))
    ious = {name: torch.cat(values) if values else torch.empty(0) for name, values in found.items()}
    overlap = torch.cat(overlap) if overlap else torch.empty(0, dtype=torch.bool)
    ious["iou_swapped"] = ious["iou_swapped"].masked_fill(torch.cat(alone), torch.nan) if alone else torch.empty(0)
    result = {name: float(values.nanmean()) for name, values in ious.items()}
    return result | {f"{name}_overlap": float(values[overlap].nanmean()) for name, values in ious.items()}
