"""What an explorer keeps and says of the chosen mask pixel, or of the chosen cell of the bases or of the attention."""

import numpy as np
import torch

from .. import explain
from ..blender import BlendTrace
from ..explain_views import Told, origin_told, reach_told

NOTHING = Told({}, "", [])


class Provenance:
    """For a trace of one instance: `tell` gives the marks and lines of a pixel's origin, or of the chosen cell's reach.

    truth: (H,W) bool, the instance's true mask, against which the loss is taken. cell: (step, k, row, column) or None.
    """

    def __init__(self, truth: np.ndarray | None = None):
        self.truth = truth
        self.cell: tuple[str, int, int, int] | None = None

    def choose(self, trace: BlendTrace, step: str, k: int, row: int | None, column: int | None, pin=None) -> None:
        """Choose a cell; without a place, the one of basis k that the pixel at `pin`, shares of the box (x, y), reads
        most of. What lies beyond the maps is left alone: the click was made on a picture of a moment ago."""
        K, (H, W), M = trace.inputs.K, trace.inputs.bases.shape[2:], trace.inputs.M
        k = min(max(k, 0), K - 1)
        if row is None or column is None:
            x, y = pin or (0.5, 0.5)
            R = trace.settings.output_size
            term = explain.pixel(trace, int(y * R), int(x * R)).terms[k]
            cells = term.base_cells if step == "bases" else term.attention_cells
            if not cells:
                return
            most = max(cells, key=lambda cell: cell.weight)
            row, column = most.row, most.column
        height, width = (H, W) if step == "bases" else (M, M)
        if 0 <= row < height and 0 <= column < width:
            self.cell = step, k, row, column

    def holds(self, trace: BlendTrace) -> bool:
        """Whether a cell is chosen that these maps have: a slider may have taken it away."""
        if self.cell is None:
            return False
        step, k, row, column = self.cell
        height, width = trace.inputs.bases.shape[2:] if step == "bases" else (trace.inputs.M,) * 2
        return k < trace.inputs.K and row < height and column < width

    def tell(self, trace: BlendTrace, pixel: tuple[int, int] | None) -> Told:
        """The chosen cell's reach; else the origin of `pixel` (row, column); else nothing."""
        if self.holds(trace):
            step, k, row, column = self.cell
            target = None if self.truth is None else self._target(trace)
            reach = (explain.base_cell if step == "bases" else explain.attention_cell)(
                trace, k, row, column, target=target
            )
            return reach_told(trace, reach)
        return NOTHING if pixel is None else origin_told(explain.pixel(trace, *pixel))

    def _target(self, trace: BlendTrace) -> torch.Tensor:
        from ..fit.targets import soft_targets

        truth = torch.from_numpy(self.truth)[None].to(trace.logits.dtype)
        return soft_targets(truth, trace.inputs.boxes[:, 1:], trace.settings.output_size)
