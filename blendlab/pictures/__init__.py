"""Pictures with their true masks: real photographs, the user's own, and composed scenes."""

from .photographs import load, names
from .picture import Picture
from .scenes import SceneArrays, scene, scene_arrays
from .sprites import CATEGORIES

__all__ = ["CATEGORIES", "Picture", "SceneArrays", "load", "names", "scene", "scene_arrays"]
