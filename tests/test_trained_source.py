"""The trained source: what a network says about a picture, read at any K and M. The model here is the shipped one."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from blendlab import Blender, sources
from blendlab.blendmask import pretrained
from blendlab.blendmask.measure import listen, mask_ious
from blendlab.blendmask.predict import blender
from blendlab.explorers import BlenderExplorer
from blendlab.paste import mask_iou
from blendlab.pictures import Picture, load, scene
from blendlab.sources import trained_source


@pytest.fixture(scope="module")
def model():
    return pretrained()


@pytest.fixture(scope="module")
def picture():
    return scene(0, "held_out")


@pytest.fixture(scope="module")
def source(picture, model):
    return trained_source(picture, model)


def test_theshipped_model_model_is_nested_and_knows_the_scenes_categories(model):
    assert (model.config.bases, model.config.attention_side, model.config.nested) == (8, 14, True)
    assert not model.training
    assert {"fruit", "vehicle", "face"} <= set(model.config.categories)


def test_theshipped_model_model_finds_something_that_is_there(model):
    """Of ten scenes: somewhere its best detection lies on an object with IoU 0.5. Chance boxes would not, all ten."""
    best = []
    for seed in range(10):
        truth = scene(seed, "held_out")
        found = model.predict(truth.image, score_threshold=0.05)
        assert found.boxes.shape == (len(found), 4)
        assert found.masks.shape == (len(found), 128, 128)
        assert found.masks.dtype == torch.bool
        overlap = box_iou(found.boxes[:1], torch.from_numpy(truth.boxes))
        best.append(bool((overlap > 0.5).any()))
    assert sum(best) >= 5


def test_it_serves_the_nested_range(source, picture):
    assert repr(source) == f"Source('trained', N={len(picture)}, K=1..8, M=1..14, R=7..112)"
    assert source.K1_normalizer == "product"
    assert source.attention.shape == (len(picture), 8, 14, 14)
    assert torch.equal(source.boxes, torch.from_numpy(picture.boxes))


@pytest.mark.parametrize(("K", "M", "R"), ((8, 14, 56), (4, 7, 28), (1, 14, 56), (2, 1, 14)))
def test_its_masks_are_the_models_own(source, picture, model, K, M, R):
    """Image pixels and a scale here, network pixels there: the same masks, so the same IoU to float error."""
    spoken = listen(model, picture)
    wanted = mask_ious(spoken, spoken.attention, K, M, R)
    inputs = source.inputs(K, M)
    trace = Blender(R, inputs.spatial_scale, normalizer="product" if K == 1 else "softmax")(
        inputs.bases, inputs.attention, inputs.boxes
    )
    got = [mask_iou(*one) for one in zip(trace.probabilities, picture.boxes, picture.masks, strict=True)]
    torch.testing.assert_close(torch.tensor(got), wanted, rtol=0, atol=2e-3)  # a pixel on the threshold may fall


def test_detected_boxes_bring_the_masks_of_predict(picture, model):
    """Each instance that the model finds gets that detection's box and attention: the logits are predict's."""
    source = trained_source(picture, model, "detected")
    seen = model.predict(picture.image)
    inputs = source.inputs(8, 14)
    logits = Blender(56, inputs.spatial_scale).logits(inputs.bases, inputs.attention, inputs.boxes)
    overlap = box_iou(torch.from_numpy(picture.boxes), seen.boxes)
    found = [i for i in range(len(picture)) if not torch.equal(source.boxes[i], torch.from_numpy(picture.boxes[i]))]
    assert found  # of this scene's objects, the model sees some
    taken = []
    for i in found:
        (match,) = (seen.boxes == source.boxes[i]).all(1).nonzero()[0].tolist()
        assert overlap[i, match] >= 0.5
        torch.testing.assert_close(logits[i], seen.trace.logits[match], rtol=0, atol=1e-3)
        taken.append(match)
    assert len(set(taken)) == len(taken)
    assert f"{len(found)} of {len(picture)} boxes are its own detections" in source.note


def test_boxes_by_hand_choose_who_speaks(picture, model, source):
    moved = picture.boxes.copy()
    moved[0] = picture.boxes[1]  # the first instance is asked for where the second is
    by_hand = trained_source(picture, model, moved)
    torch.testing.assert_close(by_hand.attention[0], source.attention[1], rtol=0, atol=1e-5)
    assert torch.equal(by_hand.boxes, torch.from_numpy(moved))


def test_a_larger_and_odd_image_is_mapped_to_the_networks_size(model):
    rng = np.random.default_rng(0)
    masks = np.zeros((1, 150, 401), bool)
    masks[0, 20:90, 210:330] = True
    odd = Picture.from_masks(rng.integers(0, 255, (150, 401, 3), dtype=np.uint8), masks)
    source = trained_source(odd, model)
    side = model.config.short_side
    wide = int(401 * side / 150 + 0.5)
    assert source.bases.shape[-2:] == (-(-side // 4), -(-wide // 4))  # without the padding to multiples of 32
    assert 4 * source.spatial_scale == pytest.approx(side / 150, rel=0.002)
    spoken = listen(model, odd)
    wanted = blender(8, 28)(spoken.bases, spoken.attention, spoken.boxes).logits
    inputs = source.inputs(8, 14)
    got = Blender(28, inputs.spatial_scale).logits(inputs.bases, inputs.attention, inputs.boxes)
    assert (got - wanted).abs().mean() < 0.05 * wanted.std()  # at most half a network pixel apart


def test_no_instances_are_no_problem(picture, model):
    empty = Picture.from_masks(picture.image, np.zeros((0, 128, 128), bool))
    for boxes in (None, "detected"):
        assert trained_source(empty, model, boxes).N == 0


def test_the_note_is_honest_about_photographs(model, source):
    assert "guess" not in source.note
    assert "sprites of composed scenes" in trained_source(load("voc"), model).note


def test_boxes_that_do_not_fit_are_named(picture, model):
    with pytest.raises(ValueError, match="boxes must be None, 'detected' or an array"):
        trained_source(picture, model, "mine")
    with pytest.raises(ValueError, match="boxes"):
        trained_source(picture, model, picture.boxes[:1])
    with pytest.raises(ValueError, match=r"boxes\[0\]"):
        trained_source(picture, model, picture.boxes * np.nan)


def test_weights_that_are_missing_are_said_to_be(picture, monkeypatch, tmp_path):
    # the module by its name: blendlab.blendmask.pretrained is the function
    monkeypatch.setattr(sys.modules["blendlab.blendmask.pretrained"], "WEIGHTS", tmp_path)
    sources.shipped_model.cache_clear()
    with pytest.raises(ValueError, match="shipped weights .* are missing"):
        trained_source(picture)
    with pytest.raises(ValueError, match="shipped weights"):
        BlenderExplorer(picture)
    sources.shipped_model.cache_clear()


def test_on_a_scene_it_comes_first_and_the_sliders_follow_it(picture):
    explorer = BlenderExplorer(picture, M=20)
    assert explorer.source.options[0] == "trained"
    assert explorer.source.value == "trained"
    assert (explorer.K.max, explorer.M.max, explorer.M.value) == (8, 14, 14)
    assert any("M moved from 20 to 14: the source trained serves M 1 to 14" in note for note in explorer.board.notes)
    assert explorer.iou > 0.2


def test_at_k_1_it_is_read_in_the_papers_form_and_says_so(picture):
    explorer = BlenderExplorer(picture)
    explorer.K.value = 1
    assert explorer.normalizer.value == "product"
    assert any("σ(a′) · σ(r)" in note for note in explorer.board.notes)
    explorer.source.value = "random"  # which has no such wish, and keeps what was chosen
    assert explorer.normalizer.value == "product"
    explorer.normalizer.value = "softmax"
    explorer.source.value = "trained"
    assert explorer.normalizer.value == "product"
    explorer.K.value = 4
    assert explorer.normalizer.value == "softmax"


def test_on_a_photograph_it_stands_behind_the_fitted_one(model):
    explorer = BlenderExplorer("voc")
    assert list(explorer.source.options) == ["fitted", "trained", "random"]
    explorer.source.value = "trained"
    assert any("sprites of composed scenes" in note for note in explorer.board.notes)


def test_the_trained_source_needs_neither_torchvision_nor_torchs_compiler():
    """Each takes a second to import: the first picture would come that much later."""
    code = (
        "import sys; from blendlab.pictures import scene; from blendlab.sources import trained_source;"
        " trained_source(scene(3, 'held_out')); print({'torchvision', 'torch._dynamo'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
