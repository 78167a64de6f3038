"""The blender: four steps in the paper's order, with every intermediate kept by its name.

One letter legend: B images, N boxes, K bases, M attention side, R output side, H x W map.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import check, steps
from .check import Boxes
from .roi_pool import pool

NORMALIZERS = ("softmax", "sigmoid", "tanh", "none", "product")
BACKENDS = ("auto", "torch", "torchvision", "fused")
IN_CACHE = 200_000  # numbers: 16 boxes at K=4 and R=56, 0.8 MB for each intermediate in float32


@dataclass(frozen=True, repr=False, eq=False)  # compared by identity: tensors have no one truth value
class BlenderInputs:
    """All that enters a blender.

    bases          (B,K,H,W), floating, shared by every instance of an image.
    attention      (N,K,M,M), of the bases' dtype: K*M*M numbers an instance.
    boxes          x1, y1, x2, y2 in image pixels; any form that roi_align takes, kept as (N,5).
    spatial_scale  map pixels for each image pixel.

    Raises ValueError or TypeError that names what does not fit.
    """

    bases: Tensor
    attention: Tensor
    boxes: Boxes
    spatial_scale: float = 0.25

    def __post_init__(self):
        check.floating("bases", self.bases, "(B,K,H,W)")
        check.square("attention", self.attention, "(N,K,M,M)")
        check.together(bases=self.bases, attention=self.attention)
        if self.bases.shape[1] != self.attention.shape[1]:
            raise ValueError(
                "bases and attention must have one K;"
                f" got K={self.bases.shape[1]} in bases and K={self.attention.shape[1]} in attention"
            )
        object.__setattr__(self, "spatial_scale", check.scale("spatial_scale", self.spatial_scale))
        object.__setattr__(self, "boxes", check.rois(self.boxes, self.bases))
        if len(self.boxes) != len(self.attention):
            raise ValueError(
                "boxes and attention must have one N;"
                f" got {len(self.boxes)} boxes and attention for {len(self.attention)}"
            )

    @property
    def N(self) -> int:
        return len(self.boxes)

    @property
    def K(self) -> int:
        return self.bases.shape[1]

    @property
    def M(self) -> int:
        return self.attention.shape[-1]

    def __repr__(self) -> str:
        B, _, H, W = self.bases.shape
        return f"BlenderInputs(B={B}, N={self.N}, K={self.K}, M={self.M}, H={H}, W={W})"


@dataclass(frozen=True, repr=False, eq=False)  # compared by identity: tensors have no one truth value
class BlendTrace:
    """Every intermediate of one blend, by its name in the equations. Half-precision inputs are blended in float32.

    regions        r   (N,K,R,R)  bases cropped to the boxes
    attention      a   (N,K,M,M)  as it came
    upsampled      a'  (N,K,R,R)  attention at R x R; under order="normalize-first" it was normalised before, so it is s
    scores         s   (N,K,R,R)  the weights
    products       s*r (N,K,R,R)  under "product": sigmoid(a') * sigmoid(r), a probability
    logits         m   (N,R,R)
    probabilities  p   (N,R,R)    sigmoid(m)
    """

    inputs: BlenderInputs
    settings: "Blender"
    regions: Tensor
    attention: Tensor
    upsampled: Tensor
    scores: Tensor
    products: Tensor
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        return self.logits.sigmoid()

    def __repr__(self) -> str:
        return f"BlendTrace({self.inputs!r}, {self.settings!r})"


@dataclass(frozen=True)
class Blender:
    """(bases, attention, boxes) -> BlendTrace. It owns no parameters; equal settings compare equal.

    output_size     R.
    spatial_scale, sampling_ratio, aligned: as in roi_align; the reference blender has 1/4, 1 and True.
    pooling         "align", or "pool" for RoIPool, the quantised ancestor (no sampling ratio, no alignment).
    interpolation   "bilinear" or "nearest".
    normalizer      "softmax" over K; "sigmoid", "tanh" or "none", each number by itself; "product", for K=1 alone, is
                    the paper's K=1 row: p = sigmoid(a') * sigmoid(r), as the logit -logsumexp(-a', -r, -a'-r).
    order           "interpolate-first" as in the paper, or "normalize-first".
    backend         "torch" is ours; "torchvision" crops with its operators; "fused" is one GPU kernel, for `.logits`
                    alone, since a trace keeps what that kernel avoids. "auto" takes it on CUDA where it has the
                    options, and ours otherwise.
    """

    output_size: int = 56
    spatial_scale: float = 0.25
    sampling_ratio: int = field(default=1, kw_only=True)
    aligned: bool = field(default=True, kw_only=True)
    pooling: str = field(default="align", kw_only=True)
    interpolation: str = field(default="bilinear", kw_only=True)
    normalizer: str = field(default="softmax", kw_only=True)
    order: str = field(default="interpolate-first", kw_only=True)
    backend: str = field(default="auto", kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "output_size", check.side("output_size", self.output_size))
        object.__setattr__(self, "spatial_scale", check.scale("spatial_scale", self.spatial_scale))
        object.__setattr__(self, "sampling_ratio", check.whole("sampling_ratio", self.sampling_ratio))
        check.flag("aligned", self.aligned)
        check.choice("pooling", self.pooling, ("align", "pool"))
        check.choice("interpolation", self.interpolation, ("bilinear", "nearest"))
        check.choice("normalizer", self.normalizer, NORMALIZERS)
        check.choice("order", self.order, ("interpolate-first", "normalize-first"))
        check.choice("backend", self.backend, BACKENDS)
        if self.backend == "fused":
            from . import fused

            if problem := fused.refusal(self):
                raise ValueError(f"backend='fused' does not serve these options: {problem}")

    def __call__(self, bases: Tensor, attention: Tensor, boxes: Boxes) -> BlendTrace:
        """bases (B,K,H,W), attention (N,K,M,M), boxes as in roi_align -> every intermediate."""
        inputs = BlenderInputs(bases, attention, boxes, self.spatial_scale)
        return BlendTrace(inputs, self, **self._blend(inputs))

    def logits(self, bases: Tensor, attention: Tensor, boxes: Boxes) -> Tensor:
        """The mask logits (N,R,R) alone, for training and inference, where nothing else is kept.

        ValueError where backend="fused" cannot run, with the reason.
        """
        inputs = BlenderInputs(bases, attention, boxes, self.spatial_scale)
        if self.backend == "fused" or (self.backend == "auto" and bases.is_cuda):
            from . import fused

            problem = fused.refusal(self) or fused.cannot_run(inputs)
            if problem is None:
                return fused.run(self, inputs)
            if self.backend == "fused":
                raise ValueError(f"backend='fused' cannot run: {problem}")
        return self.logits_by_steps(inputs)

    def logits_by_steps(self, inputs: BlenderInputs) -> Tensor:
        """The logits by the steps of steps.py. On a CPU, where nothing is kept for gradients, a block of boxes at a
        time: what one step hands to the next then stays in the cache, which halves the time of 100 boxes."""
        block = max(1, IN_CACHE // (inputs.K * self.output_size**2))
        kept = torch.is_grad_enabled() and (inputs.bases.requires_grad or inputs.attention.requires_grad)
        if inputs.N <= block or kept or inputs.bases.device.type != "cpu":
            return self._blend(inputs)["logits"]
        parts = zip(inputs.attention.split(block), inputs.boxes.split(block), strict=True)
        blocks = [BlenderInputs(inputs.bases, attention, boxes, self.spatial_scale) for attention, boxes in parts]
        return torch.cat([self._blend(inputs)["logits"] for inputs in blocks])

    def _blend(self, inputs: BlenderInputs) -> dict[str, Tensor]:
        if self.normalizer == "product" and inputs.K != 1:
            raise ValueError(f"normalizer='product' is the paper's form for K=1; got K={inputs.K}")
        with steps.full_precision(inputs.bases):
            regions = self._crop(inputs)
            attention = inputs.attention.to(steps.working_dtype(inputs.attention))
            upsampled, scores = self._weights(attention)
            if self.normalizer == "product":
                products = scores * regions.sigmoid()
                logits = self._product_logits(upsampled, scores, regions)
            else:
                products = regions * scores
                logits = products.sum(1)
        return {
            "regions": regions,
            "attention": attention,
            "upsampled": upsampled,
            "scores": scores,
            "products": products,
            "logits": logits,
        }

    def _crop(self, inputs: BlenderInputs) -> Tensor:
        bases, rois, R = inputs.bases.to(steps.working_dtype(inputs.bases)), inputs.boxes, self.output_size
        if self.backend == "torchvision":
            from torchvision import ops  # here, since importing it takes over a second

            rois = rois.detach().to(bases)
            if self.pooling == "pool":
                return ops.roi_pool(bases, rois, R, self.spatial_scale)
            if self.sampling_ratio <= 0:
                steps.refuse_endless((rois[:, 3:] - rois[:, 1:3]) * self.spatial_scale)
            return ops.roi_align(bases, rois, R, self.spatial_scale, self.sampling_ratio, self.aligned)
        if self.pooling == "pool":
            return pool(bases, rois, R, self.spatial_scale)
        return steps.crop(bases, rois, R, self.spatial_scale, self.sampling_ratio, self.aligned)

    def _weights(self, attention: Tensor) -> tuple[Tensor, Tensor]:
        """The attention at R x R, before and after the normaliser."""
        if self.order == "normalize-first":
            scores = steps.resize(self.normalized(attention), self.output_size, self.interpolation, False)
            return scores, scores
        upsampled = steps.resize(attention, self.output_size, self.interpolation, False)
        return upsampled, self.normalized(upsampled)

    def normalized(self, attention: Tensor) -> Tensor:
        """Attention (N,K,h,w), at M x M or at R x R, through the normaliser alone."""
        if self.normalizer == "softmax":
            return attention.softmax(1)
        if self.normalizer == "tanh":
            return attention.tanh()
        return attention if self.normalizer == "none" else attention.sigmoid()

    def _product_logits(self, upsampled: Tensor, scores: Tensor, regions: Tensor) -> Tensor:
        """log(p / (1 - p)) for p = s * sigmoid(r), without forming p, which would round to 0 or 1."""
        r = regions[:, 0]
        if self.order == "interpolate-first":
            a = upsampled[:, 0]
            return -torch.logsumexp(torch.stack((-a, -r, -a - r)), 0)
        # 1/p - 1 = ((1 - s) + exp(-r)) / s. s is a mean of sigmoids, and may have rounded to 0 or 1
        limits = torch.finfo(scores.dtype)
        s = scores[:, 0].clamp(limits.tiny, 1 - limits.eps)
        return s.log() - torch.logaddexp((-s).log1p(), -r)
