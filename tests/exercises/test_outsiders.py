"""Slips that are in no bank, as somebody might make them: each is rejected, and what is said of it is true."""

import math

import pytest
import torch
import torch.nn.functional as F
from right_answers import (
    bilinear_loop,
    blend_einsum,
    blender_steps,
    decode_signs,
    gather_slices,
    interpolate_torch,
    loss_softplus,
    one_box_loop,
    paste_hats,
    roi_align_grid,
    softmax_by_hand,
)

from blendlab import exercises
from blendlab.exercises import EXERCISES

pytestmark = pytest.mark.usefixtures("one_thread")


def open_limits(features, y, x):
    inside = -1 < y < features.shape[1] and -1 < x < features.shape[2]
    return bilinear_loop(features, y, x) if inside else features.new_zeros(len(features))


def swapped_limits(features, y, x):
    inside = -1 <= y <= features.shape[2] and -1 <= x <= features.shape[1]
    return bilinear_loop(features, y, x) if inside else features.new_zeros(len(features))


def three_maps(features, y, x):
    value = bilinear_loop(features, y, x)
    return value if value.any() else torch.zeros(3)


def without_end(features, y, x):
    """The textbook's formula: no cell to the right of the last one."""
    if not (-1 <= y <= features.shape[1] and -1 <= x <= features.shape[2]):
        return features.new_zeros(len(features))
    top, left = math.floor(y), math.floor(x)
    upper = features[:, top, left] * (1 - (x - left)) + features[:, top, left + 1] * (x - left)
    lower = features[:, top + 1, left] * (1 - (x - left)) + features[:, top + 1, left + 1] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def vanishing(features, y, x):
    """Weights from ceil: those of a whole number are all 0."""
    K, H, W = features.shape
    if not (-1 <= y <= H and -1 <= x <= W):
        return torch.zeros(K)
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    y0, y1, x0, x1 = math.floor(y), math.ceil(y), math.floor(x), math.ceil(x)
    upper = features[:, y0, x0] * (x1 - x) + features[:, y0, x1] * (x - x0)
    lower = features[:, y1, x0] * (x1 - x) + features[:, y1, x1] * (x - x0)
    return upper * (y1 - y) + lower * (y - y0)


def roi_align_of(move):
    def roi_align(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
        settings = (output_size, spatial_scale, sampling_ratio, aligned)
        return roi_align_grid(features, move(boxes, spatial_scale), *settings)

    return roi_align


def least_one_cell(boxes, scale):
    return torch.cat((boxes[:, :3], torch.maximum(boxes[:, 3:], boxes[:, 1:3] + 1 / scale)), 1)


def samples_at_corners(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    step = (boxes[:, 3:] - boxes[:, 1:3]).repeat(1, 2) / output_size / max(sampling_ratio, 1) / 2
    moved = torch.cat((boxes[:, :1], boxes[:, 1:] - step * (sampling_ratio > 1)), 1)
    return roi_align_grid(features, moved, output_size, spatial_scale, sampling_ratio, aligned)


def summed(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    mean = roi_align_grid(features, boxes, output_size, spatial_scale, sampling_ratio, aligned)
    return mean * max(sampling_ratio, 1) ** 2


def no_corner(attention, output_size, mode="bilinear", align_corners=False):
    if align_corners:
        U = torch.arange(output_size) * (attention.shape[-1] - 1) / torch.tensor(output_size - 1)
        U = (1 - (U[:, None] - torch.arange(attention.shape[-1])).abs()).clamp(min=0)
        return U @ attention @ U.T
    return interpolate_torch(attention, output_size, mode)


def first_returned(regions, scores):
    out = torch.zeros(regions[:, 0].shape)
    for n in range(len(regions)):
        out[n] = (regions[n] * scores[n]).sum(0)
        return out
    return out


def four_bases(attention):
    powers = [attention[:, k].exp() for k in range(4)]
    return torch.stack([power / sum(powers) for power in powers], 1)


def by_image(bases, attention, boxes, output_size):
    """All boxes of image 0, then those of image 1: not in the boxes' order."""
    masks = blender_steps(bases, attention, boxes, output_size)
    return masks[boxes[:, 0].argsort(stable=True)]


def emptied(outputs, level, y, x):
    attention = gather_slices(outputs, level, y, x)
    outputs.maps[level] = None
    return attention


def overlaps_removed(probabilities, boxes, image_size):
    pasted = paste_hats(probabilities, boxes, image_size)
    return pasted * (pasted == pasted.amax(0, keepdim=True)) if len(pasted) else pasted


def half_of_p3(distances, y, x, stride):
    return decode_signs(distances, y, x, stride) - stride // 2 + 4


SLIPS = {
    "bilinear_sample": {
        "open limits": (open_limits, ("just one cell outside", "still has the edge's value")),
        "limits of the other axis": (swapped_limits, ("Right in the 4 plainer cases", "last cell's centre")),
        "three maps": (three_maps, ("K is not 3", "Take K from the map's shape")),
        "no last cell": (without_end, ("IndexError", "last cell's centre", "keep the indices on the map")),
        "weights of ceil": (vanishing, ("the point is a cell's centre", "sum to 1")),
        "nearest row": (lambda f, y, x: bilinear_loop(f, round(y), x), ("along x alone",)),
        "one map": (lambda f, y, x: bilinear_loop(f, y, x)[0], ("shape ()", "(K) = (3,)")),
    },
    "roi_align_one_box": {
        "least size": (
            lambda f, box, *rest: roi_align_of(least_one_cell)(f[None], F.pad(box, (1, 0))[None], *rest)[0],
            ("a box is smaller than a cell", "keeps its size"),
        ),
        "box in place": (lambda f, box, R, scale=0.25: one_box_loop(f, box.mul_(scale), R, 1.0), ("its input box",)),
        "K last": (lambda *args: one_box_loop(*args).permute(1, 2, 0), ("(4, 4, 2)", "(K,R,R) = (2, 4, 4)")),
    },
    "roi_align": {
        "least size": (roi_align_of(least_one_cell), ("a box is smaller than a cell", "keeps its size")),
        "first box": (roi_align_of(lambda b, s: b[:1].expand(len(b), -1)), ("several boxes", "Is every box read")),
        "last image": (
            roi_align_of(lambda b, s: torch.cat((b[:, :1] * 0 + (b[:, 0].max() if len(b) else 0), b[:, 1:]), 1)),
            ("several images", "names its image"),
        ),
        "samples at corners": (samples_at_corners, ("sampling_ratio is not 1", "(i + 0.5) / ratio")),
        "sum of samples": (summed, ("sampling_ratio is not 1", "Average")),
        "half a list": (lambda *args: list(roi_align_grid(*args)), ("a list",)),
    },
    "interpolate": {
        "0 / 0 at the corner": (no_corner, ("R is 1", "R - 1 divide")),
        "nearest-exact": (
            lambda a, R, mode="bilinear", corners=False: (
                F.interpolate(a, (R, R), mode="nearest-exact")
                if mode == "nearest"
                else interpolate_torch(a, R, mode, corners)
            ),
            ("M does not divide R",),
        ),
        "a whole factor": (lambda a, R: F.interpolate(a, scale_factor=R // a.shape[-1] or 1), ("nearest cell",)),
        "mixed axes": (lambda a, R: interpolate_torch(a, R).permute(0, 2, 3, 1).reshape(len(a), -1, R, R), ("places",)),
    },
    "softmax": {
        "K = 4": (four_bases, ("IndexError", "K is not 4", "Take K from the inputs' shape")),
        "permuted wrongly": (lambda a: a.permute(0, 2, 3, 1).softmax(-1).reshape(a.shape), ("in other places",)),
        "one largest of all": (
            lambda a: softmax_by_hand(a) if not a.numel() else (e := (a - a.max()).exp()) / e.sum(1, keepdim=True),
            ("attention is large",),
        ),
        "mean for sum": (
            lambda a: softmax_by_hand(a) * a.shape[1],
            ("4 times the right one in that case", "depends on the input"),
        ),
        "rows where square": (lambda a: a.softmax(2 if a.shape[1] == a.shape[2] else 1), ("K is R",)),
        "without reading": (lambda a: torch.ones_like(a) / a.shape[1], ("0.25 everywhere", "depend on the input")),
    },
    "blend": {
        "at most four": (lambda r, s: blend_einsum(r[:, :4], s[:, :4]), ("K is not 4", "Take K")),
        "return in the loop": (first_returned, ("there are several boxes", "share something")),
        "first scores": (lambda r, s: blend_einsum(r, s[:1].expand(s.shape)), ("there are several boxes",)),
        "half of everything": (lambda r, s: blend_einsum(r, s) / 2, ("Every number is 0.5 times the right one: ",)),
        "a bias": (lambda r, s: blend_einsum(r, s) + 0.5, ("Every number is off by 0.5: ",)),
    },
    "blender": {
        "image by image": (by_image, ("there are several images",)),
        "masks in reverse": (lambda b, a, x, R: blender_steps(b, a.flip(0), x, R), ("there are several boxes",)),
        "least size": (
            lambda b, a, x, R: blender_steps(b, a, least_one_cell(x, 0.25), R),
            ("a box is smaller than a cell", "keeps its size"),
        ),
        "R is 56": (lambda b, a, x, R: blender_steps(b, a, x, 56), ("(1, 56, 56)", "(1, 6, 6)")),
    },
    "paste": {
        "overlaps removed": (overlaps_removed, ("there are several boxes", "its own (H,W)")),
        "one pixel off": (lambda p, b, size: paste_hats(p, b + 1, size), ("in other places", "offset")),
        "bytes": (lambda *args: (paste_hats(*args) * 255).byte(), ("torch.uint8",)),
    },
    "gather_attention": {
        "M, K, M": (
            lambda o, level, y, x: o.maps[level][:, y, x].view(o.M, o.K, o.M).transpose(0, 1),
            ("in other places", "permute"),
        ),
        "always 14": (lambda o, level, y, x: o.maps[level][:, y, x].view(-1, 14, 14), ("RuntimeError", "14")),
        "row * height": (
            lambda o, level, y, x: (m := o.maps[level]).flatten(1)[:, y * m.shape[1] + x].view(o.K, o.M, o.M),
            ("the map is not square", "x and y confused"),
        ),
        "a map taken away": (emptied, ("changes its input outputs",)),
    },
    "decode_box": {
        "size without sign": (lambda d, *args: decode_signs(d.abs(), *args), ("a distance is negative", "ReLU")),
        "half a stride of P3": (half_of_p3, ("in that case, and not so in others",)),
        "x1, x2, y1, y2": (lambda *args: decode_signs(*args)[[0, 2, 1, 3]], ("in other places",)),
        "a tuple": (lambda *args: tuple(decode_signs(*args)), ("a tuple",)),
    },
    "mask_loss": {
        "base 2": (lambda *args: loss_softplus(*args) / math.log(2), ("1.443 times", "division: ")[:1]),
        "squared centerness": (lambda x, t, w: loss_softplus(x, t, w**2), ("by hand",)),
        "softmax of centerness": (lambda x, t, w: loss_softplus(x, t, w.softmax(0)), ("by hand",)),
        "logits cut": (lambda x, t, w: loss_softplus(x.clamp(-9, 9), t, w), ("logits are large", "cut off")),
        "a float for nothing": (
            lambda x, t, w: loss_softplus(x, t, w) if len(x) else 0.0,
            ("a float", "there are no locations"),
        ),
    },
}


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize(
    ("name", "function", "words"),
    [(name, *slip) for name, slips in SLIPS.items() for slip in slips.values()],
    ids=[f"{name}: {slip}" for name, slips in SLIPS.items() for slip in slips],
)
def test_a_slip_is_rejected_and_described(name, function, words, seed):
    result = getattr(exercises, f"check_{name}")(function, seed=seed)
    assert not result.passed
    assert all(word in result.diagnosis for word in words), result.diagnosis


def test_every_exercise_has_slips_here():
    assert set(SLIPS) == set(EXERCISES) and sum(map(len, SLIPS.values())) >= 40


def test_one_number_is_called_a_multiple_only_where_several_are():
    """Any two numbers are multiples of one another: a loss that is simply wrong must not hear of a division."""
    result = exercises.check_mask_loss(lambda x, t, w: loss_softplus(x, t, w).sqrt())
    assert not result.passed and "times" not in result.diagnosis
