"""Look inside a failure: is it the box, the score or the mask? (AdelaiDet's issue 188 asks it of every wrong picture.)

Each object is followed backwards through the stages, from what was shown to what any location said about it.
"""

from __future__ import annotations

import dataclasses

import torch
from torchvision.ops import box_iou

from ..pictures import Picture
from .model import BlendMask
from .postprocess import Proposals
from .predict import Stages, stages

CAUSES = ("found", "mask", "class", "nms", "score", "box")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one true object.

    cause: "found": a detection has its class and a mask with IoU of at least `needed`.
        "mask": a detection has its class and a good box, but a bad mask.
        "class": the detections with a good box say something else.
        "nms": a candidate with its class and a good box was suppressed.
        "score": some location has a good box, but its score for the class stayed below the threshold.
        "box": no location at all has a good box.
    box_iou, score, mask_iou, said: of the detection, candidate or location that the verdict rests on. mask_iou is NaN
    where no mask was made; said is the class that the score is for, the object's own but where the cause is "class".
    """

    instance: int
    label: str
    cause: str
    said: str
    box_iou: float
    score: float
    mask_iou: float = float("nan")


def judge(
    model: BlendMask, picture: Picture, score_threshold: float = 0.3, needed: float = 0.5
) -> tuple[list[Verdict], Stages]:
    """A verdict for each object of `picture`, in its order, and the stages that they were read from.

    needed: the IoU from which a box or a mask is good, above 0 to 1. ValueError for it, and for labels that the model
    does not know.
    """
    if not 0 < needed <= 1:
        raise ValueError(f"needed is {needed!r}; expected above 0 to 1")
    categories = model.config.categories
    if unknown := sorted(set(picture.labels) - set(categories)):
        raise ValueError(f"{picture.name} has categories {unknown}; the model knows {list(categories)}")
    seen = stages(model, picture.image, score_threshold)
    return [_verdict(seen, picture, i, categories.index(label), needed) for i, label in enumerate(picture.labels)], seen


def _verdict(seen: Stages, picture: Picture, instance: int, label: int, needed: float) -> Verdict:
    found, name, truth = (
        seen.detections,
        picture.labels[instance],
        torch.from_numpy(picture.boxes[instance : instance + 1]),
    )
    own = found.labels.cpu() == label  # (n,)
    boxes = box_iou(truth, found.boxes.cpu())[0]
    mask = torch.from_numpy(picture.masks[instance])
    masks = (found.masks.cpu() & mask).sum((1, 2)) / (found.masks.cpu() | mask).sum((1, 2)).clamp(min=1)

    def because(cause: str, which: int) -> Verdict:
        said, score = found.categories[int(found.labels[which])], float(found.scores[which])
        return Verdict(instance, name, cause, said, float(boxes[which]), score, float(masks[which]))

    if (own & (masks >= needed)).any():
        return because("found", int((masks * own).argmax()))
    if (own & (boxes >= needed)).any():
        return because("mask", int((boxes * own).argmax()))
    if (boxes >= needed).any():
        return because("class", int(boxes.argmax()))
    dense, scale = seen.output.dense, torch.tensor(seen.resized.size * 2) / torch.tensor(seen.picture.size * 2)
    everywhere = box_iou(truth * scale, dense.boxes()[0].cpu())[0]  # (L,)
    scores = (dense.classes[0, :, label].sigmoid() * dense.centerness[0].sigmoid()).sqrt().cpu()
    good = everywhere >= needed
    if not good.any():
        which = int(everywhere.argmax())
        return Verdict(instance, name, "box", name, float(everywhere[which]), float(scores[which]))
    which = int((scores * good).argmax())
    cause = "nms" if _is_candidate(seen.funnel.candidates, which, label) else "score"
    return Verdict(instance, name, cause, name, float(everywhere[which]), float(scores[which]))


def _is_candidate(candidates: Proposals, location: int, label: int) -> bool:
    return bool(((candidates.location == location) & (candidates.labels == label)).any())
