"""The feature pyramid: c3..c5 in, p3..p5 out, and p6, p7 where the config asks for them.

Ours and not torchvision's, whose import takes longer than all else that a first picture of the trained network needs.
Parameters have torchvision's names.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from .config import Config

NAMES = ("c3", "c4", "c5")


class TopDown(nn.Module):
    """A lateral 1x1 convolution a level, the level above added by nearest interpolation, and a 3x3 convolution."""

    def __init__(self, channels: list[int], width: int, more: bool):
        super().__init__()
        self.inner_blocks, self.layer_blocks = nn.ModuleList(), nn.ModuleList()
        for count in channels:
            self.inner_blocks.append(nn.Sequential(nn.Conv2d(count, width, 1)))
            self.layer_blocks.append(nn.Sequential(nn.Conv2d(width, width, 3, padding=1)))
        if more:
            self.extra_blocks = nn.ModuleDict({name: nn.Conv2d(width, width, 3, 2, 1) for name in ("p6", "p7")})
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                nn.init.zeros_(layer.bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps from fine to coarse -> as many, `width` channels each, and the two more."""
        joined = self.inner_blocks[-1](maps[-1])
        out = [self.layer_blocks[-1](joined)]
        for i in range(len(maps) - 2, -1, -1):
            lateral = self.inner_blocks[i](maps[i])
            joined = lateral + interpolate(joined, size=lateral.shape[-2:], mode="nearest")
            out.insert(0, self.layer_blocks[i](joined))
        if hasattr(self, "extra_blocks"):
            p6 = self.extra_blocks["p6"](out[-1])
            out += [p6, self.extra_blocks["p7"](relu(p6))]
        return out


class Pyramid(nn.Module):
    """The FPN with upstream's P6 and P7: P6 is a stride-2 convolution of P5 (the pyramid's, not c5), P7 of relu(P6)."""

    def __init__(self, config: Config, backbone_channels: dict[str, int]):
        super().__init__()
        self.levels = config.levels
        channels = [backbone_channels[name] for name in NAMES]
        self.fpn = TopDown(channels, config.fpn_channels, more=config.levels > 3)

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid's maps by name, p3 first."""
        out = self.fpn([maps[name] for name in NAMES])
        return {f"p{3 + i}": level for i, level in enumerate(out[: self.levels])}
