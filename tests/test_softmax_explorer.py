"""The explorer of the softmax without a browser. K bases, M attention side, R output side."""

import json
from itertools import product

import numpy as np
import pytest
import torch

from blendlab import blend, interpolate, roi_align, softmax
from blendlab.explorers import SoftmaxExplorer
from blendlab.paste import mask_iou
from blendlab.pictures import Picture
from blendlab.sources import random_source

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def picture() -> Picture:
    masks = np.zeros((2, 52, 66), bool)
    masks[0, 6:40, 4:40] = masks[1, 20:48, 42:62] = True
    return Picture.from_masks(np.zeros((52, 66, 3), np.uint8), masks, name="small")


@pytest.fixture
def explorer(picture) -> SoftmaxExplorer:
    return SoftmaxExplorer(picture, sources={"random": lambda: random_source(picture)})


def shown(explorer) -> dict:
    """name -> (K,h,w) codes of the panels."""
    maps, start = {}, 0
    for spec in json.loads(explorer.board.steps["words"])["panels"]:
        size = int(np.prod(spec["shape"]))
        codes = np.frombuffer(explorer.board.steps["codes"], np.uint8, size, start)
        maps[spec["name"]], start = codes.reshape(spec["shape"]), start + size
    return maps


@pytest.mark.parametrize(("K", "M", "R"), list(product((2, 8), (2, 14, 28), (7, 56))))
def test_both_orders_are_the_steps_in_both_orders(explorer, picture, K, M, R):
    explorer.K.value, explorer.M.value, explorer.R.value, explorer.instance.value = K, M, R, 1
    inputs = random_source(picture).inputs(K, M, 1)
    regions = roi_align(inputs.bases, inputs.boxes, R)
    paper = blend(regions, softmax(interpolate(inputs.attention, R)))
    other = blend(regions, interpolate(softmax(inputs.attention), R))
    assert torch.allclose(explorer.trace.logits, paper, atol=1e-5)
    assert torch.allclose(explorer.swapped.logits, other, atol=1e-5)
    assert explorer.flipped == pytest.approx(float(((paper >= 0) != (other >= 0)).float().mean()), abs=2 / R**2)
    assert explorer.swapped_iou == mask_iou(explorer.swapped.probabilities[0], picture.boxes[1], picture.masks[1])
    assert f"{100 * explorer.flipped:.1f} % of the mask's pixels flip" in explorer.text
    assert f"its IoU is {explorer.swapped_iou:.3f}." in explorer.text


def test_what_is_drawn(explorer):
    maps = shown(explorer)
    assert list(maps) == [
        "attention", "scores", "swapped_scores", "moved", "probabilities", "swapped_probabilities", "flipped"
    ]  # fmt: skip
    assert explorer.board.bases == {}
    gained, lost = (explorer.swapped.logits >= 0) & (explorer.trace.logits < 0), explorer.flipped > 0
    assert lost and np.array_equal(maps["flipped"][0] == 255, gained[0].numpy())
    assert np.count_nonzero(maps["flipped"] != 128) == round(explorer.flipped * 56**2)
    still = (explorer.swapped.scores == explorer.trace.scores)[0].numpy()
    assert (maps["moved"][still] == 128).all()


def test_with_nearest_the_orders_are_one(explorer):
    assert explorer.flipped > 0.01
    explorer.interpolation.value = "nearest"
    assert explorer.flipped == 0
    assert torch.allclose(explorer.trace.scores, explorer.swapped.scores, atol=1e-6)


def test_without_a_normaliser_the_orders_are_one(explorer):
    explorer.normalizer.value = "none"
    assert torch.allclose(explorer.trace.scores, explorer.swapped.scores, atol=1e-5)
    assert "the normaliser none before" in explorer.text


def test_one_basis_under_softmax_has_nothing_to_swap(explorer):
    explorer.K.value = 1
    assert explorer.flipped == 0 and (explorer.swapped.scores == 1).all()
    explorer.normalizer.value = "product"
    assert not explorer.board.error and len(shown(explorer)["scores"]) == 1


def test_a_dragged_box_serves_both_orders(explorer):
    explorer.board.on_box(10.0, 10, 60, 50)
    assert explorer.trace.inputs.boxes[0, 1:].tolist() == [10, 10, 60, 50]
    assert torch.equal(explorer.swapped.inputs.boxes, explorer.trace.inputs.boxes)
    assert torch.equal(explorer.swapped.regions, explorer.trace.regions)


def test_the_line_and_the_controls(explorer):
    offered = [control.description for row in explorer.children[:-1] for control in row.children]
    assert offered == ["K", "M", "R", "source", "instance", "normalizer", "interpolation", "reset"]
    assert explorer.order.value == "interpolate-first"
    assert repr(explorer).startswith("SoftmaxExplorer('small', source='random', instance=0")
    explorer.K.value = 2
    explorer.reset.click()
    assert explorer.K.value == 4


def test_no_instance_is_said():
    empty = Picture.from_masks(np.zeros((20, 20, 3), np.uint8), np.zeros((0, 20, 20), bool), name="empty")
    explorer = SoftmaxExplorer(empty, sources={"random": lambda: random_source(empty)})
    assert "no instance" in explorer.text
