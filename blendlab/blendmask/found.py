"""What a model finds in a photograph that nobody has annotated: a Picture of its masks, and a Source of its numbers.

Letters: N detections, K bases, M attention side, H x W image.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..pictures import Picture
from ..sources import Source
from .model import BlendMask
from .predict import paste, stages
from .source import as_source

LEAST = 0.25  # the lowest score that is kept: a little above the root of upstream's 0.05


@dataclasses.dataclass(frozen=True)
class Found:
    """N detections, best first. picture: the image with their masks, boxes, and labels such as "person 0.98".
    source: the bases, each one's attention and box. scores: (N,) from 0 to 1. empty: how many more had no pixel."""

    picture: Picture
    source: Source
    scores: np.ndarray
    empty: int = 0

    def above(self, score: float) -> Found:
        """Those with at least this score."""
        n = int((self.scores >= score).sum())
        picture = dataclasses.replace(
            self.picture, masks=self.picture.masks[:n], boxes=self.picture.boxes[:n], labels=self.picture.labels[:n]
        )
        source = dataclasses.replace(self.source, attention=self.source.attention[:n], boxes=self.source.boxes[:n])
        return Found(picture, source, self.scores[:n], self.empty)


def look(model: BlendMask, image: np.ndarray, name: str, *, source: str = "official", note: str = "") -> Found:
    """Run `model` on an image, (H,W,3) uint8 RGB, and keep what every blend needs; the network is not asked again.

    name: the picture's. source, note: how the Source is called, and the sentence that a board shows with it.
    Each mask is blended and pasted in the box as FCOS drew it, which may leave the image; upstream pastes it into the
    clipped one (`predict.finish`). Where the two sides of the image do not shrink alike, what is drawn is off by half a
    network pixel at the most.
    """
    seen = stages(model, image, LEAST)
    width, height = seen.resized.size
    found, inputs = seen.detections, seen.detections.trace.inputs
    scale = math.sqrt(width * height / (image.shape[0] * image.shape[1]))  # one for both sides, as a Source has it
    boxes = (inputs.boxes[:, 1:] / scale).cpu()  # (N,4)
    masks = paste(found.trace.probabilities.cpu(), boxes, image.shape[:2]).numpy()
    kept = masks.any((1, 2))
    labels = [
        f"{found.categories[label]} {score:.2f}"
        for label, score, keep in zip(found.labels.tolist(), found.scores.tolist(), kept, strict=True)
        if keep
    ]
    picture = Picture(name, image, masks[kept], boxes[kept].numpy(), labels)
    return Found(
        picture,
        as_source(
            source,
            note,
            model.config,
            inputs.bases.cpu(),
            inputs.attention[kept].cpu(),
            boxes[kept],
            (width, height),
            scale,
        ),
        found.scores.cpu().numpy()[kept],
        int((~kept).sum()),
    )
