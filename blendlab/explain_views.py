"""What `explain` found, as a board shows it: marks over the panels, and lines of words below the sum.

Pure functions, as in `views`. One letter legend: K bases, M attention side, R output side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .blender import BlendTrace
from .explain import PixelOrigin, Reach, Term
from .reads import Cell
from .views import Lattice, Panel

FEW = 9  # cells that fit a line one by one


@dataclass(frozen=True)
class Told:
    """marks: Lattices by panel name; heading and lines: words; cell: the chosen cell of a panel (`name`, `k`, `row`,
    `column`), None where a mask pixel is chosen."""

    marks: dict[str, tuple[Lattice, ...]]
    heading: str
    lines: list[str]
    cell: dict | None = None


def marked(panels: Sequence[Panel], told: Told) -> list[Panel]:
    """The panels with their marks."""
    return [replace(p, marks=p.marks + told.marks[p.name]) if p.name in told.marks else p for p in panels]


def origin_told(origin: PixelOrigin) -> Told:
    """Frames round the cells that a mask pixel reads, and the sums that made r, a' and s of each basis."""
    base_frames = (replace(frame, only=term.k) for term in origin.terms for frame in _frame(term.base_cells))
    marks = {"bases": tuple(base_frames), "attention": _frame(origin.terms[0].attention_cells)}
    lines = [_read(origin)]
    for term in origin.terms:
        lines.append(_sum(f"r{_low(term.k)}", term.base_cells, term.base))
        lines.append(_sum(f"a′{_low(term.k)}", term.attention_cells, term.upsampled))
    if origin.normalizer == "softmax" and origin.order == "interpolate-first":
        lines += _softmax(origin.terms)
    return Told(marks, "where these numbers come from", lines)


def reach_told(trace: BlendTrace, reach: Reach, instance: int = 0) -> Told:
    """Frames round the chosen cell and round the mask pixels of `instance` that read it; its gradient in words."""
    place = {"name": reach.step, "k": reach.k, "row": reach.row, "column": reach.column}
    marks = {reach.step: (Lattice("frame", [reach.column, reach.column + 1], [reach.row, reach.row + 1], reach.k),)}
    lines = [reach.line(4)]
    rows, columns = reach.depends[instance].nonzero(as_tuple=True)
    if len(rows):
        top, bottom, left, right = (int(v) for v in (rows.min(), rows.max(), columns.min(), columns.max()))
        lines.append(f"they lie in rows {top} to {bottom} and columns {left} to {right} of the mask")
        frame = Lattice("frame", [left, right + 1], [top, bottom + 1])
        own = replace(frame, only=reach.k)
        every = reach.step == "attention" and trace.settings.normalizer == "softmax"  # one weight moves the others
        marks |= {"products": (frame if every else own,), "logits": (frame,), "probabilities": (frame,)}
        if reach.step == "bases":
            marks["regions"] = (own,)
        else:
            first = trace.settings.order == "normalize-first"
            marks |= {"upsampled": (frame if every and first else own,), "scores": (frame if every else own,)}
    if reach.gradient is not None:
        lines.append("gradient = Σ over those pixels of (p − t) / R² times ∂m/∂cell, t the true mask in the box")
    return Told(marks, "where this number goes", lines, place)


def _frame(cells: Sequence[Cell]) -> tuple[Lattice, ...]:
    if not cells:
        return ()
    rows, columns = [c.row for c in cells], [c.column for c in cells]
    return (Lattice("frame", [min(columns), max(columns) + 1], [min(rows), max(rows) + 1]),)


def _read(origin: PixelOrigin) -> str:
    n = len(origin.points)
    if n == 0:
        return "RoIPool: each r is the largest cell of its bin"
    y, x = (sum(along) / n for along in zip(*origin.points, strict=True))
    how = "1 sample" if n == 1 else f"the mean of {n} samples, their middle"
    return f"the bases are read by {how} at row {y:.2f}, column {x:.2f} of the map (cell centres are whole numbers)"


def _sum(name: str, cells: Sequence[Cell], total: float) -> str:
    if not cells:
        return f"{name} = {total:.4f}: no cell of the map is read"
    if len(cells) > FEW:
        rows, columns = [c.row for c in cells], [c.column for c in cells]
        where = f"rows {min(rows)} to {max(rows)}, columns {min(columns)} to {max(columns)}"
        return f"{name} = {total:.4f}: the weighted sum of {len(cells)} cells, {where}"
    return f"{name} = {' + '.join(f'{c.weight:.3f}·{_signed(c.value)}' for c in cells)} = {total:.4f}"


def _softmax(terms: Sequence[Term]) -> list[str]:
    """The K normaliser weights, each over the sum of all; the largest a' is taken off first, as the step does."""
    powers = (torch.tensor([t.upsampled for t in terms]).double() - max(t.upsampled for t in terms)).exp()
    parts = " + ".join(f"{power:.3f}" for power in powers)
    return [f"Σⱼ exp(a′ⱼ − {max(t.upsampled for t in terms):.3f}) = {parts} = {powers.sum():.3f}, s = its parts / sum"]


def _signed(value: float) -> str:
    return f"({value:.3f})" if value < 0 else f"{value:.3f}"


def _low(k: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(k))
