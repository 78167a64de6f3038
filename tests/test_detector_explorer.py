"""The detector's stages on the board against the functions that make them. The model here is the shipped one."""

import json

import numpy as np
import pytest
import torch
from elsewhere import elsewhere

from blendlab.blendmask import postprocess
from blendlab.explorers import DetectorExplorer
from blendlab.pictures import Picture, scene
from blendlab.pictures.picture import COLOURS
from blendlab.sources import shipped_model

SIDE = shipped_model().config.short_side  # of the network's image; scenes are 128


@pytest.fixture(scope="module")
def picture():
    return scene(17, "held_out")


@pytest.fixture
def explorer(picture):
    return DetectorExplorer(picture, shipped_model(), threshold=0.4)


def panels(explorer):
    return {panel["name"]: panel for panel in json.loads(explorer.board.steps["words"])["panels"]}


def test_it_keeps_what_predict_keeps(explorer, picture):
    found = shipped_model().predict(picture.image, score_threshold=0.4)
    assert len(explorer.kept) == len(found)
    torch.testing.assert_close(explorer.kept.scores, found.scores)
    assert torch.equal(explorer.detections.masks, found.masks)


@pytest.mark.parametrize("threshold", (0.1, 0.3, 0.6))
def test_the_threshold_moves_the_candidates(explorer, threshold):
    explorer.threshold.value = threshold
    dense = explorer._stages.output.dense
    product = dense.classes[0].sigmoid() * dense.centerness[0].sigmoid()[:, None]
    assert len(explorer.candidates) == int((product > threshold**2).sum())
    assert f"{len(explorer.candidates)} candidates above {threshold:.2f}" in explorer.text


def test_a_threshold_between_the_sliders_places_becomes_one():
    explorer = DetectorExplorer(scene(3, "held_out"), shipped_model(), threshold=0.42)
    assert explorer.threshold.value == 0.42 and "above 0.42" in explorer.text
    explorer.threshold.value = 0.6
    assert explorer.threshold.value == 0.6


def test_a_true_object_shows_its_true_mask_and_whether_it_was_found(explorer, picture):
    explorer.show.value = "true objects"
    for chosen in range(len(picture)):
        explorer.chosen.value = chosen
        x1, y1, x2, y2 = picture.boxes[chosen].astype(int)
        drawn = np.frombuffer(explorer.board.steps["codes"], np.uint8)[-56 * 56 :] >= 128  # codes of 0 to 1
        assert drawn.mean() == pytest.approx(picture.masks[chosen][y1:y2, x1:x2].mean(), abs=0.05)
        (note,) = explorer.board.notes
        assert note.startswith(f"Chosen, true object {chosen}: {picture.labels[chosen]}, ")
        assert ("not found" in note) == (chosen not in explorer.found)


def test_nms_keeps_more_the_more_overlap_it_allows(explorer):
    counts = []
    for limit in (0.05, 0.5, 0.95):
        explorer.nms.value = limit
        counts.append(len(explorer.kept))
        wanted = postprocess.suppress(postprocess.square_root(explorer.candidates), limit)
        assert torch.equal(explorer.kept.location, wanted.location[:100])
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_maps_of_all_levels_share_the_images_grid(explorer):
    made = panels(explorer)
    assert list(made) == ["class", "centerness", "score", "passed", "probabilities"]
    assert [made[name]["shape"] for name in ("class", "passed")] == [[3, SIDE // 8, SIDE // 8]] * 2
    score = explorer._maps["score"]
    assert torch.equal(score[1, ::2, ::2].flatten(), explorer._maps["class"][1, ::2, ::2].mul(
        explorer._maps["centerness"][1, ::2, ::2]).sqrt().flatten())  # fmt: skip
    assert torch.equal(score[2, :4, :4].unique(), score[2, 0, 0].view(1))  # one cell of P5 covers 4 x 4 of P3
    assert explorer.board.rows == ["P3", "P4", "P5"]


def test_candidates_detections_and_true_objects_can_be_shown(explorer, picture):
    explorer.show.value = "1 candidates"
    assert len(explorer.board.boxes) == 4 * len(explorer.candidates)
    explorer.show.value = "2 after NMS"
    assert len(explorer.board.boxes) == 4 * len(explorer.kept)
    explorer.show.value = "true objects"
    assert explorer.board.boxes == picture.boxes.flatten().tolist()
    assert explorer.board.notes[0].startswith("Chosen, true object 0: ")
    explorer.show.value = "3 masks"
    image = np.frombuffer(explorer.board.picture["rgb"], np.uint8).reshape(128, 128, 3)
    assert np.array_equal((image != picture.image).any(2), explorer.detections.masks.any(0).numpy())
    assert "probabilities" not in panels(explorer)  # no mask is laid over the coloured ones


def test_where_masks_overlap_the_best_ones_colour_stands_alone(explorer, picture):
    """Not mixed with those below it: with many masks all colours would become one."""
    explorer.show.value, explorer.nms.value = "3 masks", 1.0
    masks = explorer.detections.masks.numpy()
    assert masks.sum(0).max() > 2
    image = np.frombuffer(explorer.board.picture["rgb"], np.uint8).reshape(128, 128, 3)
    for i, j in np.argwhere(masks.sum(0) > 2)[::50]:
        colour = COLOURS[int(masks[:, i, j].argmax()) % len(COLOURS)]  # the first that holds it is the best
        wanted = 0.4 * picture.image[i, j] + 0.6 * np.array(colour)
        assert np.abs(image[i, j] - wanted).max() <= 1


def test_the_chosen_boxs_mask_is_its_detections(explorer):
    explorer.chosen.value = 1
    codes = np.frombuffer(explorer.board.steps["codes"], np.uint8)[-56 * 56 :]
    wanted = explorer.detections.trace.probabilities[1].flatten().numpy()
    assert np.abs(codes / 255 - wanted).max() <= 0.5 / 255 + 1e-4
    assert json.loads(explorer.board.steps["words"])["selected"] == 1
    assert explorer.board.notes[0].startswith("Chosen, 1 of those shown:")


def test_clicks_and_arrow_keys_choose_boxes(explorer):
    n = len(explorer.kept)
    assert n >= 2
    explorer.board.on_step(0, -1)
    assert explorer.chosen.value == n - 1  # round to the last
    explorer.board.on_step(1, 0)
    assert explorer.chosen.value == 0
    boxes = torch.tensor(explorer.board.boxes).view(-1, 4)
    x, y = ((boxes[1, :2] + boxes[1, 2:]) / 2).tolist()
    explorer.board.on_click(x, y)
    assert explorer.chosen.value == 1


def test_nothing_above_the_threshold_is_said_and_leaves_no_mask(explorer):
    explorer.threshold.value = 1.0
    assert len(explorer.kept) == 0
    assert explorer.board.notes == ["Nothing is left to show: no score is above the threshold."]
    assert json.loads(explorer.board.steps["words"])["selected"] == -1
    assert not np.frombuffer(explorer.board.steps["codes"], np.uint8)[-56 * 56 :].any()
    explorer.board.on_step(1, 0)
    explorer.board.on_click(10.0, 10.0)
    assert explorer.chosen.disabled
    assert explorer.board.snapshot()
    explorer.threshold.value = 0.3
    assert not explorer.chosen.disabled


def test_found_counts_objects_of_the_right_class(explorer, picture):
    explorer.threshold.value = 0.05
    few = explorer.found
    assert set(few) <= set(range(len(picture)))
    other = Picture(picture.name, picture.image, picture.masks, picture.boxes, ["thing"] * len(picture))
    assert DetectorExplorer(other, shipped_model(), threshold=0.05).found == []


def test_an_image_that_is_padded_shows_no_padding():
    image = np.random.default_rng(0).integers(0, 255, (90, 250, 3), dtype=np.uint8)
    explorer = DetectorExplorer(Picture.from_masks(image), shipped_model(), threshold=0.1)
    wide = int(250 * SIDE / 90 + 0.5)
    assert panels(explorer)["score"]["shape"] == [3, SIDE // 8, -(-wide // 8)]
    assert "of 0 objects found" in explorer.text
    explorer.show.value = "true objects"
    assert explorer.board.notes == ["Nothing is left to show: the picture has no true objects."]


def test_more_than_are_kept_are_counted(explorer):
    explorer.threshold.value = 0.05
    after = len(postprocess.suppress(_top(explorer), 0.6))
    assert after > 100 == len(explorer.kept)
    assert f"{after} after NMS at 0.60, the best 100 stay; " in explorer.text
    explorer.threshold.value = 0.6
    assert "after NMS at 0.60; " in explorer.text


def test_more_candidates_than_nms_is_given_are_said_not_to_be_drawn(explorer):
    explorer.show.value = "1 candidates"
    assert len(explorer.board.notes) == 1
    explorer.threshold.value = 0.05
    drawn = len(_top(explorer))
    assert drawn < len(explorer.candidates) and len(explorer.board.boxes) == 4 * drawn
    assert explorer.board.notes[0] == f"NMS is given the best 1000 of each level: {drawn} boxes are drawn."
    explorer.show.value = "2 after NMS"
    assert len(explorer.board.notes) == 1


def _top(explorer):
    return postprocess.square_root(postprocess.top_of_each_level(explorer.candidates, 1000, 3))


def test_found_is_counted_as_by_hand(explorer, picture):
    explorer.threshold.value = 0.1
    by_hand = []
    for i, (truth, label) in enumerate(zip(picture.masks, picture.labels, strict=True)):
        for mask, said in zip(explorer.detections.masks.numpy(), explorer.detections.labels, strict=True):
            same = explorer.detections.categories[said] == label
            if same and (mask & truth).sum() >= 0.5 * (mask | truth).sum():
                by_hand.append(i)
                break
    assert explorer.found == by_hand != []


# --- devices


def test_the_menu_of_devices_is_shown_where_there_is_a_choice(explorer, picture, monkeypatch):
    if not torch.cuda.is_available():
        assert explorer.device not in explorer.children[0].children and explorer.board.timing == ""
    elsewhere(monkeypatch)
    other = DetectorExplorer(picture, shipped_model())
    assert other.device in other.children[0].children and other.device.value == "cpu"


def test_the_network_looks_on_the_device_that_the_menu_names(explorer, picture, monkeypatch):
    other = elsewhere(monkeypatch)
    moved = DetectorExplorer(picture, shipped_model(), threshold=0.4)
    before, shared = moved.board.steps["codes"], moved.model
    assert shared is shipped_model()
    moved.device.value = other
    assert moved.model is not shared and moved.model.mean.device == torch.tensor(0, device=other).device
    assert other in moved.board.timing and not moved.board.error
    assert moved.text == explorer.text and moved.board.notes == explorer.board.notes
    codes = [np.frombuffer(codes, np.uint8).astype(int) for codes in (before, moved.board.steps["codes"])]
    assert np.abs(codes[0] - codes[1]).max() <= 1
    for show in ("1 candidates", "3 masks", "true objects"):
        moved.show.value = show
        assert not moved.board.error
    moved.device.value = "cpu"
    assert "on cpu" in moved.board.timing


def test_a_device_that_is_not_there_is_named(picture):
    with pytest.raises(ValueError, match="device must be one of cpu.*; got 'cuda:7'"):
        DetectorExplorer(picture, shipped_model(), device="cuda:7")
