"""The explorers of lesson 05 without a browser: the hull's drawing is the trace's row, and the pastes are right."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from blendlab import Blender
from blendlab.board.drawing import Word
from blendlab.explorers import HullExplorer, PasteExplorer
from blendlab.explorers.hull import HEIGHT, hull_shapes, hull_told
from blendlab.pictures import Picture
from blendlab.sources import random_source


@pytest.fixture
def hull():
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:30, 5:35], masks[1, 20:38, 30:55] = True, True
    picture = Picture.from_masks(np.zeros((40, 60, 3), np.uint8), masks)
    return HullExplorer(picture, sources={"random": random_source(picture)}, R=8, M=4, pixel=(2, 5))


def polylines(svg):
    """The y of every point of each row's line, in the order drawn: K bases, then the logit."""
    lines = [line.split() for line in re.findall('polyline points="(.*?)"', svg)]
    return [[float(point.split(",")[1]) for point in line] for line in lines if len(line) == 8]  # not the axes


def test_the_lines_are_the_row_of_the_chosen_pixel(hull):
    *bases, logits = polylines(hull.curves.value)
    assert len(bases) == 4
    for drawn, values in ((logits, hull.trace.logits[0, 2]), *zip(bases, hull.trace.regions[0, :, 2], strict=True)):
        slope, offset = np.polyfit(values.numpy(), drawn, 1)
        assert slope < 0  # up is more
        assert np.abs(slope * values.numpy() + offset - drawn).max() < 0.06  # a tenth of a pixel is drawn
    for i in range(8):  # under softmax, between its bases, as drawn
        assert min(b[i] for b in bases) - 0.1 <= logits[i] <= max(b[i] for b in bases) + 0.1


def test_the_discs_areas_are_the_weights(hull):
    radii = [float(r) - 2 for r in re.findall(r' r="(.*?)"', hull.curves.value)]
    scores = hull.trace.scores[0, :, 2, 5].tolist()
    assert [(radius / 12) ** 2 for radius in radii] == pytest.approx(scores, abs=0.02)
    assert [float(s) for s in re.findall(r"k = \d: (.*?)<", hull.curves.value)] == pytest.approx(scores, abs=0.005)


@pytest.mark.parametrize(("normalizer", "where"), (("softmax", "inside"), ("none", "outside")))
def test_the_sentence_says_whether_the_hull_holds(hull, normalizer, where):
    bases = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    trace = Blender(2, normalizer=normalizer)(bases, torch.full((1, 2, 1, 1), 2.0), torch.tensor([[4.0, 4, 20, 20]]))
    logit = f"{float(trace.logits[0, 0, 1]):.2f}"
    assert hull_told(trace, 0, 1) == f"Row 0, column 1: bases from 1.00 to 3.00, logit {logit}, {where} their hull."
    hull.normalizer.value = normalizer
    assert hull.told in hull.curves.value
    assert hull._repr_mimebundle_()["text/plain"].endswith(hull.told)


def test_a_click_and_a_key_move_the_row(hull):
    hull.board.on_pixel(6, 1)
    assert hull.told.startswith("Row 6, column 1:")
    hull.R.value = 16  # the place stays, on a finer grid
    assert hull.told.startswith("Row 13, column 3:")
    hull.board.on_pixel(None, None)
    assert hull.told.startswith("Row 8, column 8:")


@pytest.mark.parametrize("K", range(1, 9))
def test_words_stay_apart_and_on_the_drawing(K):
    trace = Blender(4)(torch.zeros(1, K, 8, 8), torch.zeros(1, K, 1, 1), torch.tensor([[0.0, 0, 32, 32]]))
    for column in range(4):
        shapes = hull_shapes(trace, 0, column, 5.0)
        heights = sorted(word.y for word in shapes if isinstance(word, Word) and word.text.startswith("k ="))
        assert len(heights) == K and heights[-1] < HEIGHT
        assert all(below - above >= 12.9 for above, below in zip(heights, heights[1:], strict=False))


def test_a_picture_without_instances_draws_no_hull():
    empty = Picture.from_masks(np.zeros((20, 20, 3), np.uint8), np.zeros((0, 20, 20), bool))
    assert HullExplorer(empty).curves.value == ""


def test_the_snapshot_holds_the_drawing_below_the_figure(hull):
    picture = Image.open(io.BytesIO(base64.b64decode(hull._repr_mimebundle_()["image/png"])))
    figure = Image.open(io.BytesIO(hull.board.snapshot()))
    assert picture.height == figure.height + HEIGHT
    below = np.asarray(picture.convert("RGB"))[figure.height :]
    assert (below.reshape(-1, 3) == (0x00, 0x72, 0xB2)).all(1).any()  # the first basis's line


# ---------------------------------------------------------------- pasting


def test_only_the_order_that_clips_between_is_hurt_by_the_edge():
    paste = PasteExplorer()
    assert paste.ious["clip between"] == pytest.approx(0.92, abs=0.005)  # FACTS: the published slip
    assert min(paste.ious["as it is"], paste.ious["clip first"]) > 0.98
    paste.x.value = 60  # the box touches the edge and does not cross it
    assert min(paste.ious.values()) > 0.98
    assert len({round(iou, 6) for iou in paste.ious.values()}) == 1


def test_the_panels_tell_right_from_too_much_and_missing():
    paste = PasteExplorer(x=-20)
    codes = np.frombuffer(paste.board.steps["codes"], np.uint8).reshape(3, 200, 200)
    values, counts = np.unique(codes[2], return_counts=True)
    by_code = dict(zip(values.tolist(), counts.tolist(), strict=True))
    right, extra, missing = by_code[172], by_code[255], by_code[0]
    assert right / (right + extra + missing) == pytest.approx(paste.ious["clip between"], abs=1e-6)
    assert "clip between 0.77" in paste.text


def test_a_higher_threshold_keeps_less():
    paste = PasteExplorer()
    kept = []
    for paste.threshold.value in (10, 50, 90):
        codes = np.frombuffer(paste.board.steps["codes"], np.uint8).reshape(3, 200, 200)[0]
        kept.append(int((codes > 128).sum()))
    assert kept[0] > kept[1] > kept[2] > 0


@pytest.mark.parametrize("x", (-55, 120))
@pytest.mark.parametrize("R", (4, 112))
def test_every_corner_is_drawn(x, R):
    paste = PasteExplorer(x=x, R=R, threshold=1)
    assert paste.board.error == "" and set(paste._repr_mimebundle_()) >= {"image/png", "text/plain"}
