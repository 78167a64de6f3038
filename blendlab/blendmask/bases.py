"""The bottom module: feature maps in, K bases at stride 4 out. Bases have no activation: any sign."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate

from .config import Config


def conv_bn_relu(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class BasisModule(nn.Module):
    """ProtoNet-like: each input refined, resized to the first one's side and added; convolutions; x2; K maps.

    With `basis_skip`, a map at stride 4 joins the sum before the last convolution, so that thin edges survive the
    detour over stride 8. Batch norm keeps statistics of its own, so that evaluation does not depend on the batch.
    """

    def __init__(self, config: Config, channels: dict[str, int]):
        super().__init__()
        width, self.inputs, self.skip_from = config.basis_channels, config.basis_inputs, config.basis_skip
        self.at_stride_4 = self.inputs[0] == "c2"
        self.refine = nn.ModuleList(conv_bn_relu(channels[name], width) for name in self.inputs)
        self.tower = nn.Sequential(*(conv_bn_relu(width, width) for _ in range(config.basis_convs)))
        self.skip = conv_bn_relu(channels[self.skip_from], width, 1) if self.skip_from else None
        self.last = conv_bn_relu(width, width)
        self.out = nn.Conv2d(width, config.bases, 1)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """maps by name (c2..c5, p3..p7); returns the bases (B,K,H/4,W/4)."""
        first, *others = (refine(maps[name]) for refine, name in zip(self.refine, self.inputs, strict=True))
        total = first
        for other in others:
            total = total + _resize(other, first.shape[-2:])
        x = self.tower(total)
        if not self.at_stride_4:
            x = _resize(x, (2 * x.shape[-2], 2 * x.shape[-1]))
        if self.skip is not None:
            x = x + self.skip(maps[self.skip_from])
        return self.out(self.last(x)).float()


class SemanticHead(nn.Module):
    """Training only: per-pixel class logits from the first basis input, which then knows what is where."""

    def __init__(self, config: Config, channels: int):
        super().__init__()
        width = config.basis_channels
        self.body = nn.Sequential(conv_bn_relu(channels, width), conv_bn_relu(width, width))
        self.out = nn.Conv2d(width, len(config.categories) + 1, 1)  # 0 is background

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)).float()


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(x, size, mode="bilinear", align_corners=False)
