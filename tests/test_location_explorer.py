"""Which location speaks: every cell's words against the network's own. The model here is the shipped one."""

import numpy as np
import pytest
import torch
from elsewhere import elsewhere

from blendlab.blendmask import pretrained
from blendlab.explorers import LocationExplorer
from blendlab.paste import paste_masks
from blendlab.pictures import Picture, scene
from blendlab.sources import shipped_model

SIDE = shipped_model().config.short_side  # of the network's image; scenes are 128
P3, P4, P5 = SIDE // 8, SIDE // 16, SIDE // 32  # cells on a side of each level
SCALE = SIDE / 128


@pytest.fixture(scope="module")
def model():
    return shipped_model()


@pytest.fixture(scope="module")
def picture():
    return scene(13, "held_out")


@pytest.fixture
def explorer(picture, model):
    return LocationExplorer(picture, model)


def test_it_starts_at_the_highest_score_and_that_cell_is_kept(explorer):
    assert explorer.location == int(explorer.scores.argmax())
    assert explorer.verdict == "kept"
    assert f"score {explorer.score:.2f}" in explorer.text


def test_places_and_locations_are_each_others_inverse(explorer):
    first4, first5, end = P3 * P3, P3 * P3 + P4 * P4, P3 * P3 + P4 * P4 + P5 * P5
    for location in (0, P3 - 1, P3, first4 - 1, first4, first4 + P4 - 1, first5 - 1, first5, end - 1):
        explorer.speak(*explorer.place(location))
        assert explorer.location == location
    with pytest.raises(ValueError, match="location"):
        explorer.place(end)


def test_the_attention_is_one_column_of_the_one_convolution(explorer, model):
    explorer.K.value = 8
    towers = explorer.stages.output.dense.towers
    for level, row, column in ((0, 0, 0), (0, 23, 5), (1, 4, 11), (2, 5, 5)):
        explorer.speak(level, row, column)
        with torch.no_grad():
            wanted = model.attention(towers[level])[0, :, row, column].view(8, 14, 14)
        torch.testing.assert_close(explorer.attention[0], wanted, rtol=0, atol=1e-4)


def test_box_score_and_class_are_the_heads(explorer, model):
    explorer.speak(1, 3, 7)
    dense = explorer.stages.output.dense
    at = P3 * P3 + 3 * P4 + 7
    scale = model.config.short_side / 128
    torch.testing.assert_close(explorer.box * scale, dense.boxes()[0, at])
    probability = dense.classes[0, at].sigmoid()
    assert explorer.label == model.config.categories[int(probability.argmax())]
    assert explorer.score == pytest.approx(float((probability.max() * dense.centerness[0, at].sigmoid()).sqrt()))


def test_a_kept_cells_mask_is_the_detections(explorer, picture, model):
    explorer.K.value = 8
    found, best = model.predict(picture.image), explorer.stages.funnel.best
    side = model.config.short_side
    whole = ((best.boxes >= 0) & (best.boxes <= side)).all(1)  # a detection's box is clipped, a cell's own is not
    assert whole.any()
    for i in whole.nonzero().flatten().tolist():
        explorer.speak(*explorer.place(int(best.location[i])))
        mask = paste_masks(explorer.trace.probabilities, explorer.box[None], picture.size)[0] >= 0.5
        assert (mask ^ found.masks[i]).sum() <= 2  # a pixel on the threshold may fall to either side
        assert explorer.verdict == "kept"


def test_verdicts_say_what_became_of_a_cell(explorer):
    funnel = explorer.stages.funnel
    lost = set(funnel.candidates.location.tolist()) - set(funnel.best.location.tolist())
    explorer.speak(*explorer.place(lost.pop()))
    assert explorer.verdict == "suppressed"
    assert any("NMS removed it" in note for note in explorer.board.notes)
    explorer.speak(*explorer.place(int(explorer.scores.argmin())))
    assert explorer.verdict == "below the threshold"


def test_a_click_chooses_the_cell_that_lies_there(explorer):
    explorer.speak(0, 0, 0)
    explorer.board.on_click(100.0, 50.0)  # image pixels, not the network's
    assert (explorer.row.value, explorer.column.value) == (50 * SCALE // 8, 100 * SCALE // 8)
    explorer.level.value = 2  # the same place on P5
    assert (explorer.row.value, explorer.column.value) == (50 * SCALE // 32, 100 * SCALE // 32)
    explorer.board.on_click(-5.0, 500.0)  # outside: the nearest cell
    assert (explorer.row.value, explorer.column.value) == (P5 - 1, 0)


def test_arrow_keys_step_and_stop_at_the_border(explorer):
    explorer.speak(1, 0, P4 - 2)
    explorer.board.on_step(1, 0)
    explorer.board.on_step(1, 0)
    explorer.board.on_step(0, -1)
    assert (explorer.row.value, explorer.column.value) == (0, P4 - 1)
    explorer.board.on_step(0, 1)
    assert (explorer.row.value, explorer.column.value) == (1, P4 - 1)


def test_a_click_on_a_map_of_the_box_is_one_on_the_image(explorer):
    x1, y1, x2, y2 = explorer.box.tolist()
    explorer.board.on_pixel(55, 0)
    assert explorer.column.value == int((x1 + 0.5 / 56 * (x2 - x1)) * SCALE // 8)
    assert explorer.row.value == min(int((y1 + 55.5 / 56 * (y2 - y1)) * SCALE // 8), P3 - 1)
    explorer.board.on_pixel(None, None)  # nothing was chosen


def test_neighbours_are_compared_and_the_same_cell_is_not(explorer):
    assert not any("Against" in note for note in explorer.board.notes)
    explorer.board.on_step(1, 0)
    assert any(note.startswith("Against P3 row") for note in explorer.board.notes)
    explorer.K.value = 2  # other weights of the same cell are no neighbour's
    assert not any("Against" in note for note in explorer.board.notes)


def test_a_mask_that_meets_no_object_is_not_likened_to_one(picture, model):
    speck = np.zeros_like(picture.masks[:1])
    speck[0, -1, 0] = True  # in a corner
    explorer = LocationExplorer(Picture.from_masks(picture.image, speck), model)
    assert "; its mask meets no object." in explorer.text and "IoU" not in explorer.text


def test_a_mask_that_barely_touches_an_object_is_not_likened_to_it_with_an_iou_of_nothing(picture, model):
    explorer = LocationExplorer(picture, model)
    mask = paste_masks(explorer.trace.probabilities, explorer.box[None], picture.size)[0] >= 0.5
    assert mask.sum() > 250
    speck = np.zeros_like(picture.masks[:1])
    speck[(0, *mask.nonzero()[0].tolist())] = True  # one pixel of it
    touching = LocationExplorer(Picture.from_masks(picture.image, speck), model)
    assert 0 < touching.iou < 0.005
    assert "; its mask hardly meets an object." in touching.text and "IoU" not in touching.text


def test_the_level_panel_marks_the_chosen_cell(explorer):
    import json

    explorer.speak(1, 3, 7)
    panels = json.loads(explorer.board.steps["words"])["panels"]
    (level,) = (panel for panel in panels if panel["name"] == "level")
    assert level["shape"] == [1, P4, P4]
    assert level["marks"] == [{"shape": "cross", "xs": [7.5], "ys": [3.5], "only": None}]
    assert panels[-1]["name"] == "probabilities"


def test_a_picture_without_objects_and_of_another_shape_can_be_looked_at(model):
    image = np.random.default_rng(0).integers(0, 255, (90, 250, 3), dtype=np.uint8)
    explorer = LocationExplorer(Picture.from_masks(image), model, level=2)
    assert explorer.instance is None
    assert "IoU" not in explorer.text
    wide = int(250 * SIDE / 90 + 0.5)
    assert explorer.column.max == -(-wide // 32) - 1  # cells on the padding alone are not offered
    explorer.speak(0, P3 - 1, -(-wide // 8) - 1)


@pytest.mark.parametrize(
    ("cell", "message"),
    (
        ((3, 0, 0), r"level must be from 0 \(P3\) to 2; got 3"),
        ((0, P3, 0), f"row must be from 0 to {P3 - 1} on P3; got {P3}"),
        ((1, 0, -1), f"column must be from 0 to {P4 - 1} on P4; got -1"),
    ),
)
def test_a_cell_that_does_not_exist_is_named(explorer, cell, message):
    with pytest.raises(ValueError, match=message):
        explorer.speak(*cell)


def test_the_snapshot_and_the_text_stand_beside_the_widget(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == explorer.text
    assert len(bundle["image/png"]) > 1000


def test_pretrained_makes_a_model_of_ones_own_each_time(model):
    assert pretrained() is not pretrained()
    assert shipped_model() is model


def test_a_cell_that_is_left_out_for_better_ones_is_not_laid_to_nms(picture, model):
    explorer = LocationExplorer(picture, model, threshold=0.05)
    funnel = explorer.stages.funnel
    best, suppressed, top = (set(stage.location.tolist()) for stage in (funnel.best, funnel.suppressed, funnel.top))
    explorer.speak(*explorer.place((suppressed - best).pop()))
    assert explorer.verdict == "crowded out" and "100 better ones" in explorer.board.notes[0]
    explorer.speak(*explorer.place((top - suppressed).pop()))
    assert explorer.verdict == "suppressed"


# --- devices


def test_the_menu_of_devices_is_shown_where_there_is_a_choice(explorer, picture, model, monkeypatch):
    if not torch.cuda.is_available():
        assert explorer.device not in explorer.children[0].children and explorer.board.timing == ""
    elsewhere(monkeypatch)
    assert (other := LocationExplorer(picture, model)).device in other.children[0].children


def test_the_device_is_switched_and_the_cell_says_the_same(explorer, picture, model, monkeypatch):
    other = elsewhere(monkeypatch)
    moved = LocationExplorer(picture, model)
    moved.device.value = other
    assert other in moved.board.timing and not moved.board.error
    assert moved.model is not model and moved.text == explorer.text
    for one in (moved, explorer):
        one.speak(1, 3, 7)
        one.K.value = 1
    assert moved.text == explorer.text and moved.board.notes == explorer.board.notes
    assert {step.device.type for step in (moved.trace.logits, moved.trace.inputs.bases, moved.attention)} == {"cpu"}
    torch.testing.assert_close(moved.trace.logits, explorer.trace.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(moved.trace.inputs.bases, explorer.trace.inputs.bases, rtol=0, atol=1e-4)


def test_it_can_begin_on_another_device_and_one_that_is_not_there_is_named(picture, model, monkeypatch):
    other = elsewhere(monkeypatch)
    assert LocationExplorer(picture, model, device=other).device.value == other
    with pytest.raises(ValueError, match=f"device must be one of cpu, {other}; got 'cuda:7'"):
        LocationExplorer(picture, model, device="cuda:7")
