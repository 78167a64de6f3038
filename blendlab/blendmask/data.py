"""What a training run reads: a source gives sample number i, and a batch is B of them as the network wants them."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ..pictures.coco import CocoPictures
from ..pictures.picture import Picture
from ..pictures.scenes import CATEGORIES, scene_arrays
from .model import BlendMask
from .predict import resize
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

    short_side, long_side: the network's image size. options: those of `pictures.scenes.scene_arrays`, such as
    overlap=0.4.
    """

    categories: tuple[str, ...] = CATEGORIES

    def __init__(self, seed: int = 0, short_side: int = 128, long_side: int = 512, **options: object):
        self.seed, self.sides, self.options = seed, (short_side, long_side), options

    def sample(self, index: int) -> Sample:
        image, masks, boxes, classes = scene_arrays(self.seed + index, "train", **self.options)
        return fit(image, Truth(*map(torch.from_numpy, (boxes, classes, masks))), *self.sides)


class Folder:
    """Annotated pictures in a new random order each time round, half of them mirrored, at a network's image size."""

    def __init__(self, pictures: CocoPictures, seed: int = 0, short_side: int = 128, long_side: int = 512):
        self.pictures, self.seed, self.sides = pictures, seed, (short_side, long_side)
        self.categories = tuple(pictures.categories)

    def sample(self, index: int) -> Sample:
        turn, place = divmod(index, len(self.pictures))
        order = np.random.default_rng((self.seed, turn)).permutation(len(self.pictures))
        picture = self.pictures[int(order[place])]
        sample = fit(picture.image, truth_of(picture, self.categories), *self.sides)
        return mirror(sample) if np.random.default_rng((self.seed, turn, place)).random() < 0.5 else sample


def fit(image: np.ndarray, truth: Truth, short_side: int, long_side: int) -> Sample:
    """An image (H,W,3) and its objects at the size that the network works at; see `predict.resize`."""
    resized = resize(Image.fromarray(image), short_side, long_side)
    (height, width), (new_width, new_height) = image.shape[:2], resized.size
    if (height, width) != (new_height, new_width):
        scale = torch.tensor([new_width / width, new_height / height] * 2)
        masks = torch.zeros(len(truth.masks), new_height, new_width, dtype=torch.bool)
        if len(masks):  # interpolate refuses none
            masks = interpolate(truth.masks[None].float(), (new_height, new_width), mode="nearest-exact")[0] > 0.5
        truth = Truth(truth.boxes * scale, truth.labels, masks)
    return Sample(from_numpy(np.array(resized)), truth)


def mirror(sample: Sample) -> Sample:
    """Left and right exchanged."""
    x1, y1, x2, y2 = sample.truth.boxes.unbind(1)
    width = sample.image.shape[2]
    boxes = torch.stack([width - x2, y1, width - x1, y2], 1)
    return Sample(sample.image.flip(2), Truth(boxes, sample.truth.labels, sample.truth.masks.flip(2)))


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
