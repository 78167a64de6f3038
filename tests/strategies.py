"""What hypothesis draws: boxes inside, across and outside a map, empty ones among them, and RoIAlign's settings."""

import math

import torch
from hypothesis import strategies as st
from twins import sample_positions

# eighths are exact in float32 at the scales below, so corners fall on cell edges and centres as often as between them
coordinates = st.integers(-160, 400).map(lambda eighths: eighths / 8) | st.floats(-20, 50, width=32)
scales = st.sampled_from((1.0, 0.5, 0.25, 0.125, 1 / 3))
sides = st.integers(1, 5)
ratios = st.sampled_from((1, 1, 2, 3, 0, -1))


@st.composite
def boxes(draw, images=1, coordinates=coordinates):
    """(N,5) float64 with N from 0 to 4: image index, x1 <= x2, y1 <= y2; about one side in ten is empty."""
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        (x1, x2), (y1, y2) = (sorted((draw(coordinates), draw(coordinates))) for _ in range(2))
        x2 = x1 if draw(st.integers(0, 9)) == 9 else x2
        y2 = y1 if draw(st.integers(0, 9)) == 9 else y2
        rows.append((draw(st.integers(0, images - 1)), x1, y1, x2, y2))
    return torch.tensor(rows, dtype=torch.float64).view(-1, 5)


@st.composite
def maps(draw, K=2, side=9):
    """(B,K,H,W) float64 in [-1, 1], with H and W from 1 to `side`."""
    B, H, W = draw(st.integers(1, 3)), draw(st.integers(1, side)), draw(st.integers(1, side))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return torch.rand(B, K, H, W, generator=generator, dtype=torch.float64) * 2 - 1


@st.composite
def alignments(draw):
    """Features, boxes, and the settings R, scale, ratio, aligned of one roi_align."""
    features = draw(maps())
    return features, draw(boxes(len(features))), draw(sides), draw(scales), draw(ratios), draw(st.booleans())


def on_the_brink(features, boxes, R, scale, ratio, aligned, margin):
    """Whether rounding alone may decide a sample: one within `margin` of a map's outer limits -1 and H or W, where the
    value jumps to 0, or a side within `margin` of needing one sample more. Exact hits have tests of their own."""
    for _, *box in boxes.tolist():
        for low, high, length in zip(box[:2], box[2:], features.shape[:1:-1], strict=True):
            positions = sum(sample_positions(low, high, R, scale, ratio, aligned), [])
            if any(min(abs(p + 1), abs(p - length)) < margin for p in positions):
                return True
            count = (high - low) * scale / R
            exact = count == round(count) and math.log2(scale).is_integer()
            if ratio <= 0 and abs(count - round(count)) < margin and not exact:
                return True
    return False
