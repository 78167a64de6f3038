"""BlendMask itself: network, training, evaluation and checkpoints, ours and the authors'."""

from .config import Config, authors
from .export import export_blender_onnx, export_onnx
from .model import BlendMask, Output
from .official import official, official_file
from .predict import Detections
from .pretrained import pretrained

__all__ = [
    "BlendMask",
    "Config",
    "Detections",
    "Output",
    "authors",
    "export_blender_onnx",
    "export_onnx",
    "official",
    "official_file",
    "pretrained",
]
