"""How many bytes a blend moves, step by step, and fused: the numbers that decide how fast it can be.

One letter legend: N boxes, K bases, M attention side, R output side, H x W map.
"""

import html

import ipywidgets as widgets
from ipywidgets import Layout

from .base import Slider

MAP = (200, 333)  # an image of 800 x 1333 at stride 4
READ, WRITTEN = "#575d6d", "#d3c164"  # two colours of cividis that stand out from a light page and from a dark one


def traffic(N: int, K: int, M: int, R: int, size: int = 4, fused: bool = False) -> dict[str, tuple[int, int]]:
    """Bytes (read, written) in memory by each step, for numbers of `size` bytes; fused, by the one kernel.

    A step reads what it is given once and writes its result once: what a cache forgets in between is not counted, so
    this is the least. Work per byte: `operations` over the sum.
    """
    H, W = MAP
    bases, attention, boxes = size * K * H * W, size * N * K * M * M, 20 * N
    full, out = size * N * K * R * R, size * N * R * R
    if fused:
        return {"one kernel": (bases + attention + boxes, out)}
    return {
        "RoIAlign": (bases + boxes, full),
        "interpolate": (attention, full),
        "softmax": (full, full),
        "product": (2 * full, full),
        "sum": (full, out),
    }


def operations(N: int, K: int, R: int) -> int:
    """Floating-point operations of a blend, fused or not: for each of N*R*R pixels and K bases two bilinear values (9
    each), an exponential with its sum and division (5), a product and a sum (2)."""
    return N * R * R * K * 25


class TrafficExplorer(widgets.VBox):
    """Sliders N, K, M, R and bars of the bytes that each step reads and writes, against the one kernel's.

    `total` and `fused` are the sums in bytes; `text` says them.
    """

    def __init__(self, N: int = 100, K: int = 4, M: int = 14, R: int = 56):
        super().__init__()
        wide, beside = Layout(width="auto", flex="1 1 180px"), {"description_width": "20px"}
        self.N, self.K, self.M, self.R = (
            Slider(value, 1, most, description=letter, tooltip=tip, layout=wide, style=beside)
            for letter, value, most, tip in (
                ("N", N, 1000, "boxes"),
                ("K", K, 32, "bases"),
                ("M", M, 64, "cells of the attention a side"),
                ("R", R, 224, "pixels of the mask a side"),
            )
        )
        self.bars = widgets.HTML()
        row = Layout(flex_flow="row wrap", width="100%", max_width="900px")
        self.children = [widgets.HBox([self.N, self.K, self.M, self.R], layout=row), self.bars]
        for slider in (self.N, self.K, self.M, self.R):
            slider.observe(lambda change: self._update(), "value")
        self._update()

    def _update(self) -> None:
        sizes = {letter: getattr(self, letter).value for letter in "NKMR"}
        steps, one = traffic(**sizes), traffic(**sizes, fused=True)
        self.total, self.fused = (sum(map(sum, moved.values())) for moved in (steps, one))
        ratio = self.total / self.fused
        self.text = f"Step by step {_shown(self.total)}, fused {_shown(self.fused)}: {ratio:.1f} times less."
        self.picture = bars(steps | one, self.text)
        self.bars.value = f'{self.picture}<div style="line-height:1.4">{html.escape(self.text)}</div>'

    def _repr_mimebundle_(self, **kwargs) -> dict:
        """The widget; beside it the bars and their line of text, for viewers without a kernel."""
        return super()._repr_mimebundle_(**kwargs) | {"text/plain": self.text, "image/svg+xml": self.picture}


def bars(moved: dict[str, tuple[int, int]], told: str) -> str:
    """An SVG: for each step a bar of bytes read and one of bytes written; `told` is its description."""
    longest = max(map(sum, moved.values()))
    rows = []
    for i, (name, (read, written)) in enumerate(moved.items()):
        y, start = 30 * i + 30, 110
        first, second = (520 * part / longest for part in (read, written))
        rows.append(
            f'<text x="{start - 8}" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{start}" y="{y}" width="{first:.1f}" height="20" fill="{READ}"/>'
            f'<rect x="{start + first:.1f}" y="{y}" width="{second:.1f}" height="20" fill="{WRITTEN}"/>'
            f'<text x="{start + first + second + 8:.1f}" y="{y + 15}">{_shown(read + written)}</text>'
        )
    height = 30 * len(moved) + 40
    legend = (
        f'<rect x="110" y="6" width="12" height="12" fill="{READ}"/><text x="127" y="17">read</text>'
        f'<rect x="180" y="6" width="12" height="12" fill="{WRITTEN}"/><text x="197" y="17">written</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(told)}" '
        f'viewBox="0 0 740 {height}" style="max-width:900px" font-family="sans-serif" font-size="13" '
        f'fill="currentColor">{legend}{"".join(rows)}</svg>'
    )


def _shown(count: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} B"
