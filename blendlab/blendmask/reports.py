"""What a training run says while it runs: lines on the screen, the same as JSON lines in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from ..pictures.picture import Picture
from .average_precision import average_precision
from .trainer import Trainer


class Reports:
    """Losses and speed every `every` seconds, and mask and box AP on `pictures` every `evaluate_every` seconds.

    pictures: a few that are not trained on; with none, AP is not measured. Losses are running means.
    """

    def __init__(self, file: Path, every: float, evaluate_every: float, pictures: Sequence[Picture]):
        self.file, self.every, self.evaluate_every, self.pictures = file, every, evaluate_every, pictures
        self.means: dict[str, float] = {}
        self.said = self.evaluated = time.perf_counter()
        self.images = 0
        file.parent.mkdir(parents=True, exist_ok=True)

    def after_step(self, trainer: Trainer, found: dict[str, float]) -> None:
        """Take in the losses of one step, and report if it is time."""
        self.images += trainer.settings.batch * trainer.processes
        share = 0.05 if self.means else 1.0
        self.means = {name: (1 - share) * self.means.get(name, value) + share * value for name, value in found.items()}
        now = time.perf_counter()
        if now - self.said >= self.every:
            speed, self.images, self.said = self.images / (now - self.said), 0, now
            self._say(trainer, self.means | {"images_per_s": speed})
        if now - self.evaluated >= self.evaluate_every:
            self.evaluate(trainer)

    def evaluate(self, trainer: Trainer) -> None:
        """Measure and report AP; the seconds that it takes count in the budget, as everything does."""
        if len(self.pictures):
            self._say(trainer, average_precision(trainer.averaged, self.pictures))
        self.said = self.evaluated = time.perf_counter()
        self.images = 0

    def _say(self, trainer: Trainer, values: dict[str, float]) -> None:
        line = {"step": trainer.steps, "seconds": trainer.seconds, "cpu_seconds": trainer.cpu_seconds} | values
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps({name: float(f"{value:.6g}") for name, value in line.items()}) + "\n")
        told = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"{trainer.progress:6.1%}  step {trainer.steps}  {trainer.seconds:.0f} s  {told}", flush=True)
