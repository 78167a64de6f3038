"""Whose attention, which bases: the explorer against the blender itself. The source here is made by hand."""

import numpy as np
import pytest
import torch
from elsewhere import elsewhere

from blendlab import Blender, strongest
from blendlab.explorers import AttentionExplorer
from blendlab.paste import mask_iou
from blendlab.pictures import Picture, load
from blendlab.sources import random_source


@pytest.fixture
def picture():
    masks = np.zeros((3, 60, 80), bool)
    masks[0, 5:30, 5:40] = masks[1, 20:55, 30:70] = masks[2, 0:10, 60:78] = True
    masks[0] &= ~masks[1]
    return Picture.from_masks(np.full((60, 80, 3), 120, np.uint8), masks, labels=["a", "b", "c"])


@pytest.fixture
def source(picture):
    return random_source(picture)


@pytest.fixture
def explorer(picture, source):
    return AttentionExplorer(picture, source, instance=1)


def blended(source, box, attention, K=4):
    inputs = source.inputs(K, 28)
    return Blender(56)(inputs.bases, attention, inputs.boxes[[box]])


def test_its_own_attention_gives_the_blenders_mask(explorer, source, picture):
    wanted = blended(source, 1, source.inputs(4, 28).attention[[1]])
    torch.testing.assert_close(explorer.trace.logits, wanted.logits)
    assert explorer.iou == mask_iou(wanted.probabilities[0], picture.boxes[1].tolist(), picture.masks[1])
    assert len(explorer.ious) == 3


@pytest.mark.parametrize(("whose", "row"), ((0, 0), (2, 2), ("mean", None)))
def test_anothers_attention_or_the_mean_fills_the_same_box(explorer, source, whose, row):
    regions = explorer.trace.regions
    explorer.whose.value = whose
    attention = source.inputs(4, 28).attention
    attention = attention.mean(0, keepdim=True) if row is None else attention[[row]]
    torch.testing.assert_close(explorer.trace.logits, blended(source, 1, attention).logits)
    assert torch.equal(explorer.trace.regions, regions)  # the crop is the box's, whoever speaks


def test_a_muted_basis_has_no_weight_and_the_others_share_the_whole(explorer, source):
    explorer.mute[2].value = True
    assert explorer.muted == [2]
    assert float(explorer.trace.scores[0, 2].max()) == 0
    torch.testing.assert_close(explorer.trace.scores.sum(1), torch.ones(1, 56, 56))
    kept = [0, 1, 3]
    inputs = source.inputs(4, 28, 1)
    without = Blender(56).logits(inputs.bases[:, kept], inputs.attention[:, kept], inputs.boxes)
    torch.testing.assert_close(explorer.trace.logits, without, rtol=0, atol=1e-4)
    assert "muted 2" in explorer.text


def test_all_muted_is_every_basis_alike_and_said(explorer):
    for button in explorer.mute[:4]:
        button.value = True
    torch.testing.assert_close(explorer.trace.scores, torch.full((1, 4, 56, 56), 0.25))
    assert any("1/K" in note for note in explorer.board.notes)


def test_bases_beyond_k_cannot_be_muted(explorer):
    explorer.mute[7].value = True
    assert explorer.muted == []
    assert [button.disabled for button in explorer.mute] == [False] * 4 + [True] * 4
    explorer.K.value = 8
    assert explorer.muted == [7]


def test_the_picture_is_coloured_by_basis_where_it_is_asked_for(explorer, picture):
    plain = explorer.board.picture["rgb"]
    assert plain == picture.image.tobytes()
    explorer.colour.value = "heaviest weight"
    image = np.frombuffer(explorer.board.picture["rgb"], np.uint8).reshape(60, 80, 3)
    x1, y1, x2, y2 = (int(side) for side in picture.boxes[1])
    changed = (image != picture.image).any(2)
    assert changed[y1:y2, x1:x2].all()
    assert not changed[:y1].any() and not changed[:, x2:].any()
    shares = strongest.shares(strongest.heaviest(explorer.trace), 4)
    assert any(f"basis 0 orange {100 * shares[0]:.0f} %" in note for note in explorer.board.notes)
    explorer.colour.value = "photograph"
    assert explorer.board.picture["rgb"] == plain


def test_a_click_on_another_instance_chooses_its_box(explorer):
    explorer.board.on_click(65.0, 5.0)
    assert explorer.instance.value == 2
    explorer.board.on_click(79.0, 59.0)  # where nothing is, all stays
    assert explorer.instance.value == 2


def test_a_nested_source_is_read_in_the_papers_form_at_k_1(picture):
    from dataclasses import replace

    nested = replace(random_source(picture), K1_normalizer="product")
    explorer = AttentionExplorer(picture, nested, K=1)
    assert explorer.trace.settings.normalizer == "product"
    assert any("σ(a′) · σ(r)" in note for note in explorer.board.notes)


def test_a_picture_without_instances_or_a_wrong_instance_is_named(picture, source):
    with pytest.raises(ValueError, match="at least one instance"):
        AttentionExplorer(Picture.from_masks(picture.image))
    with pytest.raises(ValueError, match="instance must be from 0 to 2; got 3"):
        AttentionExplorer(picture, source, instance=3)


def test_without_a_source_it_is_the_trained_one():
    explorer = AttentionExplorer(load("arc2017"))
    assert explorer.source.name == "trained"


# ---------------------------------------------------------------- devices


def test_the_menu_of_devices_is_shown_where_there_is_a_choice(explorer, picture, source, monkeypatch):
    if not torch.cuda.is_available():
        assert explorer.device not in explorer.children[0].children and explorer.board.timing == ""
    elsewhere(monkeypatch)
    other = AttentionExplorer(picture, source)
    assert other.device in other.children[0].children and other.device.value == "cpu"


def test_the_device_is_switched_and_the_board_shows_the_same(picture, source, monkeypatch):
    other = elsewhere(monkeypatch)
    here, moved = (AttentionExplorer(picture, source, instance=1, device=device) for device in ("cpu", other))
    assert moved.device.value == other in moved.board.timing
    for act in (
        lambda explorer: None,
        lambda explorer: setattr(explorer.whose, "value", "mean"),
        lambda explorer: setattr(explorer.mute[2], "value", True),
        lambda explorer: setattr(explorer.colour, "value", "deciding product"),
        lambda explorer: setattr(explorer.K, "value", 1),
    ):
        for explorer in (here, moved):
            act(explorer)
        assert moved.text == here.text and moved.board.notes == here.board.notes and not moved.board.error
        steps = (moved.trace.regions, moved.trace.logits, moved.trace.inputs.bases, moved.trace.inputs.attention)
        assert {step.device.type for step in steps} == {"cpu"}  # home, for all that reads a trace
        torch.testing.assert_close(moved.trace.logits, here.trace.logits, rtol=0, atol=1e-4)
    moved.device.value = "cpu"
    assert moved.board.timing == "on cpu" and moved.text == here.text


def test_a_device_that_is_not_there_is_named(picture, source):
    with pytest.raises(ValueError, match="device must be one of cpu.*; got 'cuda:7'"):
        AttentionExplorer(picture, source, device="cuda:7")


# ---------------------------------------------------------------- strongest


def test_heaviest_and_deciding_are_what_they_say():
    trace = Blender(2)(
        torch.tensor([[[[1.0]], [[-9.0]]]]), torch.tensor([[[[2.0]], [[1.0]]]]), torch.tensor([[0.0, 0, 4, 4]])
    )
    assert strongest.heaviest(trace).unique().tolist() == [0]  # weights 0.73 and 0.27
    assert strongest.deciding(trace).unique().tolist() == [1]  # products 0.73 and -2.42


def test_shares_sum_to_one_and_follow_the_mask():
    index = torch.tensor([[[0, 1], [1, 1]]])
    assert strongest.shares(index, 3).tolist() == [0.25, 0.75, 0]
    assert strongest.shares(index, 3, index == 0).tolist() == [1, 0, 0]
    assert strongest.shares(index, 2, index == 5).tolist() == [0, 0]  # nowhere


def test_paint_takes_the_bin_that_a_pixels_centre_falls_into():
    image = np.zeros((4, 6, 3), np.uint8)
    painted = strongest.paint(image, torch.tensor([[0, 1], [2, 3]]), torch.tensor([1.0, 0, 5, 4]))
    colours = (0.75 * np.array(strongest.COLOURS)).astype(np.uint8)
    assert (painted[:, 0] == 0).all() and (painted[:, 5] == 0).all()  # beside the box
    assert (painted[0, 1] == colours[0]).all() and (painted[1, 2] == colours[0]).all()
    assert (painted[0, 3] == colours[1]).all() and (painted[2, 1] == colours[2]).all()
    assert (painted[3, 4] == colours[3]).all()
    mask = np.zeros((4, 6), bool)
    mask[0, :2] = True
    assert (strongest.paint(image, torch.zeros(2, 2, dtype=torch.long), torch.tensor([1.0, 0, 5, 4]), mask) > 0).any(
        2
    ).sum() == 1
