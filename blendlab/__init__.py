"""blendlab: the Blender of BlendMask, one step at a time.

Importing this brings torch and nothing heavier: no widgets, no torchvision.
"""

from .blender import Blender, BlenderInputs, BlendTrace
from .paste import paste_masks
from .roi_pool import roi_pool
from .steps import blend, interpolate, roi_align, softmax

__all__ = [
    "BlendTrace",
    "Blender",
    "BlenderInputs",
    "blend",
    "interpolate",
    "paste_masks",
    "roi_align",
    "roi_pool",
    "softmax",
]
