"""A BlendMask in miniature, trained in seconds: masks of overlapping discs, for comparing normalisers and nothing else.

What makes it short: 64-pixel images of discs on noise, a network of 0.1 M weights with one level, and true boxes at
training and at test, so that nothing detects. Bases, attention at the location nearest the box's centre, blender and
mask loss are those of the paper. `scripts/train_normalizers.py` made the shipped curves.

One letter legend: B images, N boxes, K bases, M attention side, R output side.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from ..blender import Blender, BlendTrace
from ..paste import mask_iou
from ..pictures import Picture
from ..pictures.picture import tight_boxes
from ..steps import roi_align
from ..threads import one_thread
from .bases import conv_bn_relu

NORMALIZERS = ("softmax", "sigmoid", "tanh", "none")
SHIPPED = Path(__file__).with_name("short_runs.json")
SIDE, K, M, R = 64, 4, 7, 28
STEPS, BATCH = 300, 8
RATE, WARMUP, FALLING = 3e-3, 20, 75  # the rate rises over the first steps of a run, and falls to 0 over its last


def discs(seed: int) -> Picture:
    """Three to five discs of 8 to 18 pixels' radius on noise, later ones over earlier ones. One seed, one picture."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    colours, owner = draw.uniform(30, 225, (1, 3)), np.full((SIDE, SIDE), 0)
    for number in range(1, draw.integers(3, 6) + 1):
        radius, cx, cy = draw.uniform(8, 18), *draw.uniform(14, SIDE - 14, 2)
        owner[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = number
        colours = np.vstack((colours, draw.uniform(30, 225, (1, 3))))
    image = (colours[owner] + draw.normal(0, 12, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
    masks = np.stack([owner == number for number in range(1, len(colours))])
    masks = masks[masks.sum((1, 2)) >= 60]  # a sliver is no object
    return Picture(f"discs {seed}", image, masks, tight_boxes(masks), ["disc"] * len(masks))


class Miniature(nn.Module):
    """Images (B,3,64,64) -> bases (B,K,16,16) at stride 4, attention (B,K*M*M,8,8) at every location of stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.AvgPool2d(2), conv_bn_relu(3, 32), nn.AvgPool2d(2), conv_bn_relu(32, 32))
        self.down = nn.Sequential(nn.AvgPool2d(2), *(conv_bn_relu(32, 32) for _ in range(3)))
        self.bases = nn.Sequential(conv_bn_relu(32, 32), conv_bn_relu(32, 32), nn.Conv2d(32, K, 1))
        self.attention = nn.Sequential(conv_bn_relu(32, 32), nn.Conv2d(32, K * M * M, 3, padding=1))
        nn.init.normal_(self.attention[1].weight, std=0.01)  # as in the authors' code
        nn.init.zeros_(self.attention[1].bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stem(images)
        coarse = self.down(fine)
        return self.bases(fine + interpolate(coarse, scale_factor=2, mode="bilinear")), self.attention(coarse)


class ShortRun:
    """A Miniature in training with one normaliser. Runs of one seed share their first weights and their pictures."""

    def __init__(self, normalizer: str, seed: int):
        self.blender = Blender(R, normalizer=normalizer)
        self.seed, self.steps = seed, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = Miniature()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=0.01)

    def blend(self, pictures: list[Picture]) -> BlendTrace:
        """All their objects, one picture after the other, in the true boxes."""
        images = torch.from_numpy(np.stack([picture.image for picture in pictures])).permute(0, 3, 1, 2)
        bases, attention = self.model(images.float() / 128 - 1)
        rois = _rois(pictures)  # (N,5)
        column, row = ((rois[:, 1:3] + rois[:, 3:]) / 16).long().clamp(0, SIDE // 8 - 1).unbind(1)  # of the centres
        spoken = attention[rois[:, 0].long(), :, row, column].view(-1, K, M, M)  # (N,K,M,M)
        return self.blender(bases, spoken, rois)

    @one_thread()
    def step(self) -> float:
        """One step of the optimiser; returns the loss. A run is over after STEPS of them."""
        first = 1_000_000 * (self.seed + 1) + self.steps * BATCH
        pictures = [discs(first + i) for i in range(BATCH)]
        self.model.train()
        loss = binary_cross_entropy_with_logits(self.blend(pictures).logits, _targets(pictures))
        rate = RATE * min(1.0, (self.steps + 1) / WARMUP, max(STEPS - self.steps, 0) / FALLING)
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        return float(loss.detach())

    @one_thread()
    @torch.no_grad()
    def iou(self, pictures: list[Picture]) -> float:
        """Mean IoU, over all objects, of the masks in the true boxes with the true masks."""
        self.model.eval()
        masks = self.blend(pictures).probabilities
        truths = [one for picture in pictures for one in zip(picture.boxes, picture.masks, strict=True)]
        return float(np.mean([mask_iou(mask, *truth) for mask, truth in zip(masks, truths, strict=True)]))


def held_out(count: int = 60) -> list[Picture]:
    """Pictures that no run trains on."""
    return [discs(seed) for seed in range(count)]


def curve(
    normalizer: str,
    seed: int,
    steps: int = STEPS,
    every: int = 50,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, list[float]]:
    """Train for `steps` and measure on `held_out()` after every `every` of them, and at the end.

    Returns "step", "loss" (the mean of the steps since the last measurement) and "iou", a number each a measurement.
    `progress` is called after each step with its number and loss. ValueError for an unknown normaliser; "product" is
    one, being for a single basis.
    """
    if normalizer not in NORMALIZERS:
        raise ValueError(f"normalizer must be one of {', '.join(NORMALIZERS)}; got {normalizer!r}")
    run, pictures, losses = ShortRun(normalizer, seed), held_out(), []
    found: dict[str, list[float]] = {"step": [], "loss": [], "iou": []}
    for step in range(1, steps + 1):
        losses.append(run.step())
        progress(step, losses[-1])
        if step % every == 0 or step == steps:
            found["step"].append(step)
            found["loss"].append(round(float(np.mean(losses)), 4))
            found["iou"].append(round(run.iou(pictures), 4))
            losses = []
    return found


def shipped() -> dict[str, dict[str, dict[str, list[float]]]]:
    """The curves that ship with blendlab: normalizer -> seed -> what `curve` returned."""
    return json.loads(SHIPPED.read_text())["curves"]


def _rois(pictures: list[Picture]) -> Tensor:
    """(N,5): which picture, x1, y1, x2, y2."""
    which = torch.tensor([float(i) for i, picture in enumerate(pictures) for _ in picture.boxes])
    return torch.cat((which[:, None], torch.from_numpy(np.concatenate([picture.boxes for picture in pictures]))), 1)


def _targets(pictures: list[Picture]) -> Tensor:
    """(N,R,R) in 0..1: every true mask cropped to its box."""
    crops = []
    for picture in pictures:
        boxes = [box[None] for box in torch.from_numpy(picture.boxes)]  # each mask is a map of its own
        crops.append(roi_align(torch.from_numpy(picture.masks)[:, None].float(), boxes, R, 1.0))
    return torch.cat(crops)[:, 0]
