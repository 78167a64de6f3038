"""One checkpoint for every K and M: reading the first k bases and attention pooled to m, and blending at k = 1.

Trained so that every reading is good (nested training), the first basis learns to do what one basis can, the second
what one more can add, and so on; a slider over K then moves along one model instead of eight.
"""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ..steps import blend, interpolate, softmax
from .config import MOST_R, Config


def read(bases: Tensor, attention: Tensor, K: int, M: int) -> tuple[Tensor, Tensor]:
    """The first K bases (B,K,H,W), and the first K attention maps averaged down to M x M (N,K,M,M)."""
    attention = attention[:, :K]
    if attention.shape[-1] != M:
        attention = adaptive_avg_pool2d(attention, M)
    return bases[:, :K], attention


def sizes(config: Config, K: int | None, M: int | None, R: int | None) -> tuple[int, int, int]:
    """K, M and R with the config's own for None; ValueError for one that the model cannot serve."""
    K, M, R = (
        own if asked is None else asked
        for asked, own in zip((K, M, R), (config.bases, config.attention_side, config.output_side), strict=True)
    )
    for name, value, low, high in (
        ("K", K, 1 if config.nested else config.bases, config.bases),
        ("M", M, 1, config.attention_side),
        ("R", R, 1, MOST_R),
    ):
        if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
            raise ValueError(f"{name} is {value!r}; this model serves whole numbers from {low} to {high}")
    return int(K), int(M), int(R)  # of NumPy's, plain ones


def blend_regions(regions: Tensor, attention: Tensor, R: int) -> Tensor:
    """Mask logits (N,R,R) from bases already cropped (N,K,R,R): what the Blender does after RoIAlign.

    In training many locations share one object's box, which is then pooled once.
    """
    upsampled = interpolate(attention, R)  # (N,K,R,R)
    if regions.shape[1] > 1:
        return blend(regions, softmax(upsampled))
    a, r = upsampled[:, 0], regions[:, 0]
    return -torch.stack([-a, -r, -a - r]).logsumexp(0)
