"""To ONNX: the network up to what the blender needs, and the blender, each as one graph.

The cut is where the paper's Fig. 2 has it. Between the two lie decisions rather than arithmetic (threshold, top-k,
suppression: `postprocess.py`), which choose the boxes, and for each box the attention of the location that made it.
Needs the packages onnx and, for the network, onnxscript: pip install "blendlab[export]".
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..blender import Blender

if TYPE_CHECKING:
    from .model import BlendMask

OPSET, IR_VERSION = 18, 8  # the oldest that have all that is used, so that older runtimes read the files
NORMALIZERS = {"softmax": "Softmax", "sigmoid": "Sigmoid", "tanh": "Tanh", "none": "Identity", "product": "Sigmoid"}


def export_onnx(model: BlendMask, path: str | Path) -> None:
    """Write the network as ONNX, for images of any number and size.

    In: images (B,3,H,W) float32 as `model.normalise` makes them, H and W multiples of 32. Out, float32, with L the
    locations of all levels in a row, P3 first: bases (B,K,H/4,W/4); classes (B,L,C) and centerness (B,L), logits;
    boxes (B,L,4) x1,y1,x2,y2 in pixels of `images`, not clipped; attention (B,L,K,M,M). The file's metadata holds the
    model's `Config` as JSON under "config": order of colours, mean, deviation, thresholds, categories.
    ValueError where the folder does not exist; ImportError where a package is missing.
    """
    path, onnx = _path(path), _package("onnx")
    _package("onnxscript")
    rows, columns = torch.export.Dim("rows", min=1, max=512), torch.export.Dim("columns", min=1, max=512)
    was_training = model.training
    try:
        program = torch.onnx.export(
            Flat(model).eval(),
            (
                torch.zeros(2, 3, 256, 384, device=model.mean.device),
            ),  # no size, P7's too, is 1, and so taken for always 1
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["bases", "classes", "centerness", "boxes", "attention"],
            dynamic_shapes={"images": {0: torch.export.Dim("B"), 2: 32 * rows, 3: 32 * columns}},
            verbose=False,
        )
    finally:
        model.train(was_training)
    graph = program.model_proto
    onnx.helper.set_model_props(graph, {"config": json.dumps(model.config.to_dict())})
    onnx.save(graph, str(path))


class Flat(nn.Module):
    """The network with plain tensors out, and the attention of every location: a convolution of each whole tower."""

    def __init__(self, model: BlendMask):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.model(images)
        dense = output.dense
        attention = [self.model.attention(tower).flatten(2).transpose(1, 2) for tower in dense.towers]  # (B,hw,K*M*M)
        attention = torch.cat(attention, 1).unflatten(2, self.model.attention.grid)
        return output.bases, dense.classes, dense.centerness, dense.boxes(), attention


def export_blender_onnx(path: str | Path, blender: Blender | None = None) -> None:
    """Write a blender, the reference's if none is given, as ONNX: its four steps, for any number and size of inputs.

    In, float32: bases (B,K,H,W); attention (N,K,M,M); boxes (N,5), the image's index in the batch and x1,y1,x2,y2 in
    pixels. Out: logits and probabilities (N,R,R). B, N, K, M, H and W may change from call to call, N may be 0; R is
    the blender's. The tensors within are called as in `BlendTrace`. For K = 1, give Blender(normalizer="product").
    ValueError for pooling="pool" and for "product" in the order "normalize-first", which have no graph here, and where
    the folder does not exist; ImportError where the package onnx is missing.
    """
    blender = Blender() if blender is None else blender
    if not isinstance(blender, Blender):
        raise TypeError(f"blender must be a Blender; got {type(blender).__name__}")
    if blender.pooling != "align" or (blender.normalizer, blender.order) == ("product", "normalize-first"):
        raise ValueError(f"blender is {blender}; expected pooling='align', and 'product' only in 'interpolate-first'")
    path, onnx = _path(path), _package("onnx")
    make, numbers, R = onnx.helper, onnx.numpy_helper.from_array, blender.output_size

    def tensor(name: str, *shape: int | str):
        return make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = make.make_graph(
        [*_crop(make, blender), *_weights(make, blender), *_blend(make, blender)],
        "blender",
        [tensor("bases", "B", "K", "H", "W"), tensor("attention", "N", "K", "M", "M"), tensor("boxes", "N", 5)],
        [tensor("logits", "N", R, R), tensor("probabilities", "N", R, R)],
        [
            numbers(torch.tensor(value).numpy(), name)
            for name, value in (("side", [R, R]), ("1", [1]), ("parts", [1, 4]))
        ],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    make.set_model_props(model, {"blender": repr(blender)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _crop(make: ModuleType, blender: Blender) -> list:
    """regions = RoIAlign(bases, boxes), equation 1. ONNX's operator keeps torchvision's rules."""
    align = make.make_node(
        "RoiAlign",
        ["bases", "corners", "image"],
        ["regions"],
        output_height=blender.output_size,
        output_width=blender.output_size,
        sampling_ratio=max(blender.sampling_ratio, 0),
        spatial_scale=blender.spatial_scale,
        coordinate_transformation_mode="half_pixel" if blender.aligned else "output_half_pixel",
    )
    return [
        make.make_node("Split", ["boxes", "parts"], ["index_column", "corners"], axis=1),
        make.make_node("Squeeze", ["index_column", "1"], ["index"]),
        make.make_node("Cast", ["index"], ["image"], to=7),  # 7 is int64
        align,
    ]


def _weights(make: ModuleType, blender: Blender) -> list:
    """upsampled = interpolate(attention), scores = normalised over K, equations 2 and 3, in the blender's order."""
    bilinear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

    def resize(source: str, target: str):
        options = bilinear if blender.interpolation == "bilinear" else nearest
        return make.make_node("Resize", [source, "", "", "side"], [target], axes=[2, 3], **options)

    def normalize(source: str, target: str):
        over_bases = {"axis": 1} if blender.normalizer == "softmax" else {}
        return make.make_node(NORMALIZERS[blender.normalizer], [source], [target], **over_bases)

    if blender.order == "normalize-first":
        return [normalize("attention", "normalized"), resize("normalized", "scores")]
    return [resize("attention", "upsampled"), normalize("upsampled", "scores")]


def _blend(make: ModuleType, blender: Blender) -> list:
    """logits = sum over K of regions * scores, equation 4; or the paper's K = 1, as the logit of its product."""
    probabilities = make.make_node("Sigmoid", ["logits"], ["probabilities"])
    if blender.normalizer != "product":
        products = make.make_node("Mul", ["regions", "scores"], ["products"])
        return [products, make.make_node("ReduceSum", ["products", "1"], ["logits"], keepdims=0), probabilities]
    return [
        make.make_node("Neg", ["upsampled"], ["-a"]),
        make.make_node("Neg", ["regions"], ["-r"]),
        make.make_node("Add", ["-a", "-r"], ["-a-r"]),
        make.make_node("Concat", ["-a", "-r", "-a-r"], ["three"], axis=1),
        make.make_node("ReduceLogSumExp", ["three", "1"], ["-m"], keepdims=0),
        make.make_node("Neg", ["-m"], ["logits"]),
        probabilities,
    ]


def _path(path: str | Path) -> Path:
    """The path, if its folder exists: an export takes too long to fail at its end."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"path is {path}; its folder {path.parent} does not exist")
    return path


def _package(name: str) -> ModuleType:
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f"the export needs the package {name}: pip install 'blendlab[export]'") from error
