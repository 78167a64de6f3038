"""From image to masks: what FCOS says on every level, and what threshold and NMS leave of it.

One letter legend: K bases, M attention side, R output side, L locations of all levels in one row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import Layout
from torch import Tensor

from .. import views
from ..board import Board, pack_steps
from ..pictures import Picture
from ..pictures.picture import COLOURS
from ..sources import shipped_model
from ..steps import roi_align
from ..threads import one_thread
from .base import Explorer, Share
from .decided import Decided, R
from .device import device_menu, is_choice, model_on

if TYPE_CHECKING:
    from ..blendmask import BlendMask
    from ..blendmask.postprocess import Proposals
    from ..blendmask.predict import Detections

SHOWN = ("1 candidates", "2 after NMS", "3 masks", "true objects")
HINT = "Click in a box, or use the arrow keys, to choose it."


class DetectorExplorer(Explorer):
    """The detector's stages on a picture: score maps of each level, candidates, NMS, masks.

    picture    a Picture; its true objects are what the detections are compared with.
    model      a BlendMask; absent, the shipped one.
    threshold  on the score, the root of class times centerness.
    nms        of two boxes of one class with a larger IoU the weaker goes.
    device     where the network looks, "cpu" or "cuda"; where there is a GPU a menu switches it.

    Controls as attributes: threshold, nms, show (one of SHOWN), chosen (which box of those shown). `candidates` and
    `kept` are what the two decisions leave (Proposals); `detections` what is blended of `kept`. They lie on the device.
    """

    def __init__(
        self,
        picture: Picture,
        model: BlendMask | None = None,
        *,
        threshold: float = 0.3,
        nms: float = 0.6,
        device: str | torch.device = "cpu",
    ):
        self.picture, self.model = picture, model or shipped_model()
        config = self.model.config
        super().__init__(Board(fixed=True, rows=[f"P{3 + i}" for i in range(config.levels)], hint=HINT))
        self._make_controls(threshold, nms, device)
        self.board.on_click = self._guarded(self._clicked)
        self.board.on_step = self._guarded(lambda dx, dy: self._choose(self.chosen.value + dx + dy))
        self._guarded(self._look)()

    def _look(self) -> None:
        """Run the network once, on the device; the controls then choose among what it said."""
        from ..blendmask.predict import stages  # here: what does without a network starts without its code

        self.model = model_on(self.model, self.device.value)
        self._stages = stages(self.model, self.picture.image)
        self._maps = self._level_maps()
        self._decide()

    def _level_maps(self) -> dict[str, Tensor]:
        """(levels,h,w) of the image without its padding, on the host: each cell of P4, P5 as a square of P3's."""
        dense, wide_high = self._stages.output.dense, self._stages.resized.size
        columns, rows = (math.ceil(length / 8) for length in wide_high)
        classes, centerness = dense.classes[0].sigmoid().amax(1).cpu(), dense.centerness[0].sigmoid().cpu()
        maps: dict[str, list[Tensor]] = {"class": [], "centerness": [], "score": []}
        start = 0
        for tower in dense.towers:
            height, width = tower.shape[-2:]
            here = slice(start, start + height * width)
            times = dense.towers[0].shape[-1] // width
            for name, values in (
                ("class", classes),
                ("centerness", centerness),
                ("score", (classes * centerness).sqrt()),
            ):
                square = values[here].view(height, width).repeat_interleave(times, 0).repeat_interleave(times, 1)
                maps[name].append(square[:rows, :columns])
            start += height * width
        return {name: torch.stack(levels) for name, levels in maps.items()}

    # ------------------------------------------------------------------ controls

    def _make_controls(self, threshold: float, nms: float, device: str | torch.device) -> None:
        def slider(value: float, description: str, tip: str) -> Share:
            style, wide = {"description_width": "90px"}, Layout(width="auto", flex="1 1 260px")
            return Share(value, description=description, tooltip=tip, style=style, layout=wide)

        self.threshold = slider(threshold, "threshold", "scores at or below it are not candidates")
        self.nms = slider(nms, "NMS at IoU", "of two boxes of one class that overlap by more, the weaker goes")
        self.show = widgets.Dropdown(options=SHOWN, value=SHOWN[1], description="show", layout=Layout(width="232px"))
        self.chosen = widgets.BoundedIntText(0, 0, 0, description="chosen", layout=Layout(width="160px"))
        self.device = device_menu(device, layout=Layout(width="200px"))
        controls = [self.threshold, self.nms, self.show, self.chosen]
        row = widgets.HBox(controls, layout=Layout(flex_flow="row wrap", width="100%", max_width="1500px"))
        row.children += (self.device,) * is_choice(self.device)
        self.children = [row, self.board]
        for control in (self.threshold, self.nms):
            self._listen(control, self._decide)
        for control in (self.show, self.chosen):
            self._listen(control)
        self._listen(self.device, self._look)
        self._foresee("threshold", "nms")

    def _choose(self, index: int) -> None:
        if len(self._drawn):
            self.chosen.value = index % len(self._drawn)

    def _clicked(self, x: float, y: float) -> None:
        if not len(self._drawn):
            return
        boxes = self._drawn
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
        distance = (centre - torch.tensor([x, y])).norm(dim=1)
        self.chosen.value = int((distance + 1e6 * ~inside).argmin())

    # ------------------------------------------------------------------ the one update

    @one_thread()
    @torch.no_grad()
    def _decide(self) -> None:
        self._decided = self._decided_by(self.threshold.value, self.nms.value)
        self._update()

    def _decided_by(self, threshold: float, nms: float) -> Decided:
        return Decided(self.model, self._stages, self.picture, threshold, nms)

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        """What is shown of the decisions."""
        decided = self._decided
        self._drawn, proposals = self._boxes(decided)
        with self._hold():
            self.chosen.max = max(len(self._drawn) - 1, 0)
            self.chosen.disabled = not len(self._drawn)
        steps = self._packed(decided, self._drawn, proposals)
        with self.board.hold_sync():
            self.board.show_picture(self._tinted() if self.show.value == SHOWN[2] else self.picture)
            self.board.boxes = self._drawn.flatten().tolist()
            self.board.show_packed(steps)
            self.board.error = ""
        # the picture is on its way; what takes all masks to say follows
        with self.board.hold_sync():
            self.board.text = self._sentence()
            self.board.notes = self._notes(proposals, min(self.chosen.value, len(self._drawn) - 1))
            self.board.timing = f"on {self.device.value}" * is_choice(self.device)

    @one_thread()
    @torch.no_grad()
    def _steps(self, **moved: float) -> dict | None:
        if self.show.value == SHOWN[2]:
            return None  # the photograph's colours would change too
        decided = self._decided_by(**{"threshold": self.threshold.value, "nms": self.nms.value} | moved)
        return self._packed(decided, *self._boxes(decided))

    def _packed(self, decided: Decided, drawn: Tensor, proposals: Proposals | None) -> dict:
        chosen = min(self.chosen.value, len(drawn) - 1)  # -1 where nothing is left
        probabilities = torch.zeros(1, R, R)
        if chosen >= 0 and proposals is None:
            truth = torch.from_numpy(self.picture.masks[[chosen]])[None].float()  # (1,1,H,W)
            probabilities = roi_align(truth, drawn[[chosen]], R, spatial_scale=1.0)[0]  # (1,R,R)
        elif chosen >= 0:
            one = decided.blended(proposals[chosen : chosen + 1])
            probabilities = one.trace.probabilities.cpu() if len(one) else probabilities  # none: beside the image
        panels = [*self._panels(decided.threshold), self._mask(probabilities)]
        return pack_steps(panels, chosen, None, boxes=drawn.flatten().tolist())

    def _boxes(self, decided: Decided) -> tuple[Tensor, Proposals | None]:
        """The boxes to draw, in image pixels, best first, and the proposals that they are (None for true objects)."""
        if self.show.value == SHOWN[3]:
            return torch.from_numpy(self.picture.boxes), None
        top = decided.top
        proposals = top[top.scores.argsort(descending=True)] if self.show.value == SHOWN[0] else decided.kept
        scale = torch.tensor(self._stages.resized.size * 2) / torch.tensor(self._stages.picture.size * 2)
        return proposals.boxes.cpu() / scale, proposals

    def _panels(self, threshold: float) -> list[views.Panel]:
        levels, rows, columns = self._maps["score"].shape
        size = f"{rows} × {columns} places of the image; a cell of P4 covers 2 × 2 of them, of P5 4 × 4"
        score = self._maps["score"]
        passed = torch.where(score > threshold, score, 0)
        return [
            views.Panel(name, values, "magnitude", 0.0, 1.0, title, equation, size, space="image")
            for name, values, title, equation in (
                ("class", self._maps["class"], "best class", "max σ(class)"),
                ("centerness", self._maps["centerness"], "centerness", "σ(ctr)"),
                ("score", score, "score", "sqrt(class · ctr)"),
                ("passed", passed, "candidates", "score > threshold"),
            )
        ]

    def _mask(self, probabilities: Tensor) -> views.Panel:
        true = self.show.value == SHOWN[3]
        equation, told = ("of the truth", "true mask") if true else ("p = σ(m)", "mask probabilities")
        return views.Panel(
            "probabilities" if self.show.value != SHOWN[2] else "mask", probabilities, "magnitude", 0.0, 1.0, "mask",
            equation, f"{told} of the chosen box, {R} × {R}", large=True,
        )  # fmt: skip

    def _tinted(self) -> Picture:
        """The image with every detection's mask in a colour of its own; where masks overlap, the best's."""
        image = self.picture.image.copy()
        tint = np.zeros_like(image)
        masks = self.detections.masks.cpu().numpy()  # (d,H,W)
        for i in reversed(range(len(masks))):
            tint[masks[i]] = COLOURS[i % len(COLOURS)]
        covered = masks.any(0)
        image[covered] = 0.4 * image[covered] + 0.6 * tint[covered]
        return Picture.from_masks(image, name=self.picture.name)

    # ------------------------------------------------------------------ words

    @property
    def candidates(self) -> Proposals:
        return self._decided.candidates

    @property
    def kept(self) -> Proposals:
        return self._decided.kept

    @property
    def detections(self) -> Detections:
        return self._decided.detections

    @property
    def found(self) -> list[int]:
        """The true objects that have a detection of their class with a mask IoU of at least 0.5."""
        return self._decided.found

    def _sentence(self) -> str:
        after = len(self._decided.after)
        config, locations = self.model.config, len(self._stages.output.dense.points)
        levels = ", ".join(f"P{3 + i} {n}" for i, n in enumerate(self.candidates.per_level(config.levels)))
        best = f", the best {len(self.kept)} stay" if after > len(self.kept) else ""
        return (
            f"{self.picture.name}: {locations} locations × {len(config.categories)} classes; {len(self.candidates)} "
            f"candidates above {self.threshold.value:.2f} ({levels}); {after} after NMS at "
            f"{self.nms.value:.2f}{best}; {len(self.found)} of {len(self.picture)} objects found."
        )

    def _notes(self, shown: Proposals | None, chosen: int) -> list[str]:
        if chosen < 0:
            why = "the picture has no true objects" if shown is None else "no score is above the threshold"
            return [f"Nothing is left to show: {why}."]
        if shown is None:
            fate = "found by a detection" if chosen in self.found else "not found by any detection"
            return [f"Chosen, true object {chosen}: {self.picture.labels[chosen]}, {fate}."]
        x, y = self._stages.output.dense.points[shown.location[chosen]].tolist()
        name = self.model.config.categories[int(shown.labels[chosen])]
        box = ", ".join(f"{side:.0f}" for side in self._drawn[chosen].tolist())
        top = len(self._decided.top)
        most = f"NMS is given the best {self.model.config.top_k} of each level: {top} boxes are drawn."
        return [most] * (top < len(self.candidates) and self.show.value == SHOWN[0]) + [
            f"Chosen, {chosen} of those shown: {name}, score {float(shown.scores[chosen]):.2f}, spoken by "
            f"P{3 + int(shown.level[chosen])} at {x:.0f}, {y:.0f} of the network's image; box {box}."
        ]

    @property
    def text(self) -> str:
        return self.board.text

    def __repr__(self) -> str:
        return (
            f"DetectorExplorer({self.picture.name!r}, threshold={self.threshold.value:.2f}, nms={self.nms.value:.2f})"
        )
