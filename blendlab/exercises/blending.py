"""The weights and the sum: interpolate, softmax, blend, and the whole blender.

One letter legend: B images, N boxes, K bases, M attention side, R output side, H x W map.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from .. import steps
from .bank_blend import BLEND
from .bank_crop import ROI_ALIGN
from .bank_weights import INTERPOLATE, INTERPOLATE_ALONE, INTERPOLATE_OPTIONS, SOFTMAX
from .cropping import ACROSS, EDGE, INSIDE, OUTSIDE, SMALL, draw_boxes, normal
from .exercise import Case, Exercise, Mistake

STEPS = ("roi_align", "interpolate", "softmax", "blend")
WHOLE = "blendlab.blender._blend"  # behind Blender's call and its logits


def interpolate(attention: Tensor, output_size: int, mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    return steps.interpolate(attention, output_size, mode, align_corners)


def softmax(attention: Tensor) -> Tensor:
    return steps.softmax(attention)


def blend(regions: Tensor, scores: Tensor) -> Tensor:
    return steps.blend(regions, scores)


def blender(bases: Tensor, attention: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    return _composed(bases, attention, boxes, output_size)


def _composed(
    bases: Tensor,
    attention: Tensor,
    boxes: Tensor,
    output_size: int,
    roi_align: Callable = steps.roi_align,
    interpolate: Callable = steps.interpolate,
    softmax: Callable = steps.softmax,
    blend: Callable = steps.blend,
) -> Tensor:
    """The four steps, any of which may be another one."""
    return blend(roi_align(bases, boxes, output_size), softmax(interpolate(attention, output_size)))


def interpolate_cases(generator: Generator) -> list[Case]:
    steps.interpolation_matrix.cache_clear()  # what comes from a cache runs nothing, and nobody would hear who uses it

    def case(N: int, K: int, M: int, R: int, *options, traits: tuple[str, ...] = ()) -> Case:
        return Case((normal(generator, N, K, M, M), R, *options), traits)

    return [
        case(1, 2, 4, 8),
        case(3, 4, 3, 9, traits=("there are several boxes",)),
        case(2, 3, 5, 7, traits=("M does not divide R",)),
        case(1, 1, 4, 8, traits=("K is 1",)),
        case(2, 2, 1, 4, traits=("M is 1",)),
        case(2, 2, 6, 6, traits=("M is R",)),
        case(2, 3, 7, 4, traits=("M is larger than R",)),
        case(2, 2, 5, 1, traits=("R is 1",)),
        case(2, 3, 4, 8, "nearest", traits=("mode is nearest",)),
        case(2, 3, 5, 7, "nearest", traits=("mode is nearest", "M does not divide R")),
        case(2, 3, 4, 8, "bilinear", True, traits=("align_corners is True",)),
        case(2, 3, 5, 1, "bilinear", True, traits=("align_corners is True", "R is 1")),
        case(0, 3, 4, 8, traits=("there are no boxes",)),
    ]


def softmax_cases(generator: Generator) -> list[Case]:
    def case(N: int, K: int, R: int, scale: float = 1, shift: float = 0, traits: tuple[str, ...] = ()) -> Case:
        return Case((normal(generator, N, K, R, R) * scale + shift,), traits)

    return [
        case(1, 4, 5),
        case(3, 4, 5, traits=("there are several boxes",)),
        case(2, 2, 7, traits=("K is not 4",)),
        case(2, 8, 3, traits=("K is not 4",)),
        case(2, 5, 5, traits=("K is R", "K is not 4")),
        case(3, 3, 2, traits=("K is N", "K is not 4")),
        case(2, 1, 4, traits=("K is 1",)),
        case(2, 3, 1, traits=("R is 1",)),
        case(2, 3, 4, 60.0, 400.0, traits=("attention is large",)),
        case(2, 3, 4, 60.0, -400.0, traits=("attention is large",)),
        case(0, 3, 4, traits=("there are no boxes",)),
    ]


def blend_cases(generator: Generator) -> list[Case]:
    def case(N: int, K: int, R: int, traits: tuple[str, ...] = ()) -> Case:
        return Case((normal(generator, N, K, R, R), normal(generator, N, K, R, R).softmax(1)), traits)

    return [
        case(1, 4, 5),
        case(3, 4, 5, ("there are several boxes",)),
        case(2, 8, 3, ("K is not 4",)),
        case(2, 5, 5, ("K is R", "K is not 4")),
        case(3, 3, 2, ("K is N", "K is not 4")),
        case(4, 2, 4, ("N is R", "K is not 4")),
        case(2, 1, 4, ("K is 1",)),
        case(2, 3, 1, ("R is 1",)),
        Case((normal(generator, 2, 3, 4, 4), normal(generator, 2, 3, 4, 4)), ("scores do not sum to 1",)),
        case(0, 3, 4, ("there are no boxes",)),
    ]


def blender_cases(generator: Generator) -> list[Case]:
    def case(where, N: int, B: int, K: int, H: int, W: int, M: int, R: int, traits: tuple[str, ...] = ()) -> Case:
        bases = normal(generator, B, K, H, W)
        boxes = draw_boxes(generator, where, N, bases, R)
        return Case((bases, normal(generator, N, K, M, M), boxes, R), traits)

    small = case(INSIDE, 2, 1, 4, 8, 8, 3, 6, (SMALL,))
    small.args[2][:, 3:] = small.args[2][:, 1:3] + torch.tensor((1.5, 2.25))
    return [
        case(INSIDE, 1, 1, 4, 8, 8, 3, 6),
        case(INSIDE, 3, 1, 4, 8, 8, 3, 6, ("there are several boxes",)),
        case(INSIDE, 2, 1, 4, 6, 9, 3, 6, ("the map is not square",)),
        case(INSIDE, 4, 3, 4, 7, 8, 3, 6, ("there are several images",)),
        small,
        case(ACROSS, 3, 1, 4, 8, 8, 3, 6, (ACROSS,)),
        case(ACROSS, 2, 1, 4, 5, 9, 3, 6, (ACROSS, "the map is not square")),
        case(OUTSIDE, 2, 1, 4, 8, 8, 3, 6, (OUTSIDE,)),
        case(INSIDE, 2, 1, 3, 8, 8, 3, 6, ("K is not 4",)),
        case(INSIDE, 2, 1, 1, 8, 8, 3, 6, ("K is 1",)),
        case(INSIDE, 2, 1, 4, 8, 8, 1, 6, ("M is 1",)),
        case(INSIDE, 2, 1, 4, 8, 8, 4, 7, ("M does not divide R",)),
        case(INSIDE, 2, 1, 4, 8, 8, 6, 4, ("M is larger than R",)),
        case(INSIDE, 2, 1, 4, 8, 8, 5, 5, ("M is R",)),
        case(INSIDE, 2, 1, 4, 8, 8, 3, 1, ("R is 1",)),
        case(INSIDE, 2, 2, 5, 12, 10, 4, 9, ("there are several images", "K is not 4", "the map is not square")),
        Case((normal(generator, 2, 4, 8, 8), torch.zeros(0, 4, 3, 3), torch.zeros(0, 5), 6), ("there are no boxes",)),
    ]


HINTS = {
    ACROSS: EDGE,
    OUTSIDE: EDGE,
    SMALL: "A box keeps its size, however small.",
    "the map is not square": "Are H and W, or y and x, confused?",
    "there are several boxes": "Do the boxes share something that each should have for itself?",
    "there are several images": "The first of a box's five numbers names its image.",
    "there are no boxes": "The result then has N = 0: an empty list cannot be stacked.",
    "K is not 4": "Take K from the inputs' shape.",
    "K is 1": "One weight is always 1; or does a squeeze drop the axis?",
    "K is N": "Are N and K confused?",
    "K is R": "Are K and R confused?",
    "N is R": "Are N and R confused?",
    "M is 1": "One cell gives the same weight everywhere; or does a squeeze drop the axes?",
    "M is R": "Then nothing is interpolated.",
    "R is 1": "Does a squeeze drop the axes, or R - 1 divide?",
    "M does not divide R": "R / M need not be whole.",
    "M is larger than R": "Then the attention is sampled down by the same rule, without smoothing.",
    "mode is nearest": "Output i takes the cell floor(i M / R).",
    "align_corners is True": "Output i reads at i (M - 1) / (R - 1), and at 0 where R is 1.",
    "attention is large": "exp overflows: subtract the largest of the K first.",
    "scores do not sum to 1": "The blend takes the scores as they come.",
}


INTERPOLATE_STEP = Exercise(
    "interpolate",
    interpolate,
    interpolate_cases,
    (*INTERPOLATE, *INTERPOLATE_ALONE, *INTERPOLATE_OPTIONS),
    "(N,K,R,R)",
    ("blendlab.steps.interpolate", "blendlab.steps.resize", "blendlab.steps.interpolation_matrix", WHOLE),
    HINTS,
    ("attention",),
)
SOFTMAX_STEP = Exercise(
    "softmax",
    softmax,
    softmax_cases,
    SOFTMAX,
    "(N,K,R,R)",
    ("blendlab.steps.softmax", "blendlab.blender.normalized", WHOLE),
    HINTS,
    ("attention",),
)
BLEND_STEP = Exercise(
    "blend", blend, blend_cases, BLEND, "(N,R,R)", ("blendlab.steps.blend", WHOLE), HINTS, ("regions", "scores")
)


def _with(**step: Callable) -> Callable[..., Tensor]:
    """A blender in which one step is another one."""
    return lambda *args: _composed(*args, **step)


def _softmax_first(bases: Tensor, attention: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    return _composed(bases, attention.softmax(1), boxes, output_size, softmax=lambda a: a)


def _align_attention(bases: Tensor, attention: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    """The attention cropped by the image's boxes, as if it were a map of the image."""
    pairs = zip(attention, boxes[:, 1:], strict=True)
    cut = torch.cat([steps.roi_align(a[None], box[None], output_size) for a, box in pairs])
    return _composed(bases, attention, boxes, output_size, interpolate=lambda *_: cut)


def _blended_small(bases: Tensor, attention: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    masks = _composed(bases, attention, boxes, attention.shape[-1])
    return steps.interpolate(masks[:, None], output_size)[:, 0]


# of these the whole blender's numbers are those of another mistake: its attention's or its softmax's
SAME_AS_ANOTHER = (
    "softmax once more",
    "weights in reverse order",
    "weights transposed",
    "basis of the largest weight",
)

WRONG_BLENDERS = (
    Mistake(
        "softmax before interpolation",
        _softmax_first,
        "It looks as if softmax comes before the interpolation: interpolate to R x R first, then softmax over K.",
    ),
    Mistake(
        "RoIAlign on the attention",
        _align_attention,
        "It looks as if the attention is cropped by the box: it belongs to the box already, and is only enlarged.",
    ),
    Mistake(
        "blended at M x M",
        _blended_small,
        "It looks as if the blend is made at M x M and enlarged afterwards: crop the bases to R x R, enlarge the "
        "attention to R x R, and blend there.",
    ),
    *(
        Mistake(mistake.name, _with(**{step: mistake.function}), mistake.diagnosis)
        for step, bank in zip(STEPS, (ROI_ALIGN, INTERPOLATE, SOFTMAX, BLEND), strict=True)
        for mistake in bank
        if mistake.name not in SAME_AS_ANOTHER
    ),
)
BLENDER = Exercise(
    "blender",
    blender,
    blender_cases,
    WRONG_BLENDERS,
    "(N,R,R)",
    (WHOLE, "blendlab.fused._blend"),
    HINTS,
    ("bases", "attention"),
    frozenset(f"blendlab.steps.{step}" for step in STEPS),
)
