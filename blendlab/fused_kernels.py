"""The blender as two Triton kernels, forward and backward: four steps, and nothing between them leaves the chip.

One letter legend: B images, N boxes, K bases, M attention side, R output side, H x W map; C columns of a tile.

Both work on tiles (pixels, K): a row holds everything that one mask pixel needs, all its K numbers side by side. The
bases lie channels last in memory, so those K numbers come with one wide load. K is filled up to a power of two, as
Triton wants its tiles. Storage may be float32, float16 or bfloat16; arithmetic and sums are float32.
The rules for samples and interpolation are those of steps.py; the names a, r, s, m those of its equations.
"""

import triton
import triton.language as tl


@triton.jit
def read_box(boxes, n, B, scale):
    """Box n: its image, whether it is a box at all, and (x, y, width, height) in map pixels, half a pixel back.

    The callers have checked the boxes; where they could not (inside torch.compile), a bad one must not read elsewhere.
    """
    image = tl.load(boxes + n * 5)
    x1, y1 = tl.load(boxes + n * 5 + 1), tl.load(boxes + n * 5 + 2)
    x2, y2 = tl.load(boxes + n * 5 + 3), tl.load(boxes + n * 5 + 4)
    far = tl.maximum(tl.maximum(tl.abs(x1), tl.abs(y1)), tl.maximum(tl.abs(x2), tl.abs(y2))) * scale
    good = (x1 <= x2) & (y1 <= y2) & (far < float("inf")) & (image >= 0) & (image < B)  # a NaN fails
    x, y = tl.where(good, x1 * scale - 0.5, 0.0), tl.where(good, y1 * scale - 0.5, 0.0)
    width, height = tl.where(good, x2 * scale - 0.5 - x, 0.0), tl.where(good, y2 * scale - 0.5 - y, 0.0)
    return tl.where(good, image, 0.0).to(tl.int64), good, x, y, width, height


@triton.jit
def sample_at(start, side, sample, count, length):
    """Sample number `sample` of `count` along an axis of the box -> (cell, next cell, share of the next, inside).

    A sample up to one cell outside the map takes the edge's value; one farther out is not inside, and counts as 0.
    """
    # Counted from the whole cell below the box's start, since far from 0 a float32 has too few digits for a share.
    # One rounding at the end, so that a sample meant for an outer limit falls exactly there.
    whole = tl.floor(start)
    position = tl.fma(tl.div_rn(side, count + 0.0), sample + 0.5, start - whole)
    inside = (position >= -1.0 - whole) & (position <= length - whole)
    held = tl.minimum(tl.maximum(position, -whole), length - 1.0 - whole)
    low = tl.floor(held)
    # A box that begins millions of cells away has positions with gaps of several cells, of which the last may lie
    # beyond the map: to read there is an error of the device, and to add there writes over other memory.
    cell = tl.minimum(tl.maximum((low + whole).to(tl.int32), 0), length - 1)
    return cell, tl.minimum(cell + 1, length - 1), held - low, inside


@triton.jit
def attention_at(i, M: tl.constexpr, R: tl.constexpr, NEAREST: tl.constexpr):
    """Where output i of R reads the M attention cells -> (cell, next cell, share of the next)."""
    if NEAREST:
        cell = tl.minimum(tl.cast(i * (M / R), tl.int32), M - 1)  # in floating point, as torch's interpolate has it
        return cell, cell, cell * 0.0
    else:
        held = tl.minimum(tl.maximum((i + 0.5) * (M / R) - 0.5, 0.0), M - 1.0)
        cell = tl.minimum(held.to(tl.int32), max(M - 2, 0))  # the next one is then always one farther
        return cell, cell + min(M - 1, 1), held - cell


@triton.jit
def four(maps, y0, y1, down, x0, x1, across, W, step, mask):
    """The bilinear value (pixels, K) between four cells; cell (y, x) lies at maps + (y * W + x) * step.

    down and across are the shares of y1 and x1. Rows and columns may be numbers, or (pixels,) made (pixels, 1).
    """
    upper, lower = maps + y0 * W * step, maps + y1 * W * step
    a = tl.load(upper + x0 * step, mask, 0.0).to(tl.float32)
    b = tl.load(upper + x1 * step, mask, 0.0).to(tl.float32)
    c = tl.load(lower + x0 * step, mask, 0.0).to(tl.float32)
    d = tl.load(lower + x1 * step, mask, 0.0).to(tl.float32)
    return (a * (1 - across) + b * across) * (1 - down) + (c * (1 - across) + d * across) * down


@triton.jit
def softmax_over_k(a, real):
    """(pixels, K) -> weights that sum to 1 over the K that are `real`."""
    a = tl.where(real, a, float("-inf"))
    power = tl.exp(a - tl.max(a, 1)[:, None])
    return power / tl.sum(power, 1)[:, None]


@triton.jit(do_not_specialize=["B", "H", "W"])  # else a W of 64 would be compiled anew
def forward(
    bases, attention, boxes, out, B, H, W, scale,
    K: tl.constexpr, M: tl.constexpr, R: tl.constexpr, RATIO: tl.constexpr, NEAREST: tl.constexpr,
    SIGMOID: tl.constexpr, K_FULL: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """One program: PIXELS pixels of box n's mask. bases (B,H,W,K), attention (N,K,M,M), boxes (N,5), out (N,R,R)."""
    n = tl.program_id(0).to(tl.int64)  # a long list of large masks has more numbers than an int32 counts
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    i, j = pixel // R, pixel % R
    k = tl.arange(0, K_FULL)[None, :]
    real = (k < K) & (i < R)[:, None]

    # r = RoIAlign(bases, box)
    image, good, x, y, width, height = read_box(boxes, n, B, scale)
    maps = bases + image * H * W * K + k
    r = tl.zeros((PIXELS, K_FULL), tl.float32)
    for u in tl.static_range(RATIO):
        y0, y1, down, in_y = sample_at(y, height, i * RATIO + u, R * RATIO, H)
        for v in tl.static_range(RATIO):
            x0, x1, across, in_x = sample_at(x, width, j * RATIO + v, R * RATIO, W)
            mask = real & (in_y & in_x)[:, None]
            r += four(
                maps, y0[:, None], y1[:, None], down[:, None], x0[:, None], x1[:, None], across[:, None], W, K, mask
            )
    r = r / (RATIO * RATIO)

    # a' = interpolate(a, R); s = softmax(a'); m = sum over k of s * r
    cells = attention + n * (K * M * M) + k * (M * M)
    row, next_row, down = attention_at(i, M, R, NEAREST)
    column, next_column, across = attention_at(j, M, R, NEAREST)
    a = four(
        cells, row[:, None], next_row[:, None], down[:, None],
        column[:, None], next_column[:, None], across[:, None], M, 1, real,
    )  # fmt: skip
    m = tl.sum(softmax_over_k(a, k < K) * r, 1)
    if SIGMOID:
        m = tl.sigmoid(m)
    tl.store(out + n * (R * R) + pixel, tl.where(good, m, float("nan")), i < R)


@triton.jit
def spread(values, columns, d_attention, k, M: tl.constexpr, R: tl.constexpr, NEAREST: tl.constexpr,
           K: tl.constexpr, C: tl.constexpr, CELLS: tl.constexpr):  # fmt: skip
    """Store one row (K,M) of the attention's gradient: each of its M cells sums the (C,K) values that read it."""
    column, next_column, across = attention_at(columns, M, R, NEAREST)
    for first in range(0, M, CELLS):
        cell = first + tl.arange(0, CELLS)[None, :]
        share = tl.where(cell == column[:, None], 1 - across[:, None], 0.0)
        share += tl.where((cell == next_column[:, None]), across[:, None], 0.0)  # (C,CELLS)
        total = tl.sum(values[:, :, None] * share[:, None, :], 0)  # (K,CELLS)
        at = d_attention + k[:, None] * (M * M) + cell
        tl.store(at, total, (k < K)[:, None] & (cell < M))


@triton.jit
def scatter(values, x, width, columns, d_row, W, real, K: tl.constexpr, R: tl.constexpr, RATIO: tl.constexpr):
    """Add (C,K) values to one row of cells of the bases' gradient, each at the cells that its column sampled."""
    for v in tl.static_range(RATIO):
        x0, x1, across, in_x = sample_at(x, width, columns * RATIO + v, R * RATIO, W)
        mask = real & in_x[:, None]
        tl.atomic_add(d_row + x0[:, None] * K, values * (1 - across[:, None]), mask, sem="relaxed")
        tl.atomic_add(d_row + x1[:, None] * K, values * across[:, None], mask & (across > 0)[:, None], sem="relaxed")


@triton.jit(do_not_specialize=["B", "N", "H", "W"])
def backward(
    gradient, bases, attention, boxes, d_bases, d_attention, B, N, H, W, scale,
    K: tl.constexpr, M: tl.constexpr, R: tl.constexpr, RATIO: tl.constexpr, NEAREST: tl.constexpr,
    SIGMOID: tl.constexpr, TO_BASES: tl.constexpr, TO_ATTENTION: tl.constexpr,
    K_FULL: tl.constexpr, C: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """One program walks down C columns of box n's mask, and makes the forward pass again as it goes.

    On the way down neighbouring mask rows read the same two rows of cells, of the bases and of the attention. What
    they add to those two is kept on the chip (upper, lower) and leaves it when the walk reaches the next row of cells.
    The attention's gradient (parts,N,K,M,M) is this program's own: it is stored, once, always the same. Boxes share
    the bases' gradient (B,H,W,K), so that one is added to by atomics.
    """
    n, part = tl.program_id(0).to(tl.int64), tl.program_id(1)

    j = part * C + tl.arange(0, C)
    k = tl.arange(0, K_FULL)
    real = (k < K)[None, :] & (j < R)[:, None]
    image, _, x, y, width, height = read_box(boxes, n, B, scale)
    maps = bases + image * H * W * K + k[None, :]
    d_maps = d_bases + image * H * W * K + k[None, :]
    cells = attention + n * (K * M * M) + k[None, :] * (M * M)
    d_cells = d_attention + (part * N + n) * (K * M * M)
    column, next_column, across = attention_at(j, M, R, NEAREST)

    base_row, _, _, _ = sample_at(y, height, 0, R * RATIO, H)
    base_upper, base_lower = tl.zeros((C, K_FULL), tl.float32), tl.zeros((C, K_FULL), tl.float32)
    cell_row = base_row * 0
    cell_upper, cell_lower = tl.zeros((C, K_FULL), tl.float32), tl.zeros((C, K_FULL), tl.float32)
    for i in range(R):
        g = tl.load(gradient + n * (R * R) + i * R + j, j < R, 0.0).to(tl.float32)
        r = tl.zeros((C, K_FULL), tl.float32)
        for u in tl.static_range(RATIO):
            y0, y1, down, in_y = sample_at(y, height, i * RATIO + u, R * RATIO, H)
            for v in tl.static_range(RATIO):
                x0, x1, right, in_x = sample_at(x, width, j * RATIO + v, R * RATIO, W)
                mask = real & tl.where(in_y, in_x, False)[:, None]
                r += four(maps, y0, y1, down, x0[:, None], x1[:, None], right[:, None], W, K, mask)
        r = r / (RATIO * RATIO)
        row, next_row, low = attention_at(i, M, R, NEAREST)
        a = four(cells, row, next_row, low, column[:, None], next_column[:, None], across[:, None], M, 1, real)
        s = softmax_over_k(a, (k < K)[None, :])
        m = tl.sum(s * r, 1)
        if SIGMOID:
            p = tl.sigmoid(m)
            g *= p * (1 - p)
        d_r = g[:, None] * s

        if TO_ATTENTION:
            d_a = d_r * (r - m[:, None])  # the softmax's own derivative
            if row > cell_row:
                spread(cell_upper, j, d_cells + cell_row * M, k, M, R, NEAREST, K, C, CELLS)
                if row > cell_row + 1:  # the walk jumped, which it does where M > R
                    spread(cell_lower, j, d_cells + (cell_row + 1) * M, k, M, R, NEAREST, K, C, CELLS)
                    cell_lower = tl.zeros((C, K_FULL), tl.float32)
                cell_row, cell_upper, cell_lower = row, cell_lower, tl.zeros((C, K_FULL), tl.float32)
            cell_upper += d_a * (1 - low)
            cell_lower += d_a * low
        if TO_BASES:
            d_r = d_r / (RATIO * RATIO)
            for u in tl.static_range(RATIO):
                y0, y1, down, in_y = sample_at(y, height, i * RATIO + u, R * RATIO, H)
                if y0 > base_row:
                    scatter(base_upper, x, width, j, d_maps + base_row * W * K, W, real, K, R, RATIO)
                    if y0 > base_row + 1:
                        scatter(base_lower, x, width, j, d_maps + (base_row + 1) * W * K, W, real, K, R, RATIO)
                        base_lower = tl.zeros((C, K_FULL), tl.float32)
                    base_row, base_upper, base_lower = y0, base_lower, tl.zeros((C, K_FULL), tl.float32)
                base_upper += tl.where(in_y, d_r * (1 - down), 0.0)
                base_lower += tl.where(in_y, d_r * down, 0.0)

    if TO_ATTENTION:
        spread(cell_upper, j, d_cells + cell_row * M, k, M, R, NEAREST, K, C, CELLS)
        if cell_row + 1 < M:
            spread(cell_lower, j, d_cells + (cell_row + 1) * M, k, M, R, NEAREST, K, C, CELLS)
    if TO_BASES:
        scatter(base_upper, x, width, j, d_maps + base_row * W * K, W, real, K, R, RATIO)
        if base_row + 1 < H:
            scatter(base_lower, x, width, j, d_maps + (base_row + 1) * W * K, W, real, K, R, RATIO)
