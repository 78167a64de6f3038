"""A function that only calls blendlab's own step is told so, however it gets there; nobody else is accused."""

from functools import partial, wraps

import pytest
import torch
from right_answers import blend_einsum, interpolate_torch, loss_softplus, paste_hats, roi_align_grid, softmax_by_hand

import blendlab
import blendlab.steps
from blendlab import Blender, exercises
from blendlab.exercises import EXERCISES
from blendlab.steps import softmax as alias


def through_a_copy(attention, output_size, mode="bilinear", align_corners=False):
    def inner(call):
        return call(attention, output_size, mode, align_corners)

    return inner(getattr(blendlab, "inter" + "polate")).clone() * 1


@wraps(blend_einsum)
def wrapped(*args):
    return blendlab.blend(*args)


class Module:
    def __call__(self, probabilities, boxes, image_size):
        return blendlab.paste_masks(probabilities, boxes, image_size)


def one_box(features, box, output_size, spatial_scale=0.25):
    return blendlab.roi_align(features[None], [box[None]], output_size, spatial_scale)[0]


def roi_align_as_a_blenders_trace(features, boxes, output_size, spatial_scale=0.25):
    attention = features.new_zeros(len(boxes), features.shape[1], 1, 1)
    return Blender(output_size, spatial_scale)(features, attention, boxes).regions


BORROWED = {
    "the step itself": ("softmax", blendlab.softmax),
    "an alias": ("softmax", alias),
    "a lambda": ("blend", lambda r, s: blendlab.blend(r, s)),
    "keywords": ("blend", lambda r, s: blendlab.blend(scores=s, regions=r)),
    "a partial": ("roi_align", partial(blendlab.roi_align)),
    "a name put together": ("interpolate", through_a_copy),
    "wrapped": ("blend", wrapped),
    "an object": ("paste", Module()),
    "one box": ("roi_align_one_box", one_box),
    "what is below the step": ("interpolate", lambda a, R: blendlab.steps.resize(a, R, "bilinear", False)),
    "a matrix that is cached": (
        "interpolate",
        lambda a, R: (U := blendlab.steps.interpolation_matrix(a.shape[-1], R, False, a.dtype, a.device)) @ a @ U.T,
    ),
    "a blender's trace": ("roi_align", roi_align_as_a_blenders_trace),
    "a blender": ("blender", lambda bases, attention, boxes, R: Blender(R)(bases, attention, boxes).logits),
    "a blender's logits": ("blender", lambda *args: Blender(args[3]).logits(*args[:3])),
    "some cases": ("softmax", lambda a: blendlab.softmax(a) if len(a) == 2 else softmax_by_hand(a)),
}


@pytest.mark.parametrize(("name", "function"), BORROWED.values(), ids=BORROWED.keys())
def test_borrowed_steps_are_told_so(name, function):
    result = getattr(exercises, f"check_{name}")(function)
    assert not result.passed and "calls blendlab's own code" in result.diagnosis, result


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.name)
def test_the_reference_of_a_check_is_borrowed_too(exercise):
    result = getattr(exercises, f"check_{exercise.name}")(exercise.reference)
    assert not result.passed and "calls blendlab's own code" in result.diagnosis


def test_one_step_may_serve_another_exercise():
    whole = exercises.check_blender(
        lambda bases, attention, boxes, R: blendlab.blend(
            blendlab.roi_align(bases, boxes, R), softmax_by_hand(interpolate_torch(attention, R))
        )
    )
    assert whole.passed and whole.note == "It uses blendlab's own roi_align, blend."


def test_nobody_is_accused_for_a_name():
    def softmax(attention):
        return softmax_by_hand(attention)

    def roi_align(features, boxes, output_size):
        def crop(box):
            return roi_align_grid(features, box[None], output_size)

        return torch.cat([crop(box) for box in boxes] or [roi_align_grid(features, boxes, output_size)])

    assert exercises.check_softmax(softmax).passed
    assert exercises.check_roi_align(roi_align).passed
    assert exercises.check_paste(lambda *args: paste_hats(*args)).passed
    assert exercises.check_mask_loss(loss_softplus).passed


def test_the_package_may_be_asked_for_something_else():
    def softmax(attention):
        blendlab.roi_pool(torch.ones(1, 1, 2, 2), torch.zeros(1, 4), 2)
        return softmax_by_hand(attention)

    assert exercises.check_softmax(softmax).passed


def test_torchvisions_operator_is_right_and_noted():
    from torchvision.ops import roi_align

    def with_our_defaults(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
        return roi_align(features, boxes, output_size, spatial_scale, sampling_ratio, aligned)

    result = exercises.check_roi_align(with_our_defaults)
    assert result.passed and "torchvision" in result.note


def test_a_wrong_answer_made_of_the_packages_steps_is_told_what_is_wrong():
    result = exercises.check_blender(
        lambda bases, attention, boxes, R: blendlab.blend(
            blendlab.roi_align(bases, boxes, R), blendlab.interpolate(blendlab.softmax(attention), R)
        )
    )
    assert not result.passed and "softmax comes before the interpolation" in result.diagnosis


def test_what_was_borrowed_is_named_as_a_student_knows_it():
    def mine(bases, attention, boxes, output_size):
        return blendlab.Blender(output_size)(bases, attention, boxes).logits

    diagnosis = exercises.check_blender(mine).diagnosis
    assert "(blendlab.Blender)" in diagnosis and "_blend" not in diagnosis
