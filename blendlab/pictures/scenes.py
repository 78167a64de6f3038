"""Composed scenes: sprites on photographs, with the exact mask of every visible part. One seed, one scene.

Every scene is made from its own seed alone, in any order, in any process: there is no state to carry or to save. The
same seed gives the same scene on every machine: random numbers come from PCG64's raw doubles only, colours are
computed in integers, and images are stored as WebP, whose decoding is exact.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from PIL import Image

from .picture import Picture, tight_boxes
from .sprites import CATEGORIES, SPLITS, photograph, photograph_names, sprite, sprite_codes

TURN = math.radians(40)  # a sprite is rotated by at most this, either way
STRETCH = 1.25  # one side of a sprite against the other, at most
CREDIT = "Fluent Emoji by Microsoft (package by LobeHub) on photographs from scikit-image"
LICENCE = "sprites: MIT; photographs: CC0 or public domain"


class SceneArrays(NamedTuple):
    """image (H,W,3) uint8, masks (N,H,W) bool, boxes (N,4) float32 x1,y1,x2,y2, classes (N,) int64 into CATEGORIES."""

    image: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


def scene(seed: int, split: str = "train", size: int = 128, **options) -> Picture:
    """A composed scene as a Picture; the arguments are those of `scene_arrays`. Labels are names of CATEGORIES."""
    image, masks, boxes, classes = scene_arrays(seed, split, size, **options)
    return Picture(f"{split} scene {seed}", image, masks, boxes, [CATEGORIES[i] for i in classes], CREDIT, LICENCE)


def scene_arrays(
    seed: int,
    split: str = "train",
    size: int = 128,
    *,
    count: tuple[int, int] = (3, 6),
    side: tuple[float, float] = (28, 72),
    overlap: float = 0.0,
    mixture: float = 0.0,
    min_pixels: int = 40,
) -> SceneArrays:
    """A composed scene as arrays, for training: about a millisecond each on one core.

    seed: 0 or more; the same seed draws different scenes in different splits.
    split: "train" (training sprites on training photographs), "held_out" (training sprites on held-out photographs) or
        "unseen" (unseen sprites on held-out photographs).
    size: side of the square image in pixels.
    count: fewest and most sprites that are laid down, each number equally likely.
    side: shortest and longest long side of a sprite in pixels, before it is turned and stretched.
    overlap: the share of sprites (from the second on) laid almost onto the one before, at nearly its size. Such pairs
        share much of one box, so that only the attention can tell them apart.
    mixture: the share of scenes whose background is two crops, altered in tone and colour, that flow into one another.
        A training split of five photographs is soon known by heart; this makes it many.
    min_pixels: an instance with fewer visible pixels is dropped from the truth (its pixels stay in the image).

    A later sprite covers the earlier ones. Masks are the visible parts and disjoint; a pixel belongs to a sprite that
    covers at least half of it. Boxes are the tight boxes of the visible parts. N may be less than the number laid down.
    """
    _check(seed, split, size, count, side, overlap, mixture, min_pixels)
    draw = np.random.Generator(np.random.PCG64([list(SPLITS).index(split), seed])).random
    mixed = mixture > 0 and draw() < mixture  # no number is drawn at 0: other scenes stay what they were
    image = _mixture(draw, split, size) if mixed else _background(draw, split, size)
    owner = np.full((size, size), -1, np.int8)  # which sprite one sees at a pixel
    classes = []
    x = y = length = 0.0
    for i in range(count[0] + int(draw() * (count[1] - count[0] + 1))):
        if i > 0 and draw() < overlap:
            length = min(max(length * (0.8 + 0.45 * draw()), side[0]), side[1])
            reach, angle = length * (0.15 + 0.3 * draw()), 2 * math.pi * draw()
            x, y = x + reach * math.cos(angle), y + reach * math.sin(angle)
            x, y = min(max(x, 0.1 * size), 0.9 * size), min(max(y, 0.1 * size), 0.9 * size)
        else:
            length = side[0] + (side[1] - side[0]) * draw()
            margin = min(0.4 * length, size / 2)  # a little of a sprite may lie outside the image, never most of it
            x, y = (margin + (size - 2 * margin) * draw() for _ in "xy")
        category = int(draw() * len(CATEGORIES))
        codes = sprite_codes(split)[category]
        _lay(draw, sprite(codes[int(draw() * len(codes))]), x, y, length, i, image, owner)
        classes.append(category)
    masks = owner[None] == np.arange(len(classes), dtype=np.int8)[:, None, None]  # (N,H,W)
    kept = np.flatnonzero(np.count_nonzero(masks, axis=(1, 2)) >= max(min_pixels, 1))
    masks = masks[kept]
    return SceneArrays(image, masks, tight_boxes(masks), np.array(classes, np.int64)[kept])


def _background(draw, split: str, size: int) -> np.ndarray:
    """A random crop of a random photograph, mirrored half the time: (H,W,3) uint8.

    In training any hue may come, since there are only five photographs; held-out photographs keep their own colours.
    """
    names = photograph_names(split)
    levels = photograph(names[int(draw() * len(names))])
    share = 0.25 + 0.75 * draw()  # side of the crop against the photograph's short side
    level = next((p for p in reversed(levels) if share * min(p.size) >= size), levels[0])
    crop = share * min(level.size)
    left, top = (level.width - crop) * draw(), (level.height - crop) * draw()
    box = (left, top, left + crop, top + crop)
    pixels = np.asarray(level.resize((size, size), Image.Resampling.BILINEAR, box))
    mirrored, hue, light = draw() < 0.5, 2 * math.pi * draw(), 0.6 + 0.6 * draw()
    pixels = _recolour(pixels[:, ::-1] if mirrored else pixels, hue if split == "train" else 0.0, light)
    return np.minimum(pixels, 255).astype(np.uint8)


def _mixture(draw, split: str, size: int) -> np.ndarray:
    """Two altered backgrounds, joined along a random smooth border that may be sharp or a slow fade: (H,W,3) uint8."""
    one, two = (_altered(draw, _background(draw, split, size)) for _ in range(2))
    cells = 2 + int(draw() * 5)
    field = np.array([[draw() for _ in range(cells)] for _ in range(cells)])
    field = Image.fromarray((255 * field).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    slope = 1 + int(draw() * 24)
    share = np.clip((np.asarray(field, dtype=np.int32)[:, :, None] - 128) * slope + 128, 0, 255)  # (H,W,1)
    return ((one * share + two * (255 - share)) // 255).astype(np.uint8)


def _altered(draw, pixels: np.ndarray) -> np.ndarray:
    """Tones changed as no camera would: perhaps a negative, channels in another order, another contrast and level."""
    pixels = pixels.astype(np.int32)
    if draw() < 0.2:
        pixels = 255 - pixels
    if draw() < 0.3:
        first, way = int(3 * draw()), 1 if draw() < 0.5 else -1
        pixels = pixels[:, :, [first, (first + way) % 3, (first - way) % 3]]
    contrast, level = 100 + int(300 * draw()), int(80 * (2 * draw() - 1))
    return np.clip((pixels - 128) * contrast // 256 + 128 + level, 0, 255)


def _lay(draw, levels, x: float, y: float, length: float, number: int, image: np.ndarray, owner: np.ndarray) -> None:
    """Turn, stretch, mirror and tint a sprite, and lay it centred on (x, y) over `image` and `owner`, in place."""
    angle = TURN * (2 * draw() - 1)
    stretch = STRETCH ** (draw() - 0.5)
    mirror_x, mirror_y = (-1 if draw() < 0.5 else 1), (-1 if draw() < 0.1 else 1)
    hue, light = math.pi / 6 * (2 * draw() - 1), 0.7 + 0.5 * draw()

    level = next((s for s in reversed(levels) if max(s.size) >= length * stretch), levels[0])
    scale = length / max(level.size)  # image pixels for one sprite pixel
    half_w, half_h = level.width * scale * stretch / 2, level.height * scale / stretch / 2
    cos, sin = math.cos(angle), math.sin(angle)
    reach_x, reach_y = abs(cos) * half_w + abs(sin) * half_h, abs(sin) * half_w + abs(cos) * half_h
    size = len(image)
    left, right = max(0, math.floor(x - reach_x)), min(size, math.ceil(x + reach_x))
    top, bottom = max(0, math.floor(y - reach_y)), min(size, math.ceil(y + reach_y))

    # from a pixel of the window back to a point of the sprite: u = a*px + b*py + c, v = d*px + e*py + f
    a, b = mirror_x * cos / (scale * stretch), mirror_x * sin / (scale * stretch)
    d, e = -mirror_y * sin * stretch / scale, mirror_y * cos * stretch / scale
    c = level.width / 2 + a * (left - x) + b * (top - y)
    f = level.height / 2 + d * (left - x) + e * (top - y)
    window = (right - left, bottom - top)
    laid = np.asarray(level.transform(window, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR))

    alpha = laid[:, :, 3:]  # (h,w,1); the colours are already multiplied by it
    colour = np.minimum(_recolour(laid[:, :, :3], hue, light), alpha)
    under = image[top:bottom, left:right]
    under[:] = (colour.astype(np.uint16) * 255 + under * (255 - alpha.astype(np.uint16)) + 127) // 255
    owner[top:bottom, left:right][alpha[:, :, 0] >= 128] = number


def _recolour(pixels: np.ndarray, hue: float, light: float) -> np.ndarray:
    """Turn (h,w,3) colours by `hue` radians about the grey axis and scale them by `light`: whole float32, >= 0.

    The matrix holds whole 1024ths, so every product and sum is an integer below 2**24 and exact in float32, whatever
    the order in which a machine adds them up.
    """
    same = (1 + 2 * math.cos(hue)) / 3
    left, right = ((1 - math.cos(hue)) / 3 + way * math.sin(hue) / math.sqrt(3) for way in (-1, 1))
    matrix = np.array([[same, left, right], [right, same, left], [left, right, same]])
    matrix = np.rint(1024 * light * matrix).astype(np.float32)
    shape = pixels.shape
    turned = pixels.reshape(-1, 3).astype(np.float32) @ matrix
    return np.maximum(np.floor(turned.reshape(shape) / 1024 + 0.5), 0)


def _check(seed, split, size, count, side, overlap, mixture, min_pixels) -> None:
    if not isinstance(split, str) or split not in SPLITS:
        raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
    for name, value, least in (("seed", seed, 0), ("size", size, 16), ("min_pixels", min_pixels, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name} must be an int, got {type(value).__name__}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not (_pair(count, Integral) and 1 <= count[0] <= count[1] <= 127):
        raise ValueError(f"count must be (fewest, most) with 1 <= fewest <= most <= 127, got {count!r}")
    if not (_pair(side, Real) and 4 <= side[0] <= side[1] < math.inf):
        raise ValueError(f"side must be (shortest, longest) with 4 <= shortest <= longest pixels, got {side!r}")
    for name, value in (("overlap", overlap), ("mixture", mixture)):
        if not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, got {type(value).__name__}")
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in 0..1, got {value}")


def _pair(value, kind) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, kind) for v in value)
