"""One training step after another: batch, losses, AdamW, averaged weights; and all of its state in one file.

Nothing is drawn from a global random state: sample numbers, nested sizes and subsets follow from seed, step and rank,
so a resumed run goes on with the same numbers as one that never stopped.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .config import Config, check_types
from .data import Source, batch
from .losses import losses
from .model import BlendMask
from .targets import Truth

LIMITS = (  # of a number in Settings: its name, the least and the greatest
    *((name, 0, math.inf) for name in ("steps", "seconds", "cpu_seconds", "rate", "backbone_rate", "attention_rate")),
    *((name, 1, math.inf) for name in ("batch", "warmup", "mask_limit")),
    *((name, 0, math.inf) for name in ("decay", "clip", "random", "seed")),
    *((name, 0, 1) for name in ("falling", "average")),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train. Lengths are budgets: whichever is used up first ends the run; at least one must be given.

    steps; seconds of wall clock; cpu_seconds of this process, all threads together.
    rate: AdamW's. backbone_rate: the backbone's share of it (less where it is pretrained). warmup: steps from 0.
    falling: the last share of the budget, over which the rate falls to 0.
    average: decay of the averaged weights, those that are evaluated and shipped.
    clip: the largest norm of the gradient. mask_limit: positives that the mask loss looks at.
    full, random: in each step masks are blended at the config's own K and M (where `full`) and at `random` random ones,
        K out of `draw_bases`; R is always drawn out of `sides`.
    attention_rate: the attention layer's share of the rate.
    autocast: "" or "bfloat16" (for a GPU; on CPUs without AMX it is slower).
    count, overlap, mixture: of composed scenes, see `pictures.scenes.scene_arrays`.
    """

    steps: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    batch: int = 8
    rate: float = 2e-3
    backbone_rate: float = 0.2
    decay: float = 0.01
    warmup: int = 50
    falling: float = 0.25
    average: float = 0.998
    clip: float = 5.0
    mask_limit: int = 128
    full: bool = True
    draw_bases: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    attention_rate: float = 1.0
    random: int = 1
    sides: tuple[int, ...] = (14, 28, 56)
    autocast: str = ""
    count: tuple[int, int] = (3, 7)
    overlap: float = 0.5
    mixture: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        if all(budget is None for budget in (self.steps, self.seconds, self.cpu_seconds)):
            raise ValueError("no budget: give at least one of steps, seconds, cpu_seconds")
        for name, low, high in LIMITS:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; expected {low} to {high}")
        for name in ("draw_bases", "sides"):
            values = getattr(self, name)
            if not values or not all(isinstance(value, int) and value >= 1 for value in values):
                raise ValueError(f"{name} is {values!r}; expected whole numbers of at least 1, and at least one")
        if not self.full and self.random == 0:
            raise ValueError("full is False and random 0: no mask would be blended; expected one of them")
        if self.autocast not in ("", "bfloat16"):
            raise ValueError(f"autocast is {self.autocast!r}; expected '' or 'bfloat16'")

    @classmethod
    def from_dict(cls, values: dict) -> Settings:
        """The inverse of `dataclasses.asdict`, after a file has turned tuples into lists. A name that this version does
        not know is a ValueError."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            raise ValueError(f"settings are {values!r:.200}; this version of blendlab knows {sorted(known)}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


# (model, output, truths, sizes, limit, generator) -> losses by name, as `losses.losses`; what is minimised is their sum
Objective = Callable[..., dict[str, Tensor]]


class Losses(nn.Module):
    """Network and losses in one forward pass, which is what DistributedDataParallel must wrap."""

    def __init__(self, model: BlendMask, settings: Settings, objective: Objective):
        super().__init__()
        self.model, self.settings, self.objective = model, settings, objective

    def forward(
        self, images: Tensor, truths: list[Truth], sizes: list, generator: torch.Generator
    ) -> dict[str, Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.autocast == "bfloat16"):
            output = self.model(images)
        return self.objective(self.model, output, truths, sizes, self.settings.mask_limit, generator)


class Trainer:
    """A model in training: `step()` makes one step and returns its losses.

    averaged: the model to look at, with weights averaged over the last steps. progress: the share of the budget that is
    used up; the run is over at 1. objective: what is minimised, all of BlendMask's losses unless another is given.
    """

    def __init__(self, model: BlendMask, source: Source, settings: Settings, objective: Objective = losses):
        if tuple(source.categories) != tuple(model.config.categories):
            raise ValueError(f"data has categories {source.categories}; the model has {model.config.categories}")
        if model.config.nested and min(settings.draw_bases) > model.config.bases:
            raise ValueError(f"draw_bases is {settings.draw_bases}; the model has {model.config.bases} bases")
        self.model, self.source, self.settings = model, source, settings
        self.averaged = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimiser = self._make_optimiser()
        self.losses: nn.Module = Losses(model, settings, objective)
        self.rank, self.processes = 0, 1
        if dist.is_available() and dist.is_initialized():
            self.rank, self.processes = dist.get_rank(), dist.get_world_size()
            self.losses = DistributedDataParallel(self.losses)
        self.steps = 0
        self.set_clock(0.0, 0.0)

    def _make_optimiser(self) -> torch.optim.AdamW:
        settings = self.settings
        backbone = list(self.model.backbone.parameters())
        attention = list(self.model.attention.parameters())
        names = {id(p) for p in backbone + attention}
        rest = [p for p in self.model.parameters() if id(p) not in names]
        groups = [
            {"params": backbone, "share": settings.backbone_rate},
            {"params": attention, "share": settings.attention_rate},
            {"params": rest, "share": 1.0},
        ]
        return torch.optim.AdamW(groups, settings.rate, weight_decay=settings.decay)

    def to(self, device: str | torch.device) -> None:
        """Go on elsewhere: model, averaged weights and what the optimiser remembers move, or, where that fails, stay.
        Not for a distributed run, whose processes have a device each."""
        before = self.model.mean.device
        try:
            self._move(device)
        except Exception:  # no memory there, say
            self._move(before)
            raise

    def _move(self, device: str | torch.device) -> None:
        self.model.to(device)
        self.averaged.to(device)
        # Anew, since between some devices a parameter moves by becoming another one. What the optimiser remembers is
        # loaded to where its parameters lie.
        optimiser = self._make_optimiser()
        optimiser.load_state_dict(self.optimiser.state_dict())
        self.optimiser = optimiser

    def set_clock(self, seconds: float, cpu_seconds: float) -> None:
        """Go on counting from here: after a pause, or where another process stopped."""
        self._seconds, self._cpu_seconds = seconds, cpu_seconds
        self._started, self._cpu_started = time.perf_counter(), time.process_time()
        self.progress = self._share_spent()

    @property
    def seconds(self) -> float:
        """Wall clock spent, over all resumed parts of the run."""
        return self._seconds + time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process, all threads, over all resumed parts of the run."""
        return self._cpu_seconds + time.process_time() - self._cpu_started

    def _share_spent(self) -> float:
        """The share of the budget that is used up, 0 to 1. In a distributed run all processes must ask together."""
        spent = (self.steps, self.seconds, self.cpu_seconds)
        budgets = (self.settings.steps, self.settings.seconds, self.settings.cpu_seconds)
        share = max(s / max(b, 1e-9) for s, b in zip(spent, budgets, strict=True) if b is not None)
        if self.processes > 1:  # clocks differ; all processes must stop at one step
            shared = torch.tensor(share, dtype=torch.float64, device=self.model.mean.device)
            dist.broadcast(shared, 0)
            share = float(shared)
        return min(share, 1.0)

    def step(self) -> dict[str, float]:
        """One step of the optimiser; returns the losses by name, and the rate."""
        settings = self.settings
        generator = torch.Generator().manual_seed((settings.seed * 1_000_003 + self.steps) * 4096 + self.rank)
        first = (self.steps * self.processes + self.rank) * settings.batch
        images, truths = batch(self.model, [self.source.sample(first + i) for i in range(settings.batch)])
        rate = self._set_rate()
        self.model.train()
        found = self.losses(images, truths, self._sizes(generator), generator)
        total = sum(found.values())
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        if not torch.isfinite(norm):
            values = {name: float(value.detach()) for name, value in found.items()}
            raise FloatingPointError(f"step {self.steps}: the gradient is not finite; losses {values}, rate {rate:g}")
        self.optimiser.step()
        self.steps += 1
        self._average()
        self.progress = self._share_spent()
        return {name: float(value.detach()) for name, value in found.items()} | {"rate": rate}

    def _set_rate(self) -> float:
        left = (1 - self.progress) / self.settings.falling if self.settings.falling else 1.0
        rate = self.settings.rate * min(1.0, left, (self.steps + 1) / self.settings.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        return rate

    def _sizes(self, generator: torch.Generator) -> list[tuple[int, int, int]]:
        """The (K, M, R) of this step: the config's own, and random ones where the model is nested."""
        config: Config = self.model.config
        own = (config.bases, config.attention_side, config.output_side)
        if not config.nested:
            return [own]

        def draw(choices: tuple[int, ...] | range) -> int:
            return choices[int(torch.randint(len(choices), (), generator=generator))]

        settings_bases = [k for k in self.settings.draw_bases if k <= config.bases]
        M = [m for m in (1, 2, 4, 7, 14) if m <= config.attention_side]
        sizes = [(draw(settings_bases), draw(M), draw(self.settings.sides)) for _ in range(self.settings.random)]
        return [(*own[:2], draw(self.settings.sides)), *sizes] if self.settings.full else sizes

    @torch.no_grad()
    def _average(self) -> None:
        """Averaged weights follow quickly at first, when there is little to average."""
        decay = min(self.settings.average, (1 + self.steps) / (10 + self.steps))
        for mean, now in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    def state(self) -> dict:
        """Everything that a resumed run needs, as tensors and plain values."""
        return {
            "config": self.model.config.to_dict(),
            "settings": dataclasses.asdict(self.settings),
            "source": type(self.source).__name__,
            "steps": self.steps,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: dict) -> None:
        """Go on from `state`; ValueError where it is of another model, or of a run that read another kind of data."""
        if Config.from_dict(state["config"]) != self.model.config:
            raise ValueError("the checkpoint's config differs from the model's")
        read, reads = state.get("source"), type(self.source).__name__
        if read not in (None, reads):  # None: of a version that did not say
            raise ValueError(f"the checkpoint's run read {read}, this one would read {reads}: give the same data")
        try:
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.steps = state["steps"]
            self.set_clock(state["seconds"], state["cpu_seconds"])
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the checkpoint does not fit this model and optimiser: {error}") from error
