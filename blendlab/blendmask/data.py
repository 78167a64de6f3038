"""What a training run reads: a source gives sample number i, and a batch is B of them as the network wants them."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..pictures.picture import Picture
from ..pictures.scenes import CATEGORIES, scene_arrays
from .model import BlendMask
from .targets import Truth


@dataclasses.dataclass
class Sample:
    """One image (3,H,W) uint8 RGB and its objects."""

    image: Tensor
    truth: Truth


class Source(Protocol):
    """Endless samples by number. The same number gives the same sample, so a run needs no other state to resume."""

    categories: tuple[str, ...]

    def sample(self, index: int) -> Sample:
        """Sample number `index` >= 0."""
        ...


class Scenes:
    """Composed scenes of the training split, made on the fly; sample i is the scene of seed `seed` + i.

    options: those of `pictures.scenes.scene_arrays`, such as overlap=0.4.
    """

    categories: tuple[str, ...] = CATEGORIES

    def __init__(self, seed: int = 0, **options: object):
        self.seed, self.options = seed, options

    def sample(self, index: int) -> Sample:
        image, masks, boxes, classes = scene_arrays(self.seed + index, "train", **self.options)
        return Sample(from_numpy(image), Truth(*map(torch.from_numpy, (boxes, classes, masks))))


def truth_of(picture: Picture, categories: tuple[str, ...]) -> Truth:
    """A picture's objects as tensors; a label outside `categories` is a ValueError that names it."""
    if unknown := sorted(set(picture.labels) - set(categories)):
        raise ValueError(f"{picture.name} has categories {unknown}; the model knows {list(categories)}")
    labels = torch.tensor([categories.index(label) for label in picture.labels], dtype=torch.long)
    return Truth(torch.from_numpy(picture.boxes), labels, torch.from_numpy(picture.masks))


def from_numpy(image: np.ndarray) -> Tensor:
    """(H,W,3) uint8 -> (3,H,W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def batch(model: BlendMask, samples: list[Sample]) -> tuple[Tensor, list[Truth]]:
    """Images (B,3,H,W) normalised and padded to the largest, on the model's device, and their objects."""
    device = model.mean.device
    images = [model.normalise(sample.image.to(device))[0] for sample in samples]
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    padded = [pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
    return torch.stack(padded), [sample.truth.to(device) for sample in samples]
