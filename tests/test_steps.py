"""The four steps: against slow loops, against torchvision and torch, and by the properties that the lessons teach.

Tolerances: float64 1e-10 everywhere. float32 `F32` = 1e-4 for crops: a position of at most 64 map pixels is off by a
few of its ulps, about 2e-5 px, and a map in [-1, 1] changes by at most 2 a pixel and axis.
"""

import math

import pytest
import strategies
import torch
import torch.nn.functional as F
import twins
from hypothesis import assume, given, settings
from torch.autograd import gradcheck
from torch.testing import assert_close
from torchvision.ops import roi_align as their_roi_align

from blendlab import blend, interpolate, roi_align, softmax

pytestmark = pytest.mark.usefixtures("one_thread")
F64 = {"rtol": 0, "atol": 1e-10}
F32 = {"rtol": 0, "atol": 1e-4}
HALF = (torch.float16, torch.bfloat16)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# --- RoIAlign: the rule, drawn at random


@settings(max_examples=80)
@given(strategies.alignments())
def test_roi_align_is_its_loop(case):
    features, boxes, *how = case
    assume(not strategies.on_the_brink(features, boxes, *how, margin=1e-9))
    assert_close(roi_align(features, boxes, *how), twins.roi_align(features, boxes, *how), **F64)


@settings(max_examples=250)
@given(strategies.alignments())
def test_roi_align_is_torchvisions(case):
    features, boxes, *how = case
    assume(not strategies.on_the_brink(features, boxes, *how, margin=1e-9))
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    out, expected = roi_align(ours, boxes, *how), their_roi_align(theirs, boxes, *how)
    assert_close(out, expected, **F64)
    # the gradient too, under one and the same random output gradient
    push = torch.randn_like(expected)
    if len(boxes):  # torchvision's backward does not take zero boxes
        (expected * push).sum().backward()
        (out * push).sum().backward()
        assert_close(ours.grad, theirs.grad, **F64)


@settings(max_examples=120)
@given(strategies.alignments())
def test_roi_align_in_float32_is_torchvisions(case):
    features, boxes, *how = case
    assume(not strategies.on_the_brink(features, boxes, *how, margin=1e-3))
    features, boxes = features.float(), boxes.float()
    assert_close(roi_align(features, boxes, *how), their_roi_align(features, boxes, *how), **F32)


@settings(max_examples=40)
@given(strategies.maps(), strategies.boxes())
def test_boxes_in_three_forms_mean_the_same(features, boxes):
    B, boxes = len(features), boxes[:, 1:]
    alone = roi_align(features[:1], torch.cat((boxes.new_zeros(len(boxes), 1), boxes), 1), 3)
    assert torch.equal(roi_align(features[:1], boxes, 3), alone)
    assert torch.equal(roi_align(features[:1], [boxes], 3), alone)
    # image i of a batch gets the first i boxes: image 0 none
    parts = [boxes[:i] for i in range(B)]
    table = torch.cat([F.pad(part, (1, 0), value=float(i)) for i, part in enumerate(parts)])
    assert torch.equal(roi_align(features, parts, 3), roi_align(features, table, 3))
    assert_close(roi_align(features, parts, 3), their_roi_align(features, parts, 3, 0.25, 1, True), **F64)


@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_a_shuffled_batch_keeps_the_order_of_its_boxes_forward_and_back(ratio):
    """Inside, boxes are grouped by image and by number of samples; nothing of that may show."""
    features, boxes = double(3, 2, 8, 10).requires_grad_(), torch.rand(40, 4, dtype=torch.float64) * 30
    boxes = torch.cat((torch.randint(3, (40, 1)), boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)
    out = roi_align(features, boxes, 4, 0.5, ratio)
    one_by_one = torch.cat([roi_align(features, boxes[n : n + 1], 4, 0.5, ratio) for n in range(40)])
    assert_close(out, one_by_one, **F64)
    grad, expected = (torch.autograd.grad(o.pow(2).sum(), features)[0] for o in (out, one_by_one))
    assert_close(grad, expected, **F64)


def test_a_basis_that_no_box_reads_gets_no_gradient():
    features = double(3, 2, 6, 6).requires_grad_()
    roi_align(features, tensor([[2.0, 0, 0, 12, 12], [0, 4, 4, 20, 20]]), 4).sum().backward()
    assert [bool(g.any()) for g in features.grad] == [True, False, True]


# --- RoIAlign: the edge, the empty, the huge


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize(
    ("position", "counts"),
    [
        (-1.0, True),
        (-1 - 1e-6, False),
        (-0.5, True),
        (0.0, True),
        (6.0, True),
        (6.5, True),
        (7.0, True),
        (7 + 2e-6, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_counts_up_to_one_cell_outside_and_takes_the_edges_value(position, counts, axis, dtype):
    """A map 7 cells wide: exactly -1 and exactly W count, just beyond does not; no fading in between."""
    features = torch.arange(1, 8, dtype=dtype).expand(1, 1, 5, 7)
    start = position + 0.5  # an empty box is one sample, half a cell back; 6.5e-7 is two float32 ulps at 7
    box = torch.tensor([[start, 2.5, start, 2.5]], dtype=dtype)
    if axis == "y":
        features, box = features.mT, box[:, [1, 0, 3, 2]]
    expected = 1 + min(max(position, 0.0), 6.0) if counts else 0.0
    for crop in (roi_align, their_roi_align):
        got = crop(features, [box], 1, 1.0, 1, True).item()
        assert got == pytest.approx(expected, abs=1e-5), crop


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("R", [1, 2, 3, 5, 7, 8])
@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_samples_exactly_on_the_outer_limits_agree_with_torchvision(R, ratio, dtype):
    """Steps of half a pixel, one and two leave nothing to rounding: many samples hit -1 or W, and all must count."""
    features, starts = torch.randn(1, 2, 8, 8, dtype=dtype), torch.arange(-8, 12, 0.5, dtype=dtype)
    for step in (0.5, 1, 2):
        span = step * R * max(ratio, 1)
        boxes = torch.stack((starts, starts.flip(0), starts + span, starts.flip(0) + span), 1)
        for aligned in (True, False):
            mine, theirs = (f(features, [boxes], R, 1.0, ratio, aligned) for f in (roi_align, their_roi_align))
            assert_close(mine, theirs, **(F64 if dtype == torch.float64 else F32))


@pytest.mark.parametrize(("H", "W"), [(1, 1), (1, 6), (6, 1)])
@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_maps_of_one_row_or_column(H, W, ratio):
    features, boxes = double(2, 3, H, W), tensor([[0, -1, -1, 3, 3], [1, 0.25, 0.5, 5, 1], [1, 0, 0, 1, 1.0]])
    mine, theirs = (f(features, boxes, 3, 1.0, ratio, True) for f in (roi_align, their_roi_align))
    assert_close(mine, theirs, **F64)


def test_empty_boxes():
    features, point = double(1, 2, 8, 8), tensor([[3.0, 4, 3, 4]])
    assert not roi_align(features, point, 3, 1.0, 0).any()  # no side, no sample
    sample = features[0, :, 3:5, 2:4].mean((1, 2))  # (2.5, 3.5) is a corner of four cells
    assert_close(roi_align(features, point, 3, 1.0, 1), sample[:, None, None].expand(1, 2, 3, 3), **F64)
    line = tensor([[1.0, 4, 7, 4]])
    assert_close(roi_align(features, line, 3, 1.0, 1), their_roi_align(features, [line], 3, 1.0, 1, True), **F64)
    # not aligned, sides are raised to one map pixel: the same crop as a box of one pixel
    assert_close(
        roi_align(features, point, 3, 1.0, 2, False), roi_align(features, tensor([[3.0, 4, 4, 5]]), 3, 1.0, 2, False)
    )


@pytest.mark.parametrize("ratio", [1, 2, 0, -1])
@pytest.mark.parametrize("B", [1, 3])
def test_no_boxes(B, ratio):
    features = double(B, 2, 5, 5).requires_grad_()
    forms = [torch.zeros(0, 5), [torch.zeros(0, 4)] * B] + ([torch.zeros(0, 4)] if B == 1 else [])
    for boxes in forms:
        out = roi_align(features, boxes, 4, 0.25, ratio)
        assert out.shape == (0, 2, 4, 4) and out.dtype == torch.float64
        (grad,) = torch.autograd.grad(out.sum(), features)  # still a part of the graph
        assert not grad.any()


@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_a_box_far_larger_than_the_map(ratio):
    features, boxes = (
        double(1, 2, 6, 7),
        tensor([[-900.3, -900, 907.1, 906], [-3000.2, 2.1, 50.7, 4], [500, 500, 900, 900]]),
    )
    mine, theirs = (f(features, [boxes], 5, 1.0, ratio, True) for f in (roi_align, their_roi_align))
    assert_close(mine, theirs, **F64)
    assert not mine[2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e12, 9e31])
def test_absurd_finite_boxes_give_finite_crops(size, dtype):
    features = torch.randn(2, 2, 6, 6, dtype=dtype)
    box = torch.tensor([[1, -size, -size, size, size], [0, 0, 0, size, 1], [0, size, size, size, size]], dtype=dtype)
    for aligned in (True, False):
        for scale in (0.25, 1e6):
            assert roi_align(features, box, 4, scale, 1, aligned).isfinite().all()


def test_adaptive_sampling_refuses_a_box_that_would_not_fit_in_memory():
    for side in (1e6, 1e30):
        with pytest.raises(ValueError, match=r"boxes.*8192 map pixels.*sampling_ratio.*got one of (1e\+06|1e\+30)"):
            roi_align(torch.randn(1, 1, 4, 4), torch.tensor([[0.0, 0, side, 2]]), 7, 1.0, 0)


def test_many_boxes():
    features, corner = torch.randn(1, 1, 5, 5), torch.rand(20_000, 2) * 20
    boxes = torch.cat((corner, corner + 3), 1)
    out = roi_align(features, boxes, 2)
    assert out.shape == (20_000, 1, 2, 2)
    assert_close(out[-5:], roi_align(features, boxes[-5:], 2), **F32)


# --- RoIAlign: cases from outside


def test_detectron2s_ramp():
    ramp, box = torch.arange(25.0).view(1, 1, 5, 5), torch.tensor([[1.0, 1, 3, 3]])
    rows = 2.5 * torch.arange(4.0)[:, None]
    aligned, not_aligned = (roi_align(ramp, box, 4, 1.0, 0, flag)[0, 0] for flag in (True, False))
    assert_close(aligned, torch.tensor([4.5, 5, 5.5, 6]) + rows, **F32)
    assert_close(not_aligned, torch.tensor([7.5, 8, 8.5, 9]) + rows, **F32)


def test_the_identity():
    features = double(1, 1, 4, 4)
    assert_close(roi_align(features, tensor([[1.0, 1, 3, 3]]), 2, 1.0), features[:, :, 1:3, 1:3], **F64)
    assert_close(roi_align(features, tensor([[0.0, 0, 16, 16]]), 4), features, **F64)  # the whole map at stride 4


def test_mmcvs_case():
    features = torch.tensor([[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]])[None, None]
    got = roi_align(features, torch.tensor([[0.0, 0, 3, 3]]), 2, 1.0, 2)
    assert_close(got, torch.tensor([[1.9375, 4.75], [7.5625, 10.375]])[None, None], **F32)


def test_inside_the_map_it_is_grid_sample():
    """align_corners=False speaks of the map's border as -1 and 1, as boxes do: x maps to 2x/W - 1."""
    features, (x1, y1, x2, y2), R = double(1, 3, 12, 16), (2.3, 1.9, 13.1, 9.4), 7
    x, y = (
        (torch.arange(R, dtype=torch.float64) + 0.5) / R * side + low for low, side in ((x1, x2 - x1), (y1, y2 - y1))
    )
    grid = torch.stack(torch.meshgrid(2 * x / 16 - 1, 2 * y / 12 - 1, indexing="xy"), -1)[None]
    assert_close(
        roi_align(features, tensor([[x1, y1, x2, y2]]), R, 1.0),
        F.grid_sample(features, grid, align_corners=False),
        **F64,
    )


def test_mirroring_the_picture_mirrors_the_crop():
    features, boxes = double(1, 2, 8, 10), tensor([[-3.2, 1, 7, 9.7], [2, -4, 14, 6], [9, 3, 12.5, 20]])
    mirrored = torch.stack((10 - boxes[:, 2], boxes[:, 1], 10 - boxes[:, 0], boxes[:, 3]), 1)
    for ratio in (1, 2, 0):
        there, back = roi_align(features, boxes, 5, 1.0, ratio), roi_align(features.flip(3), mirrored, 5, 1.0, ratio)
        assert_close(there, back.flip(3), **F64)


# --- RoIAlign: what it teaches (FACTS section 2)


def disc(radius, side, centre):
    """The basis of a disc on a map of stride 4: the distance to its edge, positive inside."""
    offset = (torch.arange(side, dtype=torch.float64) + 0.5) * 4 - centre
    return (radius - (offset[:, None].square() + offset.square()).sqrt())[None, None]


@pytest.mark.parametrize(
    ("radius", "aligned", "not_aligned"), [(8, 0.92, 0.69), (16, 0.98, 0.84), (32, 0.99, 0.91), (64, 0.99, 0.95)]
)
def test_the_half_pixel_costs_small_objects_most(radius, aligned, not_aligned):
    """IoU of a disc read from an ideal basis at R=56 with its true mask; the stated figures within 0.04."""
    centre, R = 100.0, 56
    basis = disc(radius, 50, centre)
    at = ((torch.arange(R, dtype=torch.float64) + 0.5) / R * 2 - 1) * radius
    truth = at[:, None].square() + at.square() <= radius**2
    box = tensor([[centre - radius, centre - radius, centre + radius, centre + radius]])
    for flag, stated in ((True, aligned), (False, not_aligned)):
        mask = roi_align(basis, box, R, 0.25, 1, flag)[0, 0] >= 0
        assert ((mask & truth).sum() / (mask | truth).sum()).item() == pytest.approx(stated, abs=0.04)


def test_a_moved_box_moves_the_samples_by_a_quarter_at_stride_4():
    ramp = torch.arange(20, dtype=torch.float64).expand(1, 1, 20, 20)
    box = tensor([[16.0, 16, 48, 48]])
    for dx in (0.1, 1.9, 2.1):
        moved = roi_align(ramp, box + tensor([dx, 0, dx, 0]), 8)
        assert_close(moved, roi_align(ramp, box, 8) + dx / 4, **F64)


def test_one_sample_a_bin_aliases_on_big_boxes():
    """Stripes of +-1, two cells wide, under 1200 x 700 px: spread over bins 0.82 with ratio 1, 0.18 adaptive."""
    stripes = ((torch.arange(320) // 2 % 2) * 2.0 - 1).expand(1, 1, 200, 320)
    box = torch.tensor([[20.0, 20, 1220, 720]])
    one, adaptive = (roi_align(stripes, box, 56, 0.25, ratio).std().item() for ratio in (1, 0))
    assert one == pytest.approx(0.82, abs=0.05) and adaptive == pytest.approx(0.18, abs=0.05)


# --- interpolate


@pytest.mark.parametrize(("mode", "align_corners"), [("bilinear", False), ("bilinear", True), ("nearest", False)])
def test_interpolate_is_its_loop_and_torchs(mode, align_corners):
    for M in (1, 2, 3, 5, 7, 14):
        for R in (1, 2, 3, 5, 7, 14, 28, 29):
            attention = double(2, 2, M, M).requires_grad_()
            got = interpolate(attention, R, mode, align_corners)
            torchs = F.interpolate(
                attention, (R, R), mode=mode, align_corners=align_corners if mode == "bilinear" else None
            )
            assert_close(got, torchs, **F64, msg=lambda m, M=M, R=R: f"M={M} R={R}: {m}")
            push = torch.randn_like(got)
            mine, theirs = (torch.autograd.grad((o * push).sum(), attention)[0] for o in (got, torchs))
            assert_close(mine, theirs, **F64)
            if M < 7 and R < 8:
                assert_close(got, twins.interpolate(attention, R, mode, align_corners), **F64)


@pytest.mark.parametrize("align_corners", [False, True])
def test_interpolate_in_float32_is_torchs(align_corners):
    for M, R in ((14, 56), (28, 56), (5, 56), (56, 14), (1, 56), (28, 112)):
        attention = torch.randn(2, 3, M, M)
        theirs = F.interpolate(attention, (R, R), mode="bilinear", align_corners=align_corners)
        # weights are off by some ulps of a position of at most 56: 1e-5, times a difference of neighbours of at most 8
        assert_close(interpolate(attention, R, "bilinear", align_corners), theirs, rtol=0, atol=1e-4)


def test_equal_sides_mean_no_interpolation():
    attention = double(2, 3, 7, 7)
    for mode, align_corners in (("bilinear", False), ("bilinear", True), ("nearest", False)):
        assert_close(interpolate(attention, 7, mode, align_corners), attention, **F64)


def test_nearest_tiles_are_uneven():
    tiles = interpolate(torch.arange(5.0).expand(1, 1, 5, 5), 56, "nearest")
    assert tiles[0, 0, 0].long().bincount().tolist() == [12, 11, 11, 11, 11]


def test_interpolation_stays_inside_the_range_and_keeps_a_constant():
    attention = double(3, 2, 6, 6)
    for R in (2, 6, 17):
        for align_corners in (False, True):
            up = interpolate(attention, R, "bilinear", align_corners)
            assert up.max() <= attention.max() + 1e-12 and up.min() >= attention.min() - 1e-12
            threes = interpolate(torch.full_like(attention, 3.0), R, "bilinear", align_corners)
            assert_close(threes, torch.full_like(threes, 3.0), **F64)


# --- softmax and blend


def test_softmax_and_blend_are_their_loops():
    attention, regions = double(3, 4, 5, 5) * 3, double(3, 4, 5, 5)
    scores = softmax(attention)
    assert_close(scores, twins.softmax(attention), **F64)
    assert_close(blend(regions, scores), twins.blend(regions, scores), **F64)
    assert_close(blend(regions.float(), scores.float()).double(), twins.blend(regions, scores), rtol=1e-5, atol=1e-5)


def test_softmax_survives_extreme_attention():
    scores = softmax(torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1))
    assert scores.flatten().tolist() == [1.0, 0.0, 0.0]


def test_a_blend_stays_in_the_convex_hull_of_its_bases():
    regions, scores = double(4, 5, 6, 6), softmax(double(4, 5, 6, 6) * 5)
    logits = blend(regions, scores)
    assert (logits <= regions.amax(1) + 1e-12).all() and (logits >= regions.amin(1) - 1e-12).all()


def test_a_constant_added_to_all_k_changes_nothing():
    attention, shift = double(2, 4, 6, 6), double(2, 1, 6, 6) * 10
    assert_close(softmax(attention + shift), softmax(attention), **F64)


def test_nearest_commutes_with_softmax_and_bilinear_does_not():
    attention = torch.randn(2, 4, 14, 14) * 2
    after, before = softmax(interpolate(attention, 56, "nearest")), interpolate(softmax(attention), 56, "nearest")
    assert_close(
        after, before, rtol=0, atol=1e-6
    )  # a few float32 ulps of 1: how exp is vectorised depends on the shape
    gap = softmax(interpolate(attention, 56)) - interpolate(softmax(attention), 56)
    assert gap.abs().max() > 0.1


# --- gradients, precision, modes of autograd


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_gradcheck_roi_align(ratio, aligned):
    features = double(2, 2, 4, 5).requires_grad_()
    boxes = tensor([[0, -3.1, -2.2, 3.3, 4.1], [1, 1.3, 0.9, 9.7, 8.2], [0, 2.1, 2.2, 2.1, 3.3]])
    assert gradcheck(lambda f: roi_align(f, boxes, 3, 0.5, ratio, aligned), features)


@pytest.mark.parametrize(("mode", "align_corners"), [("bilinear", False), ("bilinear", True), ("nearest", False)])
@pytest.mark.parametrize(("M", "R"), [(3, 5), (4, 2), (1, 3)])
def test_gradcheck_interpolate(M, R, mode, align_corners):
    assert gradcheck(lambda a: interpolate(a, R, mode, align_corners), double(2, 2, M, M).requires_grad_())


def test_gradcheck_softmax_and_blend():
    assert gradcheck(softmax, double(2, 3, 2, 2).requires_grad_())
    assert gradcheck(blend, (double(2, 3, 2, 2).requires_grad_(), double(2, 3, 2, 2).requires_grad_()))


def test_boxes_carry_no_gradient():
    boxes = tensor([[1.0, 1, 9, 9]]).requires_grad_()
    roi_align(double(1, 1, 4, 4).requires_grad_(), boxes, 2).sum().backward()
    assert boxes.grad is None


@pytest.mark.parametrize("dtype", HALF)
def test_half_maps_are_sampled_in_float32(dtype):
    """The box stays whole: 1333.3 would be 1333.0 in float16 and 1336 in bfloat16. Only the result is rounded."""
    features = torch.randn(1, 2, 4, 400).to(dtype)
    boxes = torch.tensor([[1333.3, 0.7, 1391.9, 15.1]])
    got = roi_align(features, boxes, 7)
    assert got.dtype == dtype
    assert torch.equal(got, roi_align(features.float(), boxes, 7).to(dtype))
    attention = torch.randn(2, 3, 5, 5).to(dtype)
    for mode in ("bilinear", "nearest"):
        up = interpolate(attention, 9, mode)
        assert up.dtype == dtype and torch.equal(up, interpolate(attention.float(), 9, mode).to(dtype))


def test_float64_boxes_serve_float32_maps_and_the_other_way():
    features, boxes = torch.randn(1, 2, 8, 8), tensor([[1.5, 2.25, 20, 30]])
    assert torch.equal(roi_align(features, boxes, 4), roi_align(features, boxes.float(), 4))
    assert_close(roi_align(features.double(), boxes.float(), 4), roi_align(features.double(), boxes, 4), **F64)


def test_autocast_changes_nothing_in_the_crop_and_the_interpolation():
    features, boxes, attention = (
        torch.randn(2, 3, 8, 8),
        [torch.rand(3, 4).cumsum(1) * 9] * 2,
        torch.randn(2, 3, 14, 14),
    )
    expected = roi_align(features, boxes, 7), interpolate(attention, 56)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = roi_align(features, boxes, 7), interpolate(attention, 56)
        scores = softmax(got[1])
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == torch.float32 and torch.equal(g, e)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_training_after_inference(mode):
    """What inference left in the caches must serve autograd. Sizes of its own, so inference comes first."""
    features, attention, boxes = torch.randn(1, 2, 23, 19), torch.randn(1, 2, 11, 11), torch.tensor([[3.0, 4, 60, 70]])
    R = 37 if mode is torch.no_grad else 41
    with mode():
        before = roi_align(features, boxes, R), interpolate(attention, R)
    features.requires_grad_(), attention.requires_grad_()
    crop, up = roi_align(features, boxes, R), interpolate(attention, R)
    assert torch.equal(crop, before[0]) and torch.equal(up, before[1])
    blend(crop, softmax(up)).sum().backward()
    assert features.grad.any() and attention.grad.any()


def test_an_output_side_may_be_a_pair_or_a_numpy_number():
    import numpy as np

    features, boxes = double(1, 1, 4, 4), tensor([[1.0, 1, 9, 9]])
    for side in ((3, 3), [3, 3], np.int64(3), torch.Size((3, 3))):
        assert torch.equal(roi_align(features, boxes, side), roi_align(features, boxes, 3))


def test_memory_layout_does_not_matter():
    features, attention = double(2, 3, 8, 9), double(2, 3, 5, 5)
    boxes = tensor([[1, 2.2, 3, 20, 21], [0, -4, 2, 11, 60]])
    strided = double(2, 3, 16, 18)[:, :, ::2, ::2].copy_(features)
    for odd in (features.to(memory_format=torch.channels_last), strided, features.mT.contiguous().mT):
        assert_close(roi_align(odd, boxes, 4), roi_align(features, boxes, 4), **F64)
    assert_close(interpolate(attention.mT.contiguous().mT, 9), interpolate(attention, 9), **F64)


@pytest.mark.gpu
@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_the_steps_on_cuda_agree_with_the_cpu(ratio):
    features, attention = torch.randn(2, 4, 20, 30), torch.randn(50, 4, 14, 14)
    corner = torch.rand(50, 2) * 100 - 10
    boxes = torch.cat((torch.randint(2, (50, 1)), corner, corner + torch.rand(50, 2) * 60), 1)
    for aligned in (True, False):
        on_cpu = roi_align(features, boxes, 14, 0.25, ratio, aligned)
        assert_close(
            roi_align(features.cuda(), boxes.cuda(), 14, 0.25, ratio, aligned).cpu(), on_cpu, rtol=0, atol=5e-4
        )
    assert_close(
        softmax(interpolate(attention.cuda(), 56)).cpu(), softmax(interpolate(attention, 56)), rtol=0, atol=1e-4
    )
    assert math.isfinite(on_cpu.sum().item())
