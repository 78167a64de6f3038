"""The losses: what and where (focal, GIoU, centerness), and which pixels (mask BCE through the blender)."""

from __future__ import annotations

import dataclasses

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy, interpolate
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss
from torchvision.ops import roi_align as torchvision_roi_align

from ..steps import roi_align
from .config import Config
from .fcos import Dense, boxes_from_ltrb
from .model import BlendMask, Output
from .nested import blend_regions, read
from .targets import Truth, assign, centerness, distances


@dataclasses.dataclass
class Positives:
    """The P locations that answer for an object.

    image, location, truth (P,) indices, `truth` counting the objects of all images in a row; target_boxes (P,4);
    centerness (P,), the target and the weight of boxes and masks; total: number of positives, and of centerness, as a
    mean over the processes of a distributed run.
    """

    image: Tensor
    location: Tensor
    truth: Tensor
    target_boxes: Tensor
    centerness: Tensor
    total: Tensor
    total_centerness: Tensor


def losses(
    model: BlendMask,
    output: Output,
    truths: list[Truth],
    settings: list[tuple[int, int, int]],
    limit: int = 192,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """All losses of a batch by name, each a scalar with gradient; what is minimised is their sum.

    settings: the (K, M, R) at which masks are blended, several a step when training nested. limit: the mask loss looks
    at this many positives at most, drawn with `generator`.
    """
    positives = match(output.dense, truths, model.config)
    found = detection_losses(output.dense, truths, positives)
    found["mask"] = mask_loss(model, output, truths, positives, settings, limit, generator)
    if model.semantic is not None:
        found["semantic"] = 0.3 * semantic_loss(model, output, truths)
    return found


def mask_alone(
    model: BlendMask,
    output: Output,
    truths: list[Truth],
    settings: list[tuple[int, int, int]],
    limit: int = 192,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The mask loss and no other: it needs no detector, since its boxes are the true ones. Arguments as `losses`."""
    positives = match(output.dense, truths, model.config)
    return {"mask": mask_loss(model, output, truths, positives, settings, limit, generator)}


def match(dense: Dense, truths: list[Truth], config: Config) -> Positives:
    """Assign every location of every image; see `targets.assign`."""
    image, location, truth, start = [], [], [], 0
    for i, objects in enumerate(truths):
        index = assign(dense.points, dense.level, objects.boxes, config)  # (L,)
        here = (index >= 0).nonzero()[:, 0]
        image.append(torch.full_like(here, i))
        location.append(here)
        truth.append(index[here] + start)
        start += len(objects.boxes)
    image, location, truth = torch.cat(image), torch.cat(location), torch.cat(truth)
    target_boxes = torch.cat([objects.boxes for objects in truths])[truth]
    weight = centerness(distances(dense.points[location], target_boxes))
    total = mean_over_processes(torch.tensor(float(len(image)), device=image.device)).clamp(min=1)
    total_centerness = mean_over_processes(weight.sum()).clamp(min=1e-6)
    return Positives(image, location, truth, target_boxes, weight, total, total_centerness)


def detection_losses(dense: Dense, truths: list[Truth], positives: Positives) -> dict[str, Tensor]:
    """Focal loss over all locations and classes, GIoU weighted by centerness, and centerness itself."""
    at = (positives.image, positives.location)
    labels = torch.cat([objects.labels for objects in truths])[positives.truth]
    target = torch.zeros_like(dense.classes)  # (B,L,C)
    target[(*at, labels)] = 1
    boxes = boxes_from_ltrb(dense.points[positives.location], dense.ltrb[at])
    giou = generalized_box_iou_loss(boxes, positives.target_boxes)
    return {
        "class": sigmoid_focal_loss(dense.classes, target, alpha=0.25, gamma=2, reduction="sum") / positives.total,
        "box": (giou * positives.centerness).sum() / positives.total_centerness,
        "centerness": bce(dense.centerness[at], positives.centerness, reduction="sum") / positives.total,
    }


def mask_loss(
    model: BlendMask,
    output: Output,
    truths: list[Truth],
    positives: Positives,
    settings: list[tuple[int, int, int]],
    limit: int,
    generator: torch.Generator | None,
) -> Tensor:
    """BCE of blended masks on GROUND-TRUTH boxes, each mask weighted by its location's centerness.

    Every object's box is pooled once and shared by the locations that answer for it. Targets are shares of area, 0 to
    1, where upstream rounds them to 0 or 1: at R = 28 that is worth 3 points of attainable IoU.
    """
    keep, share = some(positives, limit, generator)
    truth, weight = positives.truth[keep], positives.centerness[keep]
    attention = model.attention_at(output.dense, positives.image[keep], positives.location[keep])  # (P,K,M,M)
    boxes = [objects.boxes for objects in truths]
    total = attention.sum() * 0 + output.bases.sum() * 0  # a batch without objects still has a gradient: zero
    for K, M, R in settings:
        bases, attention_read = read(output.bases, attention, K, M)
        regions = roi_align(bases, boxes, R)[truth]  # (P,K,R,R)
        target = crop_masks(truths, R)[truth]  # (P,R,R)
        each = bce(blend_regions(regions, attention_read, R), target, reduction="none").mean((1, 2))  # (P,)
        total = total + (each * weight).sum() / positives.total_centerness / share
    return total / len(settings)


def some(positives: Positives, limit: int, generator: torch.Generator | None) -> tuple[Tensor, float]:
    """At most `limit` of the positives, drawn at random: their indices, and the share of all that they are."""
    count, device = len(positives.image), positives.image.device
    if count <= limit:
        return torch.arange(count, device=device), 1.0
    return torch.randperm(count, generator=generator).to(device)[:limit], limit / count


def crop_masks(truths: list[Truth], R: int) -> Tensor:
    """Every object's mask cropped to its box at R x R, as shares of area: (n,R,R) in 0..1."""
    crops = []
    for objects in truths:
        index = torch.arange(len(objects.boxes), device=objects.boxes.device, dtype=torch.float32)
        rois = torch.cat([index[:, None], objects.boxes], 1)
        crops.append(
            torchvision_roi_align(objects.masks[:, None].float(), rois, R, sampling_ratio=-1, aligned=True)[:, 0]
        )
    return torch.cat(crops)


def semantic_loss(model: BlendMask, output: Output, truths: list[Truth]) -> Tensor:
    """Cross-entropy of the semantic head against a label map painted from the masks, 0 where nothing is."""
    logits = model.semantic(output.maps[model.config.basis_inputs[0]])  # (B,C+1,h,w)
    maps = torch.zeros(len(truths), 1, *(4 * side for side in output.bases.shape[-2:]), device=logits.device)  # image
    for i, objects in enumerate(truths):
        for label, mask in zip(objects.labels, objects.masks, strict=True):
            maps[i, 0, : mask.shape[0], : mask.shape[1]][mask] = float(label + 1)
    return cross_entropy(logits, interpolate(maps, logits.shape[-2:], mode="nearest")[:, 0].long())


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a number over the processes of a distributed run; itself in a single one."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()
