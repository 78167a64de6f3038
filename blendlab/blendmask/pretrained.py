"""The weights that ship with blendlab; their card is `weights/README.md`."""

from __future__ import annotations

from pathlib import Path

from .checkpoint import load_weights
from .model import BlendMask

WEIGHTS = Path(__file__).parent / "weights" / "scenes.safetensors"


def pretrained() -> BlendMask:
    """The BlendMask trained on composed scenes, in eval mode on the CPU: K to 8, M to 14, any R, one set of weights."""
    return load_weights(WEIGHTS)
