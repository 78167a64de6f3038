"""Before the blender: whose attention, and which box.

One letter legend: K bases, M attention side, h x w cells of a level.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .cropping import normal
from .exercise import Case, Exercise, Mistake


@dataclass(frozen=True, eq=False)
class HeadOutputs:
    """What the attention layer says about one image.

    maps  one tensor (K*M*M,h,w) for each level, P3 first; h and w differ from level to level.
    K, M  what the K*M*M channels stand for: K maps of M rows of M columns, in that order.
    """

    maps: list[Tensor]
    K: int
    M: int

    def __repr__(self) -> str:
        return f"HeadOutputs(maps={[tuple(m.shape) for m in self.maps]}, K={self.K}, M={self.M})"


def gather_attention(outputs: HeadOutputs, level: int, y: int, x: int) -> Tensor:
    return outputs.maps[level][:, y, x].view(outputs.K, outputs.M, outputs.M)


def gather_cases(generator: Generator) -> list[Case]:
    def case(K: int, M: int, level: int, y: int, x: int, traits: tuple[str, ...] = (), h: int = 8, w: int = 8) -> Case:
        maps = [normal(generator, K * M * M, max(h >> i, 1), max(w >> i, 1)) for i in range(5)]
        return Case((HeadOutputs(maps, K, M), level, y, x), traits)

    return [
        case(4, 3, 0, 5, 2),
        case(4, 3, 2, 1, 0, ("the level is not P3",)),
        case(4, 3, 0, 7, 7, ("the cell is the last one",)),
        case(4, 3, 1, 1, 5, ("the level is not P3", "the map is not square"), h=6, w=14),
        case(4, 3, 4, 0, 0, ("the level is not P3",)),
        case(3, 5, 0, 2, 6, ("K is not 4",)),
        case(3, 3, 1, 2, 1, ("K is not 4", "K is M")),
        case(1, 4, 0, 3, 3, ("K is 1",)),
        case(4, 1, 0, 4, 1, ("M is 1",)),
        case(4, 14, 3, 0, 1, ("M is 14",), h=10, w=20),
    ]


GATHER_MISTAKES = (
    Mistake(
        "read as (M,M,K)",
        lambda o, level, y, x: o.maps[level][:, y, x].view(o.M, o.M, o.K).permute(2, 0, 1),
        "It looks as if the K*M*M numbers are read as (M,M,K): K is the slowest, then rows, then columns.",
    ),
    Mistake(
        "shape (M,M,K)",
        lambda o, level, y, x: o.maps[level][:, y, x].view(o.M, o.M, o.K),
        "It looks as if the K*M*M numbers are read as (M,M,K): the shape asked for is (K,M,M).",
    ),
    Mistake(
        "maps transposed",
        lambda o, level, y, x: gather_attention(o, level, y, x).transpose(1, 2),
        "It looks as if rows and columns of each M x M map are swapped: view(K, M, M) gives [k, row, column].",
    ),
    Mistake(
        "K reversed",
        lambda o, level, y, x: gather_attention(o, level, y, x).flip(0),
        "It looks as if the K maps come in reverse order: map k belongs to basis k.",
    ),
    Mistake(
        "x and y swapped",
        lambda o, level, y, x: gather_attention(o, level, x, y),
        "It looks as if x and y are swapped: a level's map is indexed [channel, y, x].",
    ),
    Mistake(
        "always P3",
        lambda o, level, y, x: gather_attention(o, 0, y, x),
        "It looks as if every location is read from P3: the level says which map it lies in.",
    ),
    Mistake(
        "not reshaped",
        lambda o, level, y, x: o.maps[level][:, y, x].clone(),
        "It gives the K*M*M numbers in a row: reshape them to (K,M,M).",
    ),
    Mistake(
        "softmax applied",
        lambda o, level, y, x: gather_attention(o, level, y, x).softmax(0),
        "It looks as if softmax is applied already: attention stays as it comes until it is at R x R.",
    ),
)
GATHER = Exercise(
    "gather_attention",
    gather_attention,
    gather_cases,
    GATHER_MISTAKES,
    "(K,M,M)",
    (),
    {
        "the level is not P3": "Each level has a map of its own; level 0 is P3.",
        "K is not 4": "Take K and M from the outputs.",
        "M is 14": "Take K and M from the outputs.",
        "K is 1": "Does a squeeze drop the axis?",
        "M is 1": "Does a squeeze drop the axes?",
        "the map is not square": "Are x and y confused?",
    },
)


def decode_box(distances: Tensor, y: int, x: int, stride: int) -> Tensor:
    left, top, right, bottom = (distances.relu() * stride).unbind()
    across, down = x * stride + stride // 2, y * stride + stride // 2
    return torch.stack((across - left, down - top, across + right, down + bottom))


def decode_cases(generator: Generator) -> list[Case]:
    def case(y: int, x: int, stride: int, signs: float = 1, traits: tuple[str, ...] = ()) -> Case:
        distances = torch.rand(4, generator=generator) * 3 + 0.5
        distances[:2] *= signs
        return Case((distances, y, x, stride), traits)

    return [
        case(3, 5, 8),
        case(6, 2, 16),
        case(0, 0, 8, traits=("the cell is the first one", "the box leaves the image")),
        case(1, 9, 128),
        case(4, 7, 32, -1, ("a distance is negative",)),
        case(2, 3, 64, -1, ("a distance is negative",)),
        Case((torch.zeros(4), 2, 1, 8), ("all distances are 0",)),
    ]


def _located(y: int, x: int, stride: int) -> Tensor:
    """The location twice, as a box without sides."""
    return decode_box(torch.zeros(4), y, x, stride)


def _as_size(distances: Tensor, y: int, x: int, stride: int) -> Tensor:
    box = decode_box(distances, y, x, stride)
    return torch.cat((box[:2], box[2:] - box[:2]))


DECODE_MISTAKES = (
    Mistake(
        "ReLU missing",
        lambda d, y, x, s: _located(y, x, s) + d * s * torch.tensor([-1, -1, 1, 1]),
        "It looks as if the ReLU is missing: a distance is never negative.",
    ),
    Mistake(
        "exponential for ReLU",
        lambda d, y, x, s: decode_box(d.exp(), y, x, s),
        "It looks like an exponential for the ReLU, as in the first FCOS: here distances are relu(...) strides.",
    ),
    Mistake(
        "stride forgotten",
        lambda d, y, x, s: decode_box(d / s, y, x, s),
        "It looks as if the distances are taken as pixels: they are in strides, so multiply by the stride.",
    ),
    Mistake(
        "half stride forgotten",
        lambda d, y, x, s: decode_box(d, y, x, s) - s // 2,
        "It looks as if half a stride is missing: a location lies at index * stride + stride // 2.",
    ),
    Mistake(
        "whole stride added",
        lambda d, y, x, s: decode_box(d, y, x, s) + s - s // 2,
        "It looks as if a whole stride is added: a location lies at index * stride + stride // 2.",
    ),
    Mistake(
        "location not scaled",
        lambda d, y, x, s: decode_box(d, y, x, s) - torch.tensor([x, y, x, y]) * (s - 1) - s // 2,
        "It looks as if the location is left in cells: in pixels it is index * stride + stride // 2.",
    ),
    Mistake(
        "x and y swapped",
        lambda d, y, x, s: decode_box(d, x, y, s),
        "It looks as if x and y of the location are swapped: x goes with left and right.",
    ),
    Mistake(
        "y first",
        lambda d, y, x, s: decode_box(d, y, x, s)[[1, 0, 3, 2]],
        "It looks as if the result is y1, x1, y2, x2: boxes are x1, y1, x2, y2.",
    ),
    Mistake(
        "left, right, top, bottom",
        lambda d, y, x, s: decode_box(d[[0, 2, 1, 3]], y, x, s),
        "It looks as if the four are read as left, right, top, bottom: they are left, top, right, bottom.",
    ),
    Mistake(
        "top, left, bottom, right",
        lambda d, y, x, s: decode_box(d[[1, 0, 3, 2]], y, x, s),
        "It looks as if the four are read as top, left, bottom, right: they are left, top, right, bottom.",
    ),
    Mistake(
        "right and bottom from the corner",
        lambda d, y, x, s: decode_box(d, y, x, s) - F.pad(d[:2].relu() * s, (2, 0)),
        "It looks as if right and bottom are measured from the box's corner: they are distances from the location.",
    ),
    Mistake(
        "stride of P3",
        lambda d, y, x, s: decode_box(d, y, x, 8),
        "It looks as if the stride is always 8: use stride.",
    ),
    Mistake(
        "rounded",
        lambda d, y, x, s: decode_box(d, y, x, s).round(),
        "It looks as if the box is rounded: a coordinate keeps its fraction.",
    ),
    Mistake(
        "nothing subtracted",
        lambda d, y, x, s: _located(y, x, s) + d.relu() * s,
        "It looks as if all four distances are added: left and top are subtracted.",
    ),
    Mistake(
        "sides exchanged",
        lambda d, y, x, s: decode_box(d[[2, 3, 0, 1]], y, x, s),
        "It looks as if left and right, top and bottom are exchanged: left and top are subtracted.",
    ),
    Mistake(
        "x, y, width, height",
        _as_size,
        "It looks as if the result is x, y, width, height: boxes are x1, y1, x2, y2.",
    ),
    Mistake(
        "clipped at 0",
        lambda d, y, x, s: decode_box(d, y, x, s).clamp(min=0),
        "It looks as if the box is clipped to the image: the mask is predicted on the whole box.",
    ),
)
DECODE = Exercise(
    "decode_box",
    decode_box,
    decode_cases,
    DECODE_MISTAKES,
    "(4)",
    ("blendlab.blendmask.fcos.boxes_from_ltrb",),
    {
        "a distance is negative": "A ReLU makes it 0.",
        "all distances are 0": "The box is then the location itself, twice.",
        "the box leaves the image": "A box is not clipped here.",
    },
)
