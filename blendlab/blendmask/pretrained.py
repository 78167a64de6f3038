"""The weights that ship with blendlab; their card is `weights/README.md`."""

from __future__ import annotations

from pathlib import Path

from .checkpoint import load_weights
from .model import BlendMask

WEIGHTS = Path(__file__).parent / "weights" / "scenes.safetensors"


def pretrained() -> BlendMask:
    """The BlendMask trained on composed scenes, in eval mode on the CPU: K to 8, M to 14, any R, one set of weights.

    ValueError where the package came without its weights.
    """
    if not WEIGHTS.is_file():
        raise ValueError(
            f"the shipped weights {WEIGHTS} are missing: install blendlab again, or train (python -m"
            " blendlab.blendmask.train) and read your own with blendlab.blendmask.checkpoint.load_model"
        )
    return load_weights(WEIGHTS)
