"""The explorer of a run in training: bases and masks as they come about, curves, stop and go on, and time to move in.

One letter legend: N boxes, K bases, M attention side, R output side, H x W map.
"""

import threading

import ipywidgets as widgets
import torch
from ipywidgets import Layout

from .. import views
from ..blender import Blender, BlendTrace
from ..blendmask.live import Live, classroom
from ..board import Board
from ..threads import one_thread
from .base import Explorer, Slider
from .curve import curve_svg, losses_end
from .device import device_menu, is_choice

SHOWN = ("regions", "attention", "scores", "logits", "probabilities")


class TrainingExplorer(Explorer):
    """A run that one can watch, stop, continue, and look back over.

    live       the run; absent, `classroom(**options)` with options such as K=4, M=7, R=28, seconds=60.
    device     where it trains, "cpu" or "cuda"; absent, where `live` is. Where there is a GPU a menu switches it, also
               while the run is under way, which then goes on there after the step in hand.

    `start()` begins or goes on in the background and returns at once; `stop()` ends after the step in hand; `wait()`
    returns when the run stops, and so does `await finished()`, during which the controls work. The kernel's stop button
    (Ctrl-C) ends the waiting and the run, without loss. The controls are
    attributes: `go` (start, stop, go on), `moment` (which look at the run is drawn: 0 is before any step; from a start
    on it follows the newest until it is moved back) and `instance`. `trace` is what is drawn, `live` the run itself.
    """

    def __init__(
        self,
        live: Live | None = None,
        *,
        instance: int = 0,
        device: str | torch.device | None = None,
        **options: object,
    ):
        super().__init__(Board(fixed=True, hint="Click an object in the photograph to watch its mask."))
        if live is not None and options:
            raise TypeError(f"{', '.join(options)}: options are for a run that is made here; `live` is one already")
        self.device = device_menu(device or (live.device if live is not None else "cpu"), layout=Layout(width="200px"))
        self.live = live if live is not None else classroom(**options, device=self.device.value)
        self.live.to(self.device.value)
        self._says = self.live.device  # what the menu does
        self.picture = self.live.pictures[0]
        if not 0 <= instance < len(self.picture):
            raise ValueError(f"instance must be from 0 to {len(self.picture) - 1}; got {instance}")
        self.trace: BlendTrace | None = None
        self._lock = threading.RLock()  # the run's thread draws, and so does the hand
        self._ends_at = 1  # where the page's slider of moments goes with End
        self._make_controls(instance)
        self.board.show_picture(self.picture)
        self.board.boxes = [float(side) for box in self.picture.boxes for side in box]
        self.board.on_click = self._guarded(self._clicked)
        self.live.tell = self._guarded(self._newer)
        self._listen(self.moment)
        self._listen(self.instance)
        switched = self._guarded(self._switched)  # not `_listen`: a choice made while the run's thread draws must count
        self.device.observe(lambda change: switched(), "value")
        self.go.on_click(self._guarded(lambda _: self.stop() if self.go.description == "stop" else self.start()))
        self._guarded(self._newer)()

    def _make_controls(self, instance: int) -> None:
        self.go = widgets.Button(description="start", layout=Layout(width="110px"), button_style="primary")
        self.progress = widgets.FloatProgress(0.0, min=0.0, max=1.0, layout=Layout(flex="1 1 200px"))
        self.told = widgets.Label("", layout=Layout(width="190px"))
        self.moment = Slider(
            0, 0, 1, description="moment", tooltip="which look at the run", layout=Layout(flex="1 1 260px")
        )
        labels = [(f"{i} {label}", i) for i, label in enumerate(self.picture.labels)]
        self.instance = widgets.Dropdown(
            options=labels, value=instance, description="instance", layout=Layout(width="230px")
        )
        self.curve = widgets.HTML(layout=Layout(max_width="700px"))
        row = Layout(flex_flow="row wrap", width="100%", max_width="1100px")
        first = widgets.HBox([self.go, self.progress, self.told], layout=row)
        second = widgets.HBox([self.moment, self.instance] + [self.device] * is_choice(self.device), layout=row)
        self.children = [first, second, self.board, self.curve]

    # ------------------------------------------------------------------ the run

    def start(self, seconds: float | None = None) -> None:
        """Train, or go on, for `seconds` or to the end of the budget (from there, as long again). Returns at once.

        The picture follows the run again, wherever `moment` was.
        """
        with self._lock, self._hold():
            self.moment.value = self.moment.max
        self.live.start(seconds)
        self._newer()

    def stop(self) -> None:
        """Stop after the step in hand."""
        self.live.stop()
        self._newer()

    def wait(self) -> None:
        """Return when the run has stopped; what went wrong in it is raised here."""
        self.live.wait()
        self._newer()

    async def finished(self) -> None:
        """As `wait`, to be awaited in a cell, which leaves the controls alive: see `Live.finished`."""
        await self.live.finished()
        self._newer()

    def _switched(self) -> None:
        """The menu names another device: a hand moved it, or `_newer` did, since the run is there."""
        if (wanted := torch.device(self.device.value)) == self._says:
            return
        self._says = wanted
        try:
            self.live.to(wanted)
        finally:
            self._newer()

    def _newer(self) -> None:
        """There is a newer look at the run, or it began, or it stopped."""
        with self._lock:
            follows = self.moment.value == self.moment.max or len(self.live.moments) <= 2
            with self._hold():
                self.moment.max = max(len(self.live.moments) - 1, 1)  # a slider needs two places
                if follows:
                    self.moment.value = len(self.live.moments) - 1
            if self._ends_at != self.moment.max and self.live.ended:
                self._renew_slider()  # before the button says that the run has ended: a hand may then take the slider
            if self.live.device != self._says:  # it could not move, or was moved in code
                self._says = self.live.device
                self.device.value = str(self._says)
            self._show_progress()
            self._update()
            if self.live.problem is not None:
                self.board.error = f"{type(self.live.problem).__name__}: {self.live.problem}"

    def _renew_slider(self) -> None:
        """In the page, End goes to the maximum that a slider was made with (a slip of noUiSlider, which ipywidgets
        draws with); when the orientation changes it is made anew. Not during a run: it would lose the focus."""
        self._ends_at = self.moment.max
        self.moment.orientation = "vertical"
        self.moment.orientation = "horizontal"

    def _show_progress(self) -> None:
        live, settings = self.live, self.live.trainer.settings
        self.progress.value = live.trainer.progress
        budget = f"of {settings.seconds:.0f} s" if settings.seconds else f"of {settings.steps} steps"
        spent = f"{live.trainer.progress * settings.seconds:.0f} " if settings.seconds else ""
        self.told.value = f"step {live.trainer.steps}, {spent}{budget}"
        more = "start" if not live.losses else "go on"
        self.go.description = more if live.ended else "stop"

    # ------------------------------------------------------------------ what is drawn

    def _clicked(self, x: float, y: float) -> None:
        """A click on the photograph chooses the instance that is there."""
        if (hit := self.picture.instance_at(x, y)) is not None:
            self.instance.value = hit

    @one_thread()
    @torch.no_grad()
    def _update(self) -> None:
        """Draw the chosen moment and instance."""
        with self._lock:
            at = min(self.moment.value, len(self.live.moments) - 1)
            moment, instance = self.live.moments[at], self.instance.value
            R = self.live.model.config.output_side
            blender = Blender(R, normalizer="product" if moment.bases.shape[1] == 1 else "softmax")
            box = torch.from_numpy(self.picture.boxes[[instance]])
            self.trace = blender(moment.bases, moment.attention[[instance]], box)
            limits = views.Limits.of(moment.bases, moment.attention)
            panels = [panel for panel in views.step_panels(self.trace, limits) if panel.name in SHOWN]
            with self.board.hold_sync():
                self.board.show_bases(views.base_panel(moment.bases, limits))
                self.board.show_steps(panels, instance, None)
                self.board.text = self._sentence(at)
                self.board.notes = [
                    f"Colours of this moment: bases reach ±{limits.base:.2f}, attention ±{limits.attention:.2f}."
                ]
                self.board.timing = f"on {self.live.device}" * is_choice(self.device)
                self.board.error = ""
            self.curve.value = curve_svg(self.live.losses, self.live.measured, moment.step)

    @property
    def text(self) -> str:
        return self.board.text

    def _sentence(self, at: int) -> str:
        moment, live, instance = self.live.moments[at], self.live, self.instance.value
        K, M = moment.attention.shape[1:3]
        _, _, H, W = moment.bases.shape
        mean = [iou for step, iou in live.measured if step <= moment.step][-1]
        loss = f"mask loss {losses_end(live.losses[: moment.step]):.2f}; " if moment.step else ""
        return (
            f"After {moment.step} steps: K={K} bases of {H}×{W}, {K}·{M}·{M} = {K * M * M} attention numbers an "
            f"instance; {loss}instance {instance} ({self.picture.labels[instance]}): IoU with the true mask "
            f"{moment.ious[instance]:.2f}; mean over {len(live.pictures)} held-out scenes {mean:.2f}."
        )

    def __repr__(self) -> str:
        return f"TrainingExplorer(step {self.live.trainer.steps}, moment {self.moment.value} of {self.moment.max})"
