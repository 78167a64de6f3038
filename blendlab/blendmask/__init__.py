"""BlendMask itself: network, training, evaluation and checkpoints, ours and the authors'."""

from .config import Config, authors
from .model import BlendMask, Output

__all__ = ["BlendMask", "Config", "Output", "authors"]
