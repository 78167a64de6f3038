"""Pasting a mask whose box leaves the image: three orders of clipping, side by side.

One letter legend: R output side, H x W image.
"""

import ipywidgets as widgets
import torch
from ipywidgets import Layout
from torch import Tensor

from ..board import Board, pack_steps
from ..paste import clip_boxes, paste_masks
from ..steps import roi_align
from ..threads import one_thread
from ..views import Panel
from .base import Explorer, Slider

SIDE, RADIUS, STRIDE = 200, 60, 4
ORDERS = {
    "as it is": "blend in the whole box, paste into the whole box",
    "clip first": "clip the box, blend in it, paste into it",
    "clip between": "blend in the whole box, paste into the clipped one",
}


class PasteExplorer(Explorer):
    """A disc that leaves a 200 x 200 image on the left, drawn from one ideal basis in its own box.

    The controls are attributes: x (the disc's centre, in image pixels), R, threshold (of the probability, in percent).
    `ious` holds the IoU of each order of clipping with what is to be seen of the disc; `text` is the line below.
    """

    def __init__(self, x: int = 30, R: int = 56, threshold: int = 50):
        super().__init__(Board(fixed=True, rows=["pasted"], hint="Move x: the box leaves the image on the left."))
        wide = Layout(width="auto", flex="1 1 220px")
        self.x = Slider(x, -55, 120, description="x", tooltip="centre of the disc, in image pixels", layout=wide)
        self.R = Slider(R, 4, 112, description="R", tooltip="pixels of the mask a side", layout=wide)
        self.threshold = Slider(
            threshold, 1, 99, description="threshold %", tooltip="the least probability that is kept", layout=wide
        )
        self.ious: dict[str, float] = {}
        controls = [self.x, self.R, self.threshold]
        self.children = [
            widgets.HBox(controls, layout=Layout(flex_flow="row wrap", width="100%", max_width="980px")),
            self.board,
        ]
        for control in controls:
            self._listen(control)
        self._foresee("x", "R", "threshold")
        self._guarded(self._update)()

    @property
    def text(self) -> str:
        return self.board.text

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        x, R, threshold = self.x.value, self.R.value, self.threshold.value
        panels, self.ious = self._drawn(x, R, threshold)
        told = ", ".join(f"{name} {iou:.2f}" for name, iou in self.ious.items())
        with self.board.hold_sync():
            self.board.show_steps(panels, 0, None)
            self.board.text = (
                f"Box {x - RADIUS} to {x + RADIUS} in an image {SIDE} wide, R={R}, kept where p ≥ "
                f"{threshold / 100:.2f}. IoU with what is seen of the disc: {told}."
            )
            self.board.error = ""

    @one_thread()
    @torch.no_grad()
    def _steps(self, **moved: int) -> dict:
        sizes = {name: getattr(self, name).value for name in ("x", "R", "threshold")} | moved
        return pack_steps(self._drawn(**sizes)[0], 0, None)

    def _drawn(self, x: int, R: int, threshold: int) -> tuple[list[Panel], dict[str, float]]:
        """A panel and an IoU for each order of clipping."""
        size = (SIDE, SIDE)
        truth = _distance(x, 1) > 0  # (H,W)
        basis = _distance(x, STRIDE).clamp(-8, 8)[None, None]  # (1,1,H/4,W/4): it ends where the image ends
        whole = torch.tensor([[x - RADIUS, SIDE / 2 - RADIUS, x + RADIUS, SIDE / 2 + RADIUS]])
        clipped = clip_boxes(whole, size)
        pairs = {"as it is": (whole, whole), "clip first": (clipped, clipped), "clip between": (whole, clipped)}
        panels, ious = [], {}
        for name, (blended, pasted) in pairs.items():
            probabilities = roi_align(basis, blended, R)[:, 0].sigmoid()  # (1,R,R)
            kept = paste_masks(probabilities, pasted, size)[0] >= threshold / 100
            ious[name] = float((kept & truth).sum() / (kept | truth).sum())
            panels.append(_panel(name, kept, truth, ious[name]))
        return panels, ious

    def __repr__(self) -> str:
        return f"PasteExplorer(x={self.x.value}, R={self.R.value}, threshold={self.threshold.value})"


def _distance(x: float, stride: int) -> Tensor:
    """How far inside the disc each cell's centre lies, in image pixels: (side,side)."""
    centres = (torch.arange(SIDE // stride) + 0.5) * stride
    return RADIUS - ((centres[:, None] - SIDE / 2).square() + (centres - x).square()).sqrt()


def _panel(name: str, kept: Tensor, truth: Tensor, iou: float) -> Panel:
    """Right pixels are 0.35, pixels too many 1, pixels that are missing -1."""
    values = torch.where(kept & truth, 0.35, kept.float() - truth.float())
    words = f"{ORDERS[name]}; pale: right, red: too many, blue: missing"
    return Panel(name.replace(" ", "_"), values[None], "diverging", -1.0, 1.0, name, f"IoU {iou:.2f}", words,
                 ends=("missing", "too many"))  # fmt: skip
