"""Blending on a device of the reader's choice, and bringing home what the panels show, nothing else."""

from dataclasses import replace

import ipywidgets as widgets
import torch

from ..blender import Blender, BlenderInputs, BlendTrace
from ..sources import Source

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
        here = self._inputs(self.source, K, M, instance, box)
        return replace(trace, inputs=here, **{name: getattr(trace, name).to("cpu") for name in SHOWN})

    def _inputs(self, source: Source, K: int, M: int, instance: int, box: list[float] | None) -> BlenderInputs:
        inputs = source.inputs(K, M, instance)
        if box is None:
            return inputs
        boxes = torch.tensor([box], device=source.boxes.device)
        return BlenderInputs(inputs.bases, inputs.attention, boxes, inputs.spatial_scale)
