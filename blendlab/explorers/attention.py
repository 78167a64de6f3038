"""Whose attention: one instance's box read with its own attention, another's or the mean; bases muted; image coloured.

One letter legend: N boxes, K bases, M attention side, R output side.
"""

from __future__ import annotations

from dataclasses import replace

import ipywidgets as widgets
import torch
from ipywidgets import Layout

from .. import check, strongest, views
from ..blender import Blender, BlendTrace
from ..board import Board
from ..paste import mask_iou, paste_masks
from ..pictures import Picture
from ..sources import Source, trained_source
from ..threads import one_thread
from .base import Explorer, Slider

R = 56
SILENT = -1e4  # an attention number so low that softmax gives its basis no weight; minus infinity would become NaN
COLOURINGS = ("photograph", "heaviest weight", "deciding product")
HINT = "Click an instance, or use the arrow keys, to take its box."


class AttentionExplorer(Explorer):
    """One instance's crop of the bases, blended with an attention that may be another's, some bases silenced.

    picture    with at least one instance.
    source     its Source; absent, the trained one.
    instance   whose box; K bases at the start.

    Controls as attributes: K, instance, whose ("own", an instance's number, or "mean"), colour, mute (one toggle a
    basis). `trace` holds all steps, `iou` the mask's IoU with the instance's own truth, `ious` with every instance's.
    """

    def __init__(self, picture: Picture, source: Source | None = None, *, instance: int = 0, K: int = 4):
        super().__init__(Board(fixed=True, hint=HINT))
        if not isinstance(picture, Picture) or not len(picture):
            raise ValueError(f"picture must be a Picture with at least one instance; got {check.got(picture)}")
        if not 0 <= check.whole("instance", instance) < len(picture):
            raise ValueError(f"instance must be from 0 to {len(picture) - 1}; got {instance}")
        self.picture, self.source = picture, source or trained_source(picture)
        self._limits = views.Limits.of(self.source.bases, self.source.attention)
        self._make_controls(instance, check.side("K", K))
        self.trace: BlendTrace | None = None
        self.board.on_click = self._guarded(self._clicked)
        self.board.on_step = self._guarded(self._next)
        self.board.boxes = self.source.boxes.flatten().tolist()
        self.board.show_picture(picture)
        self.board.show_bases(views.base_panel(self.source.bases, self._limits))
        self._guarded(self._update)()

    def _make_controls(self, instance: int, K: int) -> None:
        named = [(f"{i} {label}", i) for i, label in enumerate(self.picture.labels)]
        style, narrow = {"description_width": "100px"}, Layout(width="260px")

        def choice(description: str, options) -> widgets.Dropdown:
            return widgets.Dropdown(options=options, description=description, style=style, layout=narrow)

        low, high = self.source.K_range
        self.K = Slider(
            min(max(K, low), high), low, high, description="K", tooltip="how many bases", layout=Layout(width="260px")
        )
        self.instance = choice("box of", named)
        self.instance.value = instance
        self.whose = choice("attention of", [("its own", "own"), *named, ("mean of all", "mean")])
        self.colour = choice("colour by", COLOURINGS)
        self.mute = [
            widgets.ToggleButton(
                False, description=f"mute {k}", tooltip=f"no weight for basis {k}", layout=Layout(width="76px")
            )
            for k in range(high)
        ]
        row = Layout(flex_flow="row wrap", width="100%", max_width="1500px")
        self.children = [
            widgets.HBox([self.K, self.instance, self.whose, self.colour], layout=row),
            widgets.HBox(self.mute, layout=row),
            self.board,
        ]
        for control in (self.K, self.instance, self.whose, self.colour, *self.mute):
            self._listen(control)

    def _clicked(self, x: float, y: float) -> None:
        """A click on the photograph chooses the instance that is there."""
        if (hit := self.picture.instance_at(x, y)) is not None:
            self.instance.value = hit

    def _next(self, dx: int, dy: int) -> None:
        self.instance.value = (self.instance.value + dx + dy) % len(self.picture)

    @property
    def muted(self) -> list[int]:
        """The bases of the first K that are silenced."""
        return [k for k in range(self.K.value) if self.mute[k].value]

    # ------------------------------------------------------------------ the one update

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        K, instance, whose = self.K.value, self.instance.value, self.whose.value
        for k, button in enumerate(self.mute):
            button.disabled = k >= K
        inputs = self.source.inputs(K, self.source.M_range[1])
        if whose == "mean":
            attention = inputs.attention.mean(0, keepdim=True)
        else:
            attention = inputs.attention[[instance if whose == "own" else whose]]
        attention = attention.clone()
        attention[:, self.muted] = SILENT
        normalizer = self.source.K1_normalizer if K == 1 else "softmax"
        blender = Blender(R, inputs.spatial_scale, normalizer=normalizer)
        self.trace = trace = blender(inputs.bases, attention, inputs.boxes[[instance]])
        box = self.source.boxes[instance]
        self.ious = [mask_iou(trace.probabilities[0], box.tolist(), mask) for mask in self.picture.masks]
        self.iou = self.ious[instance]
        panels = [panel for panel in views.step_panels(trace, self._limits) if panel.name != "upsampled"]
        with self.board.hold_sync():
            self._show(panels, instance, box)
            self.board.text = self._sentence()
            self.board.notes = self._notes()
            self.board.error = ""

    def _show(self, panels: list[views.Panel], instance: int, box: torch.Tensor) -> None:
        """The photograph with the mask over it, or coloured by basis, with a panel that is no mask to lay over it."""
        if self.colour.value == "photograph":
            image = self.picture.image
        else:
            panels[-1] = replace(panels[-1], name="mask")
            weights = self.colour.value == "heaviest weight"
            index = (strongest.heaviest if weights else strongest.deciding)(self.trace)[0]
            pasted = paste_masks(self.trace.probabilities, box[None], self.picture.size)[0] >= 0.5
            image = strongest.paint(self.picture.image, index, box, None if weights else pasted.numpy())
        self.board.show_picture(replace(self.picture, image=image))
        self.board.show_steps(panels, instance, None)

    # ------------------------------------------------------------------ words

    def _sentence(self) -> str:
        instance, whose = self.instance.value, self.whose.value
        of = {"own": "its own attention", "mean": "the mean attention of all"}.get(whose)
        of = of or f"the attention of instance {whose} ({self.picture.labels[whose]})"
        other = max((i for i in range(len(self.ious)) if i != instance), key=lambda i: self.ious[i], default=None)
        like = ""
        if other is not None:
            like = f", {self.ious[other]:.2f} with instance {other} ({self.picture.labels[other]})"
        muted = f", muted {', '.join(map(str, self.muted))}" if self.muted else ""
        return (
            f"{self.picture.name}, box of instance {instance} ({self.picture.labels[instance]}) with {of}, "
            f"K={self.K.value}{muted}: IoU {self.iou:.2f} with its true mask{like}."
        )

    def _notes(self) -> list[str]:
        K, notes = self.K.value, []
        if K == 1:
            notes.append("K=1: the paper's form σ(a′) · σ(r), in which one basis listens to its attention.")
        if len(self.muted) == K > 1:
            notes.append("All are muted, but softmax must share out a whole: every basis has the weight 1/K.")
        if self.colour.value != "photograph":
            weights = self.colour.value == "heaviest weight"
            index = (strongest.heaviest if weights else strongest.deciding)(self.trace)
            share = strongest.shares(index, K, None if weights else self.trace.logits >= 0)
            parts = [f"basis {k} {strongest.NAMES[k % 8]} {100 * share[k]:.0f} %" for k in range(K)]
            what = "Weighs most, of the box" if weights else "Decides, of the mask"
            notes.append(f"{what}: {', '.join(parts)}.")
        return notes

    @property
    def text(self) -> str:
        return self.board.text

    def __repr__(self) -> str:
        return f"AttentionExplorer({self.picture.name!r}, instance={self.instance.value}, K={self.K.value})"
