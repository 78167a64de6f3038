"""A training run to watch: it runs in a thread of its own, stops at a word, goes on, and keeps what it said on the way.

A thread, since a notebook's kernel runs one cell at a time: the cell that starts the run ends at once, and buttons,
sliders and other cells work beside it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..pictures.picture import Picture
from ..pictures.scenes import CATEGORIES, scene
from .config import Config
from .data import Scenes
from .losses import mask_alone
from .measure import listen, mask_ious
from .model import BlendMask
from .trainer import Settings, Trainer

SCENES = {"count": (2, 4), "side": (36.0, 80.0)}  # fewer and larger objects than those of the long runs
HELD_OUT = (15, *range(11))  # scenes whose IoU is followed; the first is watched


@dataclasses.dataclass(frozen=True, eq=False)
class Moment:
    """What the model said about the watched picture after `step` steps and `seconds` of training.

    bases (1,K,H,W); attention (n,K,M,M), a row for each of the picture's n instances, from the location that speaks for
    it; ious (n,): the masks that they blend in the true boxes against the true masks.
    """

    step: int
    seconds: float
    bases: Tensor
    attention: Tensor
    ious: Tensor


class Live:
    """A run of `trainer` that can be watched.

    pictures: the first is watched, every `every` seconds; the mean IoU with true boxes of all of them is measured every
    `measure_every` seconds.
    losses: the mask loss of every step. moments: what was seen, the first before any step. measured: (step, mean IoU).
    tell: called after each look and when the run stops, in the thread of the run.
    device: where it trains; `to` moves it. What is kept of the run lies on the host.
    """

    _busy: weakref.ReferenceType[Live] | None = None  # two at once would share the processor

    def __init__(self, trainer: Trainer, pictures: Sequence[Picture], every: float = 1.0, measure_every: float = 5.0):
        if not len(pictures) or not len(pictures[0]):
            raise ValueError("pictures is empty, or its first holds no instance; expected one to watch")
        self.trainer, self.pictures, self.every, self.measure_every = trainer, list(pictures), every, measure_every
        self.losses: list[float] = []
        self.moments: list[Moment] = []
        self.measured: list[tuple[int, float]] = []
        self.tell: Callable[[], None] = lambda: None
        self.problem: Exception | None = None
        self.ended = True  # set before the last `tell` of a run, which may come from its thread
        self.device = self._lies_on = trainer.model.mean.device
        self._clock, self._period = (0.0, 0.0), trainer.settings.seconds or 60.0
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._look()
        self._measure()

    @property
    def model(self) -> BlendMask:
        """The model to look at: the run's averaged weights."""
        return self.trainer.averaged

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether the run has been told to stop, or has ended by itself and draws its last look."""
        return self._stop.is_set() or self.over

    @property
    def over(self) -> bool:
        """Whether the budget is used up."""
        return self.trainer.progress >= 1

    def start(self, seconds: float | None = None) -> None:
        """Train, or go on, and return at once. seconds: this much longer than until now, whatever the budget was; a run
        whose budget is used up goes on for as long again. A run in progress is left alone; another one stops first.
        """
        with self._lock:
            if self.running:
                if not self.stopping:
                    return
                self._thread.join()  # it was told to stop, and draws its last look
            other = Live._busy and Live._busy()
            if other is not None and other is not self:
                other.stop()
            Live._busy = weakref.ref(self)
            if seconds is None and self.over:
                seconds = self._period
            if seconds is not None:
                budget = dataclasses.replace(self.trainer.settings, steps=None, seconds=self._clock[0] + seconds)
                self.trainer.settings = budget
            self.problem, self.ended = None, False
            self._stop.clear()
            self._thread = threading.Thread(target=self._train, name="training", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop after the step in hand. Nothing is lost: `start` goes on from there."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def to(self, device: str | torch.device) -> None:
        """Go on elsewhere, and lose nothing: a run in progress from its next step on, one that stands still at once."""
        with self._lock:
            self.device = torch.device(device)
            if not self.running:
                self._move()

    def _move(self) -> None:
        if (device := self.device) == self._lies_on:
            return
        try:
            self.trainer.to(device)
        except Exception:  # there is no room there, say: the run can go on where it is
            self.device = self._lies_on
            raise
        self._lies_on = device

    def wait(self) -> None:
        """Return when the run stops or its budget is used up. The kernel's stop button (Ctrl-C) stops the run as `stop`
        does, and this call returns. What went wrong in the run is raised here."""
        try:
            while self.running:
                self._thread.join(0.1)
        except KeyboardInterrupt:
            self.stop()
        if self.problem is not None:
            raise self.problem

    async def finished(self) -> None:
        """As `wait`, to be awaited in a cell: until then the kernel hears the page, so buttons and sliders work. (Older
        kernels than ipykernel 7.4 hear them when the cell has ended.)"""
        try:
            while self.running:
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:  # a kernel's Ctrl-C in a cell that awaits
            self.stop()
        self.wait()

    def _train(self) -> None:
        try:
            self.trainer.set_clock(*self._clock)
            looked = measured = time.perf_counter()
            while not self._stop.is_set() and not self.over:
                self._move()
                self.losses.append(self.trainer.step()["mask"])
                if time.perf_counter() - measured >= self.measure_every:
                    self._measure()
                    measured = time.perf_counter()
                if time.perf_counter() - looked >= self.every:
                    looked = time.perf_counter()
                    self._look()
                    self.tell()
            self._clock = (self.trainer.seconds, self.trainer.cpu_seconds)
            self._look()
            self._measure()
        except Exception as problem:  # a thread has nobody to raise it to: `wait` does
            self._clock = (self.trainer.seconds, self.trainer.cpu_seconds)
            self.problem = problem
        finally:
            Live._busy, self.ended = None, True
        self.tell()

    def _look(self) -> None:
        config = self.model.config
        spoken = listen(self.model, self.pictures[0])
        ious = mask_ious(spoken, spoken.attention, config.bases, config.attention_side, config.output_side)
        seconds = self.trainer.seconds if self.losses else 0.0
        # out of inference mode, so that whoever looks may also ask for gradients
        self.moments.append(Moment(self.trainer.steps, seconds, spoken.bases.clone(), spoken.attention.clone(), ious))

    def _measure(self) -> None:
        config, ious = self.model.config, []
        for picture in self.pictures:
            spoken = listen(self.model, picture)
            ious.append(mask_ious(spoken, spoken.attention, config.bases, config.attention_side, config.output_side))
        self.measured.append((self.trainer.steps, float(torch.cat(ious).mean())))


def classroom(
    K: int = 4,
    M: int = 7,
    R: int = 28,
    seconds: float | None = 60,
    steps: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **changes: object,
) -> Live:
    """A run for a lesson: from noise to masks in about a minute on two cores.

    A backbone that has seen ImageNet, but no mask, and stays as it is; all else starts as noise: pyramid, towers,
    attention, bases, dedicated to one K, M and R. Scenes of 2 to 4 large sprites, 128 x 128. The mask loss alone: its
    boxes are the true ones, and no detector is needed until one has to find boxes.
    seconds, steps: the budget; the first that is used up ends the run. device: where it trains; all draws are made on
    the CPU, the same everywhere. changes: fields of `Config`, such as
    basis_inputs=("c2",), or backbone="scratch", which starts as noise as well and learns more slowly.
    """
    sizes = {"bases": K, "attention_side": M, "output_side": R}
    config = Config(CATEGORIES, **({"nested": False} | sizes | changes))
    torch.manual_seed(seed)
    model = BlendMask(config)
    if config.backbone == "lite0":
        model.backbone.load_imagenet()
        model.backbone.requires_grad_(False)
    model = model.to(device, memory_format=torch.channels_last)  # on a CPU, a step takes half as long in this layout
    settings = Settings(steps, seconds, backbone_rate=1.0, warmup=20, falling=0.4, average=0.99, seed=seed)
    source = Scenes(seed * 10_000_019, config.short_side, config.long_side, **SCENES)
    pictures = [scene(i, "held_out", config.short_side, **SCENES) for i in HELD_OUT]
    return Live(Trainer(model, source, settings, mask_alone), pictures)
