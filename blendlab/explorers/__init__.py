"""Explorers: controls and a board around one pure update. One file an explorer."""

from .attention import AttentionExplorer
from .blender import BlenderExplorer
from .detector import DetectorExplorer
from .guess import Guess, Guesses
from .hull import HullExplorer
from .interpolate import InterpolateExplorer
from .locations import LocationExplorer
from .microscope import Microscope
from .pasting import PasteExplorer
from .photo import PhotoExplorer
from .softmax import SoftmaxExplorer
from .traffic import TrafficExplorer

__all__ = [
    "AttentionExplorer",
    "BlenderExplorer",
    "DetectorExplorer",
    "Guess",
    "Guesses",
    "HullExplorer",
    "InterpolateExplorer",
    "LocationExplorer",
    "PasteExplorer",
    "PhotoExplorer",
    "Microscope",
    "SoftmaxExplorer",
    "TrafficExplorer",
]
