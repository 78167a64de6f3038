"""A kernel that does nothing but gather from the first-level cache."""

import triton
import triton.language as tl


@triton.jit
def gather(table, out, GATHERS: tl.constexpr, WIDE: tl.constexpr, PIXELS: tl.constexpr):
    """Each pixel sums GATHERS loads of WIDE numbers from a table of 256; four neighbours share a cell."""
    pixel = tl.arange(0, PIXELS)
    total = tl.zeros((PIXELS, WIDE), tl.float32)
    for i in range(GATHERS):
        cell = (pixel // 4 + 14 * i) % 256
        total += tl.load(table + (cell * WIDE)[:, None] + tl.arange(0, WIDE)[None, :])
    tl.store(out + tl.program_id(0) * PIXELS + pixel, tl.sum(total, 1))
