"""The blender on a GPU: the chain of library calls, the chain compiled, our steps, and the fused kernel.

    python -m tests.bench.gpu [--quick] [--out FOLDER]

Writes gpu.md and gpu.json to docs, or to FOLDER, at the end; until then gpu.json.part holds what has been measured.
Takes about five minutes. Needs torch, torchvision and a CUDA device; nothing of Jupyter. What does not fit in the
device's memory is reported as such; what fails otherwise too, and the exit status is then 1.
--quick takes small sizes and a single round, to see that everything runs; it also runs on a CPU (with
TRITON_INTERPRET=1 the kernel too), and writes nothing unless FOLDER is given.

One letter legend: N boxes, K bases, M attention side, R output side, H x W map.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torchvision.ops import roi_align

from blendlab import Blender, fused
from blendlab.fused import fused_blend

from . import gpu_limits, gpu_report
from .gpu_clock import extra_memory, kernels, median_times

DOCS = Path(__file__).parents[2] / "docs"
SIZES = ({"K": 4, "R": 56, "M": 14}, {"K": 16, "R": 112, "M": 14})
NS = (1, 10, 100, 1000, 5000)
H, W = 200, 333  # an image of 800 x 1333 at stride 4
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Given = tuple[Tensor, Tensor, Tensor]


def chain(bases: Tensor, attention: Tensor, boxes: Tensor, R: int) -> Tensor:
    """What the blender is in library calls. torchvision's roi_align has no bfloat16 on CUDA: as under autocast, it is
    given float32 and its result goes back."""
    regions = roi_align(bases.float(), boxes, R, 0.25, 1, True).to(bases.dtype)
    scores = F.interpolate(attention, size=(R, R), mode="bilinear", align_corners=False).softmax(1)
    return (regions * scores).sum(1)


def contestants(R: int, device: torch.device) -> dict[str, Callable[..., Tensor]]:
    steps = Blender(R, backend="torch")
    named = {
        "chain": lambda *given: chain(*given, R),
        "chain, compiled": torch.compile(lambda *given: chain(*given, R)),
        "steps": steps.logits,
        "fused": lambda *given: fused_blend(*given, R),
    }
    if device.type == "cpu":
        del named["chain, compiled"]  # a minute of a C++ compiler, for a smoke test
        if not fused.interpreted():
            del named["fused"]
    return named


def make(N: int, K: int, M: int, dtype: torch.dtype, device: torch.device, seed: int) -> Given:
    """Bases and attention normal, and boxes of 20 to 220 px centred in the image, some of them across its border."""
    rng = torch.Generator().manual_seed(seed)
    centre = torch.rand(N, 2, generator=rng) * torch.tensor([4.0 * W, 4.0 * H])
    size = 20 + 200 * torch.rand(N, 2, generator=rng)
    boxes = torch.cat((torch.zeros(N, 1), centre - size / 2, centre + size / 2), 1)
    bases = torch.randn(1, K, H, W, generator=rng) * 3
    attention = torch.randn(N, K, M, M, generator=rng) * 2
    return bases.to(device, dtype), attention.to(device, dtype), boxes.to(device)


def sets_of(device: torch.device, **size) -> list[Given]:
    """Enough input sets to take turns that none is still in the cache when its turn comes, up to 16."""
    first = make(**size, device=device, seed=0)
    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 2**26) if device.type == "cuda" else 0
    count = min(16, 1 + 2 * cache // sum(tensor.nbytes for tensor in first))
    return [first, *(make(**size, device=device, seed=seed) for seed in range(1, max(count, 2)))]


def both_ways(run: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Forward, and backward to bases and attention from a gradient of ones, which is made once: it is an input."""
    ones: dict[torch.Size, Tensor] = {}

    def train(bases: Tensor, attention: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        bases, attention = bases.detach().requires_grad_(), attention.detach().requires_grad_()
        out = run(bases, attention, boxes)
        if out.shape not in ones:
            ones[out.shape] = torch.ones_like(out)
        return out.detach(), *torch.autograd.grad(out, (bases, attention), ones[out.shape])

    return train


def errors(run: Callable[..., Tensor], given: Given, R: int) -> dict[str, float]:
    """Norm of the difference over norm of float64's, of the logits and the gradients."""
    bases, attention, boxes = given
    exact = both_ways(Blender(R, backend="torch").logits)(bases.double(), attention.double(), boxes.double())
    names = ("logits", "bases", "attention")
    return {
        name: float((got.double() - want).norm() / want.norm())
        for name, got, want in zip(names, both_ways(run)(*given), exact, strict=True)
    }


def all_errors(device: torch.device, sizes: tuple[dict, ...], N: int) -> Iterator[dict]:
    """One dict for each size and dtype: the kernel against float64."""
    for size in sizes:
        for name, dtype in DTYPES.items():
            if run := contestants(size["R"], device).get("fused"):
                given = make(N, size["K"], size["M"], dtype, device, 7)
                yield {"dtype": name, **size, **tried(errors, run, given, size["R"])}


def rows(device: torch.device, sizes: tuple[dict, ...], counts: tuple[int, ...], rounds: int) -> Iterator[dict]:
    """One dict for each who, N, size, dtype and direction."""
    for size in sizes:
        for name, dtype in DTYPES.items():
            torch._dynamo.reset()
            who = contestants(size["R"], device)
            for N in counts:
                given = sets_of(device, N=N, K=size["K"], M=size["M"], dtype=dtype)
                for direction in ("forward", "forward + backward"):
                    for contestant, run in who.items():
                        call = run if direction == "forward" else both_ways(run)
                        row = {"who": contestant, "N": N, "dtype": name, "direction": direction, **size}
                        with torch.set_grad_enabled(direction != "forward"):
                            row |= tried(measured, call, given, device, rounds)
                        print(gpu_report.line(row), flush=True)
                        yield row


def tried(measure: Callable[..., dict], *given: object) -> dict:
    """What it returns, or why it could not: one size that does not fit must not cost the figures of all others."""
    try:
        return measure(*given)
    except torch.cuda.OutOfMemoryError:
        problem = {"out_of_memory": True}
    except Exception as error:
        problem = {
            "failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}"
        }
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # only here: inside `except` the frames of what failed still hold their tensors
    return problem


def measured(call: Callable, given: list[Given], device: torch.device, rounds: int) -> dict:
    device_us, host_us = median_times(call, given, device, rounds)
    return {
        "device_us": device_us,
        "host_us": host_us,
        "extra_bytes": extra_memory(call, given[0], device),
        "kernels": kernels(call, given[0], device),
    }


def surroundings(device: torch.device) -> dict:
    try:
        import triton

        triton_version = triton.__version__
    except ImportError:
        triton_version = "none"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "triton": triton_version}
    return {"device": name, "python": platform.python_version(), **versions, "date": str(date.today())}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does everything run?")
    parser.add_argument("--out", type=Path, help="the folder to write gpu.md and gpu.json to; absent, docs")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.quick:
        sys.exit("no CUDA device: torch sees none here, so there is nothing to measure. --quick runs on a CPU")
    sizes = ({"K": 2, "R": 4, "M": 3},) if options.quick else SIZES
    counts, rounds = ((2,), 1) if options.quick else (NS, 30)
    found = surroundings(device) | {"quick": options.quick, "map": [H, W]}
    found["limits"] = gpu_limits.measure(device)
    folder = options.out or (None if options.quick else DOCS)
    found["errors"] = list(all_errors(device, sizes, 2 if options.quick else 100))
    found["rows"] = []
    for row in rows(device, sizes, counts, rounds):
        found["rows"].append(row)
        if folder:
            write(folder / "gpu.json.part", as_json(found))
    gpu_limits.add(found)
    text = gpu_report.report(found)
    print(text)
    if folder:
        write(folder / "gpu.md", text)
        write(folder / "gpu.json.part", as_json(found))
        os.replace(folder / "gpu.json.part", folder / "gpu.json")
        print(f"written: {folder / 'gpu.md'} and gpu.json beside it")
    if failed := [row for row in found["errors"] + found["rows"] if "failed" in row]:
        sys.exit(f"{len(failed)} measurements failed, the first: {failed[0]}")


def as_json(found: dict) -> str:
    return json.dumps(found, indent=1) + "\n"


def write(path: Path, text: str) -> None:
    """All of it or nothing, whenever the process is stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    os.replace(beside, path)


if __name__ == "__main__":
    main(sys.argv[1:])
