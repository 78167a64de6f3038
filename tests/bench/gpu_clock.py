"""How a call is measured: time by the device's own events, memory by torch's allocator, kernels by its profiler."""

import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

WARM, ENOUGH, LEAST = 0.5, 1.0, 5  # seconds to warm up, seconds to measure, and rounds that are made in any case
AHEAD = 4_000_000  # clock cycles, some 2 ms: the device waits that long, so that the host has queued the whole call


def median_times(call: Callable, given: list[tuple], device: torch.device, rounds: int) -> tuple[float, float]:
    """(device, host) microseconds of a call: from its first kernel's start to its last one's end; and what the host
    takes to queue it. Inputs take turns. The first calls, in which kernels are compiled, do not count; of calls that
    take long there are fewer."""
    began = time.perf_counter()
    for i in range(min(rounds, len(given))):
        call(*given[i])
        _wait(device)
        if time.perf_counter() - began > WARM and i > 0:
            break
    events, hosts = [], []
    began = time.perf_counter()
    for i in range(rounds):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(AHEAD)
            start.record()
            hosts.append(_wall(call, given[i % len(given)]))
            end.record()
            torch.cuda.synchronize()
            events.append(1000 * start.elapsed_time(end))
        else:
            hosts.append(_wall(call, given[i % len(given)]))
        if time.perf_counter() - began > ENOUGH and i >= LEAST - 1:
            break
    return statistics.median(events or hosts), statistics.median(hosts)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _wall(call: Callable, inputs: tuple) -> float:
    began = time.perf_counter()
    call(*inputs)
    return 1e6 * (time.perf_counter() - began)


def extra_memory(call: Callable, inputs: tuple, device: torch.device) -> int | None:
    """Peak bytes of a call beyond its inputs and what it returns."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call(*inputs)
    torch.cuda.synchronize()
    returned = result if isinstance(result, tuple) else (result,)
    return torch.cuda.max_memory_allocated() - before - sum(tensor.nbytes for tensor in returned)


def kernels(call: Callable, inputs: tuple, device: torch.device) -> int | None:
    """How many kernels a call launches (on a CPU: how many of torch's operators do work); None if none are seen."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]) as seen:
        call(*inputs)
        if cuda:
            torch.cuda.synchronize()
    if not cuda:
        return sum(event.name.startswith(("aten::", "torchvision::")) for event in seen.events()) or None
    names = [event.name for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in names) or None
