"""The FCOS head: at every location of every level a class, a centerness, a box, and the tower that attention reads.

FCOS (Tian et al., ICCV 2019) as AdelaiDet runs it for BlendMask: no per-level scale, boxes in units of the stride.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from .config import Config


@dataclasses.dataclass
class Dense:
    """What the head says everywhere. All levels lie in one row of L locations, P3 first, each level row by row.

    classes (B,L,C) logits; centerness (B,L) logits; ltrb (B,L,4) distances in network pixels, >= 0;
    points (L,2) x, y in network pixels; level (L,) with 0 for P3; towers: the box tower's map of each level.
    """

    classes: Tensor
    centerness: Tensor
    ltrb: Tensor
    points: Tensor
    level: Tensor
    towers: list[Tensor]

    def boxes(self) -> Tensor:
        """(B,L,4) x1,y1,x2,y2 in network pixels, not clipped."""
        return boxes_from_ltrb(self.points, self.ltrb)


def boxes_from_ltrb(points: Tensor, ltrb: Tensor) -> Tensor:
    """Boxes (...,4) from points (...,2) and their distances to the left, top, right and bottom side (...,4)."""
    return torch.cat([points - ltrb[..., :2], points + ltrb[..., 2:]], dim=-1)


def locations(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """(height*width, 2) x, y in pixels of a level's cells, row by row: index * stride + stride // 2."""
    x = torch.arange(width, device=device, dtype=torch.float32) * stride + stride // 2
    y = torch.arange(height, device=device, dtype=torch.float32) * stride + stride // 2
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([xx, yy], dim=-1).reshape(-1, 2)


def tower(channels: int, convs: int, groups: int) -> nn.Sequential:
    """convs x (3x3 convolution, GroupNorm, ReLU)."""
    layers: list[nn.Module] = []
    for _ in range(convs):
        conv = nn.Conv2d(channels, channels, 3, padding=1)
        layers += [conv, nn.GroupNorm(groups, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class FCOSHead(nn.Module):
    """Two towers shared by all levels; classes on one, box and centerness on the other."""

    def __init__(self, config: Config):
        super().__init__()
        width, self.strides = config.fpn_channels, config.strides
        self.cls_tower = tower(width, config.tower_convs, config.tower_groups)
        self.box_tower = tower(width, config.tower_convs, config.tower_groups)
        self.classes = nn.Conv2d(width, len(config.categories), 3, padding=1)
        self.box = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                # towers start at unit scale, so that the course model is quick; the three outputs start small
                nn.init.kaiming_normal_(layer.weight) if "tower" in name else nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.classes.bias, -math.log((1 - 0.01) / 0.01))  # a prior of 1 % for each class
        nn.init.constant_(self.box.bias, 2.0)  # two strides to each side; at 0 half the ReLUs would pass no gradient

    def forward(self, levels: list[Tensor]) -> Dense:
        """levels: pyramid maps (B,C,h,w), P3 first."""
        classes, centerness, ltrb, points, level_index, towers = [], [], [], [], [], []
        for i, (x, stride) in enumerate(zip(levels, self.strides, strict=True)):
            box_tower = self.box_tower(x)
            classes.append(self.classes(self.cls_tower(x)).flatten(2).transpose(1, 2).float())  # (B,hw,C)
            centerness.append(self.centerness(box_tower).flatten(1).float())  # (B,hw)
            ltrb.append(self.box(box_tower).flatten(2).transpose(1, 2).float().relu() * stride)  # (B,hw,4)
            points.append(locations(*x.shape[-2:], stride, x.device))
            level_index.append(torch.full((len(points[-1]),), i, device=x.device))
            towers.append(box_tower)
        return Dense(
            torch.cat(classes, 1),
            torch.cat(centerness, 1),
            torch.cat(ltrb, 1),
            torch.cat(points),
            torch.cat(level_index),
            towers,
        )


class AttentionLayer(nn.Conv2d):
    """The top layer: ONE 3x3 convolution from the box tower to K*M*M numbers, shared by all levels.

    Training and test need it only at the locations that count. There its 3x3 patches are unfolded, which gives the
    same numbers as the convolution of the whole map at a fraction of the cost.
    """

    def __init__(self, config: Config):
        self.grid = (config.bases, config.attention_side, config.attention_side)
        super().__init__(config.fpn_channels, math.prod(self.grid), 3, padding=1)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def at(self, towers: list[Tensor], image: Tensor, location: Tensor) -> Tensor:
        """Attention (N,K,M,M) of N locations: image (N,) index, location (N,) index into the row of L locations."""
        patches = towers[0].new_zeros(len(image), self.weight[0].numel())
        start = 0
        for x in towers:
            height, width = x.shape[-2:]
            here = ((location >= start) & (location < start + height * width)).nonzero()[:, 0]
            cell = location[here] - start
            y, x_cell = cell // width, cell % width
            offset = torch.arange(3, device=x.device)
            rows = (y[:, None] + offset)[:, :, None]  # (n,3,1), in the padded map
            columns = (x_cell[:, None] + offset)[:, None, :]  # (n,1,3)
            padded = nn.functional.pad(x, (1, 1, 1, 1))
            patch = padded[image[here][:, None, None], :, rows, columns]  # (n,3,3,C)
            patches = patches.index_put((here,), patch.permute(0, 3, 1, 2).flatten(1))
            start += height * width
        attention = nn.functional.linear(patches.to(self.weight.dtype), self.weight.flatten(1), self.bias)
        return attention.float().unflatten(1, self.grid)
