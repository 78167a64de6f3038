"""From what FCOS says everywhere to the few boxes that stay. Each rule is one function, in upstream's order.

Source of the rules and of their order: AdelaiDet's FCOS outputs at test (commit 3672122); FCOS (Tian et al., ICCV
2019) for what they are about.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from .config import Config
from .fcos import Dense


@dataclasses.dataclass
class Proposals:
    """N pairs of a location and a class of one image: each a box with a score and a label.

    boxes (N,4) in network pixels, not clipped; scores (N,): class * centerness until `square_root`, then its root;
    labels (N,); location (N,) index into the row of L locations; level (N,) with 0 for P3.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    location: Tensor
    level: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Tensor | slice) -> Proposals:
        return Proposals(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def per_level(self, levels: int) -> list[int]:
        """How many come from each level, P3 first."""
        return self.level.bincount(minlength=levels).tolist()


@dataclasses.dataclass
class Funnel:
    """What each decision left of one image: candidates above the threshold, best `top_k` a level, after NMS, final."""

    candidates: Proposals
    top: Proposals
    suppressed: Proposals
    best: Proposals


def propose(dense: Dense, image: int, config: Config, threshold: float | None = None) -> Proposals:
    """The detections of image `image` in the batch, best first: the end of `funnel`."""
    return funnel(dense, image, config, threshold).best


def funnel(dense: Dense, image: int, config: Config, threshold: float | None = None) -> Funnel:
    """All decisions in upstream's order, each one's result kept.

    threshold: on class * centerness, the config's unless given.
    """
    candidates = above_threshold(dense, image, config.score_threshold if threshold is None else threshold)
    top = top_of_each_level(candidates, config.top_k, config.levels)
    suppressed = suppress(square_root(top), config.nms_iou)
    return Funnel(candidates, top, suppressed, suppressed[: config.max_detections])


def above_threshold(dense: Dense, image: int, threshold: float) -> Proposals:
    """Every (location, class) whose probability of the class TIMES centerness is above the threshold.

    Upstream's THRESH_WITH_CTR: the product is judged, not the class alone; so a location near an object's rim counts
    less. One location may stand for several classes.
    """
    product = dense.classes[image].sigmoid() * dense.centerness[image].sigmoid()[:, None]  # (L,C)
    location, labels = (product > threshold).nonzero(as_tuple=True)  # (N,), location by location, so level by level
    boxes = dense.boxes()[image, location]
    return Proposals(boxes, product[location, labels], labels, location, dense.level[location])


def top_of_each_level(candidates: Proposals, top_k: int, levels: int) -> Proposals:
    """At most `top_k` of each level, by score (upstream: 1000, before NMS), so that P3 does not crowd out the rest."""
    kept = []
    for level in range(levels):
        here = (candidates.level == level).nonzero()[:, 0]
        if len(here) > top_k:
            here = here[candidates.scores[here].topk(top_k, sorted=False).indices]
        kept.append(here)
    return candidates[torch.cat(kept)]


def square_root(proposals: Proposals) -> Proposals:
    """The score that is reported: the geometric mean of class and centerness, sqrt(class * centerness)."""
    return dataclasses.replace(proposals, scores=proposals.scores.sqrt())


def suppress(proposals: Proposals, iou: float) -> Proposals:
    """Non-maximum suppression over all levels at once, each class by itself: best first, what overlaps it goes.

    Upstream: IoU 0.6, boxes not clipped yet. `proposals[: max_detections]` of the result is upstream's best 100.
    """
    from torchvision.ops import batched_nms  # here: importing torchvision takes over a second

    return proposals[batched_nms(proposals.boxes, proposals.scores, proposals.labels, iou)]
