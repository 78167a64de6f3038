import math

import numpy as np
import pytest
import torch
from tiny import draw

from blendlab.blendmask.average_precision import average_precision
from blendlab.blendmask.evaluate import SceneList, evaluate
from blendlab.blendmask.measure import Spoken, listen, mask_ious, swap_test
from blendlab.blendmask.predict import Detections
from blendlab.pictures.picture import Picture


def perfect(picture, keep=slice(None), labels=None, scores=None):
    """What a detector that knows the truth would say."""
    n = len(picture.masks[keep])
    return Detections(
        boxes=torch.from_numpy(picture.boxes[keep]),
        scores=torch.tensor(scores or [0.9] * n),
        labels=torch.tensor(labels or [0] * n),
        masks=torch.from_numpy(picture.masks[keep]),
        location=torch.zeros(n, 2),
        level=torch.zeros(n),
        trace=None,
        scale=1.0,
        categories=("square", "disc"),
    )


PICTURES = [draw((4, 4, 30, 40), (20, 20, 60, 50)), draw((5, 5, 60, 60)), draw()]


def ap_of(tiny, monkeypatch, answer):
    monkeypatch.setattr(type(tiny), "predict", lambda self, image, *rest: answer(image))
    return average_precision(tiny, PICTURES)


def find(image):
    return next(picture for picture in PICTURES if picture.image is image)


def test_a_perfect_detector_has_ap_1(tiny, monkeypatch):
    figures = ap_of(tiny, monkeypatch, lambda image: perfect(find(image)))
    assert figures == {"mask_ap": pytest.approx(1), "box_ap": pytest.approx(1)}


def test_a_detector_with_the_wrong_labels_has_ap_0(tiny, monkeypatch):
    def wrong(image):
        picture = find(image)
        return perfect(picture, labels=[1] * len(picture))

    assert ap_of(tiny, monkeypatch, wrong) == {"mask_ap": 0, "box_ap": 0}


def test_right_boxes_with_empty_masks_have_box_ap_alone(tiny, monkeypatch):
    def hollow(image):
        found = perfect(find(image))
        found.masks = torch.zeros_like(found.masks)
        return found

    assert ap_of(tiny, monkeypatch, hollow) == {"mask_ap": 0, "box_ap": pytest.approx(1)}


def test_one_of_three_objects_found_is_about_a_third(tiny, monkeypatch):
    figures = ap_of(tiny, monkeypatch, lambda image: perfect(find(image), slice(0, 1 if len(find(image)) == 1 else 0)))
    assert figures["mask_ap"] == pytest.approx(34 / 101, abs=1e-6)  # COCO's 101 recall points, up to 1/3


def test_a_model_that_sees_nothing_has_ap_0_and_pictures_without_objects_none(tiny, monkeypatch):
    assert ap_of(tiny, monkeypatch, lambda image: perfect(find(image), slice(0, 0))) == {"mask_ap": 0, "box_ap": 0}
    figures = average_precision(tiny, PICTURES[2:])
    assert all(math.isnan(value) for value in figures.values())


def test_a_category_that_the_model_lacks_is_named(tiny):
    with pytest.raises(ValueError, match="teapot"):
        average_precision(tiny, [draw((4, 4, 30, 40), labels=["teapot"])])


def spoken(boxes):
    picture = Picture(
        "boxes", np.zeros((64, 64, 3), np.uint8), np.zeros((0, 64, 64), bool), np.zeros((0, 4), np.float32), []
    )
    return Spoken(picture, torch.zeros(1, 3, 16, 16), torch.zeros(len(boxes), 3, 4, 4), torch.tensor(boxes))


def test_partners_are_those_that_overlap_most_else_the_nearest():
    one = spoken([[0.0, 0, 20, 20], [5, 0, 25, 20], [15, 0, 35, 20], [50, 50, 60, 60]])
    assert one.partners().tolist() == [1, 0, 1, 2]
    assert one.overlaps.tolist() == [True, True, True, False]  # IoU 0.6 and 1/3
    assert spoken([[0.0, 0, 20, 20]]).partners().tolist() == [0]
    assert spoken([[0.0, 0, 20, 20]]).overlaps.tolist() == [False]


def test_own_attention_gives_the_prediction_on_the_true_box(tiny):
    picture = draw((4, 4, 30, 40), (20, 20, 60, 50))
    heard = listen(tiny, picture)
    assert heard.attention.shape == (2, 3, 4, 4) and heard.bases.shape == (1, 3, 16, 16)
    ious = mask_ious(heard, heard.attention, 3, 4, 14)
    assert ious.shape == (2,) and ((ious >= 0) & (ious <= 1)).all()


def test_swap_test_is_what_it_says(tiny):
    pictures = [draw((4, 4, 30, 40), (8, 8, 34, 44)), draw((5, 5, 60, 60)), draw()]
    found = swap_test(tiny, pictures, 3, 4, 14)
    heard = [listen(tiny, picture) for picture in pictures[:2]]
    own = torch.cat([mask_ious(one, one.attention, 3, 4, 14) for one in heard])
    swapped = mask_ious(heard[0], heard[0].attention.flip(0), 3, 4, 14)
    mean = torch.cat([one.attention for one in heard]).mean(0, keepdim=True)
    level = torch.cat([mask_ious(one, mean.expand(len(one.boxes), -1, -1, -1), 3, 4, 14) for one in heard])
    assert found["iou_own"] == pytest.approx(float(own.mean()))
    assert found["iou_own_overlap"] == pytest.approx(float(own[:2].mean()))
    assert found["iou_swapped"] == found["iou_swapped_overlap"] == pytest.approx(float(swapped.mean()))
    assert found["iou_mean_attention"] == pytest.approx(float(level.mean()))
    assert not torch.equal(own[:2], swapped)


def test_without_a_pair_the_swap_is_nan(tiny):
    found = swap_test(tiny, [draw((5, 5, 60, 60))], 3, 4, 14)
    assert math.isnan(found["iou_swapped"]) and math.isnan(found["iou_own_overlap"])
    assert 0 <= found["iou_own"] <= 1


def test_evaluation_has_the_keys_it_promises(tiny_scenes):
    figures = evaluate(tiny_scenes.eval(), SceneList("held_out", 2), SceneList("unseen", 2))
    seen_only = evaluate(tiny_scenes.eval(), SceneList("held_out", 2), K=1, M=2, R=7)
    common = ["mask_ap", "box_ap", "gt_box_iou", "iou_own", "iou_swapped", "iou_mean_attention"]
    overlap = ["iou_own_overlap", "iou_swapped_overlap", "iou_mean_attention_overlap"]
    assert set(figures) == {*common, *overlap, "mask_ap_unseen", "box_ap_unseen"}
    assert set(seen_only) == {*common, *overlap}
    assert figures["gt_box_iou"] == figures["iou_own"]
