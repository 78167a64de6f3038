"""Every size and threshold of a BlendMask in one frozen dataclass, for the course model and for the authors'.

Letters used throughout `blendmask/`: B images, C channels, L locations (all pyramid levels in a row), N boxes,
K bases, M attention side, R output side.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from numbers import Real

MOST = 10_000  # of anything counted: beyond lies a damaged file, not a network
MOST_R = 448  # beyond it the R x R masks of a hundred objects fill the memory
BACKBONES = ("scratch", "lite0", "resnet50", "resnet101")
COUNTS = (  # fields that count something
    *("fpn_channels", "tower_convs", "tower_groups", "bases", "attention_side", "output_side", "basis_channels"),
    *("basis_convs", "short_side", "long_side", "top_k", "max_detections"),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and thresholds of one BlendMask.

    categories: names in label order; label i of a detection is categories[i].
    backbone: "scratch" (a small residual net), "lite0" (EfficientNet-Lite0 cut at stride 16), "resnet50", "resnet101".
    fpn_channels: channels of every pyramid level. levels: how many, from stride 8 up; levels above P5 are P6, P7.
    sizes_of_interest: the upper end of max(l,t,r,b) in pixels for each level but the last, which takes the rest.
    tower_convs, tower_groups: convolutions in each FCOS tower, and groups of their GroupNorm.
    bases, attention_side, output_side: K, M and R. nested: whether the first k < K bases, and attention pooled to
        m < M, were trained too, so that one checkpoint serves them all.
    basis_inputs: feature maps summed by the basis module at the first one's stride (8, then doubled; or 4: "c2").
    basis_skip: a map at the bases' own stride joined before the last convolution ("" for none).
    basis_channels, basis_convs: width, and 3x3 convolutions between the sum and the doubling.
    seg_head: a training-only semantic head on the first basis input.
    pixel_order "RGB" or "BGR"; pixel_mean, pixel_std on the scale 0..255.
    short_side, long_side: the network's image has this short side unless the long one would pass its limit.
    score_threshold (on class * centerness), top_k a level, nms_iou, max_detections: the FCOS test settings.
    clip_before_blend: clip boxes to the image before the blend (consistent), or only before pasting (as upstream).
    """

    categories: tuple[str, ...]
    backbone: str = "lite0"
    fpn_channels: int = 64
    levels: int = 3
    sizes_of_interest: tuple[float, ...] = (32, 64)
    tower_convs: int = 2
    tower_groups: int = 8
    centre_radius: float = 1.5
    bases: int = 8
    attention_side: int = 14
    output_side: int = 56
    nested: bool = True
    basis_inputs: tuple[str, ...] = ("p3", "p4", "p5")
    basis_skip: str = "c2"
    basis_channels: int = 64
    basis_convs: int = 1
    seg_head: bool = False
    pixel_order: str = "RGB"
    pixel_mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    pixel_std: tuple[float, float, float] = (128.0, 128.0, 128.0)
    short_side: int = 128
    long_side: int = 512
    score_threshold: float = 0.05
    top_k: int = 1000
    nms_iou: float = 0.6
    max_detections: int = 100
    clip_before_blend: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        for name in COUNTS:
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected 1 to {MOST}")
        names = self.categories
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(f"categories is {names!r}; expected a tuple of names, each one once")
        if self.output_side > MOST_R:
            raise ValueError(f"output_side is {self.output_side}; expected at most {MOST_R}")
        for name in ("score_threshold", "nms_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not self.centre_radius > 0:
            raise ValueError(f"centre_radius is {self.centre_radius}; expected above 0")
        if self.pixel_order not in ("RGB", "BGR"):
            raise ValueError(f"pixel_order is {self.pixel_order!r}; expected 'RGB' or 'BGR'")
        pixels = (*self.pixel_mean, *self.pixel_std)
        if len(self.pixel_mean) != 3 or len(pixels) != 6 or not _numbers(pixels) or not min(self.pixel_std) > 0:
            raise ValueError(
                f"pixel_mean is {self.pixel_mean}, pixel_std {self.pixel_std}; expected three numbers, std above 0"
            )
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone is {self.backbone!r}; expected one of {', '.join(BACKBONES)}")
        if not self.categories:
            raise ValueError("categories is empty; expected at least one name")
        if not 3 <= self.levels <= 5:
            raise ValueError(f"levels is {self.levels}; expected 3 (P3..P5), 4 or 5 (P3..P7)")
        if len(self.sizes_of_interest) != self.levels - 1:
            raise ValueError(
                f"sizes_of_interest has {len(self.sizes_of_interest)} numbers; expected levels - 1 = {self.levels - 1}"
            )
        ends = (0, *self.sizes_of_interest)
        if not _numbers(ends) or not all(low < high for low, high in itertools.pairwise(ends)):
            raise ValueError(f"sizes_of_interest is {self.sizes_of_interest}; expected rising numbers above 0")
        maps = ("c2", "c3", "c4", "c5", *(f"p{3 + i}" for i in range(self.levels)))
        if not self.basis_inputs or not set(self.basis_inputs) <= set(maps):
            raise ValueError(f"basis_inputs is {self.basis_inputs!r}; expected names of {maps}")
        if self.basis_inputs[0] not in ("c2", "c3", "p3"):
            raise ValueError(f"basis_inputs begins with {self.basis_inputs[0]!r}; expected c2, c3 or p3, stride 4 or 8")
        if self.basis_skip not in ("", "c2"):
            raise ValueError(f"basis_skip is {self.basis_skip!r}; expected '' or 'c2', the map at the bases' stride")
        if self.fpn_channels % self.tower_groups:
            raise ValueError(f"tower_groups {self.tower_groups} does not divide fpn_channels {self.fpn_channels}")

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each pyramid level in pixels: 8, 16, 32, ..."""
        return tuple(8 * 2**i for i in range(self.levels))

    @property
    def size_ranges(self) -> tuple[tuple[float, float], ...]:
        """For each level, the (low, high) of max(l,t,r,b) in pixels that it answers for."""
        ends = (-1.0, *self.sizes_of_interest, math.inf)
        return tuple(zip(ends[:-1], ends[1:], strict=True))

    def to_dict(self) -> dict:
        """Plain numbers, strings and lists, as a checkpoint and a model card store them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Config:
        """The inverse of `to_dict`; a name this version does not know is a ValueError."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"config has unknown names {unknown}; this version of blendlab knows {sorted(known)}")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _numbers(values: tuple) -> bool:
    return all(isinstance(v, Real) and math.isfinite(v) for v in values)


def check_types(settings: object) -> None:
    """ValueError for a field of a dataclass whose value is not of its default's type; what has no default is a tuple,
    and what may be None is a number."""
    for field in dataclasses.fields(settings):
        value, kind = getattr(settings, field.name), type(field.default)
        if field.default is dataclasses.MISSING:
            kind = tuple
        elif field.default is None:
            if value is None:
                continue
            kind = int if field.type.startswith("int") else float
        good = isinstance(value, bool if kind is bool else Real if kind is float else kind)
        if not good or (kind in (int, float) and (isinstance(value, bool) or math.isnan(value))):
            raise ValueError(f"{field.name} is {value!r}; expected {WORDS[kind]}")


WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", tuple: "a tuple"}


def authors(depth: int = 50) -> Config:
    """The authors' R-50 or R-101 on COCO (AdelaiDet's BlendMask configs at commit 3672122)."""
    if depth not in (50, 101):
        raise ValueError(f"depth is {depth!r}; expected 50 or 101")
    return Config(
        categories=_coco_categories(),
        backbone=f"resnet{depth}",
        fpn_channels=256,
        levels=5,
        sizes_of_interest=(64, 128, 256, 512),
        tower_convs=4,
        tower_groups=32,
        bases=4,
        nested=False,
        basis_skip="",
        basis_channels=128,
        basis_convs=3,
        seg_head=True,
        pixel_order="BGR",
        pixel_mean=(103.53, 116.28, 123.675),
        pixel_std=(1.0, 1.0, 1.0),
        short_side=800,
        long_side=1333,
        clip_before_blend=False,
    )


def _coco_categories() -> tuple[str, ...]:
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights  # here: importing it takes over a second

    names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    # COCO's 91 ids have places that its 80 categories do not fill
    return tuple(name for name in names if name not in ("__background__", "N/A"))
