"""Exercises: `check_blend(my_blend)` tries a student's function and says what it looks like it does.

Each check takes a function, calls it on random and corner cases (another `seed` draws others), and returns a Result
that displays itself, with `passed` and `diagnosis`. It raises nothing, answers within two seconds, leaves the user's
random numbers alone, and says so when the function only calls blendlab's own step. A result must be a float32 tensor on
the CPU, like the inputs, within 1e-4 (absolute and relative) of the reference; inputs must stay as they were, and what
a training step goes through must let gradients pass. Options that the function does not take are not tried.
"""

from collections.abc import Callable

from .blending import BLEND_STEP, BLENDER, INTERPOLATE_STEP, SOFTMAX_STEP, WRONG_BLENDERS
from .cropping import ROI_ALIGN_ALL, ROI_ALIGN_ONE_BOX
from .judge import judge
from .locations import DECODE, GATHER, HeadOutputs
from .loss import MASK_LOSS
from .placing import PASTE
from .result import Result
from .sampling import BILINEAR_SAMPLE

__all__ = [
    "EXERCISES",
    "WRONG_BLENDERS",
    "HeadOutputs",
    "Result",
    "check_bilinear_sample",
    "check_blend",
    "check_blender",
    "check_decode_box",
    "check_gather_attention",
    "check_interpolate",
    "check_mask_loss",
    "check_paste",
    "check_roi_align",
    "check_roi_align_one_box",
    "check_softmax",
]

EXERCISES = {
    exercise.name: exercise
    for exercise in (
        BILINEAR_SAMPLE,
        ROI_ALIGN_ONE_BOX,
        ROI_ALIGN_ALL,
        INTERPOLATE_STEP,
        SOFTMAX_STEP,
        BLEND_STEP,
        BLENDER,
        PASTE,
        GATHER,
        DECODE,
        MASK_LOSS,
    )
}


def check_bilinear_sample(function: Callable, *, seed: int = 0) -> Result:
    """bilinear_sample(features, y, x) -> (K,): the value of each of K maps (K,H,W) at one point between its cells.

    y and x are numbers that count cells: the centre of row i, column j lies at y = i, x = j. Up to one cell outside the
    map the edge's value holds, farther out it is 0.
        bilinear_sample(torch.tensor([[[0.0, 10.0], [20.0, 30.0]]]), 0.5, 0.5)  # tensor([15.])
    """
    return judge(function, BILINEAR_SAMPLE, seed)


def check_roi_align_one_box(function: Callable, *, seed: int = 0) -> Result:
    """roi_align_one_box(features, box, output_size, spatial_scale=0.25) -> (K,R,R): K maps (K,H,W) cropped to one box.

    box is a tensor x1, y1, x2, y2 in image pixels; one sample at the centre of each bin, aligned.
        roi_align_one_box(torch.rand(4, 32, 32), torch.tensor([8.0, 8.0, 96.0, 64.0]), 14).shape  # (4,14,14)
    """
    return judge(function, ROI_ALIGN_ONE_BOX, seed)


def check_roi_align(function: Callable, *, seed: int = 0) -> Result:
    """roi_align(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True) -> (N,K,R,R).

    As blendlab.roi_align, for boxes (N,5): image index, x1, y1, x2, y2.
    """
    return judge(function, ROI_ALIGN_ALL, seed)


def check_interpolate(function: Callable, *, seed: int = 0) -> Result:
    """interpolate(attention, output_size, mode="bilinear", align_corners=False): (N,K,M,M) -> (N,K,R,R).

    As blendlab.interpolate; align_corners is tried with "bilinear" alone.
    """
    return judge(function, INTERPOLATE_STEP, seed)


def check_softmax(function: Callable, *, seed: int = 0) -> Result:
    """softmax(attention): (N,K,R,R) -> scores (N,K,R,R) that sum to 1 over K. As blendlab.softmax."""
    return judge(function, SOFTMAX_STEP, seed)


def check_blend(function: Callable, *, seed: int = 0) -> Result:
    """blend(regions, scores): twice (N,K,R,R) -> mask logits (N,R,R). As blendlab.blend."""
    return judge(function, BLEND_STEP, seed)


def check_blender(function: Callable, *, seed: int = 0) -> Result:
    """blender(bases, attention, boxes, output_size) -> mask logits (N,R,R): all four steps, with their defaults.

    bases (B,K,H,W) at stride 4, attention (N,K,M,M), boxes (N,5). It may use some of blendlab's steps, not all four.
    """
    return judge(function, BLENDER, seed)


def check_paste(function: Callable, *, seed: int = 0) -> Result:
    """paste_masks(probabilities, boxes, image_size): (N,R,R), (N,4), (H, W) -> (N,H,W). As blendlab.paste_masks."""
    return judge(function, PASTE, seed)


def check_gather_attention(function: Callable, *, seed: int = 0) -> Result:
    """gather_attention(outputs, level, y, x) -> (K,M,M): the attention that one location of one level speaks.

    outputs is a HeadOutputs: outputs.maps[level] is (K*M*M,h,w), level 0 is P3; outputs.K and outputs.M are numbers.
        gather_attention(HeadOutputs([torch.rand(784, 8, 8)], K=4, M=14), 0, 3, 5).shape  # (4,14,14)
    """
    return judge(function, GATHER, seed)


def check_decode_box(function: Callable, *, seed: int = 0) -> Result:
    """decode_box(distances, y, x, stride) -> (4,): the box x1, y1, x2, y2 in image pixels that one location predicts.

    distances (4,) is what the box layer says there: left, top, right, bottom in strides, before the ReLU. y and x are
    the location's row and column in its level; it lies at index * stride + stride // 2. The box is not clipped.
        decode_box(torch.tensor([1.0, 2.0, 3.0, -1.0]), 4, 5, 8)  # tensor([36., 20., 68., 36.])
    """
    return judge(function, DECODE, seed)


def check_mask_loss(function: Callable, *, seed: int = 0) -> Result:
    """mask_loss(logits, targets, centerness) -> scalar tensor: what BlendMask's masks are trained with.

    logits (P,R,R) of P positive locations, targets (P,R,R) in 0..1, centerness (P,). Binary cross-entropy averaged over
    R x R, weighted by centerness, divided by the sum of centerness; 0 where there is no location.
        mask_loss(torch.zeros(2, 4, 4), torch.ones(2, 4, 4), torch.tensor([0.2, 0.8]))  # tensor(0.6931)
    """
    return judge(function, MASK_LOSS, seed)
