"""Which cells a mask pixel reads, and how much of each: the weights of RoIAlign, RoIPool and the interpolation.

One letter legend: K bases, M attention side, R output side, H x W map. Everything is in the trace's dtype, and in its
steps' own order of operations, so that a sample on a limit falls on the same side here as there.
"""

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from . import steps
from .blender import BlendTrace
from .roi_pool import members


@dataclass(frozen=True)
class Cell:
    """A cell that a pixel reads: its place in the map, the share that the pixel takes of it, and its value."""

    row: int
    column: int
    weight: float
    value: float


def base_weights(trace: BlendTrace, instance: int) -> tuple[Tensor, Tensor]:
    """Wy (R,H) and Wx (R,W) of RoIAlign for an instance's box: what each bin takes of each row and of each column."""
    H, W = trace.inputs.bases.shape[2:]
    positions_y, positions_x = sample_positions(trace, instance)
    return _axis_weights(positions_y, H), _axis_weights(positions_x, W)


def sample_positions(trace: BlendTrace, instance: int) -> tuple[Tensor, Tensor]:
    """Where RoIAlign samples for an instance's box, in map cells: y and x, (R, samples a bin) each."""
    settings, R = trace.settings, trace.settings.output_size
    boxes = trace.inputs.boxes[instance : instance + 1]
    place = steps.start_and_size(boxes, settings.spatial_scale, settings.aligned, trace.regions.dtype)
    start, size = (numbers[0] for numbers in place)  # (2,) each: x, y
    ratio = settings.sampling_ratio
    x, y = (
        _positions(start[axis], size[axis], R, ratio if ratio > 0 else int((size[axis] / R).ceil())) for axis in (0, 1)
    )
    return y, x


def attention_weights(trace: BlendTrace) -> Tensor:
    """U (R,M): what each of R pixels along an axis takes of each of M attention cells."""
    R, M, like = trace.settings.output_size, trace.inputs.M, trace.upsampled
    if trace.settings.interpolation == "bilinear":
        return steps.interpolation_matrix(M, R, False, like.dtype, like.device)
    cells = torch.arange(M, dtype=like.dtype, device=like.device)
    nearest = F.interpolate(cells[None, None], size=R, mode="nearest")[0, 0]
    return (nearest[:, None] == cells).to(like.dtype)


def _positions(start: Tensor, size: Tensor, R: int, samples: int) -> Tensor:
    """(R,samples): the centres of equal parts of each bin."""
    centres = torch.arange(R * samples, dtype=start.dtype, device=start.device) + 0.5
    return torch.addcmul(start, size / max(R * samples, 1), centres).view(R, samples)  # in the step's own rounding


def _axis_weights(positions: Tensor, length: int) -> Tensor:
    """(R,samples) -> (R,length). A sample shares itself between the two cells beside it; up to one cell outside the map
    it takes the edge cell whole, farther out nothing."""
    held = positions.clamp(0, length - 1)
    cell = torch.arange(length, dtype=positions.dtype, device=positions.device)
    shares = (1 - (held[..., None] - cell).abs()).clamp(min=0)  # (R,samples,length)
    shares = shares * ((positions - held).abs() <= 1)[..., None]
    return shares.sum(1) / max(positions.shape[1], 1)


def points(trace: BlendTrace, instance: int, row: int, column: int) -> tuple[tuple[float, float], ...]:
    """Where RoIAlign samples for one mask pixel, (y, x) in map cells; empty under RoIPool."""
    if trace.settings.pooling == "pool":
        return ()
    y, x = sample_positions(trace, instance)
    return tuple((v, u) for v in y[row].tolist() for u in x[column].tolist())


def base_cells(trace: BlendTrace, instance: int, row: int, column: int) -> list[tuple[Cell, ...]]:
    """For each basis the cells that pixel (row, column) reads."""
    maps = trace.inputs.bases[int(trace.inputs.boxes[instance, 0])].detach().to(trace.regions.dtype)  # (K,H,W)
    if trace.settings.pooling == "pool":
        return [_pool_cells(m, _pool_weights(trace, instance, m, row, column)) for m in maps]
    (y, x), (H, W) = sample_positions(trace, instance), maps.shape[1:]
    return _cells(maps, _axis_weights(y[row : row + 1], H)[0], _axis_weights(x[column : column + 1], W)[0])


def attention_cells(trace: BlendTrace, maps: Tensor, row: int, column: int) -> list[tuple[Cell, ...]]:
    """For each of K maps (K,M,M), attention or what became of it, the cells that pixel (row, column) reads."""
    U = attention_weights(trace)
    return _cells(maps, U[row], U[column])


def _cells(maps: Tensor, along_y: Tensor, along_x: Tensor) -> list[tuple[Cell, ...]]:
    """For each of maps (K,h,w) the cells that are read: their weights are along_y (h,) times along_x (w,)."""
    rows, columns = along_y.nonzero()[:, 0], along_x.nonzero()[:, 0]
    weights = torch.outer(along_y[rows], along_x[columns]).flatten().tolist()
    values = maps[:, rows][:, :, columns].flatten(1).tolist()
    places = list(product(rows.tolist(), columns.tolist()))
    return [
        tuple(Cell(*place, weight, value) for place, weight, value in zip(places, weights, own, strict=True) if weight)
        for own in values
    ]


def _pool_cells(values: Tensor, weights: Tensor) -> tuple[Cell, ...]:
    """The cells of a map (h,w) whose weight (h,w) is not 0."""
    rows, columns = weights.nonzero().unbind(1)
    numbers = (rows, columns, weights[rows, columns], values[rows, columns])
    return tuple(Cell(*cell) for cell in zip(*(n.tolist() for n in numbers), strict=True))


def base_cell_weights(trace: BlendTrace, n: int, k: int, row: int, column: int) -> Tensor:
    """(R,R): what each pixel of instance n takes of cell (row, column) of basis k."""
    if trace.settings.pooling == "align":
        Wy, Wx = base_weights(trace, n)
        return torch.outer(Wy[:, row], Wx[:, column])
    plane = trace.inputs.bases[int(trace.inputs.boxes[n, 0]), k].detach().to(trace.regions.dtype)
    in_y, in_x = pool_members(trace, n)
    weights = torch.zeros_like(trace.logits[n])
    for i, j in torch.outer(in_y[:, row], in_x[:, column]).nonzero().tolist():
        weights[i, j] = _pool_weights(trace, n, plane, i, j)[row, column]
    return weights


def pool_members(trace: BlendTrace, instance: int) -> tuple[Tensor, Tensor]:
    """Which rows (R,H) and which columns (R,W) of the map RoIPool's bins cover, bool."""
    rois = trace.inputs.boxes[instance : instance + 1].detach().to(trace.regions.dtype)
    in_y, in_x = members(rois, trace.settings.output_size, trace.settings.spatial_scale, trace.inputs.bases)
    return in_y[0], in_x[0]


def _pool_weights(trace: BlendTrace, instance: int, plane: Tensor, row: int, column: int) -> Tensor:
    """(H,W): 1 at the largest cell of a bin. Equal largest cells share, columns first and then their rows, as the
    gradient of a maximum over rows and then over columns does."""
    in_y, in_x = pool_members(trace, instance)
    inside = torch.outer(in_y[row], in_x[column])
    if not inside.any():
        return torch.zeros_like(plane)
    largest = torch.where(inside, plane, -torch.inf).amax(0)  # (W,) of each column
    rows = (inside & (plane == largest)).to(plane.dtype)
    columns = (in_x[column] & (largest == largest.max())).to(plane.dtype)
    return rows / rows.sum(0).clamp(min=1) * columns / columns.sum().clamp(min=1)
