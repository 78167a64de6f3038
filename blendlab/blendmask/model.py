"""BlendMask: backbone, pyramid, FCOS head, attention layer and basis module. What it says goes to the blender."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .backbone import make_backbone
from .bases import BasisModule, SemanticHead
from .config import Config
from .fcos import AttentionLayer, Dense, FCOSHead
from .fpn import Pyramid

if TYPE_CHECKING:
    from PIL import Image

    from .predict import Detections


@dataclasses.dataclass
class Output:
    """What the network says about B images, before any decision.

    maps: feature maps by name (c2..c5, p3..); bases (B,K,H/4,W/4), any sign; dense: what FCOS says at every location.
    """

    maps: dict[str, Tensor]
    bases: Tensor
    dense: Dense


class BlendMask(nn.Module):
    """The network of Fig. 2 of the paper, in the sizes of a `Config`.

    Source: Chen et al., CVPR 2020, and AdelaiDet at commit 3672122 where paper and code differ.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config)
        self.pyramid = Pyramid(config, self.backbone.channels)
        channels = self.backbone.channels | {f"p{3 + i}": config.fpn_channels for i in range(config.levels)}
        self.fcos = FCOSHead(config)
        self.attention = AttentionLayer(config)
        self.basis_module = BasisModule(config, channels)
        self.semantic = SemanticHead(config, channels[config.basis_inputs[0]]) if config.seg_head else None
        self.restore_statistics()

    def restore_statistics(self) -> None:
        """The pixels' mean and deviation, from the config: no checkpoint holds them, so a model that was laid out on
        the meta device asks for them once its weights are in place."""
        for name, values in (("mean", self.config.pixel_mean), ("std", self.config.pixel_std)):
            like = self.attention.weight
            self.register_buffer(name, torch.tensor(values, dtype=like.dtype, device=like.device).view(3, 1, 1), False)

    def forward(self, images: Tensor) -> Output:
        """images (B,3,H,W) from `normalise`, H and W multiples of 32."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images has shape {tuple(images.shape)}; expected (B, 3, H, W)")
        if images.shape[2] % 32 or images.shape[3] % 32 or 0 in images.shape:
            raise ValueError(
                f"images is {images.shape[2]}x{images.shape[3]}; expected multiples of 32: see normalise()"
            )
        maps = self.backbone(images)
        maps |= self.pyramid(maps)
        dense = self.fcos([maps[f"p{3 + i}"] for i in range(self.config.levels)])
        return Output(maps, self.basis_module(maps), dense)

    def normalise(self, image: Tensor) -> Tensor:
        """(3,h,w) or (B,3,h,w) RGB in 0..255 -> (B,3,H,W) for the network, in the config's pixel order.

        Mean and deviation first, THEN zeros right and bottom up to multiples of 32: padding first would put a dark
        frame, not the mean colour, beside the image. As in AdelaiDet's preprocess_image and detectron2's ImageList.
        """
        image = image if image.dim() == 4 else image[None]
        image = image.flip(1) if self.config.pixel_order == "BGR" else image
        image = ((image.float() - self.mean) / self.std).to(self.mean.dtype)
        height, width = image.shape[-2:]
        return nn.functional.pad(image, (0, -width % 32, 0, -height % 32))

    def attention_at(self, dense: Dense, image: Tensor, location: Tensor) -> Tensor:
        """Attention logits (N,K,M,M) of N locations: image (N,) and location (N,) in the row of L locations."""
        return self.attention.at(dense.towers, image, location)

    def predict(
        self,
        image: np.ndarray | Image.Image,
        score_threshold: float = 0.3,
        K: int | None = None,
        M: int | None = None,
        R: int = 56,
        clip_before_blend: bool | None = None,
    ) -> Detections:
        """Objects of one image: H x W x 3 uint8 RGB array or PIL image, of any size. See `predict.predict`."""
        from .predict import predict

        return predict(self, image, score_threshold, K, M, R, clip_before_blend)
