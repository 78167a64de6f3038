"""A BlendMask small enough to run hundreds of times, and pictures small enough to draw by hand."""

import numpy as np
import torch

from blendlab.blendmask import BlendMask, Config
from blendlab.blendmask.data import Sample, from_numpy, truth_of
from blendlab.blendmask.live import Live
from blendlab.blendmask.losses import mask_alone
from blendlab.blendmask.trainer import Settings, Trainer
from blendlab.pictures.picture import Picture, tight_boxes


def tiny_config(**changes):
    values = {
        "categories": ("square", "disc"),
        "backbone": "scratch",
        "fpn_channels": 16,
        "tower_groups": 4,
        "tower_convs": 1,
        "bases": 3,
        "attention_side": 4,
        "output_side": 14,
        "basis_channels": 16,
        "short_side": 64,
    }
    return Config(**(values | changes))


def draw(*rectangles, size=64, labels=None):
    """A picture of filled rectangles x1, y1, x2, y2 on grey; later ones cover earlier ones."""
    rng = np.random.default_rng(0)
    owner = np.full((size, size), -1)
    image = np.full((size, size, 3), 110, np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(rectangles):
        owner[y1:y2, x1:x2] = i
        image[y1:y2, x1:x2] = rng.integers(0, 255, 3)
    masks = owner[None] == np.arange(len(rectangles))[:, None, None]
    masks = masks.reshape(len(rectangles), size, size)
    boxes = tight_boxes(masks)
    return Picture("drawn", image, masks, boxes, list(labels or ["square"] * len(rectangles)))


class Drawn:
    """Sample i is always the same one of three pictures."""

    categories = ("square", "disc")
    pictures = (
        draw((4, 4, 30, 40), (20, 20, 60, 50), labels=["square", "disc"]),
        draw((5, 5, 60, 60), labels=["disc"]),
        draw(),
    )

    def sample(self, index):
        picture = self.pictures[index % 3]
        return Sample(from_numpy(picture.image), truth_of(picture, self.categories))


def live(steps=6, source=None, every=0.0, **settings):
    """A run to watch, of a tiny model that learns masks alone."""
    torch.manual_seed(0)
    trainer = Trainer(
        BlendMask(tiny_config(nested=False)),
        source or Drawn(),
        Settings(steps, batch=2, warmup=2, **settings),
        mask_alone,
    )
    return Live(trainer, Drawn.pictures[:2], every=every, measure_every=every)
