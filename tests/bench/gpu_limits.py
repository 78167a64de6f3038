"""What the device allows: bytes by its copy bandwidth, gathers by what its caches serve; and which of the two binds."""

import statistics

import torch

from blendlab import fused

GATHERS, PIXELS, PROGRAMS = 256, 512, 4096


def measure(device: torch.device) -> dict:
    """Bytes a second of a large copy (read plus written), and loads a second from the first-level cache, of one number
    and of four side by side: in the pattern of neighbouring mask pixels, which share cells."""
    if device.type != "cuda":
        return {}
    source = torch.empty(2**28, device=device)  # 1 GB, many times the cache
    target = torch.empty_like(source)
    copy_seconds = _seconds(lambda: target.copy_(source))
    loads = PROGRAMS * PIXELS * GATHERS
    return {
        "copy_bytes_per_s": 2 * source.nbytes / copy_seconds,
        "gathers_per_s": loads / _seconds(lambda: _gather(device, 1)),
        "wide_gathers_per_s": loads / _seconds(lambda: _gather(device, 4)),
    }


def add(found: dict) -> None:
    """To each row the least time that the limits allow, and which limit that is."""
    H, W = found["map"]
    for row in found["rows"] if found["limits"] else ():
        N, K, R, M = (row[name] for name in "NKRM")
        size = 4 if row["dtype"] == "float32" else 2
        inputs, out = size * (K * H * W + N * K * M * M) + 20 * N, 4 * N * R * R
        # backward: the inputs again and the gradient in, the gradients of both inputs out
        passes, bytes_moved = (1, inputs + out) if row["direction"] == "forward" else (2, 3 * inputs + 2 * out)
        wide, single = passes * N * R * R * 4 * max(K // 4, 1), passes * N * R * R * 4 * K
        limits = found["limits"]
        times = {
            "device memory": bytes_moved / limits["copy_bytes_per_s"],
            "gathers from cache": wide / limits["wide_gathers_per_s"] + single / limits["gathers_per_s"],
        }
        row["bytes"] = bytes_moved
        row["limit"] = max(times, key=times.get)
        row["limits_us"] = {name: 1e6 * seconds for name, seconds in times.items()}


def _seconds(call) -> float:
    for _ in range(3):
        call()
    spans = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        spans.append(start.elapsed_time(end) / 1000)
    return statistics.median(spans)


def _gather(device: torch.device, wide: int) -> None:
    if fused._kernels_missing() is None:
        from .gpu_gather import gather

        table = torch.ones(256 * wide, device=device)
        out = torch.empty(PROGRAMS * PIXELS, device=device)
        gather[(PROGRAMS,)](table, out, GATHERS, wide, PIXELS, num_warps=4)
