"""Blending, and a network, on a device of the reader's choice; what the panels show is brought home, nothing else."""

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import ipywidgets as widgets
import torch

from ..blender import Blender, BlenderInputs, BlendTrace
from ..sources import Source

if TYPE_CHECKING:
    from ..blendmask import BlendMask

SHOWN = ("regions", "attention", "upsampled", "scores", "products", "logits")


def devices() -> list[str]:
    """Where this machine can blend."""
    return ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]


def device_menu(device: str | torch.device, **looks: object) -> widgets.Dropdown:
    """A menu of the devices there are. ValueError names a device that is not there."""
    options = devices()
    name = "cuda:0" if str(device) == "cuda" else str(device)
    if name not in options:
        raise ValueError(f"device must be one of {', '.join(options)}; got {str(device)!r}")
    return widgets.Dropdown(options=options, value=name, description="device", **looks)


def is_choice(menu: widgets.Dropdown) -> bool:
    """Whether there is more than one device: a menu of one is not shown."""
    return len(menu.options) > 1


def model_on(model: "BlendMask", device: str) -> "BlendMask":
    """The model if it lies on `device`, otherwise a copy there: explorers share the shipped one."""
    return model if model.mean.device == torch.device(device) else copy.deepcopy(model).to(device)


def home(trace: BlendTrace, inputs: BlenderInputs) -> BlendTrace:
    """The trace with its steps on the host, where `inputs` lie."""
    return replace(trace, inputs=inputs, **{name: getattr(trace, name).to("cpu") for name in SHOWN})


class Blending:
    """A source's arrays on a device. Copied there once; a blend there sends its steps back, never the bases."""

    def __init__(self, source: Source, device: str):
        self.source, self.device = source, device
        self.there = source.to(device)

    def __call__(self, blender: Blender, K: int, M: int, instance: int, box: list[float] | None) -> BlendTrace:
        """Blend one instance, in `box` where it has been moved. The trace is on the host, whatever the device."""
        there = self._inputs(self.there, K, M, instance, box)
        trace = blender(there.bases, there.attention, there.boxes)
        if self.device == "cpu":
            return trace
        return home(trace, self._inputs(self.source, K, M, instance, box))

    def _inputs(self, source: Source, K: int, M: int, instance: int, box: list[float] | None) -> BlenderInputs:
        inputs = source.inputs(K, M, instance)
        if box is None:
            return inputs
        boxes = torch.tensor([box], device=source.boxes.device)
        return BlenderInputs(inputs.bases, inputs.attention, boxes, inputs.spatial_scale)
