"""The explorer of a mask drawn by hand: a box, a brush, and bases fitted to what was brushed.

One letter legend: N instances, K bases, M attention side, R output side.
"""

import dataclasses
import threading
from collections.abc import Callable, Sequence

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import Layout

from ..blender import BlendTrace
from ..fit import fit_nested
from ..pictures import Picture
from ..pictures.brushed import Brushed
from ..sources import Source
from .base import Slider
from .beside import Beside
from .blender import BlenderExplorer
from .device import is_choice
from .provenance import Provenance

HOW = "Choose 'new box' and draw one, 'brush' over the object in it, then press 'fit'."
NOTE = "these bases were fitted to the masks that you brushed: they have seen the answer"
ROW = {"flex_flow": "row wrap", "width": "100%", "max_width": "1500px"}


class HandExplorer(BlenderExplorer):
    """The whole explorer of the blender on what its reader draws on an image, (H,W,3) uint8 RGB.

    device: where bases are fitted and masks are blended; where there is a GPU a menu switches it.
    `draw` a box, `brush` a mask in it, `fit` bases and attention to all that is brushed; by hand, `tool` says what the
    pointer does. While a tool is chosen the board shows the brushed mask, otherwise the blended one.
    """

    against = "your mask"

    def __init__(self, image: np.ndarray, name: str = "picture", *, device: str | torch.device = "cpu"):
        self._turn = threading.RLock()  # a fit ends in a thread of its own
        self.beside = Beside(self._turn)
        self._new(image, name)
        super().__init__(self._bare(), sources={"fitted": lambda: self._fitted[1]}, device=device)

    def _new(self, image: np.ndarray, name: str) -> None:
        self.beside.cancel()
        self._image, self._name, self._drawn = image, name, Brushed(image)
        self._fitted: tuple[Picture, Source] | None = None

    def _bare(self) -> Picture:
        return Picture.from_masks(self._image, name=self._name)

    def _make_controls(self) -> None:
        super()._make_controls()
        *self._step_rows, board = self.children
        elsewhere = (self.source, self.instance, self.device)
        self._step_rows[1].children = [c for c in self._step_rows[1].children if c not in elsewhere]
        tools = [("look", ""), ("new box", "box"), ("brush", "brush"), ("eraser", "erase")]
        self.tool = widgets.ToggleButtons(options=tools, style={"button_width": "80px"})
        self.radius = Slider(
            12, 1, 80, description="brush size", tooltip="radius in pixels", layout=Layout(width="290px")
        )
        self.undo = widgets.Button(description="undo", tooltip="the last change", layout=Layout(width="70px"))
        self.remove = widgets.Button(description="remove", tooltip="the selected instance", layout=Layout(width="80px"))
        self.fit_button = widgets.Button(description="fit", button_style="primary", layout=Layout(width="80px"))
        tools = [self.tool, self.radius, self.undo, self.remove, self.fit_button, self.beside]
        first = [self.instance] + [self.device] * is_choice(self.device)
        self._first_row = widgets.HBox(first, layout=Layout(**ROW))
        self._hand_row = widgets.HBox(tools, layout=Layout(**ROW))
        self.children = [self._first_row, self._hand_row, *self._step_rows, board]

    def _connect(self) -> None:
        super()._connect()
        self._listen(self.tool, self._show_hand)
        self._listen(self.radius, lambda: setattr(self.board, "brush", float(self.radius.value)))
        self.undo.on_click(self._guarded(lambda _: self._undone()))
        self.remove.on_click(self._guarded(lambda _: self._removed()))
        self.fit_button.on_click(self._guarded(lambda _: self._start_fit()))
        self.beside.stop.on_click(self._guarded(lambda _: self._show_hand()))
        self.board.on_new_box = self._guarded(lambda *box: self.draw(box))
        self.board.on_stroke = self._guarded(self.brush)

    def _guarded(self, act: Callable) -> Callable:
        guarded = super()._guarded(act)

        def call(*arguments):
            with self._turn:
                return guarded(*arguments)

        return call

    def _start(self) -> None:
        self.board.show_picture(self._bare())
        self._show_hand()

    # ------------------------------------------------------------------ what the hand does

    def draw(self, box: Sequence[float]) -> None:
        """A new instance in `box`, x1, y1, x2, y2 in pixels of the photograph; the brush comes next."""
        new = self._drawn.add(box)
        with self._hold():
            if self.tool.value == "box":
                self.tool.value = "brush"
        self._redrawn(new)

    def brush(self, points: Sequence[Sequence[float]], radius: float | None = None, erase: bool = False) -> None:
        """Brush the selected instance along `points`, (x, y) in pixels; the first stroke of all makes an instance."""
        if not len(self._drawn):
            self._drawn.add()
        chosen = self.instance.value or 0
        self._drawn.stroke(chosen, points, radius or self.radius.value, erase)
        self._redrawn(chosen)

    def fit(self) -> None:
        """Fit bases and attention to all that is brushed, and wait. ValueError where an instance has no pixel yet."""
        self._start_fit()
        self.beside.wait()

    def _start_fit(self) -> None:
        picture = self._drawn.picture(self._name)
        steps, masks = 200 + 100 * len(picture), "1 mask" if len(picture) == 1 else f"{len(picture)} masks"
        self.board.text = f"{self._name}: fitting bases and attention to {masks}, {steps} steps ..."
        device = self.device.value
        work = super()._guarded(lambda progress: fit_nested(picture, steps=steps, progress=progress, device=device))

        def done(source: Source) -> None:
            self._fitted = picture, dataclasses.replace(source.to("cpu"), note=NOTE)
            with self._hold():
                self.tool.value = ""
            self._show_hand()

        self.beside.start(work, self._guarded(done))

    def _removed(self) -> None:
        if self.instance.value is not None and len(self._drawn):
            self._drawn.remove(self.instance.value)
            self._redrawn(self.instance.value)

    def _undone(self) -> None:
        if self._drawn.changed:  # a second click may be on its way when the first takes back the last
            self._drawn.undo()
            self._redrawn(self.instance.value or 0)

    def _redrawn(self, chosen: int) -> None:
        self.beside.cancel()
        self._fitted = None
        self._show_hand(chosen)

    @property
    def _drawing(self) -> bool:
        return self._fitted is None or self.tool.value != ""

    # ------------------------------------------------------------------ what is shown

    def _show_hand(self, chosen: int | None = None) -> None:
        """What is drawn; or, with no tool in the hand, the blender on what was fitted to it."""
        self.board.tool = self.tool.value
        self.against = HandExplorer.against
        if not self._drawing:
            return self._show(*self._fitted)
        drawn, chosen = self._drawn, self.instance.value if chosen is None else chosen
        with self._hold():
            self._name_instances(drawn.labels(), chosen)
        chosen = self.instance.value or 0
        self.fit_button.disabled = not len(drawn) or not all(drawn.inside(i).any() for i in range(len(drawn)))
        self.remove.disabled, self.undo.disabled = not len(drawn), not drawn.changed
        self.board.boxes = [side for i in range(len(drawn)) for side in drawn.box(i) or (0.0, 0.0, 0.0, 0.0)]
        self.board.show_painted(drawn.masks[chosen] if len(drawn) else np.zeros(self._image.shape[:2], bool))
        self._blank(self._told(chosen), chosen)

    def _told(self, chosen: int) -> str:
        height, width = self._image.shape[:2]
        if not len(self._drawn):
            return f"{self._name}, {width} × {height} px: nothing is drawn yet. {HOW}"
        brushed, inside = self._drawn.masks[chosen].sum(), self._drawn.inside(chosen).sum()
        box = ", ".join(f"{side:.0f}" for side in self._drawn.box(chosen) or ())
        outside = f"; {brushed - inside} of them lie outside its box, and are left out" if brushed > inside else ""
        if self._fitted:
            then = "It is fitted: choose 'look' to see it."
        else:
            then = "Brush over the object of each box." if self.fit_button.disabled else "Now press 'fit'."
        return (
            f"{self._name}, {width} × {height} px, instance {chosen} of {len(self._drawn)}: box {box or 'none'}; "
            f"{brushed} pixels brushed{outside}. {then}"
        )

    def _show(self, picture: Picture, source: Source, keep: bool = False) -> None:
        """The blender's explorer on this; `keep` the selected instance and the boxes that were moved."""
        chosen, moved = (self.instance.value, self._boxes) if keep else (self.instance.value, {})
        self.picture, self._sources, self._source, self.trace = picture, {source.name: source}, None, None
        self._first = (source.name, 0, self._first[2])
        self._boxes, self._pin, self._provenance = moved, None, Provenance()
        with self._hold():
            self.source.options = [source.name]
            self._name_instances(picture.labels, chosen)
        self._lay_out(steps=True)
        self._source_changed()

    def _blank(self, text: str, selected: int = 0) -> None:
        """The board with the photograph and its boxes alone."""
        self.picture, self._source, self.trace = self._bare(), None, None
        self._lay_out(steps=False)
        with self.board.hold_sync():
            self.board.bases = {}
            self.board.show_steps([], selected, None)
            self.board.text, self.board.notes = text, self._words()
            self.board.timing = self.board.error = ""

    def _name_instances(self, labels: list[str], chosen: int | None) -> None:
        self.instance.options = [(f"{i} {label}", i) for i, label in enumerate(labels)]
        if labels:
            self.instance.value = min(chosen or 0, len(labels) - 1)

    def _lay_out(self, steps: bool) -> None:
        """What cannot be used now takes no room."""
        for row in self._step_rows:
            row.layout.display = None if steps else "none"

    def _words(self) -> list[str]:
        """Notes that stand before the blender's own."""
        return []

    # ------------------------------------------------------------------ BlenderExplorer's, while something is drawn

    def _source_changed(self) -> None:
        if not self._drawing:  # else the device alone has changed, and nothing is blended yet
            super()._source_changed()

    def _update(self, bases: bool = False) -> None:
        if self._drawing:
            self._show_hand()
        else:
            super()._update(bases)

    def _steps(self, **moved: int) -> dict | None:
        with self._turn:  # not while a fit that has ended is put in place
            return super()._steps(**moved)

    def _clicked(self, x: float, y: float) -> None:
        if not self._drawing:
            return super()._clicked(x, y)
        boxes = [self._drawn.box(i) for i in range(len(self._drawn))]
        hit = [i for i, box in enumerate(boxes) if box and box[0] <= x < box[2] and box[1] <= y < box[3]]
        if hit:
            self.instance.value = min(hit, key=lambda i: (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]))

    def _dragged(self, *box: float) -> None:
        if not self._drawing:
            return super()._dragged(*box)
        if len(self._drawn):
            self._drawn.move(self.instance.value, box)
            self._redrawn(self.instance.value)

    def _notes(self, trace: BlendTrace, dropped: bool) -> list[str]:
        return [*self._words(), *super()._notes(trace, dropped)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, {len(self._drawn)} drawn)"
