"""From what FCOS says everywhere to the few boxes that stay: threshold, top-k, score, NMS."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from .config import Config
from .fcos import Dense


@dataclasses.dataclass
class Proposals:
    """N boxes of one image that survived, best first.

    boxes (N,4) in network pixels, not clipped; scores (N,) = sqrt(class * centerness); labels (N,); location (N,)
    index into the row of L locations; candidates: locations x classes above the threshold, for each level.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    location: Tensor
    candidates: list[int]


def propose(dense: Dense, image: int, config: Config, threshold: float | None = None) -> Proposals:
    """The detections of image `image` in the batch, in upstream's order of decisions.

    Threshold on class * centerness (the config's unless given), at most `top_k` a level by that product, square root,
    class-wise NMS over all levels, best `max_detections`.
    """
    threshold = config.score_threshold if threshold is None else threshold
    product = dense.classes[image].sigmoid() * dense.centerness[image].sigmoid()[:, None]  # (L,C)
    location, label, candidates = [], [], []
    for level in range(config.levels):
        start = int((dense.level < level).sum())
        here = product[dense.level == level]  # (l,C)
        passed = (here > threshold).nonzero()  # (n,2)
        candidates.append(len(passed))
        if len(passed) > config.top_k:
            best = here[passed[:, 0], passed[:, 1]].topk(config.top_k, sorted=False).indices
            passed = passed[best]
        location.append(passed[:, 0] + start)
        label.append(passed[:, 1])
    location, label = torch.cat(location), torch.cat(label)
    scores = product[location, label].sqrt()
    boxes = dense.boxes()[image, location]
    keep = batched_nms(boxes, scores, label, config.nms_iou)[: config.max_detections]
    return Proposals(boxes[keep], scores[keep], label[keep], location[keep], candidates)
