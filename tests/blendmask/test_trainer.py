import copy
import math

import numpy as np
import pytest
import torch
from tiny import Drawn, tiny_config

from blendlab.blendmask import BlendMask
from blendlab.blendmask.checkpoint import load_state, save_state
from blendlab.blendmask.data import Folder, Sample, Scenes, batch, mirror
from blendlab.blendmask.measure import swap_test
from blendlab.blendmask.trainer import Settings, Trainer
from blendlab.pictures.coco import read_coco, write_coco


def trainer(steps=6, seed=0, model=None, **settings):
    torch.manual_seed(seed)
    model = model or BlendMask(tiny_config())
    return Trainer(model, Drawn(), Settings(steps=steps, batch=2, warmup=2, sides=(7, 14), seed=seed, **settings))


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_training_learns_the_pictures_by_heart():
    one = trainer(60, rate=5e-3, average=0.9)
    first = one.step()
    untrained = swap_test(one.averaged, Drawn.pictures, 3, 4, 14)["iou_own"]
    while one.progress < 1:
        last = one.step()
    assert last["mask"] < 0.6 * first["mask"] and last["class"] < 0.6 * first["class"]
    assert swap_test(one.averaged, Drawn.pictures, 3, 4, 14)["iou_own"] > max(0.8, untrained + 0.1)


def test_a_resumed_run_goes_on_with_the_same_numbers(tmp_path):
    whole, part = trainer(), trainer()
    numbers = [whole.step() for _ in range(6)]
    again = [part.step() for _ in range(3)]
    save_state(part.state(), tmp_path / "last.pt")
    torch.manual_seed(99)
    resumed = Trainer(BlendMask(tiny_config()), Drawn(), part.settings)
    resumed.load_state(load_state(tmp_path / "last.pt"))
    torch.rand(17)  # a random state that differs from the first run's changes nothing
    again += [resumed.step() for _ in range(3)]
    assert again == numbers
    assert same(resumed.model, whole.model) and same(resumed.averaged, whole.averaged)
    assert resumed.progress == whole.progress == 1


def test_another_seed_gives_other_numbers():
    assert trainer(seed=0).step() != trainer(seed=1).step()


def test_a_checkpoint_of_another_network_is_refused():
    other = trainer(model=BlendMask(tiny_config(bases=2)))
    with pytest.raises(ValueError, match="config differs"):
        trainer().load_state(other.state())


def test_the_rate_warms_up_and_falls_to_zero_at_the_end_of_the_budget():
    one = trainer(10, falling=0.5)
    rates = [one.step()["rate"] for _ in range(10)]
    expected = [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert rates == pytest.approx([2e-3 * share for share in expected])
    assert one.progress == 1


@pytest.mark.parametrize("budget", [{"seconds": 10.0}, {"cpu_seconds": 10.0}, {"seconds": 10.0, "cpu_seconds": 1e9}])
def test_budgets_of_time_count_what_resumed_runs_spent(budget):
    one = Trainer(BlendMask(tiny_config()), Drawn(), Settings(batch=2, **budget))
    assert 0 <= one.progress < 1
    one.load_state(one.state() | {"seconds": 9.0, "cpu_seconds": 9.0})
    assert 0.9 <= one.progress < 1
    one.load_state(one.state() | {"seconds": 11.0, "cpu_seconds": 11.0})
    assert one.progress == 1


def test_the_averaged_model_follows_and_is_not_the_model():
    one = trainer(average=0.5)
    before = copy.deepcopy(one.averaged)
    one.step()
    assert not same(one.averaged, before) and not same(one.averaged, one.model)
    decay = 2 / 11
    start, now = before.attention.weight, one.model.attention.weight
    torch.testing.assert_close(one.averaged.attention.weight, torch.lerp(start, now, 1 - decay))


def test_nested_steps_draw_every_k_and_m_and_others_only_their_own():
    one = trainer(random=1)
    drawn = [one._sizes(torch.Generator().manual_seed(i)) for i in range(200)]
    assert all(len(sizes) == 2 and sizes[0][:2] == (3, 4) for sizes in drawn)
    assert {sizes[1][0] for sizes in drawn} == {1, 2, 3}
    assert {sizes[1][1] for sizes in drawn} == {1, 2, 4}
    assert {sizes[1][2] for sizes in drawn} == {7, 14}
    dedicated = trainer(model=BlendMask(tiny_config(nested=False)))
    assert dedicated._sizes(torch.Generator()) == [(3, 4, 14)]


def test_a_gradient_that_is_not_finite_stops_the_run():
    one = trainer()
    one.model.attention.weight.data[0, 0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="step 0"):
        one.step()


@pytest.mark.parametrize(
    "settings,message",
    [
        ({}, "no budget"),
        ({"steps": 1, "autocast": "half"}, "autocast"),
        ({"steps": 1, "batch": 0}, "batch is 0; expected 1 to inf"),
        ({"steps": 1, "batch": 2.5}, "batch is 2.5; expected a whole number"),
        ({"steps": -1}, "steps is -1; expected 0 to inf"),
        ({"seconds": math.nan}, "seconds is nan; expected a number"),
        ({"steps": 1, "seconds": "soon"}, "seconds is 'soon'"),
        ({"steps": 1, "rate": -1.0}, "rate is -1.0"),
        ({"steps": 1, "falling": 2.0}, "falling is 2.0; expected 0 to 1"),
        ({"steps": 1, "warmup": 0}, "warmup is 0"),
        ({"steps": 1, "sides": 14}, "sides is 14; expected a tuple"),
        ({"steps": 1, "sides": (0,)}, r"sides is \(0,\)"),
        ({"steps": 1, "draw_bases": ()}, r"draw_bases is \(\)"),
        ({"steps": 1, "full": "no"}, "full is 'no'; expected True or False"),
        ({"steps": 1, "full": False, "random": 0}, "no mask would be blended"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_more_bases_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"draw_bases is \(7, 9\); the model has 3 bases"):
        trainer(draw_bases=(7, 9))


def test_a_state_that_does_not_fit_is_refused():
    one = trainer()
    state = one.state()
    for damaged in (
        state | {"model": {}},
        state | {"optimiser": {}},
        state | {"optimiser": None},
        {k: v for k, v in state.items() if k != "seconds"},
    ):
        with pytest.raises(ValueError, match="does not fit"):
            one.load_state(damaged)


def test_a_state_of_a_run_that_read_other_data_is_refused(folder):
    one = trainer()
    pictures = Folder(read_coco(folder / "annotations.json", folder / "images"), short_side=64)
    other = Trainer(BlendMask(tiny_config()), pictures, one.settings)
    with pytest.raises(ValueError, match="read Folder, this one would read Drawn"):
        one.load_state(other.state())
    state = other.state()
    del state["source"]  # as an older version wrote it
    one.load_state(state)


@pytest.mark.parametrize("values", [None, [1], {"steps": 1, "speed": 3}])
def test_settings_of_a_file_that_are_none_are_refused(values):
    with pytest.raises(ValueError, match="settings are .*this version of blendlab knows"):
        Settings.from_dict(values)


def test_data_of_other_categories_are_refused():
    with pytest.raises(ValueError, match="categories"):
        Trainer(BlendMask(tiny_config(categories=("cat",))), Drawn(), Settings(steps=1))


def test_scenes_are_numbered():
    one, two = Scenes(overlap=0.5), Scenes(3, overlap=0.5)
    assert torch.equal(one.sample(5).image, two.sample(2).image)
    assert not torch.equal(one.sample(5).image, one.sample(6).image)
    truth = one.sample(5).truth
    assert truth.masks.dtype == torch.bool and truth.labels.dtype == torch.long and len(truth.labels) > 0


def test_a_batch_pads_smaller_images_and_leaves_their_objects(tiny):
    small, large = Drawn().sample(1), Drawn().sample(0)
    small = Sample(small.image[:, :32, :40], small.truth)
    images, truths = batch(tiny, [small, large])
    assert images.shape == (2, 3, 64, 64)
    assert (images[0, :, 32:] == 0).all()
    assert torch.equal(truths[0].boxes, small.truth.boxes)


def test_mirroring_moves_boxes_with_their_masks():
    sample = Drawn().sample(0)
    mirrored = mirror(sample)
    for box, mask in zip(mirrored.truth.boxes.tolist(), mirrored.truth.masks, strict=True):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    back = mirror(mirrored)
    assert torch.equal(back.image, sample.image) and torch.equal(back.truth.boxes, sample.truth.boxes)
    assert not torch.equal(mirrored.image, sample.image)


def test_scenes_come_at_the_networks_size_with_their_objects():
    native, doubled = Scenes().sample(4), Scenes(short_side=256).sample(4)
    assert doubled.image.shape == (3, 256, 256) and doubled.truth.masks.shape[1:] == (256, 256)
    torch.testing.assert_close(doubled.truth.boxes, 2 * native.truth.boxes)
    assert torch.equal(doubled.truth.masks[:, ::2, ::2], native.truth.masks)


@pytest.fixture
def folder(tmp_path):
    write_coco(Drawn.pictures, tmp_path, ["square", "disc"])
    return tmp_path


def test_a_coco_folder_gives_each_picture_once_a_turn_at_the_networks_size(folder):
    source = Folder(read_coco(folder / "annotations.json", folder / "images"), short_side=32)
    assert source.categories == ("square", "disc")
    counts = sorted(len(source.sample(i).truth.labels) for i in range(3))
    assert counts == [0, 1, 2]
    for i in range(6):
        sample = source.sample(i)
        assert sample.image.shape == (3, 32, 32) and sample.truth.masks.shape[1:] == (32, 32)
        for box, mask in zip(sample.truth.boxes.numpy(), sample.truth.masks, strict=True):
            rows, columns = np.nonzero(mask.numpy())
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(box - tight).max() <= 1
        assert torch.equal(sample.image, source.sample(i).image)


def test_training_on_a_coco_folder(folder):
    source = Folder(read_coco(folder / "annotations.json", folder / "images"), short_side=64)
    one = Trainer(BlendMask(tiny_config()), source, Settings(steps=3, batch=2, sides=(7,)))
    losses = [one.step() for _ in range(3)]
    assert all(math.isfinite(value) for found in losses for value in found.values())
