import copy
import fractions

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import draw, tiny_config
from torchvision.ops import box_iou

from blendlab.blendmask import BlendMask
from blendlab.blendmask.fcos import Dense
from blendlab.blendmask.postprocess import funnel, propose
from blendlab.blendmask.predict import resize, stages, to_pixels, to_rgb


@pytest.mark.parametrize("height,width", [(64, 64), (37, 90), (200, 133), (5, 300), (1, 1)])
def test_detections_fit_an_image_of_any_size(tiny, height, width):
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    found = tiny.predict(image, score_threshold=0.0)
    n = len(found)
    assert n > 0
    assert found.boxes.shape == (n, 4) and found.scores.shape == (n,) and found.labels.shape == (n,)
    assert found.masks.shape == (n, height, width) and found.masks.dtype == torch.bool
    assert found.location.shape == (n, 2) and found.level.shape == (n,)
    assert (found.boxes >= 0).all() and (found.boxes[:, 2] <= width + 1e-4).all()
    assert (found.boxes[:, 3] <= height + 1e-4).all()
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert found.trace.logits.shape == (n, 56, 56)
    ratio = found.trace.inputs.boxes[:, 1:] / found.boxes.clamp(min=1e-3)
    near = found.boxes > 1
    torch.testing.assert_close(ratio[near], torch.full_like(ratio[near], found.scale), rtol=0.1, atol=0)


def test_masks_lie_in_their_boxes_and_are_the_traces_own_paste(tiny):
    found = tiny.predict(draw((4, 4, 30, 40), (20, 20, 60, 50)).image, score_threshold=0.0)
    assert found.masks.any()
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes.tolist(), strict=True):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        if len(rows):
            assert rows.min() + 1 > y1 and rows.max() < y2 and columns.min() + 1 > x1 and columns.max() < x2


def test_the_cell_that_spoke_is_the_one_whose_attention_made_the_mask(tiny):
    image = draw((4, 4, 30, 40)).image
    found = tiny.predict(image, score_threshold=0.0)
    output = tiny(tiny.normalise(torch.from_numpy(image).permute(2, 0, 1)))
    points, level = output.dense.points, output.dense.level
    for i in range(len(found)):
        same = (points == found.location[i]).all(1) & (level == found.level[i])
        index = same.nonzero()[:, 0]
        assert len(index) == 1
        expected = tiny.attention_at(output.dense, torch.zeros_like(index), index)[0]
        torch.testing.assert_close(found.trace.attention[i], expected, atol=1e-5, rtol=1e-5)


def test_pil_and_array_of_one_image_give_one_answer(tiny):
    image = draw((4, 4, 30, 40)).image
    one, two = tiny.predict(image, 0.0), tiny.predict(Image.fromarray(image), 0.0)
    assert torch.equal(one.boxes, two.boxes) and torch.equal(one.masks, two.masks)


@pytest.mark.parametrize("K,M,R", [(1, 1, 7), (2, 3, 112), (3, 4, 14), (None, None, 56), (1, 4, 56)])
def test_one_model_serves_every_k_m_and_r(tiny, K, M, R):
    found = tiny.predict(draw((4, 4, 30, 40)).image, 0.0, K, M, R)
    assert found.trace.regions.shape[1:] == (K or 3, R, R)
    assert found.trace.attention.shape[1:] == (K or 3, M or 4, M or 4)
    assert found.trace.settings.normalizer == ("product" if K == 1 else "softmax")


@pytest.mark.parametrize("name,value", [("K", 0), ("K", 4), ("M", 0), ("M", 5), ("R", 0), ("R", 2.5), ("K", True)])
def test_sizes_that_the_model_does_not_serve_are_named(tiny, name, value):
    with pytest.raises(ValueError, match=f"{name} is .*whole numbers from 1"):
        tiny.predict(draw().image, **{name: value})


def test_a_dedicated_model_serves_its_own_k_alone():
    model = BlendMask(tiny_config(nested=False)).eval()
    with pytest.raises(ValueError, match="K is 2; this model serves whole numbers from 3 to 3"):
        model.predict(draw().image, K=2)


def test_numpys_whole_numbers_are_sizes_and_other_reals_thresholds(tiny):
    found = tiny.predict(draw((4, 4, 30, 40)).image, fractions.Fraction(1, 10), np.int64(2), np.int32(3), np.uint8(7))
    assert len(found) and found.trace.regions.shape[1:] == (2, 7, 7) and found.trace.attention.shape[-1] == 3


def test_words_for_clipping_are_refused(tiny):
    with pytest.raises(TypeError, match="clip_before_blend must be True or False; got str 'no'"):
        tiny.predict(draw().image, clip_before_blend="no")


@pytest.mark.parametrize("height,width", [(300, 31), (7, 200), (640, 479)])
def test_the_scale_takes_boxes_to_the_network_within_half_a_pixel(tiny, height, width):
    """One number for two sides, of which one is rounded; 1e-3 px for float32."""
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    found = tiny.predict(image, 0.0)
    assert len(found)
    torch.testing.assert_close(found.boxes * found.scale, found.trace.inputs.boxes[:, 1:], atol=0.501, rtol=0)


def test_a_model_in_training_is_read_as_it_is_and_left_as_it_is(tiny):
    image = draw((4, 4, 30, 40)).image
    expected = tiny.predict(image, 0.0)
    tiny.train()
    tiny.basis_module.eval()  # as a reader might who freezes a part
    before = copy.deepcopy(tiny.state_dict())
    found = tiny.predict(image, 0.0)
    assert torch.equal(found.boxes, expected.boxes) and torch.equal(found.masks, expected.masks)
    assert tiny.training and tiny.backbone.training and not tiny.basis_module.training
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())


def test_the_readers_own_modes_change_nothing(tiny):
    image = draw((4, 4, 30, 40)).image
    expected = tiny.predict(image, 0.0)
    try:
        torch.set_default_device("meta")  # where every tensor made without a device would be lost
        torch.set_default_dtype(torch.float64)
        with torch.inference_mode():
            found = tiny.predict(image, 0.0)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.boxes, expected.boxes) and torch.equal(found.masks, expected.masks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_of_another_precision_predicts(tiny, dtype):
    found = tiny.to(dtype).predict(draw((4, 4, 30, 40)).image, 0.0)
    assert len(found) and found.boxes.dtype == torch.float32 and found.boxes.isfinite().all()


def test_nothing_above_the_threshold_gives_an_empty_answer(tiny):
    found = tiny.predict(draw().image, score_threshold=1.0)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4) and found.masks.shape == (0, 64, 64)
    assert found.trace.logits.shape == (0, 56, 56)


@pytest.mark.parametrize(
    "image,error,message",
    [
        (np.zeros((64, 64), np.uint8), ValueError, r"uint8 of shape \(64, 64\)"),
        (np.zeros((64, 64, 4), np.uint8), ValueError, r"expected uint8 of shape \(H, W, 3\)"),
        (np.zeros((64, 64, 3), np.float32), ValueError, "float32"),
        (np.zeros((0, 64, 3), np.uint8), ValueError, "at least one pixel"),
        ("photo.jpg", TypeError, "image is str"),
        (torch.zeros(3, 64, 64), TypeError, "image is Tensor"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tiny, image, error, message):
    with pytest.raises(error, match=message):
        tiny.predict(image)


def test_a_file_that_is_cut_short_is_refused_when_it_is_decoded(tiny, tmp_path):
    Image.fromarray(draw((4, 4, 30, 40)).image).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "a.png") as picture, pytest.raises(ValueError, match="image cannot be read.*cut short"):
        tiny.predict(picture)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "0.3", None])
def test_a_threshold_outside_0_to_1_is_refused(tiny, threshold):
    with pytest.raises(ValueError, match="score_threshold"):
        tiny.predict(draw().image, score_threshold=threshold)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"]
)
def test_pil_modes_become_rgb(mode):
    assert to_rgb(Image.new(mode, (4, 5))).mode == "RGB"


def test_sixteen_bits_are_scaled_and_what_is_transparent_is_white():
    deep = Image.fromarray(np.array([[0, 128 * 257, 65535]], np.uint16))
    assert np.asarray(to_rgb(deep))[0, :, 0].tolist() == [0, 128, 255]
    clear = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert np.asarray(to_rgb(clear)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    "size,expected",
    [
        ((640, 480), (1067, 800)),
        ((480, 640), (800, 1067)),
        ((2000, 500), (1333, 333)),
        ((800, 800), (800, 800)),
        ((182, 91), (1333, 666)),  # 666.5 but for upstream's rounding in two steps
        ((3000, 1), (1333, 1)),
    ],
)
def test_resizing_keeps_the_sides_within_their_limits(size, expected):
    assert resize(Image.new("RGB", size), 800, 1333).size == expected


def dense_of(boxes, classes, config):
    """A head that says exactly these boxes (n,4) with these class probabilities (n,C), all at level 0."""
    n = len(boxes)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return Dense(
        torch.logit(classes)[None],
        torch.full((1, n), 20.0),
        torch.cat([half, half], 1)[None],
        centre,
        torch.zeros(n, dtype=torch.long),
        [],
    )


def test_proposals_are_threshold_top_k_root_and_classwise_nms():
    config = tiny_config(score_threshold=0.05, nms_iou=0.6)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [30, 30, 40, 40], [50, 50, 60, 60]])
    classes = torch.tensor([[0.9, 0.01], [0.5, 0.01], [0.01, 0.4], [0.3, 0.01], [0.04, 0.01]])
    decided = funnel(dense_of(boxes, classes, config), 0, config)
    found = decided.best
    assert found.location.tolist() == [0, 2, 3]  # 1 falls to 0, 2 is of another class, 4 is under the threshold
    assert found.labels.tolist() == [0, 1, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.4, 0.3]).sqrt(), atol=1e-4, rtol=0)
    assert decided.candidates.per_level(3) == [4, 0, 0]
    torch.testing.assert_close(found.boxes, boxes[[0, 2, 3]])


def test_a_level_gives_its_best_top_k_and_an_image_its_best_few():
    config = tiny_config(top_k=3, max_detections=2)
    corner = torch.arange(6.0)[:, None] * 20
    boxes = torch.cat([corner, corner, corner + 10, corner + 10], 1)
    classes = torch.stack([torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), torch.full((6,), 1e-4)], 1)
    decided = funnel(dense_of(boxes, classes, config), 0, config)
    assert decided.best.location.tolist() == [5, 4]
    assert decided.candidates.per_level(3) == [6, 0, 0] and len(decided.top) == 3
    many = propose(dense_of(boxes, classes, config), 0, tiny_config(top_k=3))
    assert sorted(many.location.tolist()) == [3, 4, 5]


def test_proposals_of_a_class_do_not_overlap_beyond_the_limit(tiny):
    dense = tiny(torch.randn(1, 3, 64, 64)).dense
    found = propose(dense, 0, tiny.config, threshold=0.0)
    for label in (0, 1):
        boxes = found.boxes[found.labels == label]
        iou = box_iou(boxes, boxes).fill_diagonal_(0)
        assert iou.max() <= tiny.config.nms_iou


def test_every_stage_is_kept_and_leads_to_the_next(tiny):
    image = draw((4, 4, 30, 40)).image
    kept = stages(tiny, image, score_threshold=0.5)
    assert np.array_equal(np.asarray(kept.picture), image)
    torch.testing.assert_close(kept.pixels, to_pixels(tiny, kept.resized))
    torch.testing.assert_close(kept.output.bases, tiny(kept.pixels).bases)
    f = kept.funnel
    assert len(f.candidates) >= len(f.top) >= len(f.suppressed) >= len(f.best) > 0
    assert (f.candidates.scores > 0.25).all() and (f.best.scores > 0.5).all()
    assert torch.equal(f.suppressed.boxes[: len(f.best)], f.best.boxes)
    assert torch.equal(kept.detections.scores, f.best.scores)
    assert torch.equal(kept.detections.masks, tiny.predict(image, 0.5).masks)


def test_a_higher_threshold_keeps_the_best_of_a_lower_one(tiny):
    """So a slider over the score can hide detections without running the network again."""
    image = draw((4, 4, 30, 40)).image
    low, high = tiny.predict(image, 0.3), tiny.predict(image, 0.5)
    n = int((low.scores > 0.5).sum())
    assert 0 < n < len(low) and n == len(high)
    assert torch.equal(low.boxes[:n], high.boxes) and torch.equal(low.masks[:n], high.masks)


def test_clipping_before_the_blend_moves_the_crop_and_after_it_does_not():
    torch.manual_seed(0)
    model = BlendMask(tiny_config(clip_before_blend=False)).eval()
    torch.nn.init.constant_(model.fcos.classes.bias, 0.0)
    found = model.predict(draw((0, 0, 20, 20)).image, 0.0)
    raw = found.trace.inputs.boxes[:, 1:]
    assert (raw < 0).any() and (found.boxes >= 0).all()
    torch.testing.assert_close(raw.clamp(0, 64), found.boxes)
    clipped = model.predict(draw((0, 0, 20, 20)).image, 0.0, clip_before_blend=True)
    torch.testing.assert_close(clipped.trace.inputs.boxes[:, 1:], found.boxes)
    torch.testing.assert_close(clipped.boxes, found.boxes)
    assert (clipped.masks != found.masks).any()
