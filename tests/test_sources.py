"""Source: what it serves at (K, M), and what it refuses. N boxes, K bases, M attention side, H x W map."""

import numpy as np
import pytest
import torch

from blendlab import Blender
from blendlab.pictures import Picture
from blendlab.sources import Source, averaging_matrix, random_source


@pytest.fixture
def picture() -> Picture:
    masks = np.zeros((3, 50, 66), bool)
    masks[0, 4:20, 4:30] = masks[1, 10:44, 20:60] = masks[2, 0:9, 0:7] = True
    return Picture.from_masks(np.zeros((50, 66, 3), np.uint8), masks)


@pytest.fixture
def source(picture) -> Source:
    return random_source(picture, seed=3)


def test_the_map_has_stride_4_and_covers_the_picture(source):
    assert source.bases.shape == (1, 8, 13, 17)  # ceil(50 / 4), ceil(66 / 4)
    assert source.attention.shape == (3, 8, 28, 28)
    assert repr(source) == "Source('random', N=3, K=1..8, M=1..28, R=7..112)"


def test_inputs_are_the_first_bases_and_the_mean_of_the_attention(source):
    inputs = source.inputs(3, 7)
    assert torch.equal(inputs.bases, source.bases[:, :3])
    means = source.attention[:, :3].reshape(3, 3, 7, 4, 7, 4).mean((3, 5))  # 28 / 7 = 4 cells a side
    torch.testing.assert_close(inputs.attention, means, rtol=0, atol=1e-6)
    assert torch.equal(inputs.boxes[:, 1:], source.boxes)
    assert inputs.spatial_scale == 0.25


@pytest.mark.parametrize("M", range(1, 28))
def test_the_average_is_adaptive_average_pooling(source, M):
    pooled = torch.nn.functional.adaptive_avg_pool2d(source.attention, M)
    torch.testing.assert_close(source.inputs(8, M).attention, pooled, rtol=0, atol=1e-5)


def test_at_the_greatest_m_the_attention_is_handed_out_as_it_is(source):
    inputs = source.inputs(8, 28)
    assert inputs.attention.data_ptr() == source.attention.data_ptr()


@pytest.mark.parametrize("M", (1, 5, 14, 28))
def test_one_instance_is_its_row_of_all(source, M):
    every, one = source.inputs(4, M), source.inputs(4, M, instance=1)
    assert one.N == 1
    torch.testing.assert_close(one.attention, every.attention[1:2], rtol=0, atol=0)
    assert torch.equal(one.boxes, every.boxes[1:2])


@pytest.mark.parametrize("K", (1, 8))
@pytest.mark.parametrize("M", (1, 28))
@pytest.mark.parametrize("R", (7, 112))
def test_every_corner_can_be_blended(source, K, M, R):
    inputs = source.inputs(K, M)
    assert Blender(R)(inputs.bases, inputs.attention, inputs.boxes).logits.shape == (3, R, R)


def test_other_boxes_keep_the_rest(source):
    moved = source.with_boxes(source.boxes + 2)
    assert moved.bases is source.bases
    assert torch.equal(moved.inputs(2, 2).boxes[:, 1:], source.boxes + 2)


def test_no_instances_are_served_as_none(picture):
    empty = Picture.from_masks(picture.image, np.zeros((0, 50, 66), bool))
    inputs = random_source(empty).inputs(4, 14)
    assert Blender(8)(inputs.bases, inputs.attention, inputs.boxes).logits.shape == (0, 8, 8)


def test_the_readers_default_dtype_plays_no_part(picture):
    averaging_matrix.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        there = random_source(picture).inputs(3, 5)
    finally:
        torch.set_default_dtype(torch.float32)
    here = random_source(picture).inputs(3, 5)
    assert torch.equal(there.bases, here.bases) and torch.equal(there.attention, here.attention)


def test_no_source_is_made_of_what_is_no_picture(picture):
    with pytest.raises(TypeError, match="picture must be a Picture; got ndarray"):
        random_source(picture.image)


def test_noise_repeats_with_its_seed_and_has_the_stated_spread(picture):
    a, b, c = random_source(picture, 1), random_source(picture, 1), random_source(picture, 2)
    assert torch.equal(a.bases, b.bases)
    assert torch.equal(a.attention, b.attention)
    assert not torch.equal(a.bases, c.bases)
    assert a.bases.std().item() == pytest.approx(3, rel=0.1)  # 1768 numbers: the standard error is 2 %
    assert a.attention.std().item() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("K", "M", "instance", "message"),
    (
        (0, 7, None, r"K must be from 1 to 8 for the source 'random'; got 0"),
        (9, 7, None, r"K must be from 1 to 8"),
        (4, 0, None, r"M must be from 1 to 28"),
        (4, 29, None, r"M must be from 1 to 28"),
        (4, 7, 3, r"instance must be from 0 to 2; got 3"),
        (4, 7, -1, r"instance must be from 0 to 2; got -1"),
    ),
)
def test_what_is_not_served_is_named(source, K, M, instance, message):
    with pytest.raises(ValueError, match=message):
        source.inputs(K, M, instance)


def test_a_narrower_range_is_kept(source):
    official = Source("official", "", source.bases[:, :4], source.attention[:, :4], source.boxes, K_range=(4, 4))
    assert official.inputs(4, 14).K == 4
    with pytest.raises(ValueError, match="K must be from 4 to 4"):
        official.inputs(3, 14)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    (
        ({"bases": lambda s: s.bases.double()}, TypeError, "bases must be a float32 tensor"),
        ({"attention": lambda s: s.attention.numpy()}, TypeError, "attention must be a float32 tensor"),
        ({"attention": lambda s: s.attention[:, :7]}, ValueError, "one K; got K=8 in bases and K=7"),
        ({"boxes": lambda s: s.boxes[:2]}, ValueError, "one N"),
        ({"boxes": lambda s: s.boxes * float("nan")}, ValueError, r"boxes\[0\] must be finite"),
        ({"bases": lambda s: s.bases.repeat(2, 1, 1, 1)}, ValueError, "boxes"),
        ({"K_range": lambda s: (1, 9)}, ValueError, r"K_range must be .* <= 8"),
        ({"M_range": lambda s: (5, 4)}, ValueError, r"M_range must be"),
        ({"R_range": lambda s: (0, 4)}, ValueError, r"R_range must be"),
        ({"R_range": lambda s: (7, 1.5)}, TypeError, r"R_range\[1\] must be a whole number"),
    ),
)
def test_arrays_that_do_not_fit_are_named(source, change, error, message):
    parts = {name: getattr(source, name) for name in ("name", "note", "bases", "attention", "boxes")}
    with pytest.raises(error, match=message):
        Source(**parts | {name: make(source) for name, make in change.items()})
