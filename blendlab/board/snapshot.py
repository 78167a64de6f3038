"""A PNG of what a board shows, for a reader without a kernel: a repository's page, a printed notebook.

The colours are the page's own table; neither matplotlib nor a browser is needed.
"""

import io
import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..paste import paste_masks

TABLE = {
    name: np.frombuffer(bytes.fromhex(colours), np.uint8).reshape(256, 3)
    for name, colours in json.loads((Path(__file__).parent / "colours.json").read_text()).items()
}
CELL, GAP, HEAD, PHOTO, LARGE = 84, 6, 34, 380, 180
MASK, OPACITY = (230, 159, 0), 0x99  # as in board.js


def draw(
    picture: dict,
    bases: dict,
    steps: dict,
    boxes: list[float],
    error: str,
    transposed: bool,
    painted: dict,
    pointer: str = "",
) -> bytes:
    """PNG bytes of the photograph with boxes and mask (`painted`, or else the blended one), and the panels in their
    grid; or of the error alone."""
    if error:
        canvas = Image.new("RGB", (700, 60), "white")
        ImageDraw.Draw(canvas).text((10, 20), error[:110], fill="black", font=_font(12))
        return _png(canvas)
    maps = [(spec, codes) for group in (bases, steps) for spec, codes in _unpack(group)]
    of_bases = json.loads(steps["words"]).get("base_marks", []) if steps else []
    maps = [(spec | {"marks": of_bases} if spec["name"] == "bases" else spec, codes) for spec, codes in maps]
    columns = [(spec, codes) for spec, codes in maps if not spec["large"]]
    sums = [(spec, codes) for spec, codes in maps if spec["large"]]
    K = min((len(codes) for _, codes in columns), default=0)  # of the bases, the first K are in use
    photo = _photo(picture, steps, boxes, {spec["name"]: codes for spec, codes in sums}, painted)
    if pointer:
        _point(photo, photo.width / picture["width"], **json.loads(pointer))
    across, down = (K, len(columns)) if transposed else (len(columns), K)
    if not columns and not sums:
        return _png(photo)
    if not columns:  # large maps alone, side by side
        return _png(_row(sums))
    side_sums = bool(sums) and not transposed
    grid_width = max(across * (CELL + GAP), 0 if side_sums else len(sums) * (LARGE + GAP))
    width = PHOTO + GAP + (HEAD * 3 if transposed else 0) + grid_width + (LARGE + GAP) * side_sums
    sums_height = (LARGE + HEAD) * len(sums) if side_sums else (LARGE + HEAD) * bool(sums)
    grid_height = down * (CELL + GAP) + (0 if transposed else HEAD)
    height = max(photo.height, grid_height + (sums_height if transposed else 0), sums_height if side_sums else 0)
    canvas = Image.new("RGB", (width + GAP, height + GAP), "white")
    pen = ImageDraw.Draw(canvas)
    canvas.paste(photo, (0, 0))
    left, top = PHOTO + GAP + (HEAD * 3 if transposed else 0), 0 if transposed else HEAD
    for i, (spec, codes) in enumerate(columns):
        x, y = (PHOTO + GAP, i * (CELL + GAP) + 20) if transposed else (left + i * (CELL + GAP), 2)
        pen.multiline_text((x, y), f"{spec['title']}\n{_plain(spec['equation'])}", fill="black", font=_font(10))
        for k, values in enumerate(codes[:K]):
            column, row = (k, i) if transposed else (i, k)
            cell = (left + column * (CELL + GAP), top + row * (CELL + GAP))
            _paste(canvas, values, spec, cell, CELL, k)
    for i, (spec, codes) in enumerate(sums):
        if transposed:
            x, y = left + i * (LARGE + GAP), grid_height
        else:
            x, y = left + across * (CELL + GAP), i * (LARGE + HEAD)
        pen.multiline_text((x, y + 2), f"{spec['title']}\n{_plain(spec['equation'])}", fill="black", font=_font(10))
        _paste(canvas, codes[0], spec, (x, y + HEAD), LARGE)
    return _png(canvas)


def _row(maps: list[tuple[dict, np.ndarray]]) -> Image.Image:
    """Maps side by side, the first twice as large."""
    width = (len(maps) + 1) * (LARGE + GAP) if maps else 1
    canvas = Image.new("RGB", (width, 2 * LARGE + HEAD if maps else 1), "white")
    pen, x = ImageDraw.Draw(canvas), 0
    for i, (spec, codes) in enumerate(maps):
        room = LARGE if i else 2 * LARGE
        pen.multiline_text((x, 2), f"{spec['title']}\n{_plain(spec['equation'])}", fill="black", font=_font(10))
        _paste(canvas, codes[0], spec, (x, HEAD), room)
        x += room + GAP
    return canvas


def _photo(picture: dict, steps: dict, boxes: list[float], sums: dict[str, np.ndarray], painted: dict) -> Image.Image:
    """The photograph, at most PHOTO pixels wide and twice as high, with every box and the selected instance's mask."""
    if not picture:
        return Image.new("RGB", (PHOTO, 1), "white")
    photo = Image.frombytes("RGB", (picture["width"], picture["height"]), picture["rgb"])
    selected = json.loads(steps["words"])["selected"] if steps else None
    box = None if selected is None else boxes[4 * selected : 4 * selected + 4]
    kept = None
    if painted:
        size = painted["height"], painted["width"]
        kept = np.unpackbits(np.frombuffer(painted["bits"], np.uint8), count=size[0] * size[1]).reshape(size)
    elif box and "probabilities" in sums:
        probabilities = torch.from_numpy(sums["probabilities"] / np.float32(255))
        kept = paste_masks(probabilities, torch.tensor([box]), (photo.height, photo.width))[0] >= 0.5
        kept = kept.numpy().astype(np.uint8)
    if kept is not None:
        photo.paste(MASK, (0, 0), Image.fromarray(kept * OPACITY))
    scale = min(PHOTO / photo.width, 2 * PHOTO / photo.height)
    how = Image.Resampling.NEAREST if photo.width < 128 else Image.Resampling.BICUBIC  # as the page does
    photo = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))), how)
    # few colours make a small file, and notebooks keep their pictures in git; the panels keep theirs exactly
    photo = photo.quantize(64, dither=Image.Dither.NONE).convert("RGB")
    pen = ImageDraw.Draw(photo)
    for i in range(len(boxes) // 4):
        if i != selected:
            pen.rectangle([c * scale for c in boxes[4 * i : 4 * i + 4]], outline="white")
    if box:
        pen.rectangle([c * scale for c in box], outline=(255, 209, 102), width=3)
    return photo


def _point(photo: Image.Image, scale: float, dots: list, lines: list, cells: list) -> None:
    """What Board.point drew over the photograph."""
    pen = ImageDraw.Draw(photo)
    for line in lines:
        pen.line([c * scale for c in line], "black", 1)
    for x, y, side, _ in cells:
        pen.rectangle((x * scale, y * scale, (x + side) * scale, (y + side) * scale), outline="black", width=2)
    for x, y in dots:
        pen.ellipse((x * scale - 2, y * scale - 2, x * scale + 2, y * scale + 2), "black", "white")
    for x, y, side, text in cells:
        place = ((x + side / 2) * scale, (y + side / 4) * scale)
        pen.text(place, text, "black", _font(10), anchor="ms", stroke_width=1, stroke_fill="white")


def _unpack(group: dict) -> list[tuple[dict, np.ndarray]]:
    """What Board packed: each panel's words with its codes (n,h,w)."""
    maps, start = [], 0
    for spec in json.loads(group["words"])["panels"] if group else ():
        n, h, w = spec["shape"]
        maps.append((spec, np.frombuffer(group["codes"], np.uint8, n * h * w, start).reshape(n, h, w)))
        start += n * h * w
    return maps


def _paste(canvas: Image.Image, codes: np.ndarray, spec: dict, at: tuple[int, int], room: int, k: int = 0) -> None:
    """The map of basis k in its colours with its marks, as large as fits a square of `room` pixels, its aspect kept."""
    h, w = codes.shape
    size = (room, max(1, round(room * h / w))) if w >= h else (max(1, round(room * w / h)), room)
    canvas.paste(Image.fromarray(TABLE[spec["colours"]][codes]).resize(size, Image.Resampling.NEAREST), at)
    pen = ImageDraw.Draw(canvas)
    for marks in spec["marks"]:
        if marks["only"] not in (None, k):
            continue
        if marks["shape"] == "frame":
            (left, right), (top, bottom) = marks["xs"], marks["ys"]
            corners = [at[0] + left * size[0] / w, at[1] + top * size[1] / h]
            pen.rectangle((*corners, at[0] + right * size[0] / w, at[1] + bottom * size[1] / h), outline="black")
            continue
        radius = {"dot": 1, "ring": 2.5, "cross": 6}[marks["shape"]]
        for px, py in product(marks["xs"], marks["ys"]):
            x, y = at[0] + px * size[0] / w, at[1] + py * size[1] / h
            frame = (x - radius, y - radius, x + radius, y + radius)
            if marks["shape"] == "cross":
                pen.line(frame, "black", 2)
                pen.line((frame[0], frame[3], frame[2], frame[1]), "black", 2)
            else:
                pen.rectangle(frame, fill="black" if marks["shape"] == "dot" else None, outline="black")


def _plain(equation: str) -> str:
    """PIL's own font lacks a few signs."""
    for sign, plain in (("′", "'"), ("ₖ", "_k"), ("Σ", "sum"), ("σ", "sigmoid"), ("·", "*")):
        equation = equation.replace(sign, plain)
    return equation


def _font(size: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
