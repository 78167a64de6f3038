"""RoIPool: against its slow loop and torchvision's operator, to the last cell, so comparisons are exact."""

import pytest
import strategies
import torch
import twins
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close
from torchvision.ops import roi_pool as their_roi_pool

from blendlab import roi_pool

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def poolings(draw):
    features = draw(strategies.maps())
    return features, draw(strategies.boxes(len(features))), draw(strategies.sides), draw(strategies.scales)


def between_two_cells(boxes, scale, R):
    """Whether a corner at a third of a pixel lies so near a half that float32 rounds it to the other cell."""
    halves = boxes[:, 1:] * scale - 0.5
    return scale == 1 / 3 and bool(((halves - halves.round()).abs() < 1e-4).any())


@settings(max_examples=80)
@given(poolings())
def test_roi_pool_is_its_loop(case):
    assert torch.equal(roi_pool(*case), twins.roi_pool(*case))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=250)
@given(case=poolings())
def test_roi_pool_is_torchvisions_with_its_gradient(case, dtype):
    features, boxes, R, scale = case
    assume(dtype == torch.float64 or not between_two_cells(boxes, scale, R))
    boxes = boxes.to(dtype)
    ours, theirs = features.to(dtype).requires_grad_(), features.to(dtype).requires_grad_()
    out, expected = roi_pool(ours, boxes, R, scale), their_roi_pool(theirs, boxes, R, scale)
    assert torch.equal(out, expected)
    if len(boxes):
        push = torch.randn_like(out)
        (out * push).sum().backward()
        (expected * push).sum().backward()
        assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10 if dtype == torch.float64 else 1e-4)


def test_gradcheck():
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64).requires_grad_()
    boxes = torch.tensor([[0, 1, 2, 14, 19], [1, -9, 0, 30, 12], [1, 50, 50, 60, 60.0]], dtype=torch.float64)
    assert gradcheck(lambda f: roi_pool(f, boxes, 3), features)


def test_corners_round_half_away_from_zero():
    """Cells, not the even number: at scale 1 a corner of 0.5 or 2.5 goes up, -0.5 down; just below a half stays."""
    cells = torch.arange(1.0, 9).expand(1, 1, 8, 8)
    for low, high, largest in ((0.5, 2.5, 4), (2.5, 2.5, 4), (0.0, 0.49999997, 1), (0.0, 0.5, 2), (1.5, 1.5, 3)):
        box = torch.tensor([[low, 0, high, 0]])
        for pool in (roi_pool, lambda f, b, R, s: their_roi_pool(f, [b], R, s)):
            assert pool(cells, box, 1, 1.0).item() == largest, (low, high)


def test_it_does_not_move_until_the_box_crosses_a_cell():
    """At stride 4: 1.9 px change nothing, 2.1 px move a whole cell."""
    features, box = torch.randn(1, 1, 20, 20), torch.tensor([[16.0, 16, 48, 48]])
    still, small, large, cell = (roi_pool(features, box + dx, 4) for dx in (0, 1.9, 2.1, 4))
    assert torch.equal(small, still)
    assert not torch.equal(large, still) and torch.equal(large, cell)


def test_bins_off_the_map_are_zero_and_bins_may_share_cells():
    features = torch.randn(1, 1, 4, 4) - 10  # all negative, so that a 0 can only mean "no cell"
    out = roi_pool(features, torch.tensor([[-4.0, 0, 3, 3]]), 2, 1.0)[0, 0]
    assert (out[:, 0] == 0).all() and (out[:, 1] < 0).all()
    one_cell = roi_pool(features, torch.tensor([[2.0, 1, 2, 1]]), 3, 1.0)
    assert (one_cell == features[0, 0, 1, 2]).all()


@pytest.mark.parametrize("size", [1e9, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_absurd_box_still_covers_the_map(size, dtype):
    features = torch.randn(1, 2, 5, 6, dtype=dtype)
    box = torch.tensor([[-size, -size, size, size]], dtype=dtype)
    assert torch.equal(roi_pool(features, box, 1), features.amax((2, 3), keepdim=True))


def test_no_boxes_and_one_row_maps():
    features = torch.randn(2, 3, 1, 7).requires_grad_()
    out = roi_pool(features, [torch.zeros(0, 4)] * 2, 5)
    assert out.shape == (0, 3, 5, 5)
    boxes = torch.tensor([[1, -3.0, -3, 20, 9]])
    assert torch.equal(roi_pool(features, boxes, 3), their_roi_pool(features, boxes, 3, 0.25))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_maps_keep_their_dtype_and_the_box_its_digits(dtype):
    features = torch.randn(1, 2, 4, 400).to(dtype)
    boxes = torch.tensor([[1334.1, 0.7, 1391.9, 15.1]])
    out = roi_pool(features, boxes, 5)
    assert out.dtype == dtype and torch.equal(out.float(), roi_pool(features.float(), boxes, 5))


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    features, corner = torch.randn(2, 4, 20, 30), torch.rand(30, 2) * 100 - 10
    boxes = torch.cat((torch.randint(2, (30, 1)), corner, corner + torch.rand(30, 2) * 60), 1)
    assert torch.equal(roi_pool(features.cuda(), boxes.cuda(), 7).cpu(), roi_pool(features, boxes, 7))
