"""Which location speaks: choose a cell of a pyramid level and see all that it says, up to the mask that it would make.

One letter legend: N boxes, K bases, M attention side, R output side, L locations of all levels in one row, H x W image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import Layout

from .. import check, views
from ..blender import BlendTrace
from ..board import Board, pack_steps
from ..paste import iou, paste_masks
from ..pictures import Picture
from ..sources import shipped_model
from ..threads import one_thread
from .base import Explorer, Slider
from .device import device_menu, is_choice
from .heard import FATES, Heard

if TYPE_CHECKING:
    from ..blendmask import BlendMask

R = 56
SHOWN = ("attention", "scores", "regions", "products", "probabilities")
HINT = "Click a place, or use the arrow keys: its cell speaks."


class LocationExplorer(Explorer):
    """A BlendMask's image, and what the chosen cell of a level says: class, centerness, box, attention, mask.

    picture    a Picture; its true masks tell which object a mask is like.
    model      a BlendMask; absent, the shipped one.
    level, row, column   the cell to start with, level 0 for P3; absent, the one with the highest score.
    K          bases to read.
    threshold  on the score, which decides the verdict on a cell.
    device     where the network looks and the blender blends, "cpu" or "cuda"; where there is a GPU a menu switches it.
               What it said is brought home once, then of each cell what the panels show.

    The controls are attributes (level, row, column, K); `speak(level, row, column)` moves all at once. Of the chosen
    cell: `location` (its index among the L), `label`, `score`, `box` (image pixels), `attention` (1,K,M,M), `trace`,
    `verdict` (one of FATES), `instance` (the object whose mask its own is most like,
    None without objects) and `iou` with it.
    """

    def __init__(
        self,
        picture: Picture,
        model: BlendMask | None = None,
        *,
        level: int | None = None,
        row: int | None = None,
        column: int | None = None,
        K: int = 4,
        threshold: float = 0.3,
        device: str | torch.device = "cpu",
    ):
        super().__init__(Board(fixed=True, hint=HINT))
        self.picture, self.threshold = picture, threshold
        self.model = model or shipped_model()
        self.device = device_menu(device, layout=Layout(width="200px"))
        self._hear()
        self.trace: BlendTrace | None = None
        self._before: tuple[str, np.ndarray, torch.Tensor] | None = None
        heard = self._heard
        levels = heard.stages.output.dense.level.cpu()
        allowed = heard.on_image if level is None else heard.on_image & (levels == level)
        best = self.place(int(self.scores.masked_fill(~allowed, -1).argmax()))
        start = [given if given is not None else own for given, own in zip((level, row, column), best, strict=True)]
        self._make_controls(check.side("K", K))
        self.board.show_picture(picture)
        self._guarded(lambda: self.speak(*start))()

    def _hear(self) -> None:
        """Run the network once; every cell is then a reading of what it said."""
        self._heard = heard = Heard(self.model, self.picture, self.threshold, self.device.value)
        self.model, self.stages, self.scores = heard.model, heard.stages, heard.scores

    def place(self, location: int) -> tuple[int, int, int]:
        """Level, row and column of a location among the L."""
        return self._heard.place(location)

    @property
    def location(self) -> int:
        return self._heard.location(self.level.value, self.row.value, self.column.value)

    # ------------------------------------------------------------------ controls

    def _make_controls(self, K: int) -> None:
        config = self.model.config
        levels = [(f"P{3 + i}, stride {stride}", i) for i, stride in enumerate(config.strides)]
        self.level = widgets.Dropdown(options=levels, description="level", layout=Layout(width="232px"))
        wide = Layout(width="auto", flex="1 1 220px")
        rows, columns = self._heard.visible[0]
        self.row = Slider(0, 0, rows - 1, description="row", tooltip="of the cell that speaks", layout=wide)
        self.column = Slider(0, 0, columns - 1, description="column", tooltip="of the cell that speaks", layout=wide)
        least = 1 if config.nested else config.bases
        K, tip = min(max(K, least), config.bases), "how many bases"
        self.K = Slider(K, least, config.bases, description="K", tooltip=tip, layout=wide)
        controls = [self.level, self.row, self.column, self.K] + [self.device] * is_choice(self.device)
        self.children = [
            widgets.HBox(controls, layout=Layout(flex_flow="row wrap", width="100%", max_width="1500px")),
            self.board,
        ]
        self._listen(self.level, self._level_changed)
        for control in (self.row, self.column, self.K):
            self._listen(control)
        self._listen(self.device, self._switched)
        self._foresee("row", "column", "K")
        self._level = 0
        self.board.on_click = self._guarded(self._clicked)
        self.board.on_step = self._guarded(lambda dx, dy: self._go(self.row.value + dy, self.column.value + dx))
        self.board.on_pixel = self._guarded(self._pixel)

    def speak(self, level: int, row: int, column: int) -> None:
        """Choose the cell (row, column) of `level` (0 for P3). ValueError names what does not exist."""
        if not 0 <= check.whole("level", level) < len(self._heard.shapes):
            raise ValueError(f"level must be from 0 (P3) to {len(self._heard.shapes) - 1}; got {level}")
        for name, value, length in zip(("row", "column"), (row, column), self._heard.visible[level], strict=True):
            if not 0 <= check.whole(name, value) < length:
                raise ValueError(f"{name} must be from 0 to {length - 1} on P{3 + level}; got {value}")
        self._choose(level, row, column)

    def _choose(self, level: int, row: int, column: int) -> None:
        with self._hold():
            self.level.value = self._level = level
            rows, columns = self._heard.visible[level]
            self.row.max, self.column.max = rows - 1, columns - 1
            self.row.value, self.column.value = row, column
        self._update()

    def _go(self, row: int, column: int) -> None:
        """To the nearest cell there is."""
        rows, columns = self._heard.visible[self.level.value]
        self._choose(self.level.value, min(max(row, 0), rows - 1), min(max(column, 0), columns - 1))

    def _switched(self) -> None:
        self._hear()
        self._update()

    def _level_changed(self) -> None:
        """The same place on another level."""
        ratio = self.model.config.strides[self._level] / self.model.config.strides[self.level.value]
        self._level = self.level.value
        self._go(*(int((cell.value + 0.5) * ratio) for cell in (self.row, self.column)))

    def _clicked(self, x: float, y: float) -> None:
        stride = self.model.config.strides[self.level.value]
        across, down = self._heard.scale[:2].tolist()
        self._go(int(y * down // stride), int(x * across // stride))

    def _pixel(self, row: int | None, column: int | None) -> None:
        """A click on a map of the box is one on the image, where that bin lies."""
        if row is not None:
            x1, y1, x2, y2 = self.box.tolist()
            self._clicked(x1 + (column + 0.5) / R * (x2 - x1), y1 + (row + 0.5) / R * (y2 - y1))

    # ------------------------------------------------------------------ the one update

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        heard, location, K = self._heard, self.location, self.K.value
        self.trace = heard.blend(location, R, K)
        self.attention = self.trace.attention
        self.box = self._box(location)
        steps = self._packed(self.trace, location)
        with self.board.hold_sync():
            self.board.boxes = self._boxes(location)
            self.board.show_packed(steps)
            self.board.error = ""
        # the panels are on their way; what takes time to count, and to say, follows
        self.label = self.model.config.categories[int(heard.labels[location])]
        self.score = float(self.scores[location])
        mask = (paste_masks(self.trace.probabilities, self.box[None], self.picture.size)[0] >= 0.5).numpy()
        self.instance, self.iou = self._most_like(mask)
        self.verdict = heard.fate(location)
        with self.board.hold_sync():
            self.board.text = self._sentence()
            self.board.notes = self._notes(mask)
            self.board.timing = f"on {self.device.value}" * is_choice(self.device)

    @one_thread()
    @torch.no_grad()
    def _steps(self, **moved: int) -> dict:
        cell = {name: getattr(self, name).value for name in ("row", "column", "K")} | moved
        location = self._heard.location(self.level.value, cell["row"], cell["column"])
        return self._packed(self._heard.blend(location, R, cell["K"]), location)

    def _packed(self, trace: BlendTrace, location: int) -> dict:
        panels = [panel for panel in views.step_panels(trace, self._heard.limits) if panel.name in SHOWN]
        place = self._heard.own_place(location, R)
        pixel = place and views.PixelSum(*place, [], 0.0, 0.0, False)  # chosen, with no sum to show
        panels.insert(-1, self._score_panel(location))
        return pack_steps(panels, 0, pixel, boxes=self._boxes(location))

    def _box(self, location: int) -> torch.Tensor:
        """(4,) in image pixels."""
        return self._heard.boxes[location] / self._heard.scale

    def _boxes(self, location: int) -> list[float]:
        return [*self._box(location).tolist(), *self.picture.boxes.flatten().tolist()]

    def _score_panel(self, location: int) -> views.Panel:
        level, row, column = self.place(location)
        rows, columns = self._heard.visible[level]
        return views.Panel(
            "level", self._heard.level_scores(level), "magnitude", 0.0, 1.0, f"scores of P{3 + level}",
            "sqrt(class · ctr)", f"{rows} × {columns} cells; the cross is the chosen one, the frame its box",
            space="image", large=True, marks=(views.Lattice("cross", [column + 0.5], [row + 0.5]),),
        )  # fmt: skip

    def _most_like(self, mask: np.ndarray) -> tuple[int | None, float]:
        if not len(self.picture):
            return None, float("nan")
        ious = [iou(mask, truth) for truth in self.picture.masks]
        return int(np.argmax(ious)), max(ious)

    # ------------------------------------------------------------------ words

    def _sentence(self) -> str:
        heard, location = self._heard, self.location
        x, y = (heard.points[location] / heard.scale[:2]).tolist()
        box = ", ".join(f"{side:.0f}" for side in self.box.tolist())
        K, M = self.trace.inputs.K, self.trace.inputs.M
        meets = "hardly meets an" if self.iou > 0 else "meets no"
        like = f"; its mask {meets} object" if len(self.picture) else ""
        if self.iou >= 0.005:
            label = self.picture.labels[self.instance]
            like = f"; its mask has IoU {self.iou:.2f} with instance {self.instance} ({label})"
        return (
            f"{self.picture.name}, {self._name()} at {x:.0f}, {y:.0f}: says {self.label} "
            f"{float(heard.classes[location]):.2f} with centerness {float(heard.centerness[location]):.2f}, "
            f"score {self.score:.2f}; box {box}; {K}·{M}·{M} = {K * M * M} attention numbers{like}."
        )

    def _name(self) -> str:
        return f"P{3 + self.level.value} row {self.row.value} column {self.column.value}"

    def _notes(self, mask: np.ndarray) -> list[str]:
        notes = [f"Threshold {self.threshold:.2f}: {FATES[self.verdict].format(config=self.model.config)}"]
        scores, name = self.trace.scores[0], self._name()
        if self._before and self._before[0] != name and self._before[2].shape == scores.shape:
            was, mask_before, scores_before = self._before
            notes.append(
                f"Against {was}: the weights differ by {float((scores - scores_before).abs().mean()):.2f} on average, "
                f"and the two masks share IoU {iou(mask, mask_before):.2f}."
            )
        self._before = (name, mask, scores)
        return notes

    @property
    def text(self) -> str:
        return self.board.text

    def __repr__(self) -> str:
        return f"LocationExplorer({self.picture.name!r}, {self._name()}, K={self.K.value})"
