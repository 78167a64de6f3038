"""Backbones: an image in, the maps c2..c5 at strides 4, 8, 16 and 32 out.

Three kinds: a small residual net trained from nothing, EfficientNet-Lite0 with ImageNet weights (`lite0.py`), and the
authors' ResNet-50/101 (`msra.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .config import Config
from .lite0 import Lite0

if TYPE_CHECKING:
    from .msra import MsraResNet


class ResidualPair(nn.Module):
    """conv-BN-ReLU-conv-BN plus the input, then ReLU: the basic block of a ResNet."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.body(x)).relu()


def downsample(channels_in: int, channels_out: int) -> nn.Sequential:
    """Halve the side with a 3x3 convolution of stride 2, BN and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class ScratchNet(nn.Module):
    """0.5 M parameters that learn from random numbers in a minute on a CPU."""

    channels = {"c2": 32, "c3": 64, "c4": 96, "c5": 128}

    def __init__(self) -> None:
        super().__init__()
        self.stem = downsample(3, 24)
        self.c2 = nn.Sequential(downsample(24, 32), ResidualPair(32))
        self.c3 = nn.Sequential(downsample(32, 64), ResidualPair(64))
        self.c4 = nn.Sequential(downsample(64, 96), ResidualPair(96))
        self.c5 = downsample(96, 128)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        c2 = self.c2(self.stem(images))
        c3 = self.c3(c2)
        c4 = self.c4(c3)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": self.c5(c4)}


def make_backbone(config: Config) -> ScratchNet | Lite0 | MsraResNet:
    """The backbone that `config.backbone` names; its `channels` says how wide c2..c5 are."""
    if config.backbone == "scratch":
        return ScratchNet()
    if config.backbone == "lite0":
        return Lite0()
    from .msra import MsraResNet  # here: importing torchvision takes over a second

    return MsraResNet(int(config.backbone.removeprefix("resnet")))
