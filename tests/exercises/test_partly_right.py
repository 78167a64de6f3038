"""Answers that are right for some inputs only: each is rejected, and told for which it goes wrong."""

import pytest
import torch
import torch.nn.functional as F
from right_answers import (
    blend_einsum,
    blender_steps,
    interpolate_torch,
    loss_softplus,
    one_box_loop,
    paste_hats,
    roi_align_grid,
    softmax_by_hand,
)

from blendlab import exercises

pytestmark = pytest.mark.usefixtures("one_thread")


def unless(condition, function, otherwise=lambda value: value + 1):
    """`function`, spoilt where `condition` of the arguments holds."""
    return lambda *args: otherwise(function(*args)) if condition(*args) else function(*args)


def outside(features, boxes, *_):
    limit = torch.tensor(features.shape[:1:-1]) * 4
    return bool((boxes[:, 1:3] < 0).any() or (boxes[:, 3:] > limit).any())


def _interpolate(attention, output_size):
    return interpolate_torch(attention, output_size)


PARTLY = {
    "square maps": (
        "roi_align",
        unless(lambda f, *_: f.shape[2] != f.shape[3] and len(f) == 1, roi_align_grid),
        "the map is not square",
    ),
    "one box": ("roi_align", unless(lambda f, boxes, *_: len(boxes) > 1, roi_align_grid), None),
    "one image": ("blender", unless(lambda bases, *_: len(bases) > 1, blender_steps), "there are several images"),
    "K = 4": ("blender", unless(lambda bases, *_: bases.shape[1] == 3, blender_steps), "K is not 4"),
    "boxes inside": ("blender", unless(lambda b, a, boxes, R: outside(b, boxes), blender_steps), None),
    "M divides R": (
        "interpolate",
        unless(lambda a, R: R % a.shape[-1] and a.shape[-1] < R, _interpolate),
        "M does not divide R",
    ),
    "M at most R": ("blender", unless(lambda b, a, boxes, R: 1 < R < a.shape[-1], blender_steps), "M is larger than R"),
    "some boxes": (
        "roi_align",
        unless(lambda f, boxes, *_: len(boxes) == 0, roi_align_grid, lambda v: v[:, 0]),
        "there are no boxes",
    ),
    "small attention": ("softmax", lambda a: a.exp() / a.exp().sum(1, keepdim=True), "attention is large"),
    "several bases": ("blend", unless(lambda r, s: r.shape[1] == 1, blend_einsum, lambda v: v * 0), "K is 1"),
    "squeezed": ("softmax", lambda a: softmax_by_hand(a).squeeze(1), "K is 1"),
    "scores that sum to 1": ("blend", lambda r, s: (r * s).sum(1) / s.sum(1), "scores do not sum to 1"),
    "boxes in the image": (
        "paste",
        unless(lambda p, b, s: bool((b < 0).any()), paste_hats),
        "the box leaves the image",
    ),
    "square images": ("paste", unless(lambda p, b, size: size[0] == 17, paste_hats), "the image is not square"),
    "some location": ("mask_loss", unless(lambda x, *_: len(x) == 0, loss_softplus), "there are no locations"),
    "quarter scale": ("roi_align_one_box", lambda f, b, R, scale=0.25: one_box_loop(f, b, R, min(scale, 0.25)), None),
}


@pytest.mark.parametrize(("name", "function", "trait"), PARTLY.values(), ids=PARTLY.keys())
def test_right_for_some_inputs_only(name, function, trait):
    result = getattr(exercises, f"check_{name}")(function)
    assert not result.passed and result.diagnosis
    if trait:
        assert trait in result.diagnosis, result


def test_a_stack_of_nothing_is_explained():
    def stacked(features, boxes, output_size):
        return torch.stack([roi_align_grid(features, box[None], output_size)[0] for box in boxes])

    result = exercises.check_roi_align(stacked)
    assert not result.passed
    assert "there are no boxes" in result.diagnosis and "RuntimeError" in result.diagnosis


def test_a_wrong_shape_that_would_broadcast_is_rejected():
    keeps = exercises.check_blend(lambda r, s: (r * s).sum(1, keepdim=True))
    assert not keeps.passed and "keepdim" in keeps.diagnosis
    assert "broadcast" in " ".join(keeps.details)
    one_weight = exercises.check_softmax(lambda a: softmax_by_hand(a)[..., :1])
    assert not one_weight.passed and "It returns shape" in one_weight.diagnosis
    scalar = exercises.check_mask_loss(lambda *args: loss_softplus(*args)[None])
    assert not scalar.passed and "a scalar" in scalar.diagnosis


def test_constants_and_states_are_rejected():
    zeros = exercises.check_blend(lambda r, s: r[:, 0] * 0)
    assert not zeros.passed and "everywhere" in zeros.diagnosis
    kept = []

    def remembers(attention):
        kept.append(softmax_by_hand(attention))
        return kept[0]

    assert not exercises.check_softmax(remembers).passed


def test_what_no_mistake_explains_is_described():
    scaled = exercises.check_paste(lambda *args: paste_hats(*args) * 0.3)
    assert "0.3 times" in scaled.diagnosis
    turned = exercises.check_roi_align(lambda *args: roi_align_grid(*args).flip(2))
    assert "reverse order along axis 2" in turned.diagnosis
    nan = exercises.check_interpolate(lambda a, R: interpolate_torch(a, R) / 0)
    assert "NaN or infinity" in nan.diagnosis
    noise = exercises.check_softmax(lambda a: torch.rand(a.shape, generator=torch.Generator().manual_seed(3)))
    assert "by hand" in noise.diagnosis


def test_options_that_the_function_does_not_take_are_not_tried_and_said():
    result = exercises.check_interpolate(lambda attention, R: F.interpolate(attention, (R, R), mode="bilinear"))
    assert result.passed and "mode, align_corners" in result.note
    takes_them = exercises.check_interpolate(lambda a, R, mode="bilinear", align_corners=False: interpolate_torch(a, R))
    assert not takes_them.passed
    wrong_default = exercises.check_roi_align(
        lambda f, b, R, scale=0.25, ratio=1, aligned=False: roi_align_grid(f, b, R, scale, ratio, aligned)
    )
    assert not wrong_default.passed


def test_a_buffer_that_is_handed_out_again_is_no_mistake():
    buffers = {}

    def blend(regions, scores):
        if regions.requires_grad:
            return blend_einsum(regions, scores)
        buffer = buffers.setdefault(regions.shape[-1], torch.zeros(4, *regions.shape[2:]))[: len(regions)]
        return buffer.copy_(blend_einsum(regions, scores))

    assert exercises.check_blend(blend).passed
