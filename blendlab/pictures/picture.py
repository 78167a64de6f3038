"""Picture: an image with its true instance masks and boxes. Every source of the blender's inputs starts from one."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .convert import to_array, to_masks, to_rgb

# Okabe and Ito's colours, without the pair of a red and a green that many readers cannot tell apart.
COLOURS = ((230, 159, 0), (86, 180, 233), (240, 228, 66), (0, 114, 178), (204, 121, 167), (255, 255, 255))


@dataclass(frozen=True, eq=False, repr=False)
class Picture:
    """An image and the truth about its instances; N may be 0. `Picture.from_masks` makes one from other forms.

    name: how explorers and messages call it.
    image: (H,W,3) uint8 RGB.
    masks: (N,H,W) bool, the visible pixels of each instance; none is empty.
    boxes: (N,4) float32, x1,y1,x2,y2 in pixels. Pixel centres are at +0.5, so the tight box of a mask runs from its
        first column to its last column + 1.
    labels: N strings. credit, licence: where the image comes from, and under which terms.
    Raises TypeError or ValueError for another type, shape or size, an empty mask, or a box that is NaN, infinite,
    inverted or without area.
    """

    name: str
    image: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    labels: list[str]
    credit: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        _check_array("image", self.image, np.uint8, 3)
        _check_array("masks", self.masks, np.bool_, 3)
        _check_array("boxes", self.boxes, np.float32, 2)
        height, width, channels = self.image.shape
        if channels != 3 or height == 0 or width == 0:
            raise ValueError(f"image must be (H,W,3), got {self.image.shape}")
        if self.masks.shape[1:] != (height, width):
            raise ValueError(f"masks must be (N,{height},{width}) as the image is, got {self.masks.shape}")
        for i in np.flatnonzero(~self.masks.any(axis=(1, 2))):
            raise ValueError(f"masks[{i}] is empty: each instance needs at least one pixel")
        if self.boxes.shape != (len(self.masks), 4):
            raise ValueError(f"boxes must be (N,4) with N = {len(self.masks)} as masks have, got {self.boxes.shape}")
        check_boxes(self.boxes)
        strings = isinstance(self.labels, list) and all(isinstance(label, str) for label in self.labels)
        if not strings or len(self.labels) != len(self.masks):
            raise ValueError(f"labels must be a list of {len(self.masks)} strings, one a mask, got {self.labels!r}")

    @classmethod
    def from_masks(
        cls,
        image,
        masks=None,
        *,
        boxes=None,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        credit: str = "",
        licence: str = "",
    ) -> Picture:
        """A Picture from what a user has.

        image: path, bytes of an image file, PIL image or array (see `convert.to_rgb`); EXIF orientation is applied.
        masks: (N,H,W) of bool or 0/1, a list of (H,W), an (H,W) integer instance map, or None (see `convert.to_masks`).
        boxes: (N,4) x1,y1,x2,y2 in pixels; absent, the tight box of each mask.
        labels: N strings; absent, "instance 0", "instance 1", ...
        name: absent, the file's name, or "picture".
        """
        if name is None:
            name = os.path.basename(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else "picture"
        image = to_rgb(image)
        masks = to_masks(masks, *image.shape[:2])
        if boxes is None:
            boxes = tight_boxes(masks)
        else:
            boxes = _to_floats("boxes", boxes)
            boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        if labels is None:
            labels = [f"instance {i}" for i in range(len(masks))]
        labels = list(labels) if isinstance(labels, (tuple, np.ndarray)) else labels
        return cls(name, image, masks, boxes, labels, credit, licence)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[:2]

    def instance_at(self, x: float, y: float) -> int | None:
        """The instance that a click at (x, y), in pixels, means; None beside all of them and off the image.

        Of the masks that hold the point the smallest; where no mask does, of the boxes the one of least area. A box
        holds its left and upper side, not its right and lower one. Of equals it is the first.
        """
        height, width = self.size
        if not (0 <= x < width and 0 <= y < height):
            return None
        (on_mask,) = self.masks[:, int(y), int(x)].nonzero()
        if len(on_mask):
            return int(min(on_mask, key=lambda i: self.masks[i].sum()))
        x1, y1, x2, y2 = self.boxes.T
        (inside,) = ((x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)).nonzero()
        areas = (x2 - x1) * (y2 - y1)
        return int(min(inside, key=lambda i: areas[i])) if len(inside) else None

    def __len__(self) -> int:
        """N, the number of instances."""
        return len(self.masks)

    def __bool__(self) -> bool:  # without it, a picture with no instances would count as false
        return True

    def __repr__(self) -> str:
        height, width = self.size
        return f"Picture({self.name!r}, {width} x {height} px, {len(self)} instance{'' if len(self) == 1 else 's'})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the image with each instance's outline box, its mask tinted."""
        tinted = self.image.astype(np.float32)  # (H,W,3)
        for i, mask in enumerate(self.masks):
            tinted[mask] = 0.65 * tinted[mask] + 0.35 * np.array(COLOURS[i % len(COLOURS)], np.float32)
        zoom = max(1, 384 // max(self.size))
        drawn = Image.fromarray(tinted.astype(np.uint8))
        drawn = drawn.resize((drawn.width * zoom, drawn.height * zoom), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(drawn)
        for i, (box, label) in enumerate(zip(self.boxes, self.labels, strict=True)):
            x1, y1, x2, y2 = (float(v) * zoom for v in box)
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=COLOURS[i % len(COLOURS)])
            pen.text((x1 + 2, y1), f"{i} {label}", fill="white", stroke_width=1, stroke_fill="black")
        file = io.BytesIO()
        drawn.save(file, "PNG")
        return file.getvalue()


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """(N,H,W) bool masks, none empty -> (N,4) float32 boxes x1,y1,x2,y2; x2 and y2 are the last pixel + 1."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def check_boxes(boxes: np.ndarray) -> None:
    """Raise ValueError that names the first box, of (N,4), that is not finite or has x2 <= x1 or y2 <= y1."""
    finite = np.isfinite(boxes).all(axis=1)
    with np.errstate(invalid="ignore"):
        ordered = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    for i in np.flatnonzero(~(finite & ordered)):
        wanted = "x1 < x2 and y1 < y2" if finite[i] else "finite numbers"
        raise ValueError(f"boxes[{i}] is {boxes[i].tolist()}, expected x1,y1,x2,y2 with {wanted}")


def _to_floats(name: str, value) -> np.ndarray:
    try:
        return to_array(value).astype(np.float32)
    except (TypeError, ValueError) as error:  # words, or rows of different lengths
        raise ValueError(f"{name} must be (N,4) numbers, got {value!r:.80}") from error


def _check_array(name: str, value, dtype, ndim: int) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{name} must be a numpy array of {np.dtype(dtype)}, got {got}")
    if value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got the shape {value.shape}")
