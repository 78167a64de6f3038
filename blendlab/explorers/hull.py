"""The convex hull at a mask pixel: a row of the mask as curves, with the band that its bases allow.

One letter legend: K bases, R output side.
"""

from collections.abc import Callable, Sequence

import ipywidgets as widgets
from ipywidgets import Layout

from ..blender import BlendTrace
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
        super().__init__(*arguments, figure=True, **options)
        R = self.R.value
        self._pin = ((pixel[1] + 0.5) / R, (pixel[0] + 0.5) / R)
        row = Layout(flex_flow="row wrap", width="100%", max_width="1000px")
        self.children = [widgets.HBox([self.instance, self.normalizer, self.K], layout=row), self.board, self.curves]
        self._guarded(self._update)()

    def _update(self, bases: bool = False) -> None:
        super()._update(bases)
        if self.trace is None or self.board.error:
            return
        R = self.trace.settings.output_size
        row, column = (int(share * R) for share in reversed(self._pin or (0.5, 0.5)))
        self.told = hull_told(self.trace, row, column)
        self.curves.value = hull_svg(self.trace, row, column, self._limits.base, self.told)

    def _repr_mimebundle_(self, **kwargs) -> dict:
        bundle = super()._repr_mimebundle_(**kwargs)
        return bundle | {"text/plain": f"{bundle['text/plain']} {self.told}".strip()}


def hull_told(trace: BlendTrace, row: int, column: int) -> str:
    """Where the logit of a pixel of the first instance lies among its bases, in a sentence."""
    r, m = trace.regions[0, :, row, column], float(trace.logits[0, row, column])
    low, high = float(r.min()), float(r.max())
    slack = 1e-4 * max(1.0, abs(low), abs(high))  # of rounding
    where = "inside" if low - slack <= m <= high + slack else "outside"
    return f"Row {row}, column {column}: bases from {low:.2f} to {high:.2f}, logit {m:.2f}, {where} their hull."


def hull_svg(trace: BlendTrace, row: int, column: int, limit: float, told: str) -> str:
    """One row of the first instance's mask as an SVG drawing, values from -limit to limit."""
    regions = trace.regions[0, :, row].tolist()  # (K,R)
    logits, scores = trace.logits[0, row].tolist(), trace.scores[0, :, row, column].tolist()
    R = len(logits)

    def x(i: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (i + 0.5) / R

    def y(value: float) -> float:
        share = min(max(value / (1.15 * limit), -1.0), 1.0)  # beyond the colours' range a little room, then the rim
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share) / 2

    def points(values: Sequence[float]) -> str:
        return " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(values))

    low, high = ([pick(values) for values in zip(*regions, strict=True)] for pick in (min, max))
    band = points(high) + " " + " ".join(reversed(points(low).split()))
    parts = [f'<polygon points="{band}" fill="{BAND}"/>', _axis(x, y, R, limit)]
    for k, values in enumerate(regions):
        parts.append(f'<polyline points="{points(values)}" fill="none" stroke="{COLOURS[k]}" stroke-width="1.2"/>')
    parts.append(f'<polyline points="{points(logits)}" fill="none" stroke="{INK}" stroke-width="3"/>')
    at = x(column)
    parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{INK}" stroke-dasharray="2 3"/>')
    for k, (values, score) in enumerate(zip(regions, scores, strict=True)):
        radius = 2 + 12 * min(abs(score), 1.5) ** 0.5  # areas are the weights
        fill = "none" if score < 0 else COLOURS[k]  # a ring is a negative one
        parts.append(
            f'<circle cx="{at:.1f}" cy="{y(values[column]):.1f}" r="{radius:.1f}" stroke="{COLOURS[k]}" '
            f'stroke-width="2" fill="{fill}" fill-opacity=".55"/>'
        )
    heights = _apart([y(values[column]) for values in regions])
    side, anchor = (at - 17, "end") if column > 0.8 * R else (at + 17, "start")
    for k, (height, score) in enumerate(zip(heights, scores, strict=True)):
        word = f"k = {k}: {score:.2f}"
        parts.append(f'<text x="{side:.1f}" y="{height + 4:.1f}" text-anchor="{anchor}" fill="{INK}">{word}</text>')
    m = y(logits[column])
    parts.append(f'<path d="M{at - 7:.1f} {m:.1f}l7 -7l7 7l-7 7z" fill="{INK}" stroke="#fff" stroke-width="1.5"/>')
    return (
        f'<svg role="img" aria-label="{told}" viewBox="0 0 {WIDTH} {HEIGHT}" style="width:100%;max-width:1000px;'
        f'background:#fff;font:11px sans-serif">{"".join(parts)}</svg><div>{told}</div>'
    )


def _apart(heights: Sequence[float], gap: float = 13.0) -> list[float]:
    """The same heights, moved just enough that words at them do not overlap, above the lower rim."""
    order, result = sorted(range(len(heights)), key=lambda k: heights[k]), list(heights)
    for above, below in zip(order, order[1:], strict=False):
        result[below] = max(result[below], result[above] + gap)
    excess = max(0.0, result[order[-1]] - (HEIGHT - BOTTOM))
    return [height - excess for height in result]


def _axis(x: Callable[[float], float], y: Callable[[float], float], R: int, limit: float) -> str:
    parts = [f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>']
    parts.append(
        f'<path d="M{LEFT} {y(0):.1f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-dasharray="6 3" stroke-width=".7"/>'
    )
    for value in (-limit, 0.0, limit):
        parts.append(f'<text x="{LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end" fill="{INK}">{value:.1f}</text>')
    for column in sorted({0, R // 4, R // 2, 3 * R // 4, R - 1}):
        parts.append(f'<text x="{x(column):.1f}" y="{HEIGHT - 18}" text-anchor="middle" fill="{INK}">{column}</text>')
    words = "column of this row of the mask; bold: the logit m, thin: the bases, shaded: their hull, dashed: m = 0"
    return "".join(parts) + f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle" fill="{INK}">{words}</text>'
