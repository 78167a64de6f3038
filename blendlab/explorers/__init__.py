"""Explorers: controls and a board around one pure update. One file an explorer."""

from .blender import BlenderExplorer

__all__ = ["BlenderExplorer"]
