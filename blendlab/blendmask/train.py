"""Train a BlendMask: `python -m blendlab.blendmask.train runs/mine --minutes 20`.

On composed scenes, or with `--coco annotations.json images/` on a folder in COCO's format. Uses one GPU where there is
one, and several with `torchrun --nproc-per-node N -m blendlab.blendmask.train ...`. The folder gets `last.pt` (all of
the state, rewritten while it runs; `--resume` goes on from it), `log.jsonl` (one line a report) and at the end
`weights.safetensors`. Ctrl-C stops after the step in hand, and saves.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from ..pictures.coco import CocoPictures, read_coco
from ..pictures.picture import Picture
from ..pictures.scenes import CATEGORIES
from .checkpoint import config_of, load_state, save_state, save_weights
from .config import Config
from .data import Folder, Scenes, Source
from .evaluate import SceneList
from .model import BlendMask
from .narrow import narrow
from .pretrained import named_or_file
from .reports import Reports
from .trainer import Settings, Trainer


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    for name, least in (("pictures", 0), ("threads", 1), ("report_every", 0), ("evaluate_every", 0), ("save_every", 0)):
        if (value := getattr(options, name)) is not None and not value >= least:  # true for NaN
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    device = _join_processes()
    if options.threads:
        torch.set_num_threads(options.threads)
    folder = Path(options.folder)
    try:
        trainer, reports = _start(options, device)
        if trainer.rank == 0:
            with alone_in(folder):
                run(trainer, folder, reports, options.save_every)
        else:
            run(trainer, folder, None)
    except (ValueError, ImportError, OSError, FloatingPointError) as error:
        parser.exit(2, f"train: {error}\n")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def run(trainer: Trainer, folder: Path, reports: Reports | None, save_every: float = 30.0) -> bool:
    """Train until the budget is used up (True) or a signal comes (False). Rank 0 alone has `reports`, and saves."""
    saved = time.perf_counter()
    with StopSignal() as stop:
        while not (over := trainer.progress >= 1) and not stop.came(trainer):
            found = trainer.step()
            if reports is not None:
                reports.after_step(trainer, found)
                if time.perf_counter() - saved >= save_every:
                    save_state(trainer.state(), folder / "last.pt")
                    saved = time.perf_counter()
        if reports is not None:
            save_state(trainer.state(), folder / "last.pt")
            if over:
                save_weights(trainer.averaged, folder / "weights.safetensors")
                reports.evaluate(trainer)
            print(f"{'finished' if over else 'stopped; --resume goes on'}: {folder / 'last.pt'}", flush=True)
    return over


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within it the folder's log is locked; ValueError where another run has it: two would overwrite each other's
    files. However a process ends, the system lets go of its lock."""
    with open(folder / "log.jsonl", "a") as file:
        with contextlib.suppress(ImportError, OSError):  # Windows and some clusters' disks have no such locks
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{folder}: another run is at work there") from error
        yield


class StopSignal:
    """Within it, Ctrl-C and a polite kill are noted instead of obeyed at once, so that the step in hand ends."""

    def __enter__(self) -> StopSignal:
        self.asked = False
        self.before = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for one, handler in self.before.items():
            signal.signal(one, handler)

    def _note(self, *_: object) -> None:
        self.asked = True

    def came(self, trainer: Trainer) -> bool:
        """Whether a signal came to any process of the run: all must stop at one step."""
        if trainer.processes == 1:
            return self.asked
        asked = torch.tensor(float(self.asked), device=trainer.model.mean.device)
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)


def _start(options: argparse.Namespace, device: torch.device) -> tuple[Trainer, Reports]:
    """The trainer, new or resumed, and its reports; ValueError or ImportError for what cannot be done."""
    folder = Path(options.folder)
    last = folder / "last.pt"
    if last.exists() and not options.resume:
        raise ValueError(f"{last} exists: --resume to go on from it, or name another folder")
    state = load_state(last) if options.resume else None
    if options.check and not options.coco:
        raise ValueError("--check: only with --coco; without it the AP of held-out scenes is reported")
    if state is not None and (options.model or options.start):
        raise ValueError("--model, --from: a resumed run keeps its network")
    settings = _settings(options, state)
    begun = named_or_file(options.start) if options.start else None
    pictures = read_coco(*options.coco) if options.coco else None
    config = _config(options, begun, pictures) if state is None else config_of(state["config"], last)
    source, held_out = _data(options, pictures, settings, config)
    torch.manual_seed(settings.seed)
    model = BlendMask(config)
    if begun is not None:
        _begin(model, begun)
    elif state is None and config.backbone == "lite0":
        model.backbone.load_imagenet()
    model = model.to(device, memory_format=torch.channels_last)  # on a CPU, a step takes half as long in this layout
    trainer = Trainer(model, source, settings)
    if state is not None:
        trainer.load_state(state)
    return trainer, Reports(folder / "log.jsonl", options.report_every, options.evaluate_every, held_out)


def _config(options: argparse.Namespace, begun: BlendMask | None, pictures: CocoPictures | None) -> Config:
    """Of a new run: the defaults or the config of the model it starts from, then the data, then the command line."""
    kept = {"categories": CATEGORIES} if begun is None else vars(begun.config)
    data = {} if pictures is None else {"categories": tuple(pictures.categories)}
    return Config(**(kept | data | _values("--model", options.model, Config)))


def _begin(model: BlendMask, begun: BlendMask) -> None:
    """Give `model` the weights of `begun`, cut to fewer bases and cells where it asks for them. What `begun` knows of
    classes is left out where they are others."""
    config = model.config
    if begun.config.nested and not config.nested:
        begun = narrow(begun, config.bases, config.attention_side, config.output_side)
    weights = begun.state_dict()
    if config.categories != begun.config.categories:
        weights |= {name: tensor for name, tensor in model.state_dict().items() if name.startswith("fcos.classes.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"--from: the file's network is not the one asked for: {error}") from error


def _settings(options: argparse.Namespace, state: dict | None) -> Settings:
    """From the command line, else as before in a resumed run, else the defaults. A new budget replaces the old."""
    asked = _values("--set", options.set, Settings)
    budget = {"steps": options.steps, "seconds": options.minutes, "cpu_seconds": options.cpu_minutes}
    budget = {name: value if name == "steps" else 60 * value for name, value in budget.items() if value is not None}
    kept = {} if state is None else dataclasses.asdict(Settings.from_dict(state["settings"]))
    if budget:
        kept |= dict.fromkeys(("steps", "seconds", "cpu_seconds"))
    return Settings(**(kept | asked | budget))


def _values(option: str, given: list[str], of: type) -> dict[str, object]:
    """NAME=VALUE pairs as fields of the dataclass `of`: numbers, strings, tuples written (1, 2)."""
    known = {field.name for field in dataclasses.fields(of)}
    values = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or name not in known:
            raise ValueError(f"{option} got {pair!r}; expected NAME=VALUE with a name of {sorted(known)}")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def _data(
    options: argparse.Namespace, pictures: CocoPictures | None, settings: Settings, config: Config
) -> tuple[Source, Sequence[Picture]]:
    """What to train on, and the pictures whose AP is reported on the way."""
    if pictures is not None:
        held_out = read_coco(*options.check, config.categories) if options.check else []
        return Folder(pictures, settings.seed, config.short_side, config.long_side), held_out
    sides = (config.short_side, config.long_side)
    kind = {"count": settings.count, "overlap": settings.overlap, "mixture": settings.mixture}
    return Scenes(settings.seed * 10_000_019, *sides, **kind), SceneList("held_out", options.pictures)


def _join_processes() -> torch.device:
    """Join the run that torchrun started, if it did; returns the device of this process."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m blendlab.blendmask.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", help="where the run lives")
    add("--minutes", type=float, help="budget in minutes of wall clock")
    add("--cpu-minutes", type=float, help="budget in minutes of processor time, all threads together")
    add("--steps", type=int, help="budget in steps; the first budget that is used up ends the run")
    add(
        "--resume",
        action="store_true",
        help="go on from the folder's last.pt; a budget given anew replaces the old one",
    )
    add(
        "--from",
        dest="start",
        metavar="MODEL",
        help="a new run from the weights of this checkpoint, safetensors file, or model that ships (nested, K4M7); a "
        "nested model may be cut to one K and M: --model nested=False bases=4 attention_side=7",
    )
    add("--coco", nargs=2, metavar=("ANNOTATIONS", "IMAGES"), help="train on a folder in COCO's format")
    add("--check", nargs=2, metavar=("ANNOTATIONS", "IMAGES"), help="with --coco: the folder whose AP is reported")
    add("--pictures", type=int, default=60, help="held-out scenes whose AP is reported (default 60)")
    add(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="fields of Config, such as backbone=scratch nested=False",
    )
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="fields of Settings, such as rate=1e-3 batch=16",
    )
    add("--threads", type=int, help="processor threads (default: all)")
    add("--report-every", type=float, default=10, help="seconds between reports of losses (default 10)")
    add("--evaluate-every", type=float, default=300, help="seconds between reports of AP (default 300)")
    add("--save-every", type=float, default=30, help="seconds between checkpoints (default 30)")
    return parser


if __name__ == "__main__":
    main()
