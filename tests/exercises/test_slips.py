"""Slips written out as a student writes them, from nothing of the package's: each is called by its name."""

import math
import time

import pytest
import torch
import torch.nn.functional as F
from right_answers import (
    blend_einsum,
    decode_signs,
    interpolate_torch,
    loss_softplus,
    one_box_loop,
    paste_hats,
    roi_align_grid,
    softmax_by_hand,
)

import blendlab
from blendlab import exercises

pytestmark = pytest.mark.usefixtures("one_thread")


def corners(features, y, x):
    """The four cells and the two remainders; None for a point that is too far out."""
    _, H, W = features.shape
    if not (-1 <= y <= H and -1 <= x <= W):
        return None
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, H - 1), min(x0 + 1, W - 1)
    return [features[:, i, j] for i in (y0, y1) for j in (x0, x1)], y - y0, x - x0


def sample_of(mix):
    def bilinear_sample(features, y, x):
        found = corners(features, y, x)
        return features.new_zeros(len(features)) if found is None else mix(*found[0], *found[1:])

    return bilinear_sample


def one_side(features, box, output_size, spatial_scale=0.25):
    """One step for both axes, from the width."""
    x1, y1, x2, _ = box.tolist()
    return one_box_loop(features, torch.tensor([x1, y1, x2, y1 + x2 - x1]), output_size, spatial_scale)


def loop_that_replaces(regions, scores):
    out = torch.zeros_like(regions[:, 0])
    for k in range(regions.shape[1]):
        out = regions[:, k] * scores[:, k]
    return out


def loop_from_one(regions, scores):
    out = regions[:, 0] * 0
    for k in range(1, regions.shape[1]):
        out = out + regions[:, k] * scores[:, k]
    return out


def loop_that_returns(regions, scores):
    out = regions[:, 0] * 0
    for k in range(regions.shape[1]):
        out = out + regions[:, k] * scores[:, k]
        return out


def torchvisions_paste(probabilities, boxes, image_size):
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    return paste_masks_in_image(probabilities[:, None], boxes, image_size)[:, 0]


def whole_numbers(probabilities, boxes, image_size):
    out = torch.zeros(len(boxes), *image_size)
    for n, box in enumerate(boxes):
        x1, y1, x2, y2 = (int(c) for c in box)
        out[n, y1:y2, x1:x2] = F.interpolate(probabilities[None, [n]], (y2 - y1, x2 - x1), mode="bilinear")[0, 0]
    return out


def torchvisions_roi_align(*positions):
    """Called with as many of our arguments as are given here."""

    def roi_align(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
        from torchvision import ops

        return ops.roi_align(features, boxes, output_size, *[spatial_scale, sampling_ratio, aligned][: len(positions)])

    return roi_align


def first_four(features, boxes, output_size, spatial_scale=0.25):
    images = torch.cat([features[int(image)][None] for image in boxes[:, 0]] or [features[:0]])
    table = torch.cat((torch.arange(len(boxes))[:, None], boxes[:, :4]), 1)
    return roi_align_grid(images, table, output_size, spatial_scale) if len(boxes) else features.new_zeros(0, 2, 4, 4)


def corner_first(distances, y, x, stride):
    left, top, right, bottom = distances.relu() * stride
    x1, y1 = x * stride + stride // 2 - left, y * stride + stride // 2 - top
    return torch.stack((x1, y1, x1 + right, y1 + bottom))


SLIPS = {
    "crossed weights": (
        "bilinear_sample",
        sample_of(lambda a, b, c, d, v, u: a * (1 - v) * (1 - u) + b * v * (1 - u) + c * (1 - v) * u + d * v * u),
        "weights of the upper right and the lower left cell are exchanged",
    ),
    "upper row": ("bilinear_sample", sample_of(lambda a, b, c, d, v, u: a * (1 - u) + b * u), "along x alone"),
    "left column": ("bilinear_sample", sample_of(lambda a, b, c, d, v, u: a * (1 - v) + c * v), "along y alone"),
    "mean": ("bilinear_sample", sample_of(lambda a, b, c, d, v, u: (a + b + c + d) / 4), "simply averaged"),
    "one side": ("roi_align_one_box", one_side, "width serves for both axes"),
    "scaled twice": (
        "roi_align_one_box",
        lambda f, box, R, scale=0.25: one_box_loop(f, box * scale, R, scale),
        "scaled twice",
    ),
    "divided": (
        "roi_align_one_box",
        lambda f, box, R, scale=0.25: one_box_loop(f, box, R, 1 / scale),
        "divided by the scale",
    ),
    "start moved alone": (
        "roi_align_one_box",
        lambda f, box, R, scale=0.25: one_box_loop(f, box + torch.tensor([0, 0, 0.5, 0.5]) / scale, R, scale),
        "subtracted from x1 and y1 alone",
    ),
    "torchvision's defaults": ("roi_align", torchvisions_roi_align(), "torchvision's roi_align with its own defaults"),
    "torchvision's scale": ("roi_align", torchvisions_roi_align("scale"), "keep torchvision's defaults"),
    "index among corners": ("roi_align", first_four, "index is read as x1"),
    "both settings of the corner": (
        "blender",
        lambda b, a, x, R: blend_einsum(
            roi_align_grid(b, x, R, 1.0, 1, False), softmax_by_hand(interpolate_torch(a, R))
        ),
        "both the scale and the half pixel are forgotten",
    ),
    "softmax too early": (
        "interpolate",
        lambda a, R: interpolate_torch(a, R).softmax(1),
        "applied as well",
    ),
    "softmax before": ("interpolate", lambda a, R: interpolate_torch(a.softmax(1), R), "applied first"),
    "m = in the loop": ("blend", loop_that_replaces, "must add to the sum (+=)"),
    "range(1, K)": ("blend", loop_from_one, "the first basis is left out"),
    "return in the loop over k": ("blend", loop_that_returns, "return inside the loop over k"),
    "argmax": ("blend", lambda r, s: (r * F.one_hot(s.argmax(1), s.shape[1]).movedim(3, 1)).sum(1), "(argmax)"),
    "unweighted": ("blend", lambda r, s: r.sum(1) / r.shape[1], "simply averaged"),
    "softmax of products": ("blend", lambda r, s: (r * s).softmax(1).sum(1), "It gives 1 everywhere"),
    "a mask": ("blender", lambda b, a, x, R: (blendlab.Blender(R)(b, a, x).logits >= 0).float(), "cut to 0 and 1"),
    "torchvision's paste": ("paste", torchvisions_paste, "torchvision's paste_masks_in_image"),
    "int(box)": ("paste", whole_numbers, "loses its fractions (int)"),
    "box at stride 4": ("paste", lambda p, boxes, size: paste_hats(p, boxes * 0.25, size), "scaled by 1/4"),
    "half a pixel too much": ("paste", lambda p, boxes, size: paste_hats(p, boxes - 0.5, size), "added twice"),
    "t, l, b, r": ("decode_box", lambda d, *rest: decode_signs(d[[1, 0, 3, 2]], *rest), "top, left, bottom, right"),
    "from corner to corner": ("decode_box", corner_first, "measured from the box's corner"),
    "stride 8": ("decode_box", lambda d, y, x, stride: decode_signs(d, y, x, 8), "always 8"),
    "rounded": ("decode_box", lambda *args: decode_signs(*args).round(), "the box is rounded"),
    "1 - t": ("mask_loss", lambda x, t, w: loss_softplus(-x, t, w), "mask and background are exchanged"),
    "sum + 1": (
        "mask_loss",
        lambda x, t, w: loss_softplus(x, t, w) * w.sum() / (w.sum() + 1),
        "1 is added to the divisor",
    ),
    "L1": (
        "mask_loss",
        lambda x, t, w: (F.l1_loss(x.sigmoid(), t, reduction="none").mean((1, 2)) * w / w.sum()).sum(),
        "an absolute error",
    ),
}


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize(("name", "function", "words"), SLIPS.values(), ids=SLIPS.keys())
def test_a_slip_is_called_by_its_name(name, function, words, seed):
    result = getattr(exercises, f"check_{name}")(function, seed=seed)
    assert not result.passed
    assert words in result.diagnosis, result


def test_parameters_in_another_order_are_seen_before_anything_is_called():
    def blender(bases, boxes, attention, output_size):
        raise AssertionError("called")

    result = exercises.check_blender(blender)
    assert not result.passed
    assert "another order: bases, boxes, attention, output_size" in result.diagnosis
    assert "blender(bases, attention, boxes, output_size)" in result.diagnosis
    assert exercises.check_blend(lambda scores, region: blend_einsum(region, scores)).passed  # other names, no order


def test_all_four_of_the_packages_steps_are_no_blender_of_ones_own():
    result = exercises.check_blender(
        lambda bases, attention, boxes, R: blendlab.blend(
            blendlab.roi_align(bases, boxes, R), blendlab.softmax(blendlab.interpolate(attention, R))
        )
    )
    assert not result.passed and "blendlab.steps.roi_align" in result.diagnosis


def test_the_plainest_case_is_one():
    result = exercises.check_softmax(lambda a: a.exp() / a.exp().sum(1))
    assert "the plainest case is right" in result.diagnosis


def test_a_function_that_swallows_everything_is_stopped(monkeypatch):
    monkeypatch.setattr("blendlab.exercises.calling.PROCESSOR_SECONDS", 0.2)

    def stubborn(attention):
        while True:
            try:
                math.factorial(200)
            except:  # noqa: E722  (what is tried here)
                attention = attention * 1

    began = time.thread_time()
    result = exercises.check_softmax(stubborn)
    assert not result.passed and "did not return in time" in result.diagnosis
    assert time.thread_time() - began < 20  # of work: a bound that no machine's speed touches
