"""The convex hull at a mask pixel: a row of the mask as curves, with the band that its bases allow.

One letter legend: K bases, R output side.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence

import ipywidgets as widgets
from ipywidgets import Layout
from PIL import Image

from ..blender import BlendTrace
from ..board.drawing import Area, Disc, Line, Shape, Word, image, svg
from .blender import BlenderExplorer

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 230, 44, 14, 10, 32
COLOURS = ("#0072b2", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#8a5a00", "#555555", "#7a5cc0")  # numbers tell too
BAND, INK = "#dfe8f1", "#222"


class HullExplorer(BlenderExplorer):
    """The paper's figure, and below it one row of the mask: every basis's values there, the band between the smallest
    and the largest, and the mask logit. At the chosen pixel each basis is a disc as large as its weight.

    Takes what BlenderExplorer takes, but `figure`. A click or the arrow keys choose the pixel. `curves` holds the
    drawing, `told` the sentence that describes it.
    """

    def __init__(self, *arguments, pixel: tuple[int, int] = (28, 28), **options):
        self.curves, self.told = widgets.HTML(), ""
        self._shapes: list[Shape] = []
        super().__init__(*arguments, figure=True, **options)
        R = self.R.value
        self._first_pin = self._pin = ((pixel[1] + 0.5) / R, (pixel[0] + 0.5) / R)
        row = Layout(flex_flow="row wrap", width="100%", max_width="1000px")
        self.children = [widgets.HBox([self.instance, self.normalizer, self.K], layout=row), self.board, self.curves]
        self._guarded(self._update)()

    def _update(self, bases: bool = False) -> None:
        super()._update(bases)
        self._draw_curves()

    def _tell(self) -> None:
        super()._tell()
        self._draw_curves()

    def _draw_curves(self) -> None:
        if self.trace is None or self.board.error:
            return
        R = self.trace.settings.output_size
        row, column = (int(share * R) for share in reversed(self._pin or (0.5, 0.5)))
        self.told = hull_told(self.trace, row, column)
        self._shapes = hull_shapes(self.trace, row, column, self._limits.base)
        self.curves.value = f"{svg(self._shapes, WIDTH, HEIGHT, self.told)}<div>{self.told}</div>"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        bundle = super()._repr_mimebundle_(**kwargs)
        if not self._shapes or self.board.error:
            return bundle
        above = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
        both = Image.new("RGB", (max(above.width, WIDTH), above.height + HEIGHT), "white")
        both.paste(above, (0, 0))
        both.paste(image(self._shapes, WIDTH, HEIGHT), (0, above.height))
        file = io.BytesIO()
        both.save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode("ascii")
        return bundle | {"text/plain": f"{bundle['text/plain']} {self.told}", "image/png": picture}


def hull_told(trace: BlendTrace, row: int, column: int) -> str:
    """Where the logit of a pixel of the first instance lies among its bases, in a sentence."""
    r, m = trace.regions[0, :, row, column], float(trace.logits[0, row, column])
    low, high = float(r.min()), float(r.max())
    slack = 1e-4 * max(1.0, abs(low), abs(high))  # of rounding
    where = "inside" if low - slack <= m <= high + slack else "outside"
    return f"Row {row}, column {column}: bases from {low:.2f} to {high:.2f}, logit {m:.2f}, {where} their hull."


def hull_shapes(trace: BlendTrace, row: int, column: int, limit: float) -> list[Shape]:
    """One row of the first instance's mask as a drawing, values from -limit to limit."""
    regions = trace.regions[0, :, row].tolist()  # (K,R)
    logits, scores = trace.logits[0, row].tolist(), trace.scores[0, :, row, column].tolist()
    R = len(logits)

    def x(i: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (i + 0.5) / R

    def y(value: float) -> float:
        share = min(max(value / (1.15 * limit), -1.0), 1.0)  # beyond the colours' range a little room, then the rim
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share) / 2

    def points(values: Iterable[float]) -> list[tuple[float, float]]:
        return [(x(i), y(value)) for i, value in enumerate(values)]

    low, high = ([pick(values) for values in zip(*regions, strict=True)] for pick in (min, max))
    shapes: list[Shape] = [Area(points(high) + points(low)[::-1], BAND), *_axes(x, y, R, limit)]
    shapes += [Line(points(values), COLOURS[k], 1.2) for k, values in enumerate(regions)]
    at, m = x(column), y(logits[column])
    shapes += [Line(points(logits), INK, 3), Line([(at, TOP), (at, HEIGHT - BOTTOM)], INK, 1, dashed=True)]
    for k, (values, score) in enumerate(zip(regions, scores, strict=True)):  # areas are the weights; a ring: negative
        shapes.append(Disc(at, y(values[column]), 2 + 12 * min(abs(score), 1.5) ** 0.5, COLOURS[k], score < 0))
    side, anchor = (at - 17, "end") if column > 0.8 * R else (at + 17, "start")
    heights = _apart([y(values[column]) for values in regions])
    for k, (height, score) in enumerate(zip(heights, scores, strict=True)):
        shapes.append(Word(side, height + 4, f"k = {k}: {score:.2f}", anchor))
    return [*shapes, Area([(at - 7, m), (at, m - 7), (at + 7, m), (at, m + 7)], INK)]


def _apart(heights: Sequence[float], gap: float = 13.0) -> list[float]:
    """The same heights, moved just enough that words at them do not overlap, above the lower rim."""
    order, result = sorted(range(len(heights)), key=lambda k: heights[k]), list(heights)
    for above, below in zip(order, order[1:], strict=False):
        result[below] = max(result[below], result[above] + gap)
    excess = max(0.0, result[order[-1]] - (HEIGHT - BOTTOM))
    return [height - excess for height in result]


def _axes(x: Callable[[float], float], y: Callable[[float], float], R: int, limit: float) -> list[Shape]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    words = "column of this row of the mask; bold: the logit m, thin: the bases, shaded: their hull, dashed: m = 0"
    return [
        Line([(LEFT, TOP), (LEFT, bottom), (right, bottom)], INK),
        Line([(LEFT, y(0)), (right, y(0))], INK, 0.7, dashed=True),
        *(Word(LEFT - 5, y(value) + 4, f"{value:.1f}", "end") for value in (-limit, 0.0, limit)),
        *(Word(x(i), HEIGHT - 18, str(i), "middle") for i in sorted({0, R // 4, R // 2, 3 * R // 4, R - 1})),
        Word(WIDTH / 2, HEIGHT - 4, words, "middle"),
    ]
