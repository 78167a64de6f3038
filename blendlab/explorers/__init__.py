"""Explorers: controls and a board around one pure update. One file an explorer."""

from .attention import AttentionExplorer
from .blender import BlenderExplorer
from .detector import DetectorExplorer
from .guess import Guess, Guesses
from .interpolate import InterpolateExplorer
from .locations import LocationExplorer
from .microscope import Microscope
from .photo import PhotoExplorer
from .softmax import SoftmaxExplorer

__all__ = [
    "AttentionExplorer",
    "BlenderExplorer",
    "DetectorExplorer",
    "Guess",
    "Guesses",
    "InterpolateExplorer",
    "LocationExplorer",
    "PhotoExplorer",
    "Microscope",
    "SoftmaxExplorer",
]
