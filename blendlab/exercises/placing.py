"""After the blender: where the mask goes in the image.

One letter legend: N boxes, R output side, H x W image.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..paste import paste_masks as paste_step
from .exercise import Case, Exercise, Mistake


def paste_masks(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    return paste_step(probabilities, boxes, image_size)


def paste_cases(generator: Generator) -> list[Case]:
    def case(N: int, R: int, size: tuple[int, int], *boxes: tuple[float, ...], traits: tuple[str, ...] = ()) -> Case:
        """Corners are moved by 1/16 of a pixel, so that no pixel's centre lies on a side; N boxes of those given."""
        shift = torch.randint(8, (len(boxes), 4), generator=generator) / 8 + 1 / 16
        table = (torch.tensor(boxes) + shift).view(-1, 4)[:N]
        return Case((torch.rand(N, R, R, generator=generator) * 0.9 + 0.1, table, size), traits)

    flat = case(1, 4, (12, 12), (4, 3, 4, 9), traits=("the box is empty",))
    flat.args[1][:, 2] = flat.args[1][:, 0]
    a, b, c = (3, 4, 15, 13), (8, 2, 18, 16), (1, 9, 9, 15)
    return [
        case(1, 5, (20, 20), a),
        case(3, 4, (20, 20), a, b, c, traits=("there are several boxes",)),
        case(2, 6, (17, 23), a, b, traits=("the image is not square",)),
        case(2, 4, (20, 20), (-6, -4, 10, 9), (12, 11, 27, 26), traits=("the box leaves the image",)),
        case(1, 4, (20, 20), (30, 3, 40, 14), traits=("the box lies off the image",)),
        case(1, 1, (20, 20), a, traits=("R is 1",)),
        case(1, 28, (20, 20), c, traits=("the box is smaller than R",)),
        case(2, 3, (40, 44), (2, 3, 37, 36), (5, 1, 30, 33), traits=("the box is much larger than R",)),
        flat,
        Case((torch.zeros(0, 4, 4), torch.zeros(0, 4), (9, 11)), ("there are no boxes",)),
    ]


def _pasted(
    padding: str = "zeros", inside: bool = True, corners: bool = False, mode: str = "bilinear", shift: float = 0.5
):
    """paste_masks by grid_sample over the whole image."""

    def paste(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
        (H, W), out = image_size, probabilities.new_zeros(len(boxes), *image_size)
        for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            if x2 > x1 and y2 > y1:
                x = (torch.arange(W) + shift - x1) / (x2 - x1) * 2 - 1
                y = (torch.arange(H) + shift - y1) / (y2 - y1) * 2 - 1
                grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
                mask = F.grid_sample(probabilities[None, [n]], grid, mode, padding, align_corners=corners)[0, 0]
                out[n] = mask * (grid[0].abs() <= 1).all(-1) if inside else mask
        return out

    return paste


def _moved(move) -> object:
    return lambda p, boxes, size: paste_step(p, move(boxes, size), size)


def _resized(p: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask enlarged to a box of whole numbers, and copied."""
    (H, W), out = size, p.new_zeros(len(p), *size)
    for n, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        whole = F.interpolate(p[None, [n]], (max(y2 - y1, 1), max(x2 - x1, 1)), mode="bilinear")[0, 0]
        inside = whole[max(-y1, 0) : max(H - y1, 0), max(-x1, 0) : max(W - x1, 0)]
        top, left = max(y1, 0), max(x1, 0)
        out[n, top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return out


def _padded(p: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """As torchvision and the first Mask R-CNN paste: a rim of zeros, a box that grows with it and loses its fractions,
    and sides of x2 - x1 + 1 pixels."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half * (p.shape[-1] + 2) / p.shape[-1]
    grown = torch.cat((middle - half, middle + half), 1).trunc()
    return _resized(F.pad(p, (1, 1, 1, 1)), grown + grown.new_tensor((0, 0, 1, 1)), size)


def _whole_pixels(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.cat((boxes[:, :2].floor(), boxes[:, 2:].ceil()), 1)


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    limit = torch.tensor([size[1], size[0], size[1], size[0]])
    return torch.minimum(boxes.clamp(min=0), limit)


def _turned(p: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    return paste_step(p, boxes[:, [1, 0, 3, 2]], (size[1], size[0]))


PASTE_MISTAKES = (
    Mistake(
        "size read as width, height",
        lambda p, boxes, size: paste_step(p, boxes, (size[1], size[0])),
        "It looks as if image_size is read as (width, height): it is (height, width).",
    ),
    Mistake("result transposed", _turned, "It looks as if the result is (N,W,H): rows come first, so it is (N,H,W)."),
    Mistake(
        "mask transposed",
        lambda p, boxes, size: paste_step(p.transpose(1, 2), boxes, size),
        "It looks as if the mask's rows and columns are swapped: the last axis counts columns, along x.",
    ),
    Mistake(
        "x and y swapped in the box",
        _moved(lambda boxes, size: boxes[:, [1, 0, 3, 2]]),
        "It looks as if x and y are swapped in the box: boxes are x1, y1, x2, y2.",
    ),
    Mistake(
        "box clipped first",
        _moved(_clipped),
        "It looks as if the box is clipped to the image before pasting: the mask was made for the whole box, so only "
        "what lies outside is dropped.",
    ),
    Mistake(
        "box rounded",
        _moved(_whole_pixels),
        "It looks as if the box is rounded to whole pixels: keep its fractions, and ask each pixel's centre.",
    ),
    Mistake(
        "box rounded to the nearest",
        _moved(lambda boxes, size: boxes.round()),
        "It looks as if the box is rounded to whole pixels: keep its fractions, and ask each pixel's centre.",
    ),
    Mistake(
        "resized and copied",
        lambda p, boxes, size: _resized(p, boxes.round(), size),
        "It looks as if the mask is resized to whole pixels and copied into a rounded box: ask for each pixel's centre "
        "where in the box it lies, and sample the mask there.",
    ),
    Mistake(
        "cut to whole pixels, resized and copied",
        _resized,
        "It looks as if the box loses its fractions (int), and the mask is resized to it and copied: ask for each "
        "pixel's centre where in the box it lies, and sample the mask there.",
    ),
    Mistake(
        "torchvision's paste",
        _padded,
        "It looks like torchvision's paste_masks_in_image, which rounds the box to whole pixels: keep its fractions, "
        "and ask for each pixel's centre where in the box it lies.",
    ),
    Mistake(
        "box scaled",
        _moved(lambda boxes, size: boxes / 4),
        "It looks as if the box is scaled by 1/4: it is in pixels of the image already.",
    ),
    Mistake(
        "side one pixel longer",
        _moved(lambda boxes, size: boxes + boxes.new_tensor((0, 0, 1, 1))),
        "It looks as if a side is x2 - x1 + 1: corners are points and not pixels, so it is x2 - x1.",
    ),
    Mistake(
        "box read as x, y, width, height",
        _moved(lambda boxes, size: torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:].clamp(min=0)), 1)),
        "It looks as if the box is read as x, y, width, height: it is x1, y1, x2, y2.",
    ),
    Mistake(
        "half pixel missing",
        _pasted(shift=0),
        "It looks as if the half pixel is missing: the centre of pixel i lies at i + 0.5.",
    ),
    Mistake(
        "whole pixel added",
        _pasted(shift=1.0),
        "It looks as if the half pixel is added twice: the centre of pixel i lies at i + 0.5.",
    ),
    Mistake(
        "align_corners",
        _pasted(corners=True),
        "It looks like align_corners=True: the box's sides are the outer edges of the R x R bins, not their centres.",
    ),
    Mistake(
        "edge held",
        _pasted("border"),
        "It looks as if the outermost bins keep their value up to the box's side: beyond their centres it fades to 0.",
    ),
    Mistake(
        "fades beyond the box",
        _pasted(inside=False),
        "It looks as if the mask fades on outside its box: a pixel whose centre lies outside the box is 0.",
    ),
    Mistake(
        "edge spread over the image",
        _pasted("border", inside=False),
        "It looks as if the mask's edge is spread over the whole image: outside the box there is 0.",
    ),
    Mistake(
        "nearest",
        _pasted(mode="nearest"),
        "It looks as if each pixel takes the nearest bin: mix the four bins around its centre.",
    ),
    Mistake(
        "thresholded",
        lambda *args: (paste_step(*args) >= 0.5).float(),
        "It looks as if the mask is cut at 0.5 already: probabilities are asked for.",
    ),
    Mistake(
        "sigmoid once more",
        lambda p, boxes, size: paste_step(p.sigmoid(), boxes, size),
        "It looks as if a sigmoid is applied to what are probabilities already.",
    ),
    Mistake(
        "all in one image",
        lambda *args: paste_step(*args).amax(0, keepdim=True),
        "It looks as if all masks go into one image: each instance has its own (H,W).",
    ),
)
PASTE = Exercise(
    "paste",
    paste_masks,
    paste_cases,
    PASTE_MISTAKES,
    "(N,H,W)",
    ("blendlab.paste.paste_masks",),
    {
        "the image is not square": "Are height and width, or x and y, confused?",
        "the box leaves the image": "What lies outside is dropped; the rest keeps its place.",
        "the box lies off the image": "Nothing of it is in the image: all 0.",
        "the box is empty": "It pastes nothing, and its side must not divide.",
        "there are several boxes": "Each instance has its own (H,W).",
        "there are no boxes": "The result is then (0,H,W): an empty list cannot be stacked.",
        "R is 1": "Values fade from the only bin's centre to 0.",
    },
)
