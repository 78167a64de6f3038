"""What a check found, and how it shows itself in a notebook: one sentence, and three pictures where numbers differ."""

import base64
import html
import io
from dataclasses import dataclass, field

import numpy as np

CELLS, ROOM, HEAD = 5, 190, 34  # up to CELLS columns numbers are written into the cells; a picture's room; its heading


@dataclass(frozen=True, eq=False)
class Result:
    """A verdict that displays itself, as HTML with pictures, as a PNG and as text.

    exercise   which step was checked.
    passed     whether the function is right.
    diagnosis  one sentence or two: what it looks like it does, and where to look. Empty when passed.
    details    lines that say how it was called and where the numbers part.
    note       something worth knowing that does not change the verdict.
    yours, expected   (h,w) float64 arrays: the map in which the first difference lies, or None.
    cell       (row, column) of the first difference in it.
    """

    exercise: str
    passed: bool
    diagnosis: str = ""
    details: tuple[str, ...] = ()
    note: str = ""
    yours: np.ndarray | None = field(default=None, repr=False)
    expected: np.ndarray | None = field(default=None, repr=False)
    cell: tuple[int, int] = (0, 0)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        head = f"✓ {self.exercise}: right" if self.passed else f"✗ {self.exercise}: {self.diagnosis}"
        return "\n".join([head, *(f"  {line}" for line in (*self.details, self.note) if line)])

    def picture(self) -> bytes | None:
        """PNG bytes: yours, the reference and the difference side by side; None where no numbers were compared."""
        return None if self.yours is None else _draw(self.yours, self.expected, self.cell)

    def _repr_mimebundle_(self, **kwargs) -> dict[str, str]:
        sign, word = ("✓", "right") if self.passed else ("✗", self.diagnosis)
        lines = "".join(f"<br><small>{html.escape(line)}</small>" for line in (*self.details, self.note) if line)
        page = f"<b>{sign} {html.escape(self.exercise)}:</b> {html.escape(word)}{lines}"
        bundle = {"text/plain": repr(self)}
        if (png := self.picture()) is not None:
            bundle["image/png"] = base64.b64encode(png).decode("ascii")
            words = "Three pictures: your result, the reference, and yours minus the reference"
            page += f'<br><img alt="{words}" src="data:image/png;base64,{bundle["image/png"]}">'
        bundle["text/html"] = f"<div>{page}</div>"
        return bundle


def _draw(yours: np.ndarray, expected: np.ndarray, cell: tuple[int, int]) -> bytes:
    from PIL import Image, ImageDraw, ImageFont  # here: a check that passes draws nothing

    from ..board.snapshot import TABLE  # the colours of the explorers

    h, w = expected.shape
    unit = max(1, min(ROOM // w, ROOM // h))
    shown = [("yours", yours), ("reference", expected), ("yours - reference", yours - expected)]
    canvas = Image.new("RGB", (3 * (ROOM + 10), HEAD + max(h * unit, 1)), "white")
    pen = ImageDraw.Draw(canvas)
    both = np.concatenate((yours, expected))
    for i, (title, values) in enumerate(shown):
        limit = _largest(values if i == 2 else both)
        signed = i == 2 or np.nanmin(both, initial=0) < 0
        codes = (values / limit + 1) * 127.5 if signed else values / limit * 255
        colours = TABLE["diverging" if signed else "magnitude"][np.nan_to_num(codes).clip(0, 255).astype(np.uint8)]
        colours[~np.isfinite(values)] = 128  # grey: neither NaN nor infinity is a number of the scale
        left = i * (ROOM + 10)
        picture = Image.fromarray(colours).resize((w * unit, h * unit), Image.Resampling.NEAREST)
        canvas.paste(picture, (left, HEAD))
        scale = f"{-limit if signed else 0:.3g} to {limit:.3g}"
        pen.multiline_text((left, 2), f"{title}\n{scale}", fill="black", font=ImageFont.load_default(12))
        if w <= CELLS and unit >= 30:
            for (row, column), value in np.ndenumerate(values):
                ink = "black" if colours[row, column].mean() > 110 else "white"
                at = (left + (column + 0.5) * unit, HEAD + (row + 0.5) * unit)
                pen.text(at, f"{np.round(value, 2) + 0.0:.2f}", fill=ink, anchor="mm", font=ImageFont.load_default(11))
        x, y = left + cell[1] * unit, HEAD + cell[0] * unit
        pen.rectangle((x - 1, y - 1, x + unit, y + unit), outline="white")  # seen on whatever colour lies below
        pen.rectangle((x, y, x + unit - 1, y + unit - 1), outline="black", width=2 if unit > 8 else 1)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _largest(values: np.ndarray) -> float:
    """The end of a colour scale: the largest finite magnitude, and never 0."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0)) or 1.0
