"""BlendMask against its peers at equal processor time, one after the other:    python -m tests.bench.peers

Same backbone, same pyramid, same scenes, same optimiser. Each contestant trains for `--core-minutes` of processor time
(40: twenty minutes on two idle cores), in a folder of its own. Stop it at any time (Ctrl-C): the same command goes on
where it stopped. Once all have finished, docs/peers.md and docs/peers.json are written.
"""

import argparse
import dataclasses
import json
import math
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import torch

from blendlab.blendmask import BlendMask, pretrained
from blendlab.blendmask.average_precision import average_precision
from blendlab.blendmask.checkpoint import load_state
from blendlab.blendmask.data import Scenes
from blendlab.blendmask.evaluate import SceneList
from blendlab.blendmask.losses import losses
from blendlab.blendmask.reports import Reports
from blendlab.blendmask.train import run
from blendlab.blendmask.trainer import Settings, Trainer

from .machine import machine
from .peer_models import PEERS

DOCS = Path(__file__).parents[2] / "docs"
# For all: scenes at their own size, and bases from one map, so that no change of the shipped model changes the contest
ALIKE = {"short_side": 128, "long_side": 512, "sizes_of_interest": (32, 64), "basis_inputs": ("c3",)}
DEDICATED = {"bases": 4, "attention_side": 7, "output_side": 28, "nested": False}

CONTESTANTS = {
    "dedicated": (lambda config: BlendMask(dataclasses.replace(config, **DEDICATED)), losses),
    "nested": (BlendMask, losses),
    **PEERS,
}
# (contestant, K, M, R that it is read at, words of the table)
ROWS = (
    ("dedicated", None, "BlendMask, dedicated to K=4, M=7, R=28"),
    ("nested", (4, 7, 28), "BlendMask, nested, read at K=4, M=7, R=28"),
    ("nested", (8, 14, 56), "the same, read at K=8, M=14, R=56"),
    ("yolact", None, "our detector, YOLACT's coefficients (K=32, ReLU prototypes, crop)"),
    ("mask_head", None, "our detector, Mask R-CNN's mask head (RoIAlign 14, 4 convolutions, 28 × 28)"),
    ("mask_rcnn", None, "torchvision's Mask R-CNN on our backbone and pyramid"),
)


def contestant(name: str, core_minutes: float, folder: Path) -> Trainer:
    """The contestant as it stands: new, or as its last checkpoint left it, with the budget as asked now."""
    make, objective = CONTESTANTS[name]
    torch.manual_seed(0)
    model = make(dataclasses.replace(pretrained().config, **ALIKE))
    model.backbone.load_imagenet()
    model = model.to(memory_format=torch.channels_last)
    settings = Settings(cpu_seconds=60 * core_minutes, backbone_rate=0.3)
    source = Scenes(0, model.config.short_side, model.config.long_side, count=settings.count, overlap=settings.overlap)
    trainer = Trainer(model, source, settings, objective)
    if (folder / "last.pt").exists():
        trainer.load_state(load_state(folder / "last.pt"))
    return trainer


def figures(rows: list[tuple], trained: dict[str, Trainer], scenes: int) -> list[dict]:
    """Box and mask AP on held-out scenes, ms an image, parameters: a dict a row."""
    found = []
    for name, sizes, words in rows:
        print(f"{words}: {scenes} scenes ...", flush=True)
        trainer = trained[name]
        ap = average_precision(trainer.averaged, SceneList("held_out", scenes), *(sizes or (None,) * 3))
        parameters = sum(p.numel() for p in trainer.averaged.parameters())
        found.append({"name": words, **ap, "parameters": parameters, "steps": trainer.steps})
    times = milliseconds([(trained[name].averaged, sizes) for name, sizes, _ in rows])
    return [row | {"ms_per_image": ms} for row, ms in zip(found, times, strict=True)]


def milliseconds(models: list[tuple], images: int = 40) -> list[float]:
    """Median ms from image to masks, one image at a time, the models taking turns."""
    pictures = [picture.image for picture in SceneList("held_out", images)]
    spent: list[list[float]] = [[] for _ in models]
    for turn, image in enumerate([*pictures[:3], *pictures]):  # the first three warm up
        for (model, sizes), mine in zip(models, spent, strict=True):
            K, M, R = sizes or (None, None, model.config.output_side)
            began = time.perf_counter()
            model.predict(image, 0.3, K, M, R)
            if turn >= 3:
                mine.append(1000 * (time.perf_counter() - began))
    return [statistics.median(mine) for mine in spent]


def report(rows: list[dict], scenes: int, core_minutes: float) -> str:
    """The table in Markdown."""
    lines = [
        "# BlendMask and its peers at equal time",
        "",
        f"Made by `make bench-peers`. Machine: {machine()}.",
        "",
        f"Each was trained for {core_minutes:g} minutes of processor time (on two idle cores half as many pass), on "
        f"composed scenes of 128 × 128, with the same backbone (ImageNet weights), pyramid, optimiser and seed. AP is "
        f"COCO's, in percent, on {scenes} held-out scenes; ms is the median from image to masks on "
        f"{torch.get_num_threads()} threads, all taking turns. One seed: differences of a point or two say nothing.",
        "",
        "| model | box AP | mask AP | ms an image | parameters | steps |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ap = " | ".join("–" if math.isnan(row[kind]) else f"{100 * row[kind]:.1f}" for kind in ("box_ap", "mask_ap"))
        lines.append(
            f"| {row['name']} | {ap} | {row['ms_per_image']:.1f} | {row['parameters'] / 1e6:.2f} M | {row['steps']} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(CONTESTANTS)} (default: all)")
    parser.add_argument("--core-minutes", type=float, default=40, help="processor time for each (default 40)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default 2)")
    parser.add_argument("--scenes", type=int, default=500, help="held-out scenes for AP (default 500)")
    parser.add_argument("--folder", type=Path, default=Path("runs/peers"), help="where the runs live")
    options = parser.parse_args(arguments)
    names = options.names or list(CONTESTANTS)
    if unknown := [name for name in names if name not in CONTESTANTS]:
        parser.error(f"contestants are {', '.join(CONTESTANTS)}; got {', '.join(unknown)}")
    torch.set_num_threads(options.threads)
    trained = {}
    for name in names:
        folder = options.folder / name
        trainer = trained[name] = contestant(name, options.core_minutes, folder)
        print(f"{name}: {trainer.steps} steps so far", flush=True)
        if trainer.progress < 1 and not run(trainer, folder, Reports(folder / "log.jsonl", 30, math.inf, [])):
            sys.exit("stopped: the same command goes on from here")
    rows = figures([row for row in ROWS if row[0] in names], trained, options.scenes)
    table = report(rows, options.scenes, options.core_minutes)
    print(table)
    if names == list(CONTESTANTS):
        DOCS.mkdir(exist_ok=True)
        (DOCS / "peers.md").write_text(table)
        (DOCS / "peers.json").write_text(json.dumps({"date": str(date.today()), "machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main()
