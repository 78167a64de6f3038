"""The explorer of step 2: M x M attention numbers, the places where R x R samples fall among them, and what they read.

One letter legend: K bases, M attention side, R output side.
"""

import ipywidgets as widgets
import torch
from ipywidgets import Layout
from torch import Tensor

from .. import check, views
from ..board import Board, pack_steps
from ..sources import Source
from ..steps import interpolate, interpolation_matrix
from ..threads import one_thread
from ..views import Lattice, Panel, PixelSum
from .base import Explorer, Slider

R_MOST = 56  # more samples than this on a panel are no longer dots


class InterpolateExplorer(Explorer):
    """One attention map interpolated by three rules, over the two grids of sampling places.

    source     whose attention is interpolated; absent, the fitted source of the photograph "voc".
    instance   whose attention; M and R where to start: M moves to the nearest that the source serves.

    The controls are attributes (basis, M, R). `attention` (M,M) and `nearest`, `bilinear`, `corners` (R,R) hold what is
    drawn, `text` the line under the board. A pixel chosen on the board has its cells and weights read out.
    """

    def __init__(self, source: Source | None = None, *, instance: int = 16, M: int = 5, R: int = 20):
        super().__init__(Board())
        if source is None:
            from ..fit import fitted
            from ..pictures import load

            source = fitted(load("voc"))
        elif not isinstance(source, Source):
            raise TypeError(f"source must be a Source; got {check.got(source)}")
        (low, high), R = source.M_range, check.side("R", R)
        if R > R_MOST:
            raise ValueError(f"R must be at most {R_MOST} here; got {R}")
        K = source.K_range[1]
        self._attention = source.inputs(K, high, instance).attention[0]  # (K,M,M) at the largest M
        self._read = lambda M: source.inputs(K, M, instance).attention[0, self.basis.value]
        self._limit = views.Limits.of(source.bases, self._attention).attention
        self._pin: tuple[float, float] | None = None  # the chosen pixel, as shares of the output
        wide = Layout(width="auto", flex="1 1 220px")
        self.M = Slider(
            min(max(check.side("M", M), low), high),
            low,
            high,
            description="M",
            tooltip="cells of the attention a side",
            layout=wide,
        )
        self.R = Slider(R, 1, R_MOST, description="R", tooltip="pixels of the mask a side", layout=wide)
        self.basis = widgets.Dropdown(
            options=[(f"k = {k}", k) for k in range(K)], description="basis", layout=Layout(width="180px")
        )
        row = Layout(flex_flow="row wrap", width="100%", max_width="980px")
        self.children = [widgets.HBox([self.M, self.R, self.basis], layout=row), self.board]
        for control in (self.M, self.R, self.basis):
            self._listen(control)
        self._foresee("M", "R")
        self.board.on_pixel = self._guarded(self._chosen)
        self._guarded(self._update)()

    def _chosen(self, row: int | None, column: int | None) -> None:
        R = self.R.value
        if row is not None and not (0 <= row < R and 0 <= column < R):
            return  # the click was made on a picture of another R, a moment ago
        self._pin = None if row is None else ((row + 0.5) / R, (column + 0.5) / R)
        self._update()

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        M, R = self.M.value, self.R.value
        maps = self._maps(M, R)
        self.attention, self.nearest, self.bilinear, self.corners = maps
        with self.board.hold_sync():
            self.board.show_packed(self._packed(M, R, maps))
            self.board.text = self._sentence(M, R)
            self.board.notes = _notes(M, R, self._pixel(R))
            self.board.error = ""

    @one_thread()
    @torch.no_grad()
    def _steps(self, **moved: int) -> dict:
        sizes = {"M": self.M.value, "R": self.R.value} | moved
        return self._packed(**sizes, maps=self._maps(**sizes))

    def _maps(self, M: int, R: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The attention (M,M), and what each rule makes of it: nearest, bilinear, with align_corners, (R,R) each."""
        attention = self._read(M)  # (M,M)
        a = attention[None, None]
        made = interpolate(a, R, "nearest"), interpolate(a, R), interpolate(a, R, align_corners=True)
        return attention, *(values[0, 0] for values in made)

    def _pixel(self, R: int) -> tuple[int, int] | None:
        return None if self._pin is None else tuple(int(share * R) for share in self._pin)

    def _packed(self, M: int, R: int, maps: tuple[Tensor, ...]) -> dict:
        pixel = self._pixel(R)
        chosen = None if pixel is None else PixelSum(*pixel, [], 0.0, 0.5, False)
        return pack_steps(self._panels(M, R, pixel, *maps), 0, chosen)

    def _panels(
        self,
        M: int,
        R: int,
        pixel: tuple[int, int] | None,
        attention: Tensor,
        nearest: Tensor,
        bilinear: Tensor,
        corners: Tensor,
    ) -> list[Panel]:
        inner, outer = sample_places(M, R, False), sample_places(M, R, True)
        marks = [Lattice("ring", outer, outer), Lattice("dot", inner, inner)]
        if pixel is not None:  # the pin shows where it lies by the reference's rule, the cross by the other
            marks.append(Lattice("cross", [outer[pixel[1]]], [outer[pixel[0]]]))

        def panel(name: str, values: Tensor, title: str, rule: str, told: str, reach: float = 1.0, marks=()) -> Panel:
            limit = reach * self._limit
            return Panel(
                name, values[None], "diverging", -limit, limit, title, rule, told, large=True, marks=tuple(marks)
            )

        size = f"{R} × {R}"
        return [
            panel("attention", attention, "attention and samples", "■ align_corners=False, □ True",
                  f"{M} × {M} attention numbers, and the places of {size} samples by both conventions", marks=marks),
            panel("nearest", nearest, "nearest", "tiles", f"{size}, each the number of one cell"),
            panel("bilinear", bilinear, "bilinear", "U a Uᵀ, the reference",
                  f"{size}, each a mean of at most four cells"),
            panel("corners", corners, "bilinear", "align_corners=True",
                  f"{size}, the first and last sample on the centres of the outer cells"),
            panel("difference", corners - bilinear, "difference", "True − False",
                  f"{size}, what align_corners changes", 0.5),
        ]  # fmt: skip

    @property
    def text(self) -> str:
        return self.board.text

    def _sentence(self, M: int, R: int) -> str:
        apart = [f"{places[1] - places[0]:.2f}" if R > 1 else "–" for places in _both(M, R)]
        moved = float((self.corners - self.bilinear).abs().max())
        return (
            f"{M}×{M} = {M * M} numbers of basis {self.basis.value} become {R}×{R}. Samples are {apart[0]} cells "
            f"apart; with align_corners=True {apart[1]}, which moves a number by {moved:.2f} at most. "
            f"Nearest gives each cell, from left to right, {_listed(tile_widths(M, R))} samples."
        )

    def __repr__(self) -> str:
        return f"InterpolateExplorer(M={self.M.value}, R={self.R.value}, basis={self.basis.value})"


def sample_places(M: int, R: int, align_corners: bool) -> list[float]:
    """Where R samples fall along M cells, in cells from the edge: the centre of cell j is at j + 0.5. A sample farther
    out than the outermost centre reads that cell alone."""
    if align_corners:
        return [0.5 + i * (M - 1) / max(R - 1, 1) for i in range(R)]
    return [(i + 0.5) * M / R for i in range(R)]


def tile_widths(M: int, R: int) -> list[int]:
    """How many of R samples each of M cells serves under "nearest"."""
    return (
        interpolate(torch.arange(M).float().expand(1, 1, M, M), R, "nearest")[0, 0, 0]
        .long()
        .bincount(minlength=M)
        .tolist()
    )


def _both(M: int, R: int) -> tuple[list[float], list[float]]:
    return sample_places(M, R, False), sample_places(M, R, True)


def _listed(widths: list[int]) -> str:
    if len(widths) <= 8:
        return ", ".join(map(str, widths))
    return " or ".join(f"{width} ({widths.count(width)}×)" for width in sorted(set(widths)))


def _notes(M: int, R: int, pixel: tuple[int, int] | None) -> list[str]:
    notes = []
    U = interpolation_matrix(M, R, False, torch.float32, torch.device("cpu"))  # (R,M)
    if pixel is not None:
        along = [_read_out(U[i]) for i in pixel]
        notes.append(f"Pixel row {pixel[0]}, column {pixel[1]} (bilinear) reads rows {along[0]}; columns {along[1]}.")
    if M > R:
        unread = int((U.sum(0) == 0).sum())
        notes.append(
            f"M is larger than R: the interpolation samples down without smoothing first, and {unread} of {M} rows of "
            "cells, and as many columns, are read by no sample."
        )
    elif R % M:
        notes.append(f"M = {M} does not divide R = {R}: the tiles of nearest are uneven.")
    return notes


def _read_out(weights: Tensor) -> str:
    """The cells that one row of U reads, with their weights."""
    return ", ".join(f"{cell} × {weight:.2f}" for cell, weight in enumerate(weights.tolist()) if weight > 0)
