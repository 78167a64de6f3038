"""The feature pyramid: c3..c5 in, p3..p5 out, and p6, p7 where the config asks for them."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from .config import Config


class Pyramid(nn.Module):
    """torchvision's FPN (top-down path by nearest interpolation, as upstream) with upstream's P6 and P7.

    P6 is a stride-2 convolution of P5 (the pyramid's, not c5), P7 one of relu(P6).
    """

    def __init__(self, config: Config, backbone_channels: dict[str, int]):
        super().__init__()
        width, self.levels = config.fpn_channels, config.levels
        self.fpn = FeaturePyramidNetwork(
            [backbone_channels[name] for name in ("c3", "c4", "c5")],
            width,
            extra_blocks=LastLevelP6P7(width, width) if config.levels > 3 else None,
        )

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid's maps by name, p3 first."""
        out = self.fpn({name: maps[name] for name in ("c3", "c4", "c5")})
        return {f"p{3 + i}": level for i, level in enumerate(list(out.values())[: self.levels])}
