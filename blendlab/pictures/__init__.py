"""Pictures with their true masks: real photographs, the user's own, and composed scenes."""

from .photographs import load, names
from .picture import Picture

__all__ = ["Picture", "load", "names"]
