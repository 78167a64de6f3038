"""The microscope without a browser: what its crops hold, what it points at, what a hand can do to it."""

import json

import pytest
import torch
import twins

from blendlab import roi_align, roi_pool
from blendlab.explorers import Microscope
from blendlab.explorers.microscope import VARIANTS, disc


@pytest.fixture
def microscope():
    return Microscope()


def pointed(microscope):
    return json.loads(microscope.board.pointer)


def words(microscope):
    return json.loads(microscope.board.steps["words"])


def test_each_crop_is_the_step_with_its_setting(microscope):
    microscope.box, microscope.R.value = (7.3, 9.9, 33.1, 41.0), 5
    box = torch.tensor([[7.3, 9.9, 33.1, 41.0]], dtype=torch.float64)
    features = disc(12, 15.0).double()
    for name, trace in microscope.traces.items():
        if name == "RoIPool":
            expected = roi_pool(features, box, 5)
        else:
            options = VARIANTS[name]
            expected = roi_align(features, box, 5, 0.25, options.get("sampling_ratio", 1), options.get("aligned", True))
        torch.testing.assert_close(trace.regions, expected, rtol=0, atol=0)
    assert [panel["name"] for panel in words(microscope)["panels"]] == list(VARIANTS)


@pytest.mark.parametrize("name", list(VARIANTS)[1:])
def test_the_dots_are_the_samples_in_image_pixels(microscope, name):
    microscope.shown.value = name
    options = VARIANTS[name]
    rule = (0.25, options.get("sampling_ratio", 1), options.get("aligned", True))
    xs, ys = (sum(twins.sample_positions(low, high, 4, *rule), []) for low, high in ((9.0, 35.4), (10.6, 37.0)))
    expected = sorted(((x + 0.5) * 4, (y + 0.5) * 4) for y in ys for x in xs)  # a cell's centre is at its middle
    dots = sorted(map(tuple, pointed(microscope)["dots"]))
    assert len(dots) == len(expected)
    for dot, place in zip(dots, expected, strict=True):
        assert dot == pytest.approx(place, abs=2e-3)


def test_the_cells_under_the_glass_carry_the_weights_of_the_bin(microscope):
    microscope.board.on_cell("ratio 2", 0, 1, 2)
    assert microscope.shown.value == "ratio 2"
    values = microscope.features[0, 0]
    cells = pointed(microscope)["cells"]
    assert sum(float(text) for *_, text in cells) == pytest.approx(1, abs=0.03)  # each is rounded to two digits
    total = sum(float(text) * values[round(y / 4), round(x / 4)] for x, y, _, text in cells)
    assert total.item() == pytest.approx(microscope.traces["ratio 2"].regions[0, 0, 1, 2].item(), abs=0.1)
    assert words(microscope)["cell"] == {"name": "ratio 2", "k": 0, "row": 1, "column": 2}
    frames = [panel["marks"] for panel in words(microscope)["panels"]]
    assert frames == [[{"shape": "frame", "xs": [2, 3], "ys": [1, 2], "only": None}]] * 6


def test_roi_pool_shows_the_whole_cells_that_it_rounds_to(microscope):
    microscope.shown.value = "RoIPool"
    microscope.box = (9.0, 10.6, 35.4, 37.0)  # cells 2.25..8.85 -> 2..9, 2.65..9.25 -> 3..9
    corners = {(x, y) for x1, y1, x2, y2 in pointed(microscope)["lines"] for x, y in ((x1, y1), (x2, y2))}
    assert corners == {(8, 12), (40, 12), (40, 40), (8, 40)}
    assert pointed(microscope)["dots"] == []


def test_a_tenth_of_a_pixel_moves_roi_align_and_not_roi_pool(microscope):
    microscope.board.on_cell("ratio 1", 0, 0, 0)
    before = {name: trace.regions.clone() for name, trace in microscope.traces.items()}
    microscope.board.on_box(9.1, 10.6, 35.5, 37.0)
    assert microscope.box == (9.1, 10.6, 35.5, 37.0)
    moved = {name for name, trace in microscope.traces.items() if not torch.equal(trace.regions, before[name])}
    assert moved == set(VARIANTS) - {"RoIPool"}
    assert microscope.text.startswith("Box 9.1, 10.6 to 35.5, 37.0 in image pixels, 6.60×6.60 cells, R=4.")


def test_a_bin_that_is_gone_gives_way_to_the_last_one_and_reset_brings_the_start(microscope):
    start = microscope.text
    microscope.board.on_cell("adaptive", 0, 3, 3)
    microscope.R.value = 2
    assert "Bin row 1, column 1" in microscope.text
    microscope.board.on_cell("adaptive", 0, 3, 3)  # a click on a picture of a moment ago
    assert "Bin row 1, column 1" in microscope.text
    microscope.board.on_box(-20.0, -20.0, 5.0, 5.0)
    microscope.reset.click()
    assert microscope.text == start


def test_a_box_off_the_map_reads_no_cell(microscope):
    microscope.board.on_box(-40.0, -40.0, -20.0, -20.0)
    for name in VARIANTS:
        microscope.shown.value = name
        assert "reads 0 cells" in microscope.text
        assert "r = nothing = 0.000" in words(microscope)["lines"]


def test_the_snapshot_holds_the_dots(microscope):
    with_dots = microscope.board.snapshot()
    microscope.board.pointer = ""
    assert with_dots != microscope.board.snapshot()
    assert set(microscope._repr_mimebundle_()) >= {"image/png", "text/plain"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        ({"features": torch.zeros(1, 2, 8, 8)}, r"features must be \(1,1,H,W\) with H and W at most 31; got a torch"),
        ({"features": torch.zeros(8, 8)}, r"features must have shape \(B,K,H,W\)"),
        ({"box": (1, 2, 3)}, r"box must be x1, y1, x2, y2; got tuple \(1, 2, 3\)"),
        ({"box": (5, 2, 3, 9)}, "expected x1,y1,x2,y2 with x1 < x2"),
        ({"R": 0}, "R must be at least 1; got 0"),
    ),
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Microscope(**arguments)
