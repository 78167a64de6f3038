"""The authors' checkpoints: AdelaiDet's names and arrays, put into our classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import assemble, hollow, misfit
from .config import authors
from .model import BlendMask

# our name -> AdelaiDet's
RULES = (
    (r"pyramid\.fpn\.inner_blocks\.(\d)\.0\.(\w+)", lambda m: f"backbone.fpn_lateral{int(m[1]) + 3}.{m[2]}"),
    (r"pyramid\.fpn\.layer_blocks\.(\d)\.0\.(\w+)", lambda m: f"backbone.fpn_output{int(m[1]) + 3}.{m[2]}"),
    (r"pyramid\.fpn\.extra_blocks\.(p\d)\.(\w+)", r"backbone.top_block.\1.\2"),
    (r"backbone\.stem\.0\.(\w+)", r"backbone.bottom_up.stem.conv1.\1"),
    (r"backbone\.stem\.1\.(\w+)", r"backbone.bottom_up.stem.conv1.norm.\1"),
    (r"backbone\.c(\d)\.(\d+)\.downsample\.0\.(\w+)", r"backbone.bottom_up.res\1.\2.shortcut.\3"),
    (r"backbone\.c(\d)\.(\d+)\.downsample\.1\.(\w+)", r"backbone.bottom_up.res\1.\2.shortcut.norm.\3"),
    (r"backbone\.c(\d)\.(\d+)\.conv(\d)\.(\w+)", r"backbone.bottom_up.res\1.\2.conv\3.\4"),
    (r"backbone\.c(\d)\.(\d+)\.bn(\d)\.(\w+)", r"backbone.bottom_up.res\1.\2.conv\3.norm.\4"),
    (r"fcos\.cls_tower\.(.+)", r"proposal_generator.fcos_head.cls_tower.\1"),
    (r"fcos\.box_tower\.(.+)", r"proposal_generator.fcos_head.bbox_tower.\1"),
    (r"fcos\.classes\.(\w+)", r"proposal_generator.fcos_head.cls_logits.\1"),
    (r"fcos\.box\.(\w+)", r"proposal_generator.fcos_head.bbox_pred.\1"),
    (r"fcos\.centerness\.(\w+)", r"proposal_generator.fcos_head.ctrness.\1"),
    (r"basis_module\.(refine|tower)\.(.+)", r"basis_module.\1.\2"),
    (r"basis_module\.last\.(.+)", r"basis_module.tower.4.\1"),  # 3 is the doubling, which has no numbers
    (r"basis_module\.out\.(\w+)", r"basis_module.tower.5.\1"),
    (r"semantic\.body\.0\.(\d)\.(\w+)", r"basis_module.seg_head.\1.\2"),
    (r"semantic\.body\.1\.(\d)\.(\w+)", lambda m: f"basis_module.seg_head.{int(m[1]) + 3}.{m[2]}"),
    (r"semantic\.out\.(\w+)", r"basis_module.seg_head.6.\1"),
    (r"attention\.(\w+)", r"top_layer.\1"),
)
# What an upstream file may hold beside the network: pixel statistics, anchors, per-level scales that BlendMask ignores
IGNORED = re.compile(
    r"pixel_(mean|std)|proposal_generator\.anchor_generator\..*|proposal_generator\.fcos_head\.scales\..*"
)


def their_name(ours: str) -> str:
    """AdelaiDet's name of one of our entries."""
    for pattern, theirs in RULES:
        if match := re.fullmatch(pattern, ours):
            return theirs(match) if callable(theirs) else match.expand(theirs)
    raise KeyError(ours)


def from_adelaidet(weights: Mapping[str, np.ndarray | Tensor], depth: int = 50) -> BlendMask:
    """The authors' network, in eval mode, from their checkpoint entries (arrays or tensors, maybe under "model").

    depth: 50 or 101. A missing, extra or misshapen entry is a ValueError that names it as the file does; the
    training-only semantic head may be absent, and older files may say "centerness" for "ctrness".
    The model takes float32 entries as they are, without a copy.
    """
    if isinstance(weights, Mapping) and isinstance(weights.get("model"), Mapping):
        weights = weights["model"]
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise ValueError(f"weights are {type(weights).__name__}; expected a dict of names and arrays")
    for name, array in weights.items():
        if not isinstance(array, np.ndarray | Tensor):
            raise ValueError(f"weights[{name!r}] is {type(array).__name__}; expected an array or a tensor")
    weights = {name.replace("fcos_head.centerness.", "fcos_head.ctrness."): array for name, array in weights.items()}
    wanted = {their_name(name): (name, t) for name, t in hollow(authors(depth)).state_dict().items()}
    if not any("seg_head" in name for name in weights):
        wanted = {theirs: value for theirs, value in wanted.items() if "seg_head" not in theirs}
    missing = [n for n in wanted if n not in weights and not n.endswith("num_batches_tracked")]
    extra = [name for name in weights if name not in wanted and not IGNORED.fullmatch(name)]
    tensors = {theirs: torch.as_tensor(weights[theirs]) for theirs in wanted if theirs in weights}
    unfit = [f"{theirs} {what}" for theirs, t in tensors.items() if (what := misfit(t, wanted[theirs][1]))]
    if missing or extra or unfit:
        raise ValueError(
            f"not a BlendMask R-{depth} checkpoint: missing {missing or 'nothing'}; "
            f"not expected {extra or 'nothing'}; not as expected: {unfit or 'none'}"
        )
    ours = {wanted[theirs][0]: tensor for theirs, tensor in tensors.items()}
    return assemble(authors(depth), ours, f"BlendMask R-{depth} checkpoint")


def load_file(path: str | Path) -> Mapping:
    """The entries of an authors' .pth file, read as data alone: nothing in it can run code.

    Arrays, tensors, numbers, strings, lists and dicts are data. ValueError for a file that is missing, cannot be read,
    or needs anything else, with the name of what it asks for.
    """
    from numpy._core import multiarray

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path {path} does not exist, or is no file; expected a .pth file of the authors' weights")
    data = [np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8")}]
    # NumPy 1 and 2 pickle an array under different names of one function
    data += [(multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals(data):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several types for a damaged file, by where the damage is
        asks = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)|got <class '(\S+)'>", str(error))
        reason = (
            f"it asks for {asks[1] or asks[2]}, which is not data"
            if asks
            else "it is cut short, or no file of torch.save"
        )
        raise ValueError(f"path {path} cannot be read: {reason}") from error
