"""The weights that ship with blendlab; their card is `weights/README.md`."""

from __future__ import annotations

from pathlib import Path

from .checkpoint import load_model, load_weights
from .model import BlendMask

WEIGHTS = Path(__file__).parent / "weights"
ZOO = {"nested": "scenes.safetensors", "K4M7": "scenes_k4m7.safetensors"}


def pretrained(name: str = "nested") -> BlendMask:
    """A BlendMask trained on composed scenes, in eval mode on the CPU.

    name: "nested", one set of weights for K 1 to 8, M 1 to 14 and any R; or "K4M7", dedicated to K=4 and M=7, which
    knows nothing else and is the better one there (figures: `weights/README.md`). Both serve any R.

    ValueError for another name, or where the package came without its weights.
    """
    if name not in ZOO:
        raise ValueError(f"name is {name!r}; the models that ship are {', '.join(map(repr, ZOO))}")
    path = WEIGHTS / ZOO[name]
    if not path.is_file():
        raise ValueError(
            f"the shipped weights {path} are missing: install blendlab again, or train (python -m"
            " blendlab.blendmask.train) and read your own with blendlab.blendmask.checkpoint.load_model"
        )
    return load_weights(path)


def named_or_file(model: str) -> BlendMask:
    """A shipped model by its name, or else the model of this file; ValueError as of `pretrained` and `load_model`."""
    return pretrained(model) if model in ZOO else load_model(model)
