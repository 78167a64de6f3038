"""Explanations as marks and words, and the choice of cells in an explorer."""

import json
import re

import numpy as np
import pytest
import torch

from blendlab import Blender, explain
from blendlab.explain_views import marked, origin_told, reach_told
from blendlab.explorers import BlenderExplorer
from blendlab.fit.targets import soft_targets
from blendlab.pictures import Picture
from blendlab.sources import random_source
from blendlab.views import Lattice, Limits, step_panels


def trace(**options):
    bases, attention = 3 * torch.randn(1, 3, 10, 12), torch.randn(1, 3, 4, 4)
    return Blender(8, **options)(bases, attention, torch.tensor([[6.0, 4.0, 42.0, 34.0]]))


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


@pytest.mark.parametrize("options", ({}, {"sampling_ratio": 2}, {"aligned": False}, {"interpolation": "nearest"}))
def test_the_lines_add_up_as_they_are_shown(options):
    blend = trace(**options)
    told = origin_told(explain.pixel(blend, 3, 5))
    sums = [numbers(line) for line in told.lines if line[0] in "ra" and " = " in line]
    assert len(sums) == 6  # r and a' of three bases
    for *parts, total in sums:
        products = [weight * value for weight, value in zip(parts[::2], parts[1::2], strict=True)]
        assert sum(products) == pytest.approx(total, abs=0.02)  # three digits each
    *powers, total = numbers(told.lines[-1])[1:]
    assert sum(powers) == pytest.approx(total, abs=0.002)
    scores = blend.scores[0, :, 3, 5].tolist()
    assert [power / total for power in powers] == pytest.approx(scores, abs=1e-3)


def test_marks_frame_the_cells_that_are_read():
    blend = trace()
    origin = explain.pixel(blend, 3, 5)
    told = origin_told(origin)
    rows = [cell.row for cell in origin.terms[1].base_cells]
    columns = [cell.column for cell in origin.terms[1].base_cells]
    assert Lattice("frame", [min(columns), max(columns) + 1], [min(rows), max(rows) + 1], 1) in told.marks["bases"]
    panels = {panel.name: panel for panel in marked(step_panels(blend, Limits(1, 1)), told)}
    assert panels["attention"].marks == told.marks["attention"] != ()
    assert panels["logits"].marks == ()


@pytest.mark.parametrize(
    ("normalizer", "moved"), (("softmax", None), ("sigmoid", 2)), ids=("softmax-moves-all", "sigmoid-its-own")
)
def test_an_attention_cells_frame_is_round_the_pixels_that_move(normalizer, moved):
    blend = trace(normalizer=normalizer)
    told = reach_told(blend, explain.attention_cell(blend, 2, 1, 3))
    attention = blend.inputs.attention.clone()
    attention[0, 2, 1, 3] += 1
    again = blend.settings(blend.inputs.bases, attention, blend.inputs.boxes)
    rows, columns = (again.logits != blend.logits)[0].nonzero(as_tuple=True)
    (frame,) = told.marks["logits"]
    assert (frame.xs, frame.ys) == ([columns.min(), columns.max() + 1], [rows.min(), rows.max() + 1])
    assert told.marks["scores"][0].only == moved
    assert told.cell == {"name": "attention", "k": 2, "row": 1, "column": 3}


def test_a_cell_that_no_pixel_reads_has_no_frame():
    blend = trace()
    told = reach_told(blend, explain.base_cell(blend, 0, 9, 11))
    assert set(told.marks) == {"bases"}
    assert "read by 0 mask pixels" in told.lines[0]


def test_roi_pool_and_many_samples_are_told_in_a_few_words():
    told = origin_told(explain.pixel(trace(pooling="pool"), 3, 5))
    assert told.lines[0] == "RoIPool: each r is the largest cell of its bin"
    told = origin_told(explain.pixel(trace(sampling_ratio=9), 0, 0))
    assert "the mean of 81 samples" in told.lines[0]


# ---------------------------------------------------------------- in an explorer


@pytest.fixture
def explorer():
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:30, 5:35], masks[1, 20:38, 30:55] = True, True
    picture = Picture.from_masks(np.zeros((40, 60, 3), np.uint8), masks)
    return BlenderExplorer(picture, sources={"random": random_source(picture)}, R=8, M=4)


def words(explorer):
    return json.loads(explorer.board.steps["words"])


def test_a_chosen_cell_tells_its_reach_with_the_loss_against_the_true_mask(explorer):
    explorer.board.on_cell("attention", 1, 2, 3)
    assert words(explorer)["cell"] == {"name": "attention", "k": 1, "row": 2, "column": 3}
    assert words(explorer)["heading"] == "where this number goes"
    line = words(explorer)["lines"][0]
    inputs = explorer.trace.inputs
    attention = inputs.attention.clone().requires_grad_()
    logits = explorer.trace.settings.logits(inputs.bases, attention, inputs.boxes)
    truth = soft_targets(torch.from_numpy(explorer.picture.masks[:1]).float(), inputs.boxes[:, 1:], 8)
    torch.nn.functional.binary_cross_entropy_with_logits(logits, truth).backward()
    assert float(line.split("gradient of the loss ")[1]) == pytest.approx(attention.grad[0, 1, 2, 3].item(), rel=0.01)


@pytest.mark.parametrize(("step", "shape"), (("bases", (10, 15)), ("attention", (4, 4))))
def test_without_a_place_the_cell_that_the_pixel_reads_most_is_chosen(explorer, step, shape):
    explorer.board.on_pixel(6, 1)
    explorer.board.on_cell(step, 2, None, None)
    chosen = words(explorer)["cell"]
    cells = getattr(explain.pixel(explorer.trace, 6, 1).terms[2], {"bases": "base_cells"}.get(step, "attention_cells"))
    most = max(cells, key=lambda cell: cell.weight)
    assert (chosen["row"], chosen["column"]) == (most.row, most.column)
    assert chosen["row"] < shape[0] and chosen["column"] < shape[1]
    assert words(explorer)["pixel"] is None  # one thing at a time


def test_a_pixel_takes_over_from_a_cell_and_escape_lets_go(explorer):
    explorer.board.on_cell("bases", 0, 3, 3)
    explorer.board.on_pixel(1, 2)
    assert words(explorer)["cell"] is None
    assert words(explorer)["heading"] == "where these numbers come from"
    explorer.board.on_cell("bases", 0, 3, 3)
    explorer.board.on_pixel(None, None)
    assert (words(explorer)["cell"], words(explorer)["lines"]) == (None, [])


def test_a_cell_that_a_slider_takes_away_is_let_go(explorer):
    explorer.board.on_cell("attention", 3, 3, 3)
    explorer.M.value = 3
    assert words(explorer)["cell"] is None
    explorer.board.on_cell("attention", 3, 2, 2)
    explorer.K.value = 2
    assert words(explorer)["cell"] is None


@pytest.mark.parametrize("name", ("pooling", "interpolation", "normalizer", "order", "sampling_ratio"))
def test_every_option_is_told(explorer, name):
    control = getattr(explorer, name)
    for value in [option[1] if isinstance(option, tuple) else option for option in control.options]:
        control.value = value
        explorer.board.on_pixel(3, 3)
        assert words(explorer)["lines"]
        for step in ("bases", "attention"):
            explorer.board.on_cell(step, 1, None, None)
            assert words(explorer)["cell"]["name"] == step
        assert explorer.board.error == ""
