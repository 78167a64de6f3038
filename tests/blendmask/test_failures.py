"""The verdict on an object, on what a network might have said: each cause is made by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import draw

from blendlab.blendmask import failures
from blendlab.blendmask.failures import CAUSES, judge
from blendlab.blendmask.fcos import Dense
from blendlab.blendmask.predict import Detections, stages

BOX = (8.0, 8.0, 40.0, 40.0)  # the one true object, a square
FAR = (44.0, 44.0, 60.0, 60.0)


@pytest.fixture
def picture():
    return draw((8, 8, 40, 40))


def detections(picture, boxes, labels, masks) -> Detections:
    height, width = picture.size
    shapes = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for shape, (x1, y1, x2, y2) in zip(shapes, masks, strict=True):
        shape[int(y1) : int(y2), int(x1) : int(x2)] = True
    n = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes).view(n, 4),
        scores=torch.linspace(0.9, 0.5, n),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=shapes,
        location=torch.zeros(n, 2),
        level=torch.zeros(n),
        trace=None,
        scale=1.0,
        categories=("square", "disc"),
    )


def said(tiny, picture, monkeypatch, found, boxes_everywhere=FAR, score=0.1, candidate=False):
    """The verdict where the network found `found`, and where every location drew one box with one score."""
    real = stages(tiny, picture.image, 0.3)
    points = real.output.dense.points
    ltrb = torch.cat([points - torch.tensor(boxes_everywhere[:2]), torch.tensor(boxes_everywhere[2:]) - points], 1)
    logit = torch.tensor(score**2).logit()  # the centerness is certain, so the class alone makes the score
    dense = Dense(
        torch.full_like(real.output.dense.classes, -20.0).index_fill(2, torch.tensor([0]), float(logit)),
        torch.full_like(real.output.dense.centerness, 20.0),
        ltrb[None],
        points,
        real.output.dense.level,
        real.output.dense.towers,
    )
    funnel = real.funnel
    if not candidate:
        funnel = dataclasses.replace(funnel, candidates=funnel.candidates[:0])
    else:
        first = dataclasses.replace(funnel.candidates[:1], location=torch.tensor([0]), labels=torch.tensor([0]))
        funnel = dataclasses.replace(funnel, candidates=first)
    output = dataclasses.replace(real.output, dense=dense)
    made = dataclasses.replace(real, output=output, funnel=funnel, detections=found)
    monkeypatch.setattr(failures, "stages", lambda *arguments: made)
    (verdict,), seen = judge(tiny, picture)
    assert seen is made
    assert verdict.cause in CAUSES
    return verdict


def test_a_good_mask_of_the_right_class_is_found(tiny, picture, monkeypatch):
    found = detections(picture, [FAR, BOX], [0, 0], [FAR, (8, 8, 40, 36)])
    verdict = said(tiny, picture, monkeypatch, found)
    assert (verdict.cause, verdict.said) == ("found", "square")
    assert verdict.mask_iou == pytest.approx(28 / 32)
    assert verdict.box_iou == pytest.approx(1)
    assert verdict.score == pytest.approx(0.5)  # the second detection's


def test_a_good_box_with_a_bad_mask_is_the_masks(tiny, picture, monkeypatch):
    verdict = said(tiny, picture, monkeypatch, detections(picture, [BOX], [0], [(8, 8, 40, 16)]))
    assert verdict.cause == "mask"
    assert verdict.mask_iou == pytest.approx(0.25)


def test_a_good_box_of_another_class_is_the_class(tiny, picture, monkeypatch):
    verdict = said(tiny, picture, monkeypatch, detections(picture, [BOX], [1], [BOX]))
    assert (verdict.cause, verdict.said) == ("class", "disc")


def test_a_good_box_that_was_a_candidate_was_suppressed(tiny, picture, monkeypatch):
    verdict = said(tiny, picture, monkeypatch, detections(picture, [], [], []), BOX, score=0.6, candidate=True)
    assert verdict.cause == "nms"
    assert verdict.score == pytest.approx(0.6, abs=1e-4)
    assert np.isnan(verdict.mask_iou)


def test_a_good_box_that_no_one_believed_is_the_scores(tiny, picture, monkeypatch):
    verdict = said(tiny, picture, monkeypatch, detections(picture, [FAR], [0], [FAR]), BOX, score=0.2)
    assert verdict.cause == "score"
    assert verdict.score == pytest.approx(0.2, abs=1e-4)
    assert verdict.box_iou == pytest.approx(1)


def test_no_good_box_anywhere_is_the_boxs(tiny, picture, monkeypatch):
    verdict = said(tiny, picture, monkeypatch, detections(picture, [FAR], [0], [FAR]), (8.0, 8, 40, 22))
    assert verdict.cause == "box"
    assert verdict.box_iou == pytest.approx(14 / 32)  # the nearest to a good one, which is none
    assert np.isnan(verdict.mask_iou)


def test_the_needed_iou_decides_what_is_good(tiny, picture, monkeypatch):
    found = detections(picture, [BOX], [0], [(8, 8, 40, 28)])  # IoU 0.625
    assert said(tiny, picture, monkeypatch, found).cause == "found"
    assert judge(tiny, picture, needed=0.7)[0][0].cause == "mask"


def test_every_object_of_a_real_run_has_a_verdict(tiny):
    picture = draw((4, 4, 30, 40), (20, 20, 60, 50))
    verdicts, seen = judge(tiny, picture, score_threshold=0.3)
    assert [verdict.instance for verdict in verdicts] == [0, 1]
    assert len(seen.detections) > 0  # it sees things everywhere
    assert judge(tiny, draw())[0] == []


def test_what_cannot_be_judged_is_named(tiny):
    with pytest.raises(ValueError, match="categories"):
        judge(tiny, draw((4, 4, 30, 40), labels=["horse"]))
    with pytest.raises(ValueError, match="needed is 0"):
        judge(tiny, draw((4, 4, 30, 40)), needed=0)
