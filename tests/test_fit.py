"""The fitted source: what it reaches on discs, what survives a dragged box, and where it is kept.

One letter legend: N boxes, K bases, M attention side, R output side, H x W image.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from blendlab import Blender, paste_masks
from blendlab.fit import fit, fit_nested, fitted, store
from blendlab.fit.targets import disturbed, soft_targets
from blendlab.pictures import Picture, load, names, scene
from blendlab.sources import Source


def silent(step: int, steps: int, loss: float) -> None:
    pass


def discs(name: str = "discs") -> Picture:
    """64 x 64: two overlapping discs, of which the second hides a part of the first, and a small one."""
    y, x = np.mgrid[:64, :64] + 0.5
    a, b, c = ((x - cx) ** 2 + (y - cy) ** 2 < r * r for cx, cy, r in ((22, 24, 14), (38, 28, 13), (48, 52, 8)))
    return Picture.from_masks(np.zeros((64, 64, 3), np.uint8), np.stack((a & ~b, b, c)), name=name)


def masks(inputs, picture: Picture, R: int = 56, form: str = "softmax") -> torch.Tensor:
    trace = Blender(R, normalizer=form)(inputs.bases, inputs.attention, inputs.boxes)
    return paste_masks(trace.probabilities, inputs.boxes[:, 1:], picture.size) >= 0.5


def iou(a: torch.Tensor, b) -> torch.Tensor:
    b = torch.as_tensor(b)
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2))


@pytest.fixture(scope="module")
def nested() -> Source:
    return fit_nested(discs(), steps=1000, progress=silent)


# ------------------------------------------------------------------ targets


def test_targets_are_the_share_of_each_bin():
    mask = torch.zeros(1, 20, 20)
    mask[0, 4:12, 4:11] = 1  # 8 rows, 7 columns
    target = soft_targets(mask, torch.tensor([[4.0, 4.0, 12.0, 12.0]]), 2)[0]  # bins of 4 x 4 px
    # bilinear samples blur the mask's edge by half a pixel to each side, which is an eighth of a bin
    torch.testing.assert_close(target, torch.tensor([[1, 0.75], [1, 0.75]]), rtol=0, atol=0.13)
    assert soft_targets(mask, torch.tensor([[14.0, 14.0, 18.0, 18.0]]), 2).max() == 0  # outside the object


def test_targets_pasted_back_are_the_masks():
    picture = scene(1)
    boxes = torch.from_numpy(picture.boxes)
    pasted = paste_masks(soft_targets(torch.from_numpy(picture.masks).float(), boxes, 56), boxes, picture.size) >= 0.5
    assert iou(pasted, picture.masks).min() > 0.98  # 1.00 in TRAINING's table of R=56, soft


def test_some_boxes_stay_and_none_turns_inside_out():
    boxes = torch.tensor([[10.0, 10.0, 14.0, 40.0]]).repeat(500, 1)
    drawn = disturbed(boxes, torch.Generator().manual_seed(0))
    assert (drawn[:, 2:] - drawn[:, :2]).min() > 0
    still = (drawn == boxes).all(1).float().mean().item()
    assert 0.53 < still < 0.67  # 0.6, three standard errors each way
    assert (drawn - boxes).abs().max() <= 24


# ------------------------------------------------------------------ one setting


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_a_single_fit_draws_a_composed_scene(seed):
    picture = scene(seed)
    inputs = fit(picture, K=4, M=7, R=56, progress=silent)
    assert (inputs.N, inputs.K, inputs.M) == (len(picture), 4, 7)
    assert iou(masks(inputs, picture), picture.masks).mean() > 0.95


def test_the_papers_form_is_fitted_where_k_is_1():
    picture = discs()
    inputs = fit(picture, K=1, M=14, progress=silent)
    assert iou(masks(inputs, picture, form="product"), picture.masks).min() > 0.9
    # under softmax the attention is inert, so the overlapping discs cannot both be right
    assert iou(masks(inputs, picture), picture.masks).min() < 0.8


# ------------------------------------------------------------------ nested


@pytest.mark.parametrize(("K", "M", "least"), ((2, 14, 0.9), (4, 1, 0.9), (4, 7, 0.95), (4, 14, 0.96), (8, 28, 0.97)))
def test_one_result_serves_every_k_and_m(nested, K, M, least):
    assert iou(masks(nested.inputs(K, M), discs()), discs().masks).min() > least


def test_every_output_side_is_served(nested):
    for R, least in ((7, 0.85), (14, 0.95), (28, 0.97), (112, 0.97)):
        assert iou(masks(nested.inputs(4, 14), discs(), R), discs().masks).mean() > least


def test_one_base_is_read_in_both_forms(nested):
    """Under softmax the first base alone is the mask of all objects; the paper's form keeps the overlapping apart."""
    plain = iou(masks(nested.inputs(1, 14), discs()), discs().masks)
    paper = iou(masks(nested.inputs(1, 14), discs(), form="product"), discs().masks)
    assert plain.min() > 0.6
    assert paper.min() > 0.93
    assert paper.mean() > plain.mean() + 0.05


@pytest.mark.parametrize("edges", ((-4, -4, 4, 4), (-8, -8, 8, 8), (-8, 0, 0, 0), (0, 0, 8, 8)))
def test_a_larger_box_keeps_the_mask(nested, edges):
    grown = nested.with_boxes(nested.boxes + torch.tensor(edges))
    kept = iou(masks(grown.inputs(4, 14), discs()), masks(nested.inputs(4, 14), discs()))
    assert kept.mean() > 0.9


def test_only_attention_tells_the_overlapping_apart(nested):
    """Both discs seen through one box, the union of theirs: the bases are the same, the masks are not."""
    union = torch.cat((nested.boxes[:2, :2].min(0).values, nested.boxes[:2, 2:].max(0).values))
    shared = nested.with_boxes(union.expand(3, 4).clone())
    assert iou(masks(shared.inputs(4, 14), discs()), discs().masks)[:2].min() > 0.8


def test_base_values_stay_readable(nested):
    assert nested.bases.abs().max() < 20


def test_the_background_no_box_looks_at_is_background():
    image, mask = np.zeros((64, 256, 3), np.uint8), np.zeros((1, 64, 256), bool)
    mask[0, 20:40, 10:30] = True
    source = fit_nested(Picture.from_masks(image, mask), steps=60, progress=silent)
    far = source.with_boxes(torch.tensor([[180.0, 10.0, 240.0, 60.0]]))
    for K in (1, 4, 8):
        assert not masks(far.inputs(K, 14), Picture.from_masks(image, mask)).any()


def test_a_seed_repeats():
    a, b, c = (fit_nested(discs(), steps=12, seed=seed, progress=silent) for seed in (5, 5, 6))
    assert torch.equal(a.bases, b.bases)
    assert torch.equal(a.attention, b.attention)
    assert not torch.equal(a.bases, c.bases)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_readers_modes_play_no_part(mode):
    expected = fit(discs(), steps=3)
    torch.set_default_dtype(torch.float64)
    try:
        with mode():
            assert torch.equal(fit(discs(), steps=3).bases, expected.bases)
            assert fit_nested(discs(), steps=3, progress=silent).inputs(2, 5).attention.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_progress_is_told_every_step():
    told = []
    fit_nested(discs(), steps=5, progress=lambda *news: told.append(news))
    assert [(step, steps) for step, steps, _ in told] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert all(loss > 0 for _, _, loss in told)


def test_the_number_of_threads_is_as_before():
    before, during = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        fit(discs(), steps=1, progress=lambda *_: during.append(torch.get_num_threads()))
        assert (during, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_a_short_fit_shows_no_bar(capsys):
    fit(discs(), steps=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("make", (fit, fit_nested, fitted))
def test_nothing_to_fit_is_said(make):
    empty = Picture.from_masks(np.zeros((32, 32, 3), np.uint8), name="sky")
    with pytest.raises(ValueError, match="picture 'sky' has no instances"):
        make(empty)
    with pytest.raises(TypeError, match="picture must be a Picture; got str 'voc'"):
        make("voc")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    (
        ({"K": 0}, ValueError, "K must be at least 1; got 0"),
        ({"M": 0}, ValueError, "M must be at least 1"),
        ({"R": 5.5}, TypeError, "R must be a whole number"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"seed": "a"}, TypeError, "seed must be a whole number"),
    ),
)
def test_a_setting_that_cannot_be_fitted_is_named(wrong, error, message):
    with pytest.raises(error, match=message):
        fit(discs(), **wrong)


# ------------------------------------------------------------------ kept on disk


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder, and a count of the fits made."""
    made = []

    def short(picture, *, progress=None, device="cpu"):
        made.append(picture.name)
        return fit_nested(picture, steps=3, progress=progress or silent)

    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path / "blendlab" / "fitted")
    monkeypatch.setattr(store, "fit_nested", short)
    return made, tmp_path / "blendlab" / "fitted"


def test_a_picture_is_fitted_once(cache):
    made, folder = cache
    first, second = fitted(discs()), fitted(discs("the same under another name"))
    assert made == ["discs"]
    for name in ("bases", "attention", "boxes"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert first.name == "fitted"
    assert "have seen the answer" in first.note
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_any_change_of_the_picture_is_another_fit(cache):
    made, folder = cache
    a = discs()
    image, truth, boxes = a.image.copy(), a.masks.copy(), a.boxes.copy()
    image[0, 0, 0], truth[0, 0, 0], boxes[0, 0] = 1, True, boxes[0, 0] - 1
    others = [
        Picture.from_masks(image, a.masks),
        Picture.from_masks(a.image, truth, boxes=a.boxes),
        Picture.from_masks(a.image, a.masks, boxes=boxes),
    ]
    assert len({store.digest(picture) for picture in (a, *others)}) == 4


def test_a_name_alone_does_not_get_the_shipped_fit(cache):
    made, _ = cache
    assert fitted(discs("voc")).bases.shape == (1, 8, 16, 16)
    assert made == ["voc"]


@pytest.mark.parametrize("damage", ("cut", "empty", "noise", "shape", "nan", "missing"))
def test_a_damaged_file_is_fitted_anew_with_a_warning(cache, damage):
    made, folder = cache
    good = fitted(discs())
    (path,) = folder.iterdir()
    data, arrays = path.read_bytes(), load_file(path)
    key = {"key": store.digest(discs())}
    if damage in ("cut", "empty", "noise"):
        path.write_bytes({"cut": data[:-100], "empty": b"", "noise": b"\xff" * 500}[damage])
    elif damage == "shape":
        save_file(arrays | {"bases": arrays["bases"][:, :4].contiguous()}, path, key)
    elif damage == "nan":
        save_file(arrays | {"bases": arrays["bases"] * float("nan")}, path, key)
    else:
        save_file({"bases": arrays["bases"]}, path, key)
    with pytest.warns(UserWarning, match="is damaged .* fitted anew"):
        again = fitted(discs())
    assert made == ["discs", "discs"]
    assert torch.equal(again.bases, good.bases)
    assert path.read_bytes() == data


def test_an_interrupted_fit_says_so_and_leaves_nothing(cache):
    made, folder = cache

    def stop(step, steps, loss):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"fitting discs: stopped after 2 of 3 steps, nothing is kept"):
        fitted(discs(), progress=stop)
    assert not folder.exists()


def test_an_interrupted_write_leaves_nothing(cache, monkeypatch):
    made, folder = cache

    def half(arrays, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        fitted(discs())
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_warning(cache):
    made, folder = cache
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("a file stands where the folder should")
    with pytest.warns(UserWarning, match="is not kept in"):
        assert fitted(discs()).bases.shape == (1, 8, 16, 16)


# ------------------------------------------------------------------ shipped


@pytest.mark.parametrize("name", names())
def test_the_photographs_are_shipped_as_they_are_fitted_now(cache, name):
    """Raising VERSION or STEPS, or another picture under the name, asks for scripts/fit_photographs.py."""
    made, folder = cache
    source = fitted(load(name))
    assert made == []
    assert not folder.exists()
    assert source.N == len(load(name))


def test_the_shipped_fits_are_small():
    assert sum((store.SHIPPED / f"{name}.safetensors").stat().st_size for name in names()) < 1.2e6


# floors a point or two under what scripts/fit_photographs.py --measure prints
@pytest.mark.parametrize(("name", "mean", "grown"), (("voc", 0.82, 0.87), ("arc2017", 0.97, 0.96)))
def test_the_photographs_are_drawn_and_survive_a_drag(name, mean, grown):
    picture = load(name)
    source = fitted(picture)
    still = masks(source.inputs(4, 14), picture)
    assert iou(still, picture.masks).mean() > mean
    larger = source.with_boxes(source.boxes + torch.tensor((-8, -8, 8, 8)))
    assert iou(masks(larger.inputs(4, 14), picture), still).mean() > grown


# --- devices


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_fit_lies_where_it_was_computed_and_draws_the_same_numbers(device, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    one = fit(discs(), 2, 5, 14, steps=3, progress=silent, device=device)
    source = fit_nested(discs(), steps=3, progress=silent, device=device)
    assert {t.device.type for t in (one.bases, one.attention, one.boxes, source.bases, source.boxes)} == {device}
    here = fit_nested(discs(), steps=3, progress=silent)
    torch.testing.assert_close(source.to("cpu").bases, here.bases, rtol=0, atol=1e-3)
    inputs = source.inputs(3, 5)
    assert inputs.attention.device.type == device
    torch.testing.assert_close(inputs.attention.cpu(), here.inputs(3, 5).attention, rtol=0, atol=1e-3)
    assert fitted(load("voc"), device=device).bases.device.type == device
