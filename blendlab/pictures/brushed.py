"""Instances that a reader draws by hand: a box each, and a mask brushed stroke by stroke.

One letter legend: H x W image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .picture import Picture, check_boxes, tight_boxes

MOST = 30  # changes that can be taken back: a mask of 1333 x 1000 each


class Brushed:
    """What has been drawn on one image: `masks`, (H,W) bool each, and `boxes`, x1,y1,x2,y2 or None where none is drawn.

    image: (H,W,3) uint8 RGB. Every change makes a new mask or box and leaves the one before as it was, for `undo`.
    """

    def __init__(self, image: np.ndarray):
        self.image = image
        self.masks: list[np.ndarray] = []
        self.boxes: list[list[float] | None] = []
        self._past: list[tuple[list[np.ndarray], list[list[float] | None]]] = []
        self._last: tuple[str, int] | None = None

    def __len__(self) -> int:
        return len(self.masks)

    def add(self, box: Sequence[float] | None = None) -> int:
        """A further instance with nothing brushed yet; its number. ValueError for a box that is none."""
        box = None if box is None else _checked(box)
        self._remember(("begun", len(self)) if box is None else None)
        self.masks.append(np.zeros(self.image.shape[:2], bool))
        self.boxes.append(box)
        return len(self) - 1

    def move(self, instance: int, box: Sequence[float]) -> None:
        """Another box for an instance; what is brushed stays where it is."""
        box = _checked(box)
        self._remember(("moved", instance))
        self.boxes[instance] = box

    def remove(self, instance: int) -> None:
        self._remember()
        del self.masks[instance], self.boxes[instance]

    def stroke(self, instance: int, points: Sequence[Sequence[float]], radius: float, erase: bool = False) -> None:
        """Brush along `points` (x, y) in image pixels: every pixel whose centre lies within `radius` of the line.

        One point is a dab. ValueError for no points, or numbers that are not finite.
        """
        covered, begun = line(self.image.shape[:2], points, radius), self.box(instance) is None
        self._remember(("begun", instance) if begun else None)
        self.masks[instance] = self.masks[instance] & ~covered if erase else self.masks[instance] | covered

    def _remember(self, what: tuple[str, int] | None = None) -> None:
        """Before a change: how all was. Changes of one name are one: a box on its way, an instance and its stroke."""
        if what is None or what != self._last:
            self._past = [*self._past[1 - MOST :], (list(self.masks), list(self.boxes))]
        self._last = what

    @property
    def changed(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._past)

    def undo(self) -> None:
        """Take back the last change, of at most MOST. ValueError where there is none."""
        if not self._past:
            raise ValueError("there is nothing to take back")
        (self.masks, self.boxes), self._last = self._past.pop(), None

    def box(self, instance: int) -> list[float] | None:
        """The box as drawn; without one, the tight box of the mask; None where there is neither."""
        if self.boxes[instance] is not None or not self.masks[instance].any():
            return self.boxes[instance]
        return tight_boxes(self.masks[instance][None])[0].tolist()

    def inside(self, instance: int) -> np.ndarray:
        """(H,W) bool: the mask as far as it lies in the box. The blender draws nothing outside."""
        mask, box = np.zeros_like(self.masks[instance]), self.box(instance)
        if box is not None:
            columns, rows = (slice(_first(low), _first(high)) for low, high in (box[0::2], box[1::2]))
            mask[rows, columns] = self.masks[instance][rows, columns]
        return mask

    def picture(self, name: str) -> Picture:
        """All instances as a Picture. ValueError that names the first without a brushed pixel in its box."""
        if not len(self):
            raise ValueError("nothing is drawn yet: brush over an object first")
        masks = [self.inside(i) for i in range(len(self))]
        for i, mask in enumerate(masks):
            if not mask.any():
                raise ValueError(f"instance {i} has no brushed pixel in its box: brush over the object, or remove it")
        boxes = [self.box(i) for i in range(len(self))]
        return Picture.from_masks(self.image, masks, boxes=boxes, labels=self.labels(), name=name)

    def labels(self) -> list[str]:
        return ["yours"] * len(self)


def _checked(box: Sequence[float]) -> list[float]:
    box = [float(side) for side in box]
    check_boxes(np.array([box]))
    return box


def _first(edge: float) -> int:
    """The first row or column whose centre does not lie before `edge`."""
    return max(math.ceil(edge - 0.5), 0)


def line(size: tuple[int, int], points: Sequence[Sequence[float]], radius: float) -> np.ndarray:
    """(H,W) bool: the pixels whose centres lie within `radius` of the line through `points` (x, y)."""
    path = np.asarray(points, float)
    if path.ndim != 2 or path.shape[1] != 2 or not len(path):
        raise ValueError(f"points must be (n,2), at least one x, y; got the shape {path.shape}")
    if not np.isfinite(path).all() or not 0 < radius < math.inf:
        raise ValueError(f"points must be finite and radius positive; got radius {radius} and points {points!r:.80}")
    covered = np.zeros(size, bool)
    for start, end in zip(path[[0, *range(len(path) - 1)]], path, strict=True):  # the first is a dab on the spot
        low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
        (left, top), (right, bottom) = np.floor(low).clip(0).astype(int), (np.ceil(high) + 1).clip(0).astype(int)
        window = covered[top:bottom, left:right]
        y, x = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
        x, y, along = x + 0.5 - start[0], y + 0.5 - start[1], end - start
        share = ((x * along[0] + y * along[1]) / max(along @ along, 1e-12)).clip(0, 1)  # how far along the piece
        window |= (x - share * along[0]) ** 2 + (y - share * along[1]) ** 2 <= radius**2
    return covered
