"""What a model finds, as a picture and a source: against the model's own prediction."""

import numpy as np
import pytest
import torch
from tiny import draw, tiny_config

from blendlab import Blender
from blendlab.blendmask import BlendMask
from blendlab.blendmask.found import LEAST, look
from blendlab.blendmask.measure import spoken, swap
from blendlab.paste import mask_iou

IMAGE = draw((4, 4, 30, 40), (20, 20, 60, 50), size=96).image  # 96: the network sees it smaller


@pytest.fixture
def found(tiny):
    return look(tiny, IMAGE, "mine")


def test_labels_scores_and_numbers_are_the_predictions(tiny, found):
    seen = tiny.predict(IMAGE, LEAST)
    inputs = seen.trace.inputs
    assert len(found.picture) + found.empty == len(seen) > 1
    assert found.picture.name == "mine" and np.array_equal(found.picture.image, IMAGE)
    kept = [i for i, score in enumerate(seen.scores.tolist()) if any(score == s for s in found.scores.tolist())]
    assert len(kept) >= len(found.scores) and (np.diff(found.scores) <= 0).all() and found.scores.min() >= LEAST
    for label, score in zip(found.picture.labels, found.scores, strict=True):
        name, number = label.rsplit(" ", 1)
        assert name in tiny.config.categories and float(number) == pytest.approx(score, abs=0.005)
    assert torch.equal(found.source.bases, inputs.bases)  # 64 x 64 is not padded
    assert found.source.spatial_scale == pytest.approx(64 / 96 / 4)
    assert (found.source.K_range, found.source.M_range, found.source.K1_normalizer) == ((1, 3), (1, 4), "product")


def test_the_source_blends_to_the_very_masks_of_the_picture(found):
    """So an explorer starts at an IoU of 1; and the logits are those of the network's own blend, to 1e-4."""
    inputs = found.source.inputs(K=3, M=4)
    trace = Blender(56, found.source.spatial_scale)(inputs.bases, inputs.attention, inputs.boxes)
    for i in range(len(found.picture)):
        assert mask_iou(trace.probabilities[i], found.picture.boxes[i], found.picture.masks[i]) == 1.0


def test_the_masks_are_the_predictions_where_nothing_is_clipped(tiny):
    tiny.config = tiny_config(clip_before_blend=False)
    found, seen = look(tiny, IMAGE, "mine"), tiny.predict(IMAGE, LEAST)
    inside = [i for i, box in enumerate(found.picture.boxes) if box.min() >= 0 and box.max() <= 96]
    assert inside
    for i in inside:
        same = [mask.numpy() for mask, score in zip(seen.masks, seen.scores, strict=True) if score == found.scores[i]]
        assert any(np.array_equal(found.picture.masks[i], mask) for mask in same)


def test_bases_are_shown_without_the_padding(tiny):
    image = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)  # 64 x 144, padded to 64 x 160
    assert look(tiny, image, "wide").source.bases.shape == (1, 3, 16, 36)


def test_a_higher_score_leaves_the_best(found):
    score = float(np.median(found.scores))
    fewer = found.above(score)
    n = len(fewer.picture)
    assert 0 < n < len(found.picture) and n == fewer.source.N == len(fewer.scores)
    assert fewer.scores.min() >= score > found.scores[n:].max()
    assert np.array_equal(fewer.picture.boxes, found.picture.boxes[:n])
    assert len(found.above(1.1).picture) == 0


def test_nothing_found_is_an_empty_picture(tiny):
    torch.nn.init.constant_(tiny.fcos.classes.bias, -20.0)
    found = look(tiny, IMAGE, "mine")
    assert len(found.picture) == found.source.N == len(found.scores) == 0


def test_swapped_among_detections_the_own_attention_gives_the_own_masks(found):
    figures = swap([spoken(found.picture, found.source)], K=3, M=4, R=56)
    assert figures["iou_own"] == 1.0
    assert 0 <= figures["iou_swapped"] < 1 and 0 <= figures["iou_mean_attention"] < 1


def test_the_authors_sizes_are_served_as_they_are():
    """K = 4 alone, for a network that was not trained nested."""
    torch.manual_seed(0)
    model = BlendMask(tiny_config(nested=False, bases=4)).eval()
    torch.nn.init.constant_(model.fcos.classes.bias, 0.0)
    source = look(model, IMAGE, "mine").source
    assert (source.K_range, source.M_range) == ((4, 4), (1, 4))  # so that K = 1 never comes
