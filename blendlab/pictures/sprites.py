"""The bundled sprites and photographs that scenes are composed from, and how they are split."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from PIL import Image

ASSETS = Path(__file__).parent / "assets"
CONTENTS = json.loads((ASSETS / "sprites.json").read_text(encoding="utf-8"))
CATEGORIES: tuple[str, ...] = tuple(CONTENTS["categories"])  # a class number is an index into this tuple

# split -> which sprites, on which photographs. "unseen" asks for both new: new sprites on new photographs.
SPLITS = {"train": ("train", "train"), "held_out": ("train", "held_out"), "unseen": ("unseen", "held_out")}


@cache
def sprite_codes(split: str) -> tuple[tuple[str, ...], ...]:
    """For each category, the codes (file names) of the sprites that a split may use."""
    kind = SPLITS[split][0]
    return tuple(tuple(CONTENTS["categories"][name][kind]) for name in CATEGORIES)


@cache
def photograph_names(split: str) -> tuple[str, ...]:
    return tuple(Path(file).stem for file in CONTENTS["photographs"][SPLITS[split][1]])


@cache
def sprite(code: str) -> tuple[Image.Image, ...]:
    """The pyramid of a sprite, in premultiplied RGBA."""
    return _pyramid(Image.open(ASSETS / "sprites" / f"{code}.webp").convert("RGBA").convert("RGBa"))


@cache
def photograph(name: str) -> tuple[Image.Image, ...]:
    """The pyramid of a photograph, in RGB."""
    return _pyramid(Image.open(ASSETS / "photographs" / f"{name}.webp").convert("RGB"))


def _pyramid(image: Image.Image) -> tuple[Image.Image, ...]:
    """The image at falling sizes, 1/sqrt(2) each, largest first.

    A scene samples the smallest that is still large enough: that is quick, and bilinear sampling does not alias.
    """
    sizes = [(round(image.width * 0.5 ** (i / 2)), round(image.height * 0.5 ** (i / 2))) for i in range(1, 5)]
    return (image, *(image.resize(size, Image.Resampling.BOX) for size in sizes))
