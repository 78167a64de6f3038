"""The RoIAlign microscope: a few cells of one basis, very large, with every place where a box samples them.

One letter legend: R output side, H x W map.
"""

from collections.abc import Sequence
from itertools import product

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import Layout
from torch import Tensor

from .. import check, explain, reads
from ..blender import Blender, BlendTrace
from ..board import Board, pack_steps
from ..board.snapshot import TABLE
from ..explain_views import Told, marked
from ..pictures import Picture
from ..pictures.picture import check_boxes
from ..threads import one_thread
from ..views import Lattice, Panel, written
from .base import Explorer, Slider

STRIDE = 4  # image pixels a cell, as in the reference
VARIANTS = {
    "RoIPool": {"pooling": "pool"},
    "half pixel off": {"aligned": False},
    "ratio 1": {},
    "ratio 2": {"sampling_ratio": 2},
    "ratio 4": {"sampling_ratio": 4},
    "adaptive": {"sampling_ratio": 0},
}
HINT = "Drag the box, or press arrow keys: 0.1 pixels (Shift 1, Alt a corner). Click a bin."


class Microscope(Explorer):
    """One box over a small basis, cropped in six ways side by side; a bin of one of them is under the glass.

    features  (1,1,H,W) float32, a cell for 4 x 4 image pixels, at most 31 cells a side; absent, a disc.
    box       x1, y1, x2, y2 in image pixels; R where to start.

    The controls are attributes (`shown`, the crop under the glass; R). `box` can be read and set; `traces` holds the
    six crops by name, each as a blend of one basis with weight 1; `text` is the line under the board.
    """

    def __init__(self, features: Tensor | None = None, box: Sequence[float] = (9.0, 10.6, 35.4, 37.0), R: int = 4):
        super().__init__(Board(rows=["crop"], hint=HINT))
        self.features = disc(12, 15.0) if features is None else features
        check.floating("features", self.features, "(B,K,H,W)")
        B, K, H, W = self.features.shape
        if (B, K) != (1, 1) or max(H, W) > 31:
            raise ValueError(f"features must be (1,1,H,W) with H and W at most 31; got {check.got(features)}")
        self._box = self._checked(box)
        self._start = self._box, check.side("R", R)
        self._bin = ("ratio 1", 0, 0)  # the crop, row and column under the glass
        self.traces: dict[str, BlendTrace] = {}
        self._limit = max(float(self.features.abs().max()), 1e-6)
        self.shown = widgets.Dropdown(options=list(VARIANTS), value="ratio 1", description="shown")
        self.R = Slider(
            R, 1, max(8, R), description="R", tooltip="bins a side", layout=Layout(width="auto", flex="1 1 220px")
        )
        self.reset = widgets.Button(description="reset", layout=Layout(width="110px"))
        self.children = [
            widgets.HBox([self.R, self.shown, self.reset], layout=Layout(flex_flow="row wrap")),
            self.board,
        ]
        self._listen(self.R)
        self._listen(self.shown)
        self._foresee("R")
        self.reset.on_click(self._guarded(lambda _: self._reset()))
        self.board.on_box = self._guarded(self._dragged)
        self.board.on_cell = self._guarded(self._chosen)
        self.board.nudge = 0.1
        self.board.show_picture(self._picture())
        self._guarded(self._update)()

    @property
    def box(self) -> tuple[float, ...]:
        return self._box

    @box.setter
    def box(self, box: Sequence[float]) -> None:
        self._box = self._checked(box)
        self._guarded(self._update)()

    @property
    def text(self) -> str:
        return self.board.text

    def _checked(self, box: Sequence[float]) -> tuple[float, ...]:
        numbers = np.array([box], np.float64)
        if numbers.shape != (1, 4):
            raise ValueError(f"box must be x1, y1, x2, y2; got {check.got(box)}")
        check_boxes(numbers)
        return tuple(numbers[0].tolist())

    def _picture(self) -> Picture:
        """Every cell as a square of its colour."""
        codes = (self.features[0, 0].numpy() / self._limit * 127.5 + 127.5).round().astype(np.uint8)  # (H,W)
        cells = TABLE["diverging"][codes].repeat(STRIDE, 0).repeat(STRIDE, 1)
        height, width = cells.shape[:2]
        return Picture(f"a basis of {height // STRIDE}×{width // STRIDE} cells", np.ascontiguousarray(cells),
                       np.zeros((0, height, width), bool), np.zeros((0, 4), np.float32), [])  # fmt: skip

    def _reset(self) -> None:
        self._box, R = self._start
        with self._hold():
            self.R.value, self.shown.value = R, "ratio 1"
        self._bin = ("ratio 1", 0, 0)
        self._update()

    def _dragged(self, *box: float) -> None:
        self._box = self._checked(box)
        self._update()

    def _chosen(self, name: str, k: int, row: int | None, column: int | None) -> None:
        R = self.R.value
        if name in VARIANTS and row is not None and 0 <= row < R and 0 <= column < R:
            self._bin = (name, row, column)
            with self._hold():
                self.shown.value = name
            self._update()

    # ------------------------------------------------------------------ the one update

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        R, name = self.R.value, self.shown.value
        self._bin = (name, *(min(place, R - 1) for place in self._bin[1:]))
        self.traces = self._cropped(R)
        origin = explain.pixel(self.traces[name], *self._bin[1:])
        with self.board.hold_sync():
            self.board.boxes = list(self._box)
            self.board.show_packed(self._packed(self.traces, self._bin, origin))
            self._point(origin)
            self.board.text = self._sentence(origin)
            self.board.error = ""

    @one_thread()
    @torch.no_grad()
    def _steps(self, R: int) -> dict:
        name, row, column = self._bin
        traces, place = self._cropped(R), (name, min(row, R - 1), min(column, R - 1))
        return self._packed(traces, place, explain.pixel(traces[name], *place[1:]))

    def _cropped(self, R: int) -> dict[str, BlendTrace]:
        box, attention = torch.tensor([self._box], dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        return {
            variant: Blender(R, 1 / STRIDE, **options)(self.features.double(), attention, box)
            for variant, options in VARIANTS.items()
        }

    def _packed(self, traces: dict[str, BlendTrace], place: tuple[str, int, int], origin: explain.PixelOrigin) -> dict:
        told, panels = _told(place, origin), [self._panel(variant, trace) for variant, trace in traces.items()]
        return pack_steps(marked(panels, told), 0, None, told)

    def _panel(self, variant: str, trace: BlendTrace) -> Panel:
        R = trace.settings.output_size
        rule = "aligned, " * ("ratio" in variant or variant == "adaptive")
        rule += {"RoIPool": "largest cell", "half pixel off": "ratio 1"}.get(variant, variant)
        return Panel(variant, trace.regions[0], "diverging", -self._limit, self._limit, variant, rule,
                     f"{R} × {R} bins, {rule}", cells=True)  # fmt: skip

    def _point(self, origin: explain.PixelOrigin) -> None:
        """Bins, samples, and the cells that the bin under the glass reads with their weights."""
        trace, R = self.traces[self._bin[0]], self.R.value
        cells = [
            (cell.column * STRIDE, cell.row * STRIDE, STRIDE, f"{cell.weight:.2f}")
            for cell in origin.terms[0].base_cells
        ]
        if trace.settings.pooling == "pool":
            x1, y1, x2, y2 = rounded_box(trace)
            lines = [(x1, y1, x2, y1), (x2, y1, x2, y2), (x2, y2, x1, y2), (x1, y2, x1, y1)]
            return self.board.point((), lines, cells)
        y, x = ((along + 0.5) * STRIDE for along in reads.sample_positions(trace, 0))  # (R, samples) in image pixels
        dots = [(u, v) for v, u in product(y.flatten().tolist(), x.flatten().tolist())]
        x1, y1, x2, y2 = self._box
        across, down = np.linspace(x1, x2, R + 1)[1:-1], np.linspace(y1, y2, R + 1)[1:-1]
        lines = [(u, y1, u, y2) for u in across.tolist()] + [(x1, v, x2, v) for v in down.tolist()]
        return self.board.point(dots, lines, cells)

    def _sentence(self, origin: explain.PixelOrigin) -> str:
        name, row, column = self._bin
        x1, y1, x2, y2 = self._box
        values = ", ".join(
            f"{variant} {written(float(trace.regions[0, 0, row, column]), 2)}" for variant, trace in self.traces.items()
        )
        read = _counted(len(origin.terms[0].base_cells), "cell")
        if origin.points:
            read += " through " + _counted(len(origin.points), "sample")
        return (
            f"Box {x1:.1f}, {y1:.1f} to {x2:.1f}, {y2:.1f} in image pixels, {(x2 - x1) / STRIDE:.2f}×"
            f"{(y2 - y1) / STRIDE:.2f} cells, R={self.R.value}. Bin row {row}, column {column}: {values}. "
            f"{name} reads {read}."
        )

    def __repr__(self) -> str:
        return f"Microscope(box={self._box}, R={self.R.value}, shown={self.shown.value!r})"


def _told(place: tuple[str, int, int], origin: explain.PixelOrigin) -> Told:
    name, row, column = place
    frame = Lattice("frame", [column, column + 1], [row, row + 1])
    cells = origin.terms[0].base_cells
    total = " + ".join(f"{c.weight:.3f}·({written(c.value, 2)})" for c in cells) or "nothing"
    how = f"the mean of {_counted(len(origin.points), 'sample')}"
    lines = [
        f"r = {total} = {written(origin.logit, 3)}",
        how if origin.points else "the largest cell; equal ones share",
    ]
    cell = {"name": name, "k": 0, "row": row, "column": column}
    return Told(dict.fromkeys(VARIANTS, (frame,)), f"{name}: bin row {row}, column {column}", lines, cell)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def disc(side: int, radius: float) -> Tensor:
    """(1,1,side,side): a basis that falls from 3 inside a circle of `radius` image pixels to -3 outside."""
    centre = (torch.arange(side) + 0.5) * STRIDE - side * STRIDE / 2
    distance = (centre[:, None].square() + centre.square()).sqrt()
    return (3 * ((radius - distance) / 8).clamp(-1, 1))[None, None]


def rounded_box(trace: BlendTrace) -> tuple[float, ...]:
    """The whole cells that RoIPool takes a box for, x1, y1, x2, y2 in image pixels."""
    in_y, in_x = reads.pool_members(trace, 0)
    rows, columns = in_y.any(0).nonzero().flatten(), in_x.any(0).nonzero().flatten()
    if not len(rows) or not len(columns):
        return 0.0, 0.0, 0.0, 0.0
    ends = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return tuple(float(end) * STRIDE for end in ends)
