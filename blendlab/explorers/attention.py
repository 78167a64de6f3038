"""Whose attention: one instance's box read with its own attention, another's or the mean; bases muted; image coloured.

One letter legend: N boxes, K bases, M attention side, R output side.
"""

from __future__ import annotations

from dataclasses import replace

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import Layout

from .. import check, strongest, views
from ..blender import Blender, BlenderInputs, BlendTrace
from ..board import Board, pack_steps
from ..paste import iou, paste_masks
from ..pictures import Picture
from ..sources import Source, trained_source
from ..threads import one_thread
from .base import Explorer, Slider
from .device import device_menu, home, is_choice

R = 56
SILENT = -1e4  # an attention number so low that softmax gives its basis no weight; minus infinity would become NaN
COLOURINGS = ("photograph", "heaviest weight", "deciding product")
HINT = "Click an instance, or use the arrow keys, to take its box."


class AttentionExplorer(Explorer):
    """One instance's crop of the bases, blended with an attention that may be another's, some bases silenced.

    picture    with at least one instance.
    source     its Source; absent, the trained one.
    instance   whose box; K bases at the start.
    device     where to blend, "cpu" or "cuda"; where there is a GPU a menu switches it. The bases stay there.

    Controls as attributes: K, instance, whose ("own", an instance's number, or "mean"), colour, mute (one toggle a
    basis). `trace` holds all steps, `iou` the mask's IoU with the instance's own truth, `ious` with every instance's.
    """

    def __init__(
        self,
        picture: Picture,
        source: Source | None = None,
        *,
        instance: int = 0,
        K: int = 4,
        device: str | torch.device = "cpu",
    ):
        super().__init__(Board(fixed=True, hint=HINT))
        if not isinstance(picture, Picture) or not len(picture):
            raise ValueError(f"picture must be a Picture with at least one instance; got {check.got(picture)}")
        if not 0 <= check.whole("instance", instance) < len(picture):
            raise ValueError(f"instance must be from 0 to {len(picture) - 1}; got {instance}")
        self.picture, self.source = picture, source or trained_source(picture)
        self._limits = views.Limits.of(self.source.bases, self.source.attention)
        self._make_controls(instance, check.side("K", K), device)
        self.trace: BlendTrace | None = None
        self.board.on_click = self._guarded(self._clicked)
        self.board.on_step = self._guarded(self._next)
        self.board.boxes = self.source.boxes.flatten().tolist()
        self.board.show_picture(picture)
        self.board.show_bases(views.base_panel(self.source.bases, self._limits))
        self._guarded(self._switched)()

    def _make_controls(self, instance: int, K: int, device: str | torch.device) -> None:
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
        self.device = device_menu(device, style=style, layout=narrow)
        self.mute = [
            widgets.ToggleButton(
                False, description=f"mute {k}", tooltip=f"no weight for basis {k}", layout=Layout(width="76px")
            )
            for k in range(high)
        ]
        row = Layout(flex_flow="row wrap", width="100%", max_width="1500px")
        menus = [self.instance, self.whose, self.colour] + [self.device] * is_choice(self.device)
        self.children = [
            widgets.HBox([self.K, *menus], layout=row),
            widgets.HBox(self.mute, layout=row),
            self.board,
        ]
        for control in (self.K, self.instance, self.whose, self.colour, *self.mute):
            self._listen(control)
        self._listen(self.device, self._switched)
        self._foresee("K")

    def _clicked(self, x: float, y: float) -> None:
        """A click on the photograph chooses the instance that is there."""
        if (hit := self.picture.instance_at(x, y)) is not None:
            self.instance.value = hit

    def _next(self, dx: int, dy: int) -> None:
        self.instance.value = (self.instance.value + dx + dy) % len(self.picture)

    @property
    def muted(self) -> list[int]:
        """The bases of the first K that are silenced."""
        return self._muted(self.K.value)

    def _muted(self, K: int) -> list[int]:
        return [k for k in range(K) if self.mute[k].value]

    # ------------------------------------------------------------------ the one update

    def _switched(self) -> None:
        self._there = self.source.to(self.device.value)  # once; a step then sends nothing there
        self._update()

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        K, instance = self.K.value, self.instance.value
        for k, button in enumerate(self.mute):
            button.disabled = k >= K
        self.trace = trace = self._blended(K)
        box = self.source.boxes[instance]
        mask = (paste_masks(trace.probabilities, box[None], self.picture.size)[0] >= 0.5).numpy()
        with self.board.hold_sync():
            self._show_photograph(mask, box)
            self.board.show_packed(self._packed(trace))
            self.board.error = ""
        # the picture is on its way; what takes time to count, and to say, follows
        self.ious = [iou(mask, truth) for truth in self.picture.masks]
        self.iou = self.ious[instance]
        with self.board.hold_sync():
            self.board.text = self._sentence()
            self.board.notes = self._notes()
            self.board.timing = f"on {self.device.value}" * is_choice(self.device)

    @one_thread()
    @torch.no_grad()
    def _steps(self, K: int) -> dict | None:
        if self.colour.value != COLOURINGS[0]:
            return None  # the photograph's colours would change too
        return self._packed(self._blended(K))

    def _blended(self, K: int) -> BlendTrace:
        """The chosen box with everything but K as the controls have it, the trace on the host."""
        blender = Blender(R, self.source.spatial_scale, normalizer=self.source.K1_normalizer if K == 1 else "softmax")
        there = self._inputs(self._there, K)
        trace = blender(there.bases, there.attention, there.boxes)
        return trace if self.device.value == "cpu" else home(trace, self._inputs(self.source, K))

    def _inputs(self, source: Source, K: int) -> BlenderInputs:
        instance, whose = self.instance.value, self.whose.value
        inputs = source.inputs(K, source.M_range[1])
        if whose == "mean":
            attention = inputs.attention.mean(0, keepdim=True)
        else:
            attention = inputs.attention[[instance if whose == "own" else whose]]
        attention = attention.clone()
        attention[:, self._muted(K)] = SILENT
        return BlenderInputs(inputs.bases, attention, source.boxes[[instance]], source.spatial_scale)

    def _packed(self, trace: BlendTrace) -> dict:
        panels = [panel for panel in views.step_panels(trace, self._limits) if panel.name != "upsampled"]
        if self.colour.value != COLOURINGS[0]:
            panels[-1] = replace(panels[-1], name="mask")  # that is not laid over the photograph: it is coloured
        return pack_steps(panels, self.instance.value, None)

    def _show_photograph(self, mask: np.ndarray, box: torch.Tensor) -> None:
        """As it is, or coloured by basis."""
        if self.colour.value == COLOURINGS[0]:
            return self.board.show_picture(self.picture)
        weights = self.colour.value == "heaviest weight"
        index = (strongest.heaviest if weights else strongest.deciding)(self.trace)[0]
        image = strongest.paint(self.picture.image, index, box, None if weights else mask)
        self.board.show_picture(Picture.from_masks(image, name=self.picture.name))

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
