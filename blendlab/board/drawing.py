"""A small line drawing, once as SVG for the page and once as pixels for the snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image, ImageColor, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: Points
    fill: str


@dataclass(frozen=True)
class Line:
    points: Points
    colour: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Disc:
    """A see-through disc with a rim; hollow, the rim alone."""

    x: float
    y: float
    radius: float
    colour: str
    hollow: bool = False


@dataclass(frozen=True)
class Word:
    x: float
    y: float
    text: str
    anchor: str = "start"


Shape = Area | Line | Disc | Word


def svg(shapes: Sequence[Shape], width: int, height: int, told: str) -> str:
    """The drawing as an SVG element; `told` is what a screen reader says of it."""
    parts = []
    for shape in shapes:
        if isinstance(shape, Area):
            parts.append(f'<polygon points="{_places(shape.points)}" fill="{shape.fill}"/>')
        elif isinstance(shape, Line):
            dash = ' stroke-dasharray="5 3"' if shape.dashed else ""
            style = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width}"{dash}'
            parts.append(f'<polyline points="{_places(shape.points)}" {style}/>')
        elif isinstance(shape, Disc):
            fill = "none" if shape.hollow else shape.colour
            place = f'cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:.1f}"'
            parts.append(f'<circle {place} stroke="{shape.colour}" stroke-width="2" fill="{fill}" fill-opacity=".55"/>')
        else:
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{shape.anchor}"'
            halo = 'stroke="#fff" stroke-width="3" stroke-linejoin="round" paint-order="stroke"'  # over lines
            parts.append(f'<text {place} fill="#222" {halo}>{escape(shape.text)}</text>')
    return (
        f'<svg role="img" aria-label="{escape(told)}" viewBox="0 0 {width} {height}" '
        f'style="width:100%;max-width:1000px;background:#fff;font:11px sans-serif">{"".join(parts)}</svg>'
    )


def _places(points: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def image(shapes: Sequence[Shape], width: int, height: int) -> Image.Image:
    """The same as pixels, white below."""
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas, "RGBA")
    for shape in shapes:
        if isinstance(shape, Area):
            pen.polygon(list(shape.points), shape.fill)
        elif isinstance(shape, Line):  # dashes are left out
            pen.line(list(shape.points), shape.colour, max(1, round(shape.width)))
        elif isinstance(shape, Disc):
            x, y, r = shape.x, shape.y, shape.radius
            fill = None if shape.hollow else (*ImageColor.getrgb(shape.colour), 140)
            pen.ellipse((x - r, y - r, x + r, y + r), fill, shape.colour, 2)
        else:
            anchor = ANCHORS[shape.anchor]
            pen.text((shape.x, shape.y), shape.text, "#222222", ImageFont.load_default(10), anchor=anchor)
    return canvas
