"""What a network says of a picture at every location: looked at once, on its device, then read cell by cell at home.

One letter legend: N boxes, K bases, M attention side, R output side, L locations of all levels in one row, H x W image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import views
from ..blender import BlenderInputs, BlendTrace
from ..pictures import Picture
from .device import home, model_on

if TYPE_CHECKING:
    from ..blendmask import BlendMask

FATES = {  # of a cell, the stage that it reached first
    "kept": "This cell's box is one of the detections.",
    "crowded out": "NMS left it, but {config.max_detections} better ones are there, and no more are kept.",
    "suppressed": "Its score is above the threshold, but NMS removed it: a better cell's box overlaps its own.",
    "below the best": "Its score is above the threshold, but NMS is given the best {config.top_k} of a level alone.",
    "below the threshold": "Its score is too low, so no one would ask for its mask.",
}


class Heard:
    """A network's words on one picture. All tensors but those in `stages` are on the host.

    model      the BlendMask on `device`; `stages` what it made of the picture there (see `blendmask.predict.stages`).
    scale      (4,) network pixels for each image pixel, along x, y, x, y.
    shapes     (rows, columns) of each level, P3 first; `visible` of them those that are not on the padding alone.
    classes, labels, centerness, scores   (L,) the best class' probability and index; sqrt(class * centerness).
    boxes      (L,4) and `points` (L,2), in network pixels; `on_image` (L,) whether a point is not on the padding.
    limits     one scale of colours for all cells.
    """

    def __init__(self, model: BlendMask, picture: Picture, threshold: float, device: str):
        from ..blendmask.predict import stages  # here: what does without a network starts without its code

        self.model = model_on(model, device)
        self.stages = stages(self.model, picture.image, threshold)
        dense = self.stages.output.dense
        height, width = picture.size
        wide, high = self.stages.resized.size
        self.scale = torch.tensor([wide / width, high / height] * 2)
        self.shapes = [tuple(tower.shape[-2:]) for tower in dense.towers]
        self.visible = [(math.ceil(high / stride), math.ceil(wide / stride)) for stride in self.model.config.strides]
        self.classes, self.labels = dense.classes[0].cpu().sigmoid().max(1)
        self.centerness = dense.centerness[0].cpu().sigmoid()
        self.scores = (self.classes * self.centerness).sqrt()
        self.boxes, self.points = dense.boxes()[0].cpu(), dense.points.cpu()
        self.on_image = (self.points < torch.tensor([wide, high])).all(1)
        self._bases = self.stages.output.bases.cpu()
        loud = self.scores.topk(min(32, len(self.scores))).indices
        self.limits = views.Limits.of(self._bases, self._attention(loud).cpu())

    def place(self, location: int) -> tuple[int, int, int]:
        """Level, row and column of a location among the L."""
        for level, (rows, columns) in enumerate(self.shapes):
            if location < rows * columns:
                return (level, *divmod(location, columns))
            location -= rows * columns
        raise ValueError("location lies beyond the last level")

    def location(self, level: int, row: int, column: int) -> int:
        """The index among the L."""
        return self._start(level) + row * self.shapes[level][1] + column

    def blend(self, location: int, R: int, K: int) -> BlendTrace:
        """The mask that this location would make, in its own box. Blended on the device, read on the host."""
        from ..blendmask.nested import read
        from ..blendmask.predict import blender

        M, box = self.model.config.attention_side, self.boxes[[location]]
        attention = self._attention(torch.tensor([location]))
        there = blender(K, R)(*read(self.stages.output.bases, attention, K, M), box.to(attention.device))
        here = read(self._bases, attention.cpu(), K, M)
        return home(there, BlenderInputs(*here, there.inputs.boxes.cpu(), there.inputs.spatial_scale))

    def level_scores(self, level: int) -> Tensor:
        """(1,rows,columns) of the level's visible cells."""
        (height, width), (rows, columns) = self.shapes[level], self.visible[level]
        start = self._start(level)
        return self.scores[start : start + height * width].view(1, height, width)[:, :rows, :columns]

    def own_place(self, location: int, R: int) -> tuple[int, int] | None:
        """Row and column of the bin of its own box in which a location lies; None in an empty box."""
        point, (x1, y1, x2, y2) = self.points[location], self.boxes[location].tolist()
        if x2 <= x1 or y2 <= y1:
            return None
        column, row = ((float(point[0]) - x1) / (x2 - x1), (float(point[1]) - y1) / (y2 - y1))
        return min(int(row * R), R - 1), min(int(column * R), R - 1)  # on the border it may lie, but never outside

    def fate(self, location: int) -> str:
        """One of FATES: what became of the cell."""
        funnel = self.stages.funnel
        stages = (funnel.best, funnel.suppressed, funnel.top, funnel.candidates)
        reached = [location in stage.location for stage in stages] + [True]
        return list(FATES)[reached.index(True)]

    def _start(self, level: int) -> int:
        return sum(rows * columns for rows, columns in self.shapes[:level])

    def _attention(self, locations: Tensor) -> Tensor:
        """(N,K,M,M) of these of the L locations, on the device."""
        dense = self.stages.output.dense
        locations = locations.to(dense.points.device)
        return self.model.attention_at(dense, torch.zeros_like(locations), locations)
