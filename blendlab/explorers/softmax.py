"""The explorer of step 3: the weights made before and after the interpolation, and the mask pixels that this flips.

One letter legend: K bases, M attention side, R output side.
"""

from dataclasses import replace

import torch

from ..blender import BlendTrace
from ..paste import mask_iou
from ..views import Limits, Panel, step_panels
from .blender import BlenderExplorer


class SoftmaxExplorer(BlenderExplorer):
    """Both orders of interpolation and normaliser at once, on the same inputs; else it is a BlenderExplorer.

    `trace` is the paper's order and `swapped` the other one; `flipped` is the share of the R x R mask pixels whose
    probability lies on the other side of 0.5, `swapped_iou` the other mask's IoU with the truth.
    """

    whole_bases = False
    swapped: BlendTrace | None = None
    flipped = swapped_iou = float("nan")

    def _make_controls(self) -> None:
        super()._make_controls()
        left_out = (self.order, self.pooling, self.sampling_ratio, self.aligned)
        for row in self.children[:-1]:  # both orders are shown, and the crop is another lesson's
            row.children = [control for control in row.children if control not in left_out]

    def _panels(self, trace: BlendTrace) -> list[Panel]:
        return order_panels(trace, swap(trace), self._limits)

    def _sentence(self, trace: BlendTrace, box: list[float]) -> str:
        self.swapped = swap(trace)
        self.flipped = float(flips(trace, self.swapped).abs().mean())
        self.swapped_iou = mask_iou(self.swapped.probabilities[0], box, self.picture.masks[self.instance.value])
        return (
            f"{super()._sentence(trace, box)} With the normaliser {self.normalizer.value} before the interpolation, "
            f"{100 * self.flipped:.1f} % of the mask's pixels flip, and its IoU is {self.swapped_iou:.3f}."
        )

    def __repr__(self) -> str:
        return super().__repr__().replace("BlenderExplorer", "SoftmaxExplorer")


def swap(trace: BlendTrace) -> BlendTrace:
    """The same inputs blended with the normaliser before the interpolation."""
    inputs, settings = trace.inputs, replace(trace.settings, order="normalize-first")
    return settings(inputs.bases, inputs.attention, inputs.boxes)


def flips(trace: BlendTrace, swapped: BlendTrace) -> torch.Tensor:
    """(N,R,R): 1 where only the swapped order puts the pixel into the mask, -1 where only the paper's does, else 0."""
    return (swapped.logits >= 0).float() - (trace.logits >= 0).float()


def order_panels(trace: BlendTrace, swapped: BlendTrace, limits: Limits) -> list[Panel]:
    """The attention, the weights of both orders and their difference, both masks and the flips, of the first box."""
    paper = {panel.name: panel for panel in step_panels(trace, limits)}
    other = {panel.name: panel for panel in step_panels(swapped, limits)}
    K, R, norm = trace.inputs.K, trace.settings.output_size, trace.settings.normalizer
    scores, flipped = paper["scores"], flips(trace, swapped)[:1]
    reach = max(scores.high, -scores.low) / 2
    moved = swapped.scores[0] - trace.scores[0]
    share = 100 * float(flipped.abs().mean())
    return [
        paper["attention"],
        replace(scores, title="weights", equation=f"{norm}(interpolate(a))"),
        replace(other["scores"], name="swapped_scores", title="swapped", equation=f"interpolate({norm}(a))"),
        Panel("moved", moved, "diverging", -reach, reach, "difference", "swapped − weights",
              f"{K} differences of {R} × {R} weights, at most {float(moved.abs().max()):.2f}"),
        replace(paper["probabilities"], title="mask"),
        replace(other["probabilities"], name="swapped_probabilities", title="mask, swapped"),
        Panel("flipped", flipped, "diverging", -1.0, 1.0, "flipped pixels", "swapped − paper's",
              f"{share:.1f} % of {R} × {R} mask pixels flip", large=True, ends=("lost", "gained")),
    ]  # fmt: skip
