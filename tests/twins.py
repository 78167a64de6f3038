"""The steps again, as slow loops over plain numbers, straight from the rule: the specification that the tests compare.

One letter legend: N boxes, K bases, M attention side, R output side, H x W map.
Every function takes and returns float64 tensors; inside, there are only Python numbers.
"""

import math

import torch


def sample_positions(low, high, R, scale, ratio, aligned):
    """Where RoIAlign samples along one axis of a box: for each of R bins the list of its positions, in map pixels."""
    start, end = (low * scale - 0.5, high * scale - 0.5) if aligned else (low * scale, high * scale)
    side = end - start if aligned else max(end - start, 1.0)
    count = ratio if ratio > 0 else math.ceil(side / R)
    return [[start + (bin + (i + 0.5) / count) * side / R for i in range(count)] for bin in range(R)]


def bilinear(plane, y, x):
    """A map's value between its cells: 0 beyond one cell outside, the edge's value within that cell."""
    H, W = len(plane), len(plane[0])
    if y < -1 or y > H or x < -1 or x > W:
        return 0.0
    y, x = min(max(y, 0.0), H - 1.0), min(max(x, 0.0), W - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, H - 1), min(left + 1, W - 1)
    down, across = y - top, x - left
    upper = plane[top][left] * (1 - across) + plane[top][right] * across
    lower = plane[bottom][left] * (1 - across) + plane[bottom][right] * across
    return upper * (1 - down) + lower * down


def roi_align(features, boxes, R, scale=0.25, ratio=1, aligned=True):
    """The mean of the samples of each bin; a bin without samples is 0."""
    maps, out = features.tolist(), torch.zeros(len(boxes), features.shape[1], R, R, dtype=torch.float64)
    for n, (image, x1, y1, x2, y2) in enumerate(boxes.tolist()):
        columns = sample_positions(x1, x2, R, scale, ratio, aligned)
        rows = sample_positions(y1, y2, R, scale, ratio, aligned)
        for k, plane in enumerate(maps[int(image)]):
            for i in range(R):
                for j in range(R):
                    samples = [bilinear(plane, y, x) for y in rows[i] for x in columns[j]]
                    out[n, k, i, j] = sum(samples) / max(len(samples), 1)
    return out


def roi_pool(features, boxes, R, scale=0.25):
    """The largest cell of each bin of the rounded box; a bin with no cell on the map is 0."""

    def away(value):  # halves go away from 0
        return int(math.copysign(math.floor(abs(value) + 0.5), value))

    def cells(low, high, bin, length):
        first, last = away(low * scale), away(high * scale)
        side = max(last - first + 1, 1) / R
        start, stop = first + math.floor(bin * side), first + math.ceil((bin + 1) * side)
        return [cell for cell in range(start, stop) if 0 <= cell < length]

    maps, out = features.tolist(), torch.zeros(len(boxes), features.shape[1], R, R, dtype=torch.float64)
    H, W = features.shape[2:]
    for n, (image, x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for k, plane in enumerate(maps[int(image)]):
            for i in range(R):
                for j in range(R):
                    values = [plane[y][x] for y in cells(y1, y2, i, H) for x in cells(x1, x2, j, W)]
                    out[n, k, i, j] = max(values, default=0.0)
    return out


def interpolate(attention, R, mode="bilinear", align_corners=False):
    """M x M cells to R x R: bilinear between cell centres, or the cell that an output's upper left corner falls in."""
    N, K, M, _ = attention.shape
    maps, out = attention.tolist(), torch.zeros(N, K, R, R, dtype=torch.float64)

    def position(i):
        if mode == "nearest":
            return i * M // R
        return i * (M - 1) / max(R - 1, 1) if align_corners else (i + 0.5) * M / R - 0.5

    for n in range(N):
        for k in range(K):
            for i in range(R):
                for j in range(R):
                    out[n, k, i, j] = bilinear(maps[n][k], position(i), position(j))
    return out


def softmax(attention):
    """At each pixel, exp(a_k) over the sum of exp(a_k) of all K."""
    N, K, R, _ = attention.shape
    maps, out = attention.tolist(), torch.zeros(N, K, R, R, dtype=torch.float64)
    for n in range(N):
        for i in range(R):
            for j in range(R):
                largest = max(maps[n][k][i][j] for k in range(K))
                powers = [math.exp(maps[n][k][i][j] - largest) for k in range(K)]
                for k in range(K):
                    out[n, k, i, j] = powers[k] / sum(powers)
    return out


def blend(regions, scores):
    """At each pixel, the sum over k of r_k * s_k."""
    N, K, R, _ = regions.shape
    r, s, out = regions.tolist(), scores.tolist(), torch.zeros(N, R, R, dtype=torch.float64)
    for n in range(N):
        for i in range(R):
            for j in range(R):
                out[n, i, j] = sum(r[n][k][i][j] * s[n][k][i][j] for k in range(K))
    return out


def paste(probabilities, boxes, image_size):
    """Each pixel whose centre lies in the box reads the mask between bin centres; bins off it count as 0."""
    (N, R, _), (H, W) = probabilities.shape, image_size
    maps, out = probabilities.tolist(), torch.zeros(N, H, W, dtype=torch.float64)

    def taps(centre, low, high):
        position = (centre - low) / (high - low) * R - 0.5  # in bins
        first = math.floor(position)
        pairs = ((first, first + 1 - position), (first + 1, position - first))
        return [(bin, weight) for bin, weight in pairs if 0 <= bin < R]

    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for y in range(H):
            for x in range(W):
                if x1 < x2 and y1 < y2 and x1 <= x + 0.5 <= x2 and y1 <= y + 0.5 <= y2:
                    rows, columns = taps(y + 0.5, y1, y2), taps(x + 0.5, x1, x2)
                    out[n, y, x] = sum(maps[n][i][j] * wy * wx for i, wy in rows for j, wx in columns)
    return out
