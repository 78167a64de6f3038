"""Compare blendlab's BlendMask with what the authors' own code computed from the same weights and image.

python tests/parity.py --manifest M.json --expected E.npz --size H W --seed S [--depth 50|101] [--threshold T]

Prints one line for each figure with its limit, and exits with 1 where one is beyond it. The weights are those of
parity_weights.py, made from the manifest's names and shapes; tests/data/adelaidet_parity/README.md says what E holds.
"""

import argparse
import json
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

DATA = Path(__file__).parent / "data" / "adelaidet_parity"
sys.path.insert(0, str(DATA))

import parity_weights  # noqa: E402 - found only after the line above

from blendlab.blendmask.adelaidet import from_adelaidet  # noqa: E402
from blendlab.blendmask.model import BlendMask  # noqa: E402
from blendlab.blendmask.postprocess import funnel  # noqa: E402
from blendlab.blendmask.predict import blender, finish  # noqa: E402
from blendlab.paste import paste_masks  # noqa: E402

T = TypeVar("T")
EXPECTED = (
    *("p3_mean", "p4_mean", "p5", "p6", "p7", "bases", "candidates_per_level"),
    *("boxes", "scores", "classes", "levels", "attentions", "mask_probs"),
    *("given_boxes", "given_attentions", "given_mask_probs"),
    *("final_boxes", "final_classes", "final_scores", "final_masks_packed"),
)
MASK_PROBS = 1e-3  # how far a mask's probability may be from the reference's
TIE = 1e-4  # and how near to one half it is decided by rounding


class Report:
    """Figures against their limits."""

    def __init__(self):
        self.failed = []

    def most(self, name, value, limit):
        self._line(name, value, "<=", limit, value <= limit)

    def least(self, name, value, limit):
        self._line(name, value, ">=", limit, value >= limit)

    def _line(self, name, value, sign, limit, good):
        print(f"{'ok  ' if good else 'FAIL'}  {name:<34} {value:<12.6g} {sign} {limit:g}")
        if not good:
            self.failed.append(name)


def ratio(ours, expected):
    """The norm of the difference over the norm of what is expected."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    if ours.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(ours - expected) / max(np.linalg.norm(expected), 1e-12))


@torch.inference_mode()
def compare(model: BlendMask, expected: dict, size: tuple[int, int], seed: int, threshold: float) -> Report:
    """Every row of the README: features, bases, candidates, detections, given boxes, final masks."""
    report = Report()
    pixels = torch.from_numpy(parity_weights.image(*size, seed=seed)).flip(0)  # BGR as made; the model takes RGB
    output = model(model.normalise(pixels))
    for name in ("p5", "p6", "p7"):
        report.most(name, ratio(output.maps[name][0], expected[name]), 1e-4)
    for name in ("p3", "p4"):
        report.most(f"{name}_mean", ratio(output.maps[name][0].mean((1, 2)), expected[f"{name}_mean"]), 1e-4)
    report.most("bases", ratio(output.bases[0], expected["bases"]), 1e-4)
    given_boxes(report, model, output, expected)

    decided = funnel(output.dense, 0, model.config, threshold)
    proposals = decided.best
    wrong = np.abs(np.array(decided.candidates.per_level(5)) - expected["candidates_per_level"]).sum()
    report.most("candidates_per_level, wrong", float(wrong), 0)
    report.most("detections, difference in number", abs(len(proposals) - len(expected["boxes"])), 1)
    height, width = size
    R = model.config.output_side
    found = finish(model, output, proposals, (width, height), (width, height), model.config.bases, 14, R)
    detections(report, model, output, proposals, found, expected)
    return report


def given_boxes(report, model, output, expected):
    """Two boxes given by hand, with the attention at P3 (y=1, x=2) and P5 (y=3, x=4)."""
    width3 = output.maps["p3"].shape[3]
    start5 = int((output.dense.level < 2).sum())
    location = torch.tensor([1 * width3 + 2, start5 + 3 * output.maps["p5"].shape[3] + 4])
    attention = model.attention_at(output.dense, torch.zeros(2, dtype=torch.long), location)
    report.most("given_attentions", ratio(attention.flatten(1), expected["given_attentions"]), 1e-4)
    trace = blender(model.config.bases, 56)(output.bases, attention, torch.from_numpy(expected["given_boxes"]))
    difference = np.abs(trace.probabilities.numpy() - expected["given_mask_probs"]).max()
    report.most("given_mask_probs, largest", float(difference), MASK_PROBS)


def partners(ours, ours_labels, ours_scores, expected, expected_labels, expected_scores):
    """Pairs (ours, expected) of one class, box within 0.1 px, score within 1e-4: order may differ where scores tie."""
    pairs, free = [], np.ones(len(ours), bool)
    for i, box in enumerate(expected if len(ours) else []):
        gap = np.abs(np.asarray(ours) - box).max(1)
        near = np.abs(np.asarray(ours_scores) - expected_scores[i]) <= 1e-4
        gap[~(free & near & (np.asarray(ours_labels) == expected_labels[i]))] = np.inf
        j = int(gap.argmin())
        if gap[j] <= 0.1:
            pairs.append((j, i))
            free[j] = False
    return pairs


def detections(report, model, output, proposals, found, expected):
    """Detections as the network made them, then as they lie in the image; all but one must have a partner."""
    theirs = expected["boxes"], expected["classes"], expected["scores"]
    attention = model.attention_at(output.dense, torch.zeros_like(proposals.location), proposals.location).flatten(1)
    pairs = partners(proposals.boxes, proposals.labels, proposals.scores, *theirs)
    but_one = int(len(theirs[0]) > 1)  # which of two boxes with nearly equal scores suppresses the other is a toss
    report.most("detections without a partner", len(theirs[0]) - len(pairs), but_one)
    js, is_ = split(pairs)
    report.most("boxes, largest difference in px", largest(proposals.boxes[js], expected["boxes"][is_]), 0.1)
    report.most("scores, largest difference", largest(proposals.scores[js], expected["scores"][is_]), 1e-4)
    report.most("levels, wrong", int((proposals.level[js].numpy() != expected["levels"][is_]).sum()), 0)
    worst = max((ratio(attention[j], expected["attentions"][i]) for j, i in pairs), default=0.0)
    report.most("attentions, largest ratio", worst, 1e-4)

    pairs = partners(found.trace.inputs.boxes[:, 1:], found.labels, found.scores, *theirs)
    inside = in_the_image(expected, found.masks.shape[1:])
    report.most("masks without a partner", len(inside) - len(pairs), but_one)
    js, is_ = split(pairs)
    report.most(
        "mask_probs, largest difference",
        largest(found.trace.probabilities[js], expected["mask_probs"][is_]),
        MASK_PROBS,
    )

    theirs = expected["final_boxes"], expected["final_classes"], expected["final_scores"]
    pairs = partners(found.boxes, found.labels, found.scores, *theirs)
    report.most("final detections without a partner", len(theirs[0]) - len(pairs), but_one)
    masks = np.unpackbits(expected["final_masks_packed"], axis=2)[:, :, : found.masks.shape[2]].astype(bool)
    sure = ~undecided(expected, inside, found.masks.shape[1:])
    ious = [mask_iou(found.masks[j].numpy(), masks[i]) for j, i in pairs]
    print(f"      {'with ties, IoU of the final masks':<34} {min(ious, default=1.0):.6g}")
    ious = [mask_iou(found.masks[j].numpy() & sure[i], masks[i] & sure[i]) for j, i in pairs]
    report.least("final masks, smallest IoU", min(ious, default=1.0), 0.995)


def split(pairs):
    """Indices of ours, and of the expected ones."""
    return [j for j, _ in pairs], [i for _, i in pairs]


def largest(ours, expected):
    """The largest absolute difference, 0 of nothing."""
    return float(np.abs(np.asarray(ours) - expected).max(initial=0))


def in_the_image(expected, size):
    """Which of the expected detections have a box left after clipping: they are, in this order, the final ones."""
    clipped = torch.from_numpy(expected["boxes"]).clamp(min=0).minimum(torch.tensor([size[1], size[0]] * 2))
    inside = (clipped[:, 2:] > clipped[:, :2]).all(1).nonzero()[:, 0].numpy()
    if len(inside) != len(expected["final_boxes"]) or largest(clipped[inside], expected["final_boxes"]) > 1e-3:
        raise SystemExit("parity: the expected final_boxes are not the expected boxes clipped to --size")
    return inside


def undecided(expected, inside, size):
    """(N,H,W) pixels whose expected probability is one half but for rounding.

    Where a box leaves the base map its samples are logit 0, probability one half exactly, and the last bit of the box's
    coordinates decides whether its interpolation gives 0.5 or 0.49999997. With two threads a PyTorch like the
    reference's gives its boxes to the last bit, and then every pixel may be counted; with one, or with other
    convolution kernels, it does not.
    """
    probabilities, boxes = torch.from_numpy(expected["mask_probs"][inside]), torch.from_numpy(expected["final_boxes"])
    return ((paste_masks(probabilities, boxes, tuple(size)) - 0.5).abs() <= TIE).numpy()


def mask_iou(a, b):
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def weights(manifest: Path) -> dict[str, np.ndarray]:
    shapes = json.loads(manifest.read_text())
    if not isinstance(shapes, dict):
        raise ValueError(f"it holds a {type(shapes).__name__}, no names and shapes")
    return parity_weights.checkpoint(manifest)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        found = dict(file)
    if absent := [name for name in EXPECTED if name not in found]:
        raise ValueError(f"it has no {', '.join(absent)}")
    return found


def read(name: str, path: Path, how: Callable[[Path], T]) -> T:
    """The file as `how` reads it, or the end of the program in one line: a damaged file is no difference found."""
    try:
        return how(path)
    except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as problem:
        raise SystemExit(f"parity: --{name} {path} cannot be read: {problem}") from None


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--depth", type=int, choices=(50, 101), default=50)
    parser.add_argument("--threshold", type=float, default=0.05)
    options = parser.parse_args(arguments)
    for path in (options.manifest, options.expected):
        if not path.is_file():
            parser.error(f"there is no file {path}")
    model = read("manifest", options.manifest, lambda path: from_adelaidet(weights(path), options.depth))
    expected = read("expected", options.expected, arrays)
    report = compare(model, expected, tuple(options.size), options.seed, options.threshold)
    print(f"{len(report.failed)} beyond tolerance")
    return 1 if report.failed else 0


if __name__ == "__main__":
    torch.set_num_threads(2)  # as many as give the reference's boxes to the last bit, see `undecided`
    sys.exit(main())
