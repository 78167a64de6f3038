"""The board: one widget that draws panels of numbers on canvases and sends back clicks, drags and keys."""

from .board import Board, pack_steps

__all__ = ["Board", "pack_steps"]
