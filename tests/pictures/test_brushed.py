"""Drawing by hand: which pixels a stroke covers, boxes, and the picture that comes of it. Exact unless said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendlab.pictures.brushed import MOST, Brushed, line

H, W = 30, 40
IMAGE = np.zeros((H, W, 3), np.uint8)
near = st.floats(-20, 60, width=32)


def slow_line(points, radius):
    """Pixel by pixel: the least distance from its centre to any of 300 points on each piece."""
    covered = np.zeros((H, W), bool)
    for (ax, ay), (bx, by) in zip([points[0], *points], points, strict=False):
        for share in np.linspace(0, 1, 300):
            y, x = np.mgrid[:H, :W] + 0.5
            covered |= (x - ax - share * (bx - ax)) ** 2 + (y - ay - share * (by - ay)) ** 2 <= radius**2
    return covered


@settings(max_examples=25)
@given(st.lists(st.tuples(near, near), min_size=1, max_size=3), st.floats(0.5, 15, width=32))
def test_a_stroke_covers_what_lies_within_its_radius(points, radius):
    """Against the slow twin; pixels right at the rim, which 300 points a piece may miss, may differ."""
    fast = line((H, W), points, radius)
    assert not (slow_line(points, radius - 0.01) & ~fast).any()
    assert not (fast & ~slow_line(points, radius + 0.1)).any()


def test_a_dab_by_hand():
    dab = line((5, 5), [(2.5, 2.5)], 1)
    assert np.argwhere(dab).tolist() == [[1, 2], [2, 1], [2, 2], [2, 3], [3, 2]]


def test_strokes_add_and_erase():
    drawn = Brushed(IMAGE)
    assert drawn.add() == 0 and drawn.add() == 1
    drawn.stroke(0, [(10, 10), (20, 10)], 3)
    drawn.stroke(0, [(15, 0), (15, 20)], 1, erase=True)
    assert drawn.masks[0].any() and not drawn.masks[0][:, 14:16].any() and not drawn.masks[1].any()


def test_without_a_drawn_box_the_mask_has_its_tight_one():
    drawn = Brushed(IMAGE)
    drawn.add()
    assert drawn.box(0) is None
    drawn.stroke(0, [(10, 10)], 3)
    assert drawn.box(0) == [7, 7, 13, 13]
    drawn.move(0, [8, 8, 30, 30])
    assert drawn.box(0) == [8, 8, 30, 30]


def test_what_lies_outside_the_box_is_kept_but_not_blended():
    drawn = Brushed(IMAGE)
    drawn.add([10, -5, 20, 12])
    drawn.stroke(0, [(5, 10), (25, 10)], 2)
    picture = drawn.picture("mine")
    rows, columns = np.nonzero(picture.masks[0])
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 19, 8, 11)
    assert picture.boxes.tolist() == [[10, -5, 20, 12]] and picture.name == "mine"
    drawn.move(0, [0, 0, 40, 30])  # it was not lost
    assert drawn.picture("mine").masks[0].sum() == drawn.masks[0].sum() > picture.masks[0].sum()


def test_what_cannot_be_a_picture_says_which_instance():
    drawn = Brushed(IMAGE)
    with pytest.raises(ValueError, match="nothing is drawn"):
        drawn.picture("mine")
    drawn.add()
    drawn.stroke(0, [(10, 10)], 3)
    drawn.add([20, 20, 30, 30])
    with pytest.raises(ValueError, match="instance 1 has no brushed pixel in its box"):
        drawn.picture("mine")
    drawn.remove(1)
    assert len(drawn.picture("mine")) == 1


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 5, 2, 9], [float("nan"), 0, 1, 1], [0, 0, float("inf"), 1]])
def test_a_box_that_is_none_is_refused_and_leaves_nothing(box):
    drawn = Brushed(IMAGE)
    with pytest.raises(ValueError, match=r"boxes\[0\]"):
        drawn.add(box)
    assert len(drawn) == 0


@pytest.mark.parametrize(
    ("points", "radius"), [([], 3), ([(1, 2, 3)], 3), ([(float("nan"), 1)], 3), ([(1, 1)], 0), ([(1, 1)], float("inf"))]
)
def test_strokes_that_are_none_are_refused(points, radius):
    with pytest.raises(ValueError, match="points must be"):
        line((H, W), points, radius)


def test_undo_goes_back_change_by_change_and_changes_of_one_name_are_one():
    drawn = Brushed(np.zeros((20, 30, 3), np.uint8))
    assert not drawn.changed
    with pytest.raises(ValueError, match="nothing to take back"):
        drawn.undo()
    first = drawn.add()
    drawn.stroke(first, [(5, 5)], 3)  # it began the instance
    after_first = drawn.masks[0].copy()
    for x in range(4):
        drawn.move(first, [x, 0, 20, 20])  # a box on its way
    drawn.stroke(first, [(9, 9)], 3)
    drawn.remove(first)
    drawn.undo()
    assert drawn.masks[0].sum() > after_first.sum() and drawn.boxes == [[3, 0, 20, 20]]
    drawn.undo()
    assert np.array_equal(drawn.masks[0], after_first) and drawn.boxes == [[3, 0, 20, 20]]
    drawn.undo()
    assert np.array_equal(drawn.masks[0], after_first) and drawn.boxes == [None]
    drawn.undo()
    assert len(drawn) == 0 and not drawn.changed


def test_what_is_refused_is_no_change_and_the_past_has_an_end():
    drawn = Brushed(np.zeros((20, 30, 3), np.uint8))
    for wrong in (lambda: drawn.add([5, 5, 1, 1]), lambda: drawn.add([0, 0, float("nan"), 1])):
        with pytest.raises(ValueError):
            wrong()
    assert not drawn.changed and len(drawn) == 0
    drawn.add([0, 0, 10, 10])
    for x in range(40):
        drawn.stroke(0, [(x % 30, 5)], 1)
    for _ in range(MOST):
        drawn.undo()
    assert not drawn.changed and drawn.masks[0].any()
