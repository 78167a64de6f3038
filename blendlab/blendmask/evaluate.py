"""How good is a BlendMask: `python -m blendlab.blendmask.evaluate`, which prints its figures as JSON on the last line.

On composed scenes: 500 of training sprites and 500 of sprites never seen, all on photographs never seen. Or on a
COCO-format folder whose category names the model knows. All figures are fractions of 1, null where nothing was there
to measure.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence

import torch

from ..pictures.coco import read_coco
from ..pictures.picture import Picture
from ..pictures.scenes import scene
from .average_precision import average_precision
from .measure import swap_test
from .model import BlendMask
from .nested import sizes
from .pretrained import ZOO, named_or_file

SCENES = 500


class SceneList(Sequence):
    """Held-out scenes number 0 to n - 1 of a split, composed when they are asked for."""

    def __init__(self, split: str, length: int):
        self.split, self.length = split, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Picture:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return scene(index, self.split)


def evaluate(
    model: BlendMask,
    seen: Sequence[Picture],
    unseen: Sequence[Picture] | None = None,
    K: int | None = None,
    M: int | None = None,
    R: int | None = None,
) -> dict[str, float]:
    """All figures of a model, fractions of 1.

    mask_ap, box_ap: COCO's, on `seen`; mask_ap_unseen, box_ap_unseen on `unseen`, absent without it. gt_box_iou: mean
    mask IoU where the true boxes are given. iou_own (the same), iou_swapped, iou_mean_attention and the three with
    "_overlap": see `measure.swap_test`. K, M, R: the model's own where None.
    """
    K, M, R = sizes(model.config, K, M, R)
    figures = average_precision(model, seen, K, M, R)
    if unseen is not None:
        figures |= {f"{name}_unseen": value for name, value in average_precision(model, unseen, K, M, R).items()}
    swap = swap_test(model, seen, K, M, R)
    return figures | {"gt_box_iou": swap["iou_own"]} | swap


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m blendlab.blendmask.evaluate", description=__doc__)
    shipped = ", ".join(ZOO)
    parser.add_argument(
        "weights",
        nargs="?",
        default="nested",
        help=f"a checkpoint, a safetensors file, or one of the models that ship: {shipped} (default nested)",
    )
    parser.add_argument("--k", type=int, help="bases to read, 1 to the model's own (default)")
    parser.add_argument("--m", type=int, help="attention side, 1 to the model's own (default)")
    parser.add_argument("--r", type=int, help="output side (default: the model's own)")
    parser.add_argument(
        "--coco",
        nargs=2,
        metavar=("ANNOTATIONS", "IMAGES"),
        help="a COCO-format file and its folder; crowds, and objects without a pixel, are left out",
    )
    parser.add_argument("--scenes", type=int, help=f"composed scenes of each split (default {SCENES})")
    options = parser.parse_args(arguments)
    if options.scenes is not None and options.coco:
        parser.error("--scenes: not with --coco, whose pictures are all measured")
    scenes = SCENES if options.scenes is None else options.scenes
    if scenes < 1:
        parser.error(f"--scenes must be at least 1, got {scenes}")
    try:
        model = named_or_file(options.weights).to("cuda" if torch.cuda.is_available() else "cpu")
        sizes(model.config, options.k, options.m, options.r)
        seen = read_coco(*options.coco, model.config.categories) if options.coco else SceneList("held_out", scenes)
        unseen = None if options.coco else SceneList("unseen", scenes)
        print(f"{len(seen)} pictures{'' if unseen is None else f' and {len(unseen)} unseen'} ...", file=sys.stderr)
        figures = evaluate(model, seen, unseen, options.k, options.m, options.r)
    except ValueError as error:
        parser.exit(2, f"evaluate: {error}\n")
    print(json.dumps({name: None if math.isnan(value) else round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
