"""From R x R to the image and back. Tolerances: float64 1e-10, float32 1e-5 (positions within boxes of some 100 px)."""

import pytest
import strategies
import torch
import twins
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

from blendlab import paste_masks, roi_align
from blendlab.paste import clip_boxes

pytestmark = pytest.mark.usefixtures("one_thread")
F64 = {"rtol": 0, "atol": 1e-10}
eighths = st.integers(-80, 160).map(lambda value: value / 8)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def iou(a, b):
    return ((a & b).sum() / (a | b).sum()).item()


@settings(max_examples=80)
@given(strategies.boxes(coordinates=eighths), strategies.sides, st.integers(1, 12), st.integers(1, 12))
def test_paste_is_its_loop(boxes, R, H, W):
    boxes = boxes[:, 1:]
    masks = torch.rand(len(boxes), R, R, dtype=torch.float64)
    assert_close(paste_masks(masks, boxes, (H, W)), twins.paste(masks, boxes, (H, W)), **F64)


def test_whole_pixel_boxes_at_their_own_size_are_copied():
    mask = torch.rand(1, 5, 5, dtype=torch.float64)
    expected = torch.zeros(1, 9, 10, dtype=torch.float64)
    expected[:, 2:7, 3:8] = mask
    assert_close(paste_masks(mask, tensor([[3, 2, 8, 7.0]]), (9, 10)), expected, **F64)


def test_what_leaves_the_image_is_dropped():
    mask = torch.rand(3, 4, 4, dtype=torch.float64)
    pasted = paste_masks(mask, tensor([[-2, -1, 2, 3], [50, 50, 60, 60], [-9, 0, 0, 4.0]]), (6, 6))
    assert_close(pasted[0, :3, :2], mask[0, 1:, 2:], **F64)
    assert not pasted[0, 3:].any() and not pasted[0, :, 2:].any() and not pasted[1:].any()


def test_a_mirrored_mask_pastes_mirrored():
    """With the box's ends on pixel borders and between them: neither side may gain a pixel."""
    mask, W = torch.rand(3, 2, 2, dtype=torch.float64), 12
    boxes = tensor([[2, 2, 8, 8], [1.5, 3, 9.5, 7], [0.7, 0.1, 6.2, 11.8]])
    mirrored = torch.stack((W - boxes[:, 2], boxes[:, 1], W - boxes[:, 0], boxes[:, 3]), 1)
    assert_close(paste_masks(mask.flip(2), mirrored, (12, W)), paste_masks(mask, boxes, (12, W)).flip(2), **F64)


def test_nothing_outside_the_box():
    pasted = paste_masks(torch.ones(1, 2, 2), torch.tensor([[3.0, 4, 9, 10]]), (14, 14))[0]
    assert (pasted[4:10, 3:9] > 0).all()
    pasted[4:10, 3:9] = 0
    assert not pasted.any()


def test_empty_boxes_and_no_boxes_paste_nothing():
    boxes = torch.tensor([[3.0, 3, 3, 8], [3, 3, 8, 3], [4.5, 4.5, 4.5, 9]])  # the last one touches centres
    assert not paste_masks(torch.ones(3, 4, 4), boxes, (10, 10)).any()
    assert paste_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), (10, 12)).shape == (0, 10, 12)


def test_absurd_boxes_paste_finite_values():
    for size in (1e9, 1e30):
        box = torch.tensor([[-size, -size, size, size]])
        assert_close(paste_masks(torch.full((1, 4, 4), 0.7), box, (5, 5)), torch.full((1, 5, 5), 0.7))


@pytest.mark.parametrize("box", [(8, 8, 40, 40), (7.3, 9.6, 41.8, 38.2)])
def test_paste_undoes_the_crop(box):
    """A smooth map cropped at R=56 and pasted back over the same box: within 0.02 of itself, one pixel inside."""
    y, x = torch.meshgrid(torch.arange(48.0) + 0.5, torch.arange(48.0) + 0.5, indexing="ij")
    smooth = (0.5 + 0.5 * torch.sin(x / 7) * torch.cos(y / 9)).double()
    boxes = tensor([box])
    crop = roi_align(smooth[None, None], boxes, 56, 1.0)[:, 0]
    back = paste_masks(crop, boxes, (48, 48))[0]
    inside = slice(int(box[1]) + 2, int(box[3]) - 1), slice(int(box[0]) + 2, int(box[2]) - 1)
    assert_close(back[inside], smooth[inside], rtol=0, atol=0.02)


def test_predicting_and_pasting_must_use_one_box():
    """A disc whose box, -30..90, leaves a 200 px image: predicted on the unclipped box and pasted into the clipped
    one, IoU 0.92; either box for both, 0.99. The stated figures within 0.02."""
    centres = torch.arange(200, dtype=torch.float64) + 0.5
    truth = (centres[:, None] - 100).square() + (centres - 30).square() <= 60**2
    at_stride_4 = torch.arange(50, dtype=torch.float64) * 4 + 2
    distance = 60 - ((at_stride_4[:, None] - 100).square() + (at_stride_4 - 30).square()).sqrt()
    whole = tensor([[-30, 40, 90, 160.0]])
    clipped = clip_boxes(whole, (200, 200))
    assert clipped.tolist() == [[0, 40, 90, 160]]

    def result(predicted_on, pasted_into):
        mask = roi_align(distance[None, None], predicted_on, 56)[:, 0].sigmoid()
        return iou(paste_masks(mask, pasted_into, (200, 200))[0] >= 0.5, truth)

    assert result(whole, whole) > 0.97 and result(clipped, clipped) > 0.97
    assert result(whole, clipped) == pytest.approx(0.92, abs=0.02)


def test_clip_boxes():
    boxes = torch.tensor([[-5.0, -6, 3, 4], [1, 2, 30, 40], [50, 60, 70, 80], [2, 3, 4, 5]])
    assert clip_boxes(boxes, (10, 20)).tolist() == [[0, 0, 3, 4], [1, 2, 20, 10], [20, 10, 20, 10], [2, 3, 4, 5]]


def test_gradcheck():
    boxes = tensor([[1.2, 0.7, 5.9, 6.3], [-2, 3, 4, 9]])
    masks = torch.rand(2, 3, 3, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda p: paste_masks(p, boxes, (7, 6)), masks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_probabilities_are_pasted_with_whole_coordinates(dtype):
    """Beyond 256 (bfloat16) or 2048 (float16) whole pixels are no longer numbers of these types."""
    masks, boxes = torch.rand(1, 8, 8).to(dtype), torch.tensor([[2100.3, 1.2, 2140.8, 30.9]])
    pasted = paste_masks(masks, boxes, (32, 2200))
    assert pasted.dtype == dtype and torch.equal(pasted, paste_masks(masks.float(), boxes, (32, 2200)).to(dtype))


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    corner = torch.rand(20, 2) * 60 - 10
    boxes, masks = torch.cat((corner, corner + torch.rand(20, 2) * 60), 1), torch.rand(20, 28, 28)
    on_cuda = paste_masks(masks.cuda(), boxes.cuda(), (64, 80))
    assert_close(on_cuda.cpu(), paste_masks(masks, boxes, (64, 80)), rtol=0, atol=1e-4)
