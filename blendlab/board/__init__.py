"""The board: one widget that draws panels of numbers on canvases and sends back clicks, drags and keys."""

from .board import Board

__all__ = ["Board"]
