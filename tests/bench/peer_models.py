"""Peers of BlendMask on its own backbone and pyramid, each small and plain, trained by the same Trainer.

`Coefficients` and `MaskHead` keep our detector and put YOLACT's or Mask R-CNN's masks in the blender's place, so that
the mask heads alone are compared. `MaskRCNN` is torchvision's two-stage detector whole.

Letters: B images, N boxes, P positive locations, K prototypes, C classes, H x W map.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import interpolate
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from blendlab.blendmask import BlendMask, Config
from blendlab.blendmask.losses import crop_masks, detection_losses, match, some
from blendlab.blendmask.model import Output
from blendlab.blendmask.postprocess import propose
from blendlab.blendmask.predict import paste, resize, to_pixels, to_rgb
from blendlab.paste import clip_boxes

LEVELS = ("p3", "p4", "p5")
SIDE = 28  # of Mask R-CNN's masks


@dataclasses.dataclass
class Found:
    """n objects: boxes (n,4) in image pixels, scores (n,), labels (n,), masks (n,H,W) bool."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


class Peer(BlendMask):
    """What peers share: an image in, `Found` out. `detect` finds boxes in network pixels; `draw` makes masks (n,H,W) of
    them in the image, from what each detection said beside its box: by default the location that spoke."""

    @torch.inference_mode()
    def predict(self, image: np.ndarray, score_threshold: float = 0.3, K=None, M=None, R=None) -> Found:
        """As `BlendMask.predict`; K, M and R have no meaning here."""
        picture = to_rgb(image)
        resized = resize(picture, self.config.short_side, self.config.long_side)
        output = self(to_pixels(self, resized))
        boxes, scores, labels, said = self.detect(output, resized.size[::-1], score_threshold)
        scale = torch.tensor([new / old for new, old in zip(resized.size, picture.size, strict=True)] * 2)
        masks = self.draw(output, boxes, labels, said, boxes / scale, picture.size[::-1])
        return Found(boxes / scale, scores, labels, masks)

    def detect(self, output: Output, size: tuple[int, int], threshold: float) -> tuple[Tensor, ...]:
        """Boxes (n,4) within the image of `size` (H, W), scores, labels, and what they said: FCOS's location."""
        found = propose(output.dense, 0, self.config, threshold**2)
        boxes = clip_boxes(found.boxes, size)
        kept = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        return boxes[kept], found.scores[kept], found.labels[kept], found.location[kept]


class Coefficients(Peer):
    """YOLACT's masks: sigmoid(sum of tanh(c_k) relu(P_k)) on the whole image, then cut at the box.

    Prototypes P (B,K,H,W) come from our basis module, set on P3 as YOLACT's, and coefficients c (N,K) from our
    attention layer with M = 1. Each mask is weighted by its location's centerness, as the blender's are.
    Source: Bolya et al., ICCV 2019.
    """

    def __init__(self, config: Config, prototypes: int = 32):
        sizes = {"bases": prototypes, "attention_side": 1, "nested": False, "basis_inputs": ("p3",)}
        super().__init__(dataclasses.replace(config, **sizes))

    def assemble(self, output: Output, image: Tensor, location: Tensor) -> Tensor:
        """Mask logits (N,H,W) at stride 4, of N locations."""
        coefficients = self.attention_at(output.dense, image, location)[:, :, 0, 0].tanh()  # (N,K)
        return torch.einsum("nk,nkhw->nhw", coefficients, output.bases.relu()[image])

    def draw(self, output, boxes, labels, said, image_boxes, image_size) -> Tensor:
        logits = self.assemble(output, torch.zeros_like(said), said)
        if not len(logits):
            return torch.zeros(0, *image_size, dtype=torch.bool)
        masks = interpolate(logits[None], image_size, mode="bilinear", align_corners=False)[0] >= 0
        return masks & inside(image_boxes, image_size, 1)


def coefficient_losses(model: Coefficients, output, truths, sizes, limit, generator) -> dict[str, Tensor]:
    """Our detector's losses, and BCE within each true box, divided by the box's area."""
    positives = match(output.dense, truths, model.config)
    keep, share = some(positives, limit, generator)
    image, weight = positives.image[keep], positives.centerness[keep]
    logits = model.assemble(output, image, positives.location[keep])  # (P,H,W)
    crop = inside(positives.target_boxes[keep], logits.shape[1:], 4).float()
    target = torch.cat([shares(objects.masks, logits.shape[1:]) for objects in truths])[positives.truth[keep]]
    each = (bce(logits, target, reduction="none") * crop).sum((1, 2)) / crop.sum((1, 2)).clamp(min=1)  # (P,)
    mask = (each * weight).sum() / positives.total_centerness / share
    return detection_losses(output.dense, truths, positives) | {"mask": mask}


def inside(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """(N,H,W) bool: the cells of a map of `size` whose centre lies in each box."""
    y, x = ((torch.arange(side, device=boxes.device) + 0.5) * stride for side in size)
    x1, y1, x2, y2 = (side[:, None] for side in boxes.unbind(1))
    return ((y >= y1) & (y < y2))[:, :, None] & ((x >= x1) & (x < x2))[:, None, :]


def shares(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (n,h,w) bool as shares of area (n,H,W) of a map at stride 4 that may reach beyond them."""
    height, width = (4 * side for side in size)
    padded = nn.functional.pad(masks.float(), (0, width - masks.shape[2], 0, height - masks.shape[1]))
    return nn.functional.avg_pool2d(padded[:, None], 4)[:, 0]


class MaskHead(Peer):
    """Mask R-CNN's masks on our detector: RoIAlign 14 on the pyramid, four convolutions, a transposed one, a mask for
    each class. Source: He et al., ICCV 2017. Trained on true boxes, each once: the mask depends on the box alone."""

    def __init__(self, config: Config):
        super().__init__(dataclasses.replace(config, nested=False, output_side=SIDE))
        without_blender(self)
        width = config.fpn_channels
        self.pool = roi_pool(14)
        self.head = nn.Sequential(
            MaskRCNNHeads(width, (width,) * 4, 1), MaskRCNNPredictor(width, width, len(config.categories))
        )

    def forward(self, images: Tensor) -> Output:
        maps = self.backbone(images)
        maps |= self.pyramid(maps)
        return Output(maps, maps["p3"].new_zeros(0), self.fcos([maps[name] for name in LEVELS]))

    def logits(self, output: Output, boxes: list[Tensor], labels: Tensor) -> Tensor:
        """(N,28,28) of the boxes of each image, each of its own class."""
        height, width = (8 * side for side in output.maps["p3"].shape[2:])
        pooled = self.pool({name: output.maps[name] for name in LEVELS}, boxes, [(height, width)] * len(boxes))
        return self.head(pooled)[torch.arange(len(labels), device=labels.device), labels]

    def draw(self, output, boxes, labels, said, image_boxes, image_size) -> Tensor:
        if not len(boxes):
            return torch.zeros(0, *image_size, dtype=torch.bool)
        return paste(self.logits(output, [boxes], labels).sigmoid(), image_boxes, image_size)


def mask_head_losses(model: MaskHead, output, truths, sizes, limit, generator) -> dict[str, Tensor]:
    """Our detector's losses, and BCE of every object's mask of its own class in its true box."""
    positives = match(output.dense, truths, model.config)
    found = detection_losses(output.dense, truths, positives)
    labels = torch.cat([objects.labels for objects in truths])
    if not len(labels):
        return found
    logits = model.logits(output, [objects.boxes for objects in truths], labels)
    return found | {"mask": bce(logits, crop_masks(truths, SIDE))}


class MaskRCNN(Peer):
    """torchvision's Mask R-CNN on our backbone and pyramid: proposals, a box head of width 256, and the mask head.

    Anchors and pooling levels suit objects of 20 to 100 pixels; fewer proposals than for COCO, since a scene holds six
    objects; nothing else is tuned.
    """

    def __init__(self, config: Config):
        super().__init__(dataclasses.replace(config, nested=False, output_side=SIDE))
        without_blender(self)
        self.fcos = nn.Identity()
        width, classes = config.fpn_channels, len(config.categories) + 1  # 0 is background
        whole = TorchvisionMaskRCNN(
            _Backbone(width),
            None,  # classes: both predictors are given
            rpn_anchor_generator=AnchorGenerator(((20,), (40,), (80,)), ((0.5, 1.0, 2.0),) * 3),
            rpn_pre_nms_top_n_train=500,
            rpn_pre_nms_top_n_test=500,
            rpn_post_nms_top_n_train=200,
            rpn_post_nms_top_n_test=200,
            rpn_batch_size_per_image=128,
            box_roi_pool=roi_pool(7),
            box_head=TwoMLPHead(width * 49, 256),
            box_predictor=FastRCNNPredictor(256, classes),
            box_batch_size_per_image=64,
            mask_roi_pool=roi_pool(14),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes),
        )
        self.rpn, self.roi_heads = whole.rpn, whole.roi_heads

    def forward(self, images: Tensor) -> tuple[ImageList, dict[str, Tensor]]:
        maps = self.pyramid(self.backbone(images))
        size = tuple(images.shape[2:])
        return ImageList(images, [size] * len(images)), {name: maps[name] for name in LEVELS}

    def detect(self, output, size, threshold) -> tuple[Tensor, ...]:
        images, maps = output
        self.roi_heads.score_thresh = max(threshold, 0.05)
        proposals, _ = self.rpn(images, maps)
        ((found,), _) = self.roi_heads(maps, proposals, images.image_sizes)
        return clip_boxes(found["boxes"], size), found["scores"], found["labels"] - 1, found["masks"][:, 0]  # (n,28,28)

    def draw(self, output, boxes, labels, said, image_boxes, image_size) -> Tensor:
        return paste(said, image_boxes, image_size)


def mask_rcnn_losses(model: MaskRCNN, output, truths, sizes, limit, generator) -> dict[str, Tensor]:
    """torchvision's own losses of proposals, boxes, classes and masks."""
    images, maps = output
    targets = [{"boxes": t.boxes, "labels": t.labels + 1, "masks": t.masks.to(torch.uint8)} for t in truths]
    proposals, first = model.rpn(images, maps, targets)
    _, second = model.roi_heads(maps, proposals, images.image_sizes, targets)
    return first | second


def roi_pool(side: int) -> MultiScaleRoIAlign:
    """Boxes of up to 112 pixels are read from P3, of 224 from P4: course objects are a quarter the size of COCO's."""
    return MultiScaleRoIAlign(list(LEVELS), side, 2, canonical_scale=112, canonical_level=4)


def without_blender(model: BlendMask) -> None:
    """Take out what a peer does not use, so that neither its time nor its parameters count."""
    model.basis_module, model.attention = nn.Identity(), nn.Identity()


class _Backbone(nn.Module):
    """All that torchvision's constructor asks of a backbone: its maps are made elsewhere."""

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels


# name -> (model of a Config, what is minimised)
PEERS = {
    "yolact": (Coefficients, coefficient_losses),
    "mask_head": (MaskHead, mask_head_losses),
    "mask_rcnn": (MaskRCNN, mask_rcnn_losses),
}
