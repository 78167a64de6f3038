"""A source: the blender's three inputs for one picture, at every K and M that it can serve.

One letter legend: N boxes, K bases, M attention side, R output side, H x W map.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from . import check
from .blender import BlenderInputs
from .pictures import Picture
from .pictures.scenes import CREDIT

if TYPE_CHECKING:
    from .blendmask import BlendMask

STRIDE = 4


@dataclass(frozen=True, eq=False, repr=False)
class Source:
    """Nested arrays: the first K bases, with the attention averaged down to M x M, are the inputs at (K, M).

    name           "fitted", "random", "trained", "official": how the board's menu calls it.
    note           one sentence that the board shows: where these numbers come from.
    bases          (1,K_max,H,W) float32.
    attention      (N,K_max,M_max,M_max) float32.
    boxes          (N,4) float32: x1, y1, x2, y2 in image pixels.
    spatial_scale  map pixels for each image pixel.
    K_range, M_range, R_range   the least and the greatest that this source is made for, both included.
    K1_normalizer  how K=1 is meant to be read: "softmax", or "product", the paper's sigmoid(a') * sigmoid(r).

    Raises ValueError or TypeError that names what does not fit.
    """

    name: str
    note: str
    bases: Tensor
    attention: Tensor
    boxes: Tensor
    spatial_scale: float = 1 / STRIDE
    K_range: tuple[int, int] = (1, 8)
    M_range: tuple[int, int] = (1, 28)
    R_range: tuple[int, int] = (7, 112)
    K1_normalizer: str = "softmax"

    def __post_init__(self):
        for field in ("bases", "attention", "boxes"):
            value = getattr(self, field)
            if not isinstance(value, Tensor) or value.dtype != torch.float32:
                raise TypeError(f"{field} must be a float32 tensor; got {check.got(value)}")
        whole = BlenderInputs(self.bases, self.attention, self.boxes, self.spatial_scale)  # it checks what must agree
        if len(self.bases) != 1:
            raise ValueError(f"bases must be (1,K,H,W), of one picture; got {check.got(self.bases)}")
        for field, most in (("K_range", whole.K), ("M_range", whole.M), ("R_range", math.inf)):
            low, high = getattr(self, field)
            if not 1 <= check.whole(f"{field}[0]", low) <= check.whole(f"{field}[1]", high) <= most:
                raise ValueError(f"{field} must be (low, high) with 1 <= low <= high <= {most}; got ({low}, {high})")
        check.choice("K1_normalizer", self.K1_normalizer, ("softmax", "product"))

    @property
    def N(self) -> int:
        return len(self.boxes)

    def inputs(self, K: int, M: int, instance: int | None = None) -> BlenderInputs:
        """The first K bases and attention maps, the attention averaged to M x M; with `instance`, that row alone.

        Cheap enough for every step of a slider. ValueError for a K, an M or an instance that is not served.
        """
        served("K", K, self.K_range, self.name)
        served("M", M, self.M_range, self.name)
        rows = slice(None)
        if instance is not None:
            if not 0 <= check.whole("instance", instance) < self.N:
                raise ValueError(f"instance must be from 0 to {self.N - 1}; got {instance}")
            rows = slice(instance, instance + 1)
        attention = average(self.attention[rows, :K], M)
        return BlenderInputs(self.bases[:, :K], attention, self.boxes[rows], self.spatial_scale)

    def with_boxes(self, boxes: Tensor) -> "Source":
        """The same bases and attention read with other boxes (N,4): dragged ones, say."""
        return replace(self, boxes=boxes)

    def to(self, device: str | torch.device) -> "Source":
        """The same arrays on another device."""
        arrays = {name: getattr(self, name).to(device) for name in ("bases", "attention", "boxes")}
        return replace(self, **arrays)

    def __repr__(self) -> str:
        K, M, R = (f"{low}..{high}" for low, high in (self.K_range, self.M_range, self.R_range))
        return f"Source({self.name!r}, N={self.N}, K={K}, M={M}, R={R})"


def average(attention: Tensor, M: int) -> Tensor:
    """Attention (N,K,side,side) averaged down to (N,K,M,M), as adaptive average pooling does it.

    It is linear and separable: P a P^T, which on a CPU takes a tenth of the time of adaptive_avg_pool2d.
    """
    if attention.shape[-1] == M:
        return attention
    P = averaging_matrix(attention.shape[-1], M, attention.device)
    return P @ attention @ P.T


@lru_cache(maxsize=64)
def averaging_matrix(side: int, M: int, device: torch.device) -> Tensor:
    """P (M,side): row i holds the weights with which cell i averages the `side` cells; their sum is 1."""
    with torch.inference_mode(False):  # cached, so it must serve training after it served inference
        return adaptive_avg_pool1d(torch.eye(side, dtype=torch.float32, device=device), M).T.contiguous()


def served(letter: str, value: int, between: tuple[int, int], name: str) -> int:
    """`value` if it lies in `between`; otherwise ValueError says what the source `name` serves."""
    low, high = between
    if not low <= check.whole(letter, value) <= high:
        raise ValueError(f"{letter} must be from {low} to {high} for the source {name!r}; got {value}")
    return value


def map_size(picture: Picture) -> tuple[int, int]:
    """(H, W) of the base map at stride 4: the last cell may reach beyond the image."""
    if not isinstance(picture, Picture):
        raise TypeError(f"picture must be a Picture; got {check.got(picture)}")
    height, width = picture.size
    return math.ceil(height / STRIDE), math.ceil(width / STRIDE)


def random_source(picture: Picture, seed: int = 0) -> Source:
    """Bases normal * 3 and attention normal * 2 for a picture's boxes: what a blender does with noise."""
    noise = torch.Generator().manual_seed(check.whole("seed", seed))
    bases = 3 * torch.randn(1, 8, *map_size(picture), generator=noise, dtype=torch.float32)
    attention = 2 * torch.randn(len(picture), 8, 28, 28, generator=noise, dtype=torch.float32)
    note = f"these bases and attentions are noise (seed {seed}): no picture and no mask went into them"
    return Source("random", note, bases, attention, torch.from_numpy(picture.boxes.copy()))


def trained_source(
    picture: Picture, model: "BlendMask | None" = None, boxes: "np.ndarray | str | None" = None
) -> Source:
    """Bases and attention that a BlendMask makes from the picture alone: the shipped model, or the one given.

    boxes  None, the picture's own; "detected", those that the model finds itself (an instance that it misses keeps
           its own); or (N,4) in image pixels, one an instance, by hand. See `blendmask.source.network_source`.

    ValueError where the shipped weights are missing, or boxes do not fit.
    """
    from .blendmask.source import network_source  # here: what does without a network starts without its code

    note = "a network made these bases and attentions from the image; it has not seen the masks"
    if not is_composed(picture):
        note += ". It has only ever learned the sprites of composed scenes: here it can do no better than guess"
    name = "trained" if boxes is None else "trained, detected boxes" if isinstance(boxes, str) else "trained, my boxes"
    return network_source(picture, shipped_model() if model is None else model, name, note, boxes)


def is_composed(picture: Picture) -> bool:
    """Whether this is a composed scene, the only kind of picture that the shipped model knows."""
    return picture.credit == CREDIT


@lru_cache(maxsize=1)
def shipped_model() -> "BlendMask":
    """`blendmask.pretrained()`, loaded once for all sources and explorers: to look at, not to train."""
    from .blendmask import pretrained

    return pretrained()
