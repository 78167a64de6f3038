"""What a step accepts, said once: every message names the argument, what came, and what was expected.

torchvision 0.29 ends the process on a NaN box (a dead kernel, in a notebook), so nothing reaches a kernel unchecked.
"""

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

Boxes = Tensor | Sequence[Tensor]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Of a coordinate, in pixels, and of a scale: their product and its differences stay finite in float32. Beyond, infinity
# less infinity is the NaN that no kernel must see.
FARTHEST, LARGEST_SCALE = 1e32, 1e6


def got(value: object) -> str:
    """`value` in a few words: shape, dtype and device of a tensor, else its type and repr."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)} on {value.device}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def floating(name: str, value: Tensor, shape: str) -> None:
    """A floating tensor of the rank that `shape` spells out, such as "(N,K,M,M)"; no side but N may be 0."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a floating tensor {shape}; got {got(value)}")
    letters = shape.strip("()").split(",")
    if value.dim() != len(letters):
        raise ValueError(f"{name} must have shape {shape}; got {got(value)}")
    if value.dtype not in FLOATS or value.layout != torch.strided:
        kind = "dense and floating (16, 32 or 64 bits)" if value.dtype.is_floating_point else "floating"
        raise TypeError(f"{name} must be {kind}; got {got(value)}")
    for letter, size in zip(letters, value.shape, strict=True):
        if size == 0 and letter != "N":
            raise ValueError(f"{name} {shape} has no {letter}; got {got(value)}")


def square(name: str, value: Tensor, shape: str) -> None:
    floating(name, value, shape)
    if value.shape[-1] != value.shape[-2]:
        raise ValueError(f"{name} must be square maps {shape}; got {got(value)}")


def together(**tensors: Tensor) -> None:
    """All on one device and, outside autocast (which mixes them by design), of one dtype."""
    (first_name, first), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != first.device:
            raise ValueError(f"{first_name} and {name} must be on one device; got {first.device} and {tensor.device}")
        if tensor.dtype != first.dtype and not torch.is_autocast_enabled(first.device.type):
            raise TypeError(f"{first_name} and {name} must have one dtype; got {first.dtype} and {tensor.dtype}")


def side(name: str, value: object) -> int:
    """An output side: a whole number of at least 1, or a pair of the same (the maps here are square)."""
    if isinstance(value, tuple | list) and len(value) == 2:
        if value[0] != value[1]:
            raise ValueError(f"{name} must be one side R, for R x R maps; got {got(value)}")
        value = value[0]
    if whole(name, value) < 1:
        raise ValueError(f"{name} must be at least 1; got {value}")
    return int(value)


def whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number; got {got(value)}")
    return int(value)


def scale(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {got(value)}")
    if not 0 < value <= LARGEST_SCALE:
        raise ValueError(
            f"{name} must be positive and finite, at most {LARGEST_SCALE:g} (1/4 at stride 4); got {value}"
        )
    return float(value)


def flag(name: str, value: object) -> None:
    if not isinstance(value, bool):  # "no" and "False" are true
        raise TypeError(f"{name} must be True or False; got {got(value)}")


def choice(name: str, value: object, options: Sequence[str]) -> None:
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}")


def rois(boxes: Boxes, features: Tensor) -> Tensor:
    """Boxes in any accepted form -> (N,5): image index, x1, y1, x2, y2, checked against `features` (B,K,H,W).

    Accepted: (N,5); a list of B tensors (n,4); (N,4) where B is 1. float32 or float64: half precision has too few
    digits for a coordinate (1333.3 becomes 1333.0). Raises TypeError or ValueError naming the first bad box.

    To look at values on a GPU is to wait for it: boxes there are looked at once, and again when they have changed.
    Inside torch.compile values cannot be looked at.
    """
    images = features.shape[0]
    if isinstance(boxes, list | tuple):
        if len(boxes) != images:
            raise ValueError(f"boxes as a list must hold one tensor an image, here {images}; got {len(boxes)}")
        for i, part in enumerate(boxes):
            _box_tensor(f"boxes[{i}]", part, 4, features)
        table = torch.cat([torch.cat((part.new_full((len(part), 1), i), part), 1) for i, part in enumerate(boxes)])
    elif isinstance(boxes, Tensor) and boxes.dim() == 2 and boxes.shape[1] == 4:
        _box_tensor("boxes", boxes, 4, features)
        if images != 1:
            raise ValueError(f"boxes (N,4) need features of one image; got {images} images: give (N,5) or a list")
        table = torch.cat((boxes.new_zeros(len(boxes), 1), boxes), 1)
    else:
        _box_tensor("boxes", boxes, 5, features)
        table = boxes
    if not torch.compiler.is_compiling() and not _looked_at(boxes, images):
        _box_values(boxes, table, images)
    return table


def _looked_at(boxes: Boxes, images: int) -> bool:
    """Whether these very boxes have been found good before, and not changed since."""
    if not isinstance(boxes, Tensor) or not boxes.is_cuda or boxes.is_inference():
        return False
    return getattr(boxes, "_found_good", None) == (boxes._version, images)


def _box_values(boxes: Boxes, table: Tensor, images: int) -> None:
    """Finite, not inverted, of an image that is there; or ValueError naming the first that is not."""
    if len(table) > 32 or table.is_cuda:  # for fewer, plain floats take a tenth of the time of tensor reductions
        image, first, last = table[:, 0], table[:, 1:3], table[:, 3:]
        whole = (image >= 0) & (image < images) & (image == image.floor())
        if (whole & ((first <= last) & (first >= -FARTHEST) & (last <= FARTHEST)).all(1)).all():
            if isinstance(boxes, Tensor) and boxes.is_cuda and not boxes.is_inference():
                boxes._found_good = (boxes._version, images)
            return
    for i, (image, x1, y1, x2, y2) in enumerate(table.tolist()):
        if not (-FARTHEST <= x1 <= x2 <= FARTHEST and -FARTHEST <= y1 <= y2 <= FARTHEST):
            far = f" and at most {FARTHEST:g} pixels away" if max(-x1, x2, -y1, y2) > FARTHEST else ""
            raise ValueError(
                f"{_place(boxes, i)} must be finite with x1 <= x2 and y1 <= y2{far};"
                f" got x1={x1:g}, y1={y1:g}, x2={x2:g}, y2={y2:g}"
            )
        if not (0 <= image < images and image == int(image)):
            raise ValueError(f"boxes[{i}] names image {image:g}; expected a whole number from 0 to {images - 1}")


def _place(boxes: Boxes, i: int) -> str:
    """Where the caller finds row `i` of the table: in a list, by tensor and row."""
    if isinstance(boxes, Tensor):
        return f"boxes[{i}]"
    image = 0
    while i >= len(boxes[image]):
        i -= len(boxes[image])
        image += 1
    return f"boxes[{image}][{i}]"


def _box_tensor(name: str, boxes: Tensor, columns: int, features: Tensor) -> None:
    expected = "(N,5) image index, x1, y1, x2, y2, or (N,4) for one image, or a list of (n,4), one an image"
    if not isinstance(boxes, Tensor):
        raise TypeError(f"{name} must be {expected}; got {got(boxes)}")
    if boxes.dim() != 2 or boxes.shape[1] != columns:
        raise ValueError(f"{name} must be {expected}; got {got(boxes)}")
    if boxes.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64; got {got(boxes)}")
    if boxes.device != features.device:
        raise ValueError(f"{name} must be on the maps' device, {features.device}; got {got(boxes)}")
