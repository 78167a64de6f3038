"""A blend of one instance in words: its sizes, and what a reader should be warned of.

One letter legend: K bases, M attention side, R output side, H x W map.
"""

from .. import views
from ..blender import BlendTrace


def sizes(trace: BlendTrace, box: list[float]) -> str:
    """How much of everything; box in image pixels."""
    _, K, H, W = trace.inputs.bases.shape
    M, R = trace.inputs.M, trace.settings.output_size
    x1, y1, x2, y2 = (f"{c:.1f}".removesuffix(".0") for c in box)
    return (
        f"K={K} bases of {H}×{W}; {K}·{M}·{M} = {K * M * M} attention numbers for this instance; "
        f"mask {R}×{R} in the box {x1}, {y1} to {x2}, {y2}"
    )


def warnings(trace: BlendTrace) -> list[str]:
    """What is odd about it, a sentence or two each."""
    notes, normalizer = [], trace.settings.normalizer
    if trace.inputs.K == 1 and normalizer == "softmax":
        notes.append(
            "K=1: softmax over one basis is 1 at every pixel, so the attention is inert and M changes nothing. "
            "The paper's K=1 row is another formula, σ(a′) · σ(r): choose the normaliser product."
        )
    if normalizer == "product":
        notes.append("K=1: the paper's form σ(a′) · σ(r), in which one basis listens to its attention.")
    if trace.inputs.M > trace.settings.output_size:
        notes.append("M is larger than R: the interpolation samples the attention down.")
    if bad := views.not_finite(trace):
        notes.append(f"{bad} of the mask logits are NaN or infinite; they are drawn at the low end of the colours.")
    return notes
