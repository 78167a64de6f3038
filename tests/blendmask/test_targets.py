import math

import pytest
import torch
from tiny import tiny_config

from blendlab.blendmask import Config
from blendlab.blendmask.fcos import boxes_from_ltrb, locations
from blendlab.blendmask.targets import assign, centerness, distances, speaker


def grid(size, config):
    points = torch.cat([locations(size // s, size // s, s) for s in config.strides])
    level = torch.cat([torch.full(((size // s) ** 2,), i) for i, s in enumerate(config.strides)])
    return points, level


def slow_assign(points, level, boxes, config):
    """The rule, one location and one box at a time."""
    result = []
    for (x, y), at in zip(points.tolist(), level.tolist(), strict=True):
        best, smallest = -1, math.inf
        for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            ltrb = (x - x1, y - y1, x2 - x, y2 - y)
            reach = config.centre_radius * config.strides[at]
            central = abs(x - (x1 + x2) / 2) < reach and abs(y - (y1 + y2) / 2) < reach
            low, high = config.size_ranges[at]
            area = (x2 - x1) * (y2 - y1)
            if min(ltrb) > 0 and central and low <= max(ltrb) <= high and area < smallest:
                best, smallest = i, area
        result.append(best)
    return torch.tensor(result)


@pytest.mark.parametrize("seed", range(8))
def test_assignment_is_the_rule_spelled_out(seed):
    generator = torch.Generator().manual_seed(seed)
    config = tiny_config()
    points, level = grid(128, config)
    corner = torch.rand(6, 2, generator=generator) * 90
    boxes = torch.cat([corner, corner + 2 + torch.rand(6, 2, generator=generator) * 90], 1)
    found = assign(points, level, boxes, config)
    assert torch.equal(found, slow_assign(points, level, boxes, config))
    assert (found >= 0).any()


def test_no_boxes_no_positives():
    config = tiny_config()
    points, level = grid(64, config)
    assert (assign(points, level, torch.empty(0, 4), config) == -1).all()


def test_the_smaller_of_two_concentric_boxes_wins_on_its_level():
    config = tiny_config()
    points, level = grid(128, config)
    boxes = torch.tensor([[20.0, 20, 108, 108], [52, 52, 76, 76]])
    found = assign(points, level, boxes, config)
    assert set(found[level == 0].tolist()) == {-1, 1}  # 24 px belongs to stride 8
    assert 0 in found[level == 1] and 1 not in found[level == 1]  # 88 px: 44 to 64 px from its centre cells


def test_distances_and_boxes_are_inverse():
    points, boxes = torch.rand(5, 2) * 50, torch.rand(5, 4) * 50
    torch.testing.assert_close(boxes_from_ltrb(points, distances(points, boxes)), boxes)


def test_centerness_is_one_in_the_centre_and_zero_at_a_side():
    values = centerness(torch.tensor([[5.0, 5, 5, 5], [0, 5, 10, 5], [2, 4, 8, 4]]))
    torch.testing.assert_close(values, torch.tensor([1.0, 0.0, 0.5]))


def test_who_speaks_for_a_given_box():
    config = Config(("a",))
    points, level = grid(128, config)
    boxes = torch.tensor([[10.0, 10, 30, 30], [10, 10, 90, 60], [0, 0, 128, 128], [61, 61, 62, 62]])
    found = speaker(points, level, boxes, config)
    assert level[found].tolist() == [0, 1, 1, 0]  # halves of 20, 80, 128 and 1 px, ranges to 32 and 64
    assert points[found[0]].tolist() == [20, 20]
    assert points[found[1]].tolist() in ([56, 40], [40, 40])
    for box, location in zip(boxes, found, strict=True):
        centre = (box[:2] + box[2:]) / 2
        mine = points[level == level[location]]
        assert (points[location] - centre).norm() <= (mine - centre).norm(dim=1).min() + 1e-6
