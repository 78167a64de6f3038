"""The miniature trainings of lesson 04: few steps here; the shipped curves are only read."""

import numpy as np
import pytest
import torch

from blendlab import Blender
from blendlab.blendmask import short_runs
from blendlab.blendmask.short_runs import NORMALIZERS, STEPS, K, M, Miniature, R, ShortRun, curve, discs, held_out


def test_discs_are_made_from_their_seed_alone_and_later_ones_cover_earlier_ones():
    one, again, other = discs(7), discs(7), discs(8)
    assert np.array_equal(one.image, again.image) and not np.array_equal(one.image, other.image)
    for picture in held_out(30):
        assert 1 <= len(picture) <= 5
        assert picture.masks.sum(0).max() == 1 and (picture.masks.sum((1, 2)) >= 60).all()
        last = picture.masks[-1]
        x1, y1, x2, y2 = picture.boxes[-1]
        assert last.sum() == pytest.approx(np.pi / 4 * (x2 - x1) * (y2 - y1), rel=0.12)  # nothing covers the last one


def test_a_run_learns_and_repeats_itself():
    run, again = ShortRun("softmax", 0), ShortRun("softmax", 0)
    losses = [run.step() for _ in range(30)]
    assert losses[:3] == pytest.approx([again.step() for _ in range(3)], abs=1e-4)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05


def test_normalisers_of_one_seed_start_alike_and_seeds_do_not():
    runs = [ShortRun("softmax", 0), ShortRun("none", 0), ShortRun("softmax", 1)]
    weights = [torch.cat([p.detach().flatten() for p in run.model.parameters()]) for run in runs]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_making_a_run_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    ShortRun("tanh", 5)
    assert torch.equal(torch.rand(2), expected)


def test_each_object_speaks_from_the_location_of_its_centre():
    run, pictures = ShortRun("sigmoid", 0), held_out(3)
    run.model.eval()
    trace = run.blend(pictures)
    images = torch.from_numpy(np.stack([p.image for p in pictures])).permute(0, 3, 1, 2).float() / 128 - 1
    bases, attention = run.model(images)
    n = 0
    for i, picture in enumerate(pictures):
        for box in picture.boxes:
            row, column = int((box[1] + box[3]) / 2 // 8), int((box[0] + box[2]) / 2 // 8)
            spoken = attention[i, :, row, column].view(1, K, M, M)
            roi = torch.tensor([[i, *box]])
            logits = Blender(R, normalizer="sigmoid").logits(bases, spoken, roi)
            assert torch.allclose(trace.logits[n : n + 1], logits, atol=1e-5)
            n += 1
    assert n == len(trace.logits) == sum(len(p) for p in pictures)


def test_targets_are_the_true_masks_in_their_boxes():
    """Pasted back, a target is its mask: also for an object that another one covers."""
    pictures = held_out(4)
    targets = short_runs._targets(pictures)
    truths = [one for p in pictures for one in zip(p.boxes, p.masks, strict=True)]
    assert targets.shape == (len(truths), R, R) and targets.min() >= 0 and targets.max() <= 1
    ious = [short_runs.mask_iou(target, *truth) for target, truth in zip(targets, truths, strict=True)]
    assert min(ious) > 0.85 and np.mean(ious) > 0.95


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_gradients_reach_every_weight(normalizer):
    run = ShortRun(normalizer, 0)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.step()
    run.step()
    assert [name for name, p in run.model.named_parameters() if torch.equal(p, before[name])] == []


def test_the_network_is_as_small_as_it_is_said_to_be():
    assert sum(p.numel() for p in Miniature().parameters()) < 150_000


def test_a_curve_holds_a_number_a_measurement():
    told = []
    found = curve("sigmoid", 0, steps=3, every=2, progress=lambda *at: told.append(at))
    assert found["step"] == [2, 3] and [step for step, _ in told] == [1, 2, 3]
    losses = [loss for _, loss in told]
    assert found["loss"] == pytest.approx([np.mean(losses[:2]), losses[2]], abs=1e-4)
    assert len(found["iou"]) == 2 and all(0 <= value <= 1 for value in found["iou"])


def test_the_rate_falls_to_nothing():
    run = ShortRun("softmax", 0)
    run.steps = STEPS - 1
    run.step()
    assert run.optimiser.param_groups[0]["lr"] == pytest.approx(short_runs.RATE / short_runs.FALLING)


@pytest.mark.parametrize("name", ["product", "Softmax"])
def test_an_unknown_normaliser_is_refused(name):
    with pytest.raises(ValueError, match=f"normalizer must be one of softmax, sigmoid, tanh, none; got '{name}'"):
        curve(name, 0)


def test_the_shipped_curves_are_whole():
    curves = short_runs.shipped()
    assert tuple(curves) == NORMALIZERS
    for runs in curves.values():
        assert list(runs) == ["0", "1", "2"]
        for run in runs.values():
            assert run["step"][-1] == STEPS and len(run["step"]) == len(run["loss"]) == len(run["iou"])
            assert run["iou"][-1] > run["iou"][0] and run["loss"][-1] < run["loss"][0]
