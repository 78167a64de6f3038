"""What a wrong box costs: jitter, and the curve, on bases that are the true mask itself."""

import pytest
import torch
from tiny import draw

from blendlab.blendmask.box_error import curve, jitter
from blendlab.blendmask.measure import Spoken, listen


def rng():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def ideal():
    """Bases that know the answer: +8 on the object, -8 beside it, at one cell a pixel's quarter; idle attention."""
    picture = draw((8, 12, 40, 44))
    mask = torch.from_numpy(picture.masks[0]).float()
    bases = (16 * torch.nn.functional.avg_pool2d(mask[None, None], 4) - 8).expand(1, 2, -1, -1).contiguous()
    return Spoken(picture, bases, torch.zeros(1, 2, 14, 14), torch.from_numpy(picture.boxes))


def test_no_jitter_leaves_boxes_alone_and_more_moves_them_within_bounds():
    boxes = torch.tensor([[10.0, 20, 30, 80]]).repeat(1000, 1)
    assert torch.equal(jitter(boxes, 0.0, rng()), boxes)
    moved = (jitter(boxes, 0.1, rng()) - boxes) / torch.tensor([20.0, 60, 20, 60])
    assert moved.abs().max() <= 0.1 + 1e-6
    assert moved.abs().amax(0).min() > 0.09  # each side goes to both ends, on its own
    assert abs(float(torch.corrcoef(moved.T)[0, 2])) < 0.1


@pytest.mark.parametrize("amount", (-0.1, 0.5, float("nan")))
def test_an_amount_at_which_sides_cross_is_refused(amount):
    with pytest.raises(ValueError, match="amount"):
        jitter(torch.zeros(1, 4), amount, rng())


def test_bases_that_know_the_answer_lose_only_what_the_box_cuts_off(ideal):
    points = curve([ideal] * 20, (0.0, 0.1, 0.2), K=2, seed=1)
    assert points[0].box_iou == 1
    assert points[0].best == 1
    assert points[0].mask_iou > 0.97
    for before, after in zip(points, points[1:], strict=False):
        assert after.box_iou < before.box_iou
        assert after.mask_iou < before.mask_iou
        assert after.mask_iou <= after.best + 0.01
        assert after.mask_iou == pytest.approx(after.best, abs=0.04)


def test_a_seed_gives_the_same_curve_again(ideal):
    assert curve([ideal], (0.2,), K=2, seed=5) == curve([ideal], (0.2,), K=2, seed=5)
    assert curve([ideal], (0.2,), K=2, seed=5) != curve([ideal], (0.2,), K=2, seed=6)


def test_pictures_of_another_size_than_the_networks_count_in_image_pixels(tiny):
    """tiny works at 64 pixels: the same scene at twice the size has the same boxes' IoU."""
    small, large = draw((8, 8, 40, 40)), draw((16, 16, 80, 80), size=128)
    (a,), (b,) = (curve([listen(tiny, picture)], (0.2,), K=3, M=4, R=14) for picture in (small, large))
    assert a.box_iou == pytest.approx(b.box_iou, abs=1e-5)
    assert a.best == pytest.approx(b.best, abs=0.05)


def test_nothing_to_measure_is_named(tiny):
    with pytest.raises(ValueError, match="no instance"):
        curve([listen(tiny, draw())], (0.1,))
