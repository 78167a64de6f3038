"""Explorers: controls and a board around one pure update. One file an explorer."""

from .blender import BlenderExplorer
from .guess import Guess, Guesses
from .interpolate import InterpolateExplorer
from .softmax import SoftmaxExplorer

__all__ = ["BlenderExplorer", "Guess", "Guesses", "InterpolateExplorer", "SoftmaxExplorer"]
