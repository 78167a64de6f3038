"""The blender against the chain of library calls that does the same, and our roi_align against torchvision's."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align as library_roi_align

from blendlab import Blender, roi_align

K, R, M, H, W = 4, 56, 14, 94, 125  # the reference blender on a 500 x 375 photograph
ROUNDS, SECONDS = 7, 0.25


def measure() -> str:
    lines = [
        f"## The blender: K={K}, R={R}, M={M}, bases {H} x {W}, float32\n",
        "The chain is torchvision's `roi_align` (ratio 1, aligned), `interpolate`, `softmax`, product and sum. Medians"
        f" of {ROUNDS} rounds in which all take turns; in brackets the ratio to the chain, or to torchvision.\n",
        "| N | chain | `Blender`, ours | `.logits`, ours | `Blender`, torchvision | our roi_align | torchvision's |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(N) for N in (1, 8, 100, 500)]
    return "\n".join(lines) + "\n\n" + _compiled(100)


def chain(bases: torch.Tensor, attention: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The mask logits (N,R,R) by library calls."""
    regions = library_roi_align(bases, boxes, R, 0.25, 1, True)
    scores = F.interpolate(attention, size=(R, R), mode="bilinear", align_corners=False).softmax(1)
    return (regions * scores).sum(1)


def _inputs(N: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(N)
    bases, attention = torch.randn(1, K, H, W), torch.randn(N, K, M, M)
    centre, size = torch.rand(N, 2) * torch.tensor([4.0 * W, 4.0 * H]), 20 + 200 * torch.rand(N, 2)
    return bases, attention, torch.cat((torch.zeros(N, 1), centre - size / 2, centre + size / 2), 1)


@torch.no_grad()
def _compiled(N: int) -> str:
    """The same chain through torch.compile, which writes C++ for a CPU, beside our blocked path."""
    given, ours, compiled = _inputs(N), Blender(R, backend="torch"), torch.compile(chain)
    began = time.perf_counter()
    try:
        compiled(*given)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        return f"`torch.compile` could not compile the chain here: {str(error).splitlines()[0]}\n"
    waited = time.perf_counter() - began
    times = _take_turns(lambda: chain(*given), lambda: compiled(*given), lambda: ours.logits(*given))
    plain, fused, blocked = (f"{_shown(t)} ({t / times[0]:.2f})" for t in times)
    return (
        f"Without gradient, N={N}: the chain {plain}; under `torch.compile`, after {waited:.0f} s of compiling "
        f"for this one size, {fused}; our `.logits` {blocked}.\n"
    )


def _row(N: int) -> str:
    bases, attention, boxes = _inputs(N)
    ours, theirs = Blender(R, backend="torch"), Blender(R, backend="torchvision")
    assert torch.allclose(chain(bases, attention, boxes), ours.logits(bases, attention, boxes), atol=1e-3)
    times = _take_turns(
        lambda: chain(bases, attention, boxes),
        lambda: ours(bases, attention, boxes),
        lambda: ours.logits(bases, attention, boxes),
        lambda: theirs(bases, attention, boxes),
        lambda: roi_align(bases, boxes, R),
        lambda: library_roi_align(bases, boxes, R, 0.25, 1, True),
    )
    base = [times[0]] * 4 + [times[5]] * 2
    cells = [f"{_shown(t)} ({t / b:.2f})" for t, b in zip(times, base, strict=True)]
    return f"| {N} | " + " | ".join(cells) + " |"


def _take_turns(*contestants: Callable[[], object]) -> list[float]:
    """Median seconds a call of each, over rounds in which each runs for a while."""
    rounds: list[list[float]] = [[] for _ in contestants]
    for _ in range(ROUNDS):
        for run, found in zip(contestants, rounds, strict=True):
            run()
            single, end = [], time.perf_counter() + SECONDS
            while time.perf_counter() < end:
                began = time.perf_counter()
                run()
                single.append(time.perf_counter() - began)
            found.append(statistics.median(single))
    return [statistics.median(found) for found in rounds]


def _shown(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
