"""Make the shipped fits of the bundled photographs, and print how good they are.

    python scripts/fit_photographs.py            fits, writes blendlab/fit/*.safetensors (some minutes each), measures
    python scripts/fit_photographs.py --measure  measures what is shipped

IoU is the mean over instances, in hundredths, of the mask pasted at the image's size (probability >= 0.5).
"""

import argparse

import torch
from torch import Tensor

from blendlab import Blender, paste_masks
from blendlab.fit import fit, fit_nested, fitted
from blendlab.fit.store import SHIPPED, digest, write
from blendlab.pictures import Picture, load, names
from blendlab.sources import Source

EDGES = {  # what is added to x1, y1, x2, y2
    **{f"grown {by} px": (-by, -by, by, by) for by in (4, 8, 16)},
    **{f"moved {x:+d},{y:+d} px": (x, y, x, y) for x, y in ((4, 0), (-4, 0), (0, 4), (0, -4))},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="fit nothing")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for name in names():
        picture = load(name)
        if not asked.measure:
            source = fit_nested(picture, steps=asked.steps, seed=asked.seed)
            write(SHIPPED / f"{name}.safetensors", source, digest(picture))
        print_figures(picture, fitted(picture))


def print_figures(picture: Picture, source: Source) -> None:
    truth = torch.from_numpy(picture.masks)
    size = (SHIPPED / f"{picture.name}.safetensors").stat().st_size
    print(f"\n{picture}: {size / 1e3:.0f} kB")
    Ms = (1, 4, 7, 14, 28)
    print("R=56        " + "".join(f"  M={M:<4d}" for M in Ms))
    for K in (1, 2, 4, 8):
        row = [iou(masks(source.inputs(K, M), picture), truth) for M in Ms]
        print(f"K={K}" + " " * 9 + "".join(f"{100 * value.mean():7.1f}" for value in row))
    row = [iou(masks(source.inputs(1, M), picture, form="softmax"), truth) for M in Ms]
    print("K=1 softmax " + "".join(f"{100 * value.mean():7.1f}" for value in row))
    at = {R: iou(masks(source.inputs(4, 14), picture, R), truth).mean() for R in (7, 14, 28, 56, 80, 112)}
    print("K=4 M=14    " + ", ".join(f"R={R} {100 * value:.1f}" for R, value in at.items()))
    alone = iou(masks(fit(picture, 4, 14, 56), picture), truth)
    print(f"K=4 M=14 R=56 fitted alone, the ceiling: {100 * alone.mean():.1f}")
    each = iou(masks(source.inputs(4, 14), picture), truth)
    print("K=4 M=14 each: " + " ".join(f"{100 * value:.0f}" for value in each))
    print("R=56, boxes disturbed: against the truth / against the mask of the exact box, within the new box")
    for K, M in ((1, 14), (2, 14), (4, 14), (8, 28)):
        still = masks(source.inputs(K, M), picture)
        for what, edges in EDGES.items():
            boxes = source.boxes + torch.tensor(edges)
            seen = masks(source.with_boxes(boxes).inputs(K, M), picture)
            kept = iou(seen, still & inside(boxes, picture))
            print(f"  K={K} M={M:<2d} {what:<14s} {100 * iou(seen, truth).mean():5.1f} / {100 * kept.mean():5.1f}")


def masks(inputs, picture: Picture, R: int = 56, form: str | None = None) -> Tensor:
    """(N,H,W) bool at the picture's size."""
    form = form or ("product" if inputs.K == 1 else "softmax")
    trace = Blender(R, normalizer=form)(inputs.bases, inputs.attention, inputs.boxes)
    return paste_masks(trace.probabilities, inputs.boxes[:, 1:], picture.size) >= 0.5


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(N,) of (N,H,W) bool; two empty masks agree."""
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def inside(boxes: Tensor, picture: Picture) -> Tensor:
    """(N,H,W) bool: pixels whose centres lie in the boxes (N,4)."""
    x, y = (torch.arange(side) + 0.5 for side in reversed(picture.size))
    x1, y1, x2, y2 = boxes.T[:, :, None]
    return ((x > x1) & (x < x2))[:, None] & ((y > y1) & (y < y2))[:, :, None]


if __name__ == "__main__":
    main()
