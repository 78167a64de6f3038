"""The authors' checkpoints: AdelaiDet's names and arrays, put into our classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import assemble
from .config import authors
from .model import BlendMask

# AdelaiDet's name -> ours; the first rule that matches an entry applies to it
RULES = (
    (r"backbone\.fpn_lateral(\d)\.(\w+)", lambda m: f"pyramid.fpn.inner_blocks.{int(m[1]) - 3}.0.{m[2]}"),
    (r"backbone\.fpn_output(\d)\.(\w+)", lambda m: f"pyramid.fpn.layer_blocks.{int(m[1]) - 3}.0.{m[2]}"),
    (r"backbone\.top_block\.(p\d)\.(\w+)", r"pyramid.fpn.extra_blocks.\1.\2"),
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", r"backbone.stem.1.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.(\w+)", r"backbone.stem.0.\1"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.(\w+)", r"backbone.c\1.\2.downsample.1.\3"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.(\w+)", r"backbone.c\1.\2.downsample.0.\3"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)", r"backbone.c\1.\2.bn\3.\4"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.(\w+)", r"backbone.c\1.\2.conv\3.\4"),
    (r"proposal_generator\.fcos_head\.cls_tower\.(.+)", r"fcos.cls_tower.\1"),
    (r"proposal_generator\.fcos_head\.bbox_tower\.(.+)", r"fcos.box_tower.\1"),
    (r"proposal_generator\.fcos_head\.cls_logits\.(\w+)", r"fcos.classes.\1"),
    (r"proposal_generator\.fcos_head\.bbox_pred\.(\w+)", r"fcos.box.\1"),
    (r"proposal_generator\.fcos_head\.(?:ctrness|centerness)\.(\w+)", r"fcos.centerness.\1"),
    (r"basis_module\.refine\.(.+)", r"basis_module.refine.\1"),
    (r"basis_module\.tower\.([012])\.(.+)", r"basis_module.tower.\1.\2"),
    (r"basis_module\.tower\.4\.(.+)", r"basis_module.last.\1"),
    (r"basis_module\.tower\.5\.(\w+)", r"basis_module.out.\1"),
    (r"basis_module\.seg_head\.([01])\.(.+)", r"semantic.body.0.\1.\2"),
    (r"basis_module\.seg_head\.([34])\.(.+)", lambda m: f"semantic.body.1.{int(m[1]) - 3}.{m[2]}"),
    (r"basis_module\.seg_head\.6\.(\w+)", r"semantic.out.\1"),
    (r"top_layer\.(\w+)", r"attention.\1"),
)
# What an upstream file may hold beside the network: anchors, pixel statistics, loss buffers
IGNORED = re.compile(r"pixel_(mean|std)|proposal_generator\.(anchor_generator|fcos_head\.scales)\..*|.*\.loss_\w+")
NUMPY_DATA = [np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i8", "f2")}]


def our_name(theirs: str) -> str | None:
    """Our parameter's name for AdelaiDet's, or None where it has no counterpart."""
    for pattern, ours in RULES:
        if match := re.fullmatch(pattern, theirs):
            return ours(match) if callable(ours) else match.expand(ours)
    return None


def from_adelaidet(weights: Mapping[str, np.ndarray | Tensor], depth: int = 50) -> BlendMask:
    """The authors' network, in eval mode, from their checkpoint entries (arrays or tensors, maybe under "model").

    depth: 50 or 101. A missing, extra or misshapen entry is a ValueError that names it; the training-only semantic
    head may be absent.
    """
    weights = weights["model"] if isinstance(weights.get("model"), Mapping) else weights
    with torch.device("meta"):  # no random initial values, and no second copy in memory
        model = BlendMask(authors(depth))
    wanted = model.state_dict()
    ours, extra = {}, []
    for theirs, array in weights.items():
        name = our_name(theirs)
        if name in wanted:
            ours[name] = torch.as_tensor(array)
        elif not IGNORED.fullmatch(theirs):
            extra.append(theirs)
    if extra:
        raise ValueError(f"not a BlendMask R-{depth} checkpoint: not expected {extra}")
    return assemble(model.config, ours, f"BlendMask R-{depth} checkpoint")


def load_file(path: str | Path) -> dict[str, np.ndarray | Tensor]:
    """The entries of an authors' .pth file, as data only: a file that would run code is refused by torch."""
    from numpy._core import multiarray

    data = [*NUMPY_DATA, multiarray._reconstruct, (multiarray._reconstruct, "numpy.core.multiarray._reconstruct")]
    with torch.serialization.safe_globals(data):
        return torch.load(path, map_location="cpu", weights_only=True)
