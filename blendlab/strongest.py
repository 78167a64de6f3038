"""Which basis speaks where: an image coloured by the basis that weighs most, or that decides a mask's pixels.

The idea is the paper's Fig. 3, where colours tell which basis each place of a mask is assembled from. One letter
legend: N boxes, K bases, R output side, H x W image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .blender import BlendTrace

# Okabe and Ito's eight, in an order that keeps neighbours apart in lightness
COLOURS = (
    (230, 159, 0),
    (0, 114, 178),
    (240, 228, 66),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (0, 158, 115),
    (60, 60, 60),
)
NAMES = ("orange", "blue", "yellow", "pink", "sky blue", "vermilion", "bluish green", "grey")


def heaviest(trace: BlendTrace) -> Tensor:
    """(N,R,R) the basis with the largest weight s_k at each pixel."""
    return trace.scores.argmax(1)


def deciding(trace: BlendTrace) -> Tensor:
    """(N,R,R) the basis whose product s_k * r_k is largest in magnitude: it pulls the pixel in or out."""
    return trace.products.abs().argmax(1)


def shares(index: Tensor, K: int, where: Tensor | None = None) -> Tensor:
    """(K,) how often each basis comes in `index`, as shares of 1; of the pixels `where` alone, if given."""
    chosen = index[where] if where is not None else index.flatten()
    return chosen.bincount(minlength=K) / max(len(chosen), 1)


def paint(image: np.ndarray, index: Tensor, box: Tensor, mask: np.ndarray | None = None) -> np.ndarray:
    """A copy of `image` (H,W,3) uint8 with `index` (R,R) in its colours over `box` (4,), or over `mask` (H,W) in it.

    Each image pixel takes the bin that its centre falls into. More than eight bases share the colours in turn.
    """
    (H, W), R = image.shape[:2], len(index)
    x1, y1, x2, y2 = box.tolist()
    columns, rows = (
        (torch.arange(n) + 0.5 - low) / max(high - low, 1e-6) * R for n, low, high in ((W, x1, x2), (H, y1, y2))
    )
    across, down = ((place >= 0) & (place < R) for place in (columns, rows))
    here = np.ix_(down.numpy(), across.numpy())  # (h,w) of the image, the box alone: it may be small in a large one
    which = index[rows[down].long()][:, columns[across].long()].numpy()  # (h,w)
    colour = np.array(COLOURS, np.float32)[which % len(COLOURS)]
    painted, patch = image.copy(), image[here]
    tinted = 0.25 * patch.mean(2, keepdims=True, dtype=np.float32) + 0.75 * colour
    painted[here] = tinted if mask is None else np.where(mask[here][..., None], tinted, patch)
    return painted
