"""A result shows itself: text, HTML and a picture, with the first element that differs."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from right_answers import blend_einsum, blender_steps, decode_signs, softmax_by_hand

from blendlab import exercises
from blendlab.exercises import Result


def spoilt(regions, scores):
    masks = blend_einsum(regions, scores)
    if masks.shape == (3, 5, 5):
        masks = masks + 0.5 * torch.nn.functional.one_hot(torch.tensor(37), 75).view(3, 5, 5)
    return masks


def test_a_pass_is_one_quiet_line():
    result = exercises.check_blend(blend_einsum)
    assert result.passed and result.diagnosis == "" and result.picture() is None and bool(result)
    bundle = result._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == repr(result) == "✓ blend: right\n  10 cases"


def test_the_first_differing_element_has_its_coordinates():
    result = exercises.check_blend(spoilt)
    assert "there are several boxes" in result.diagnosis
    line = result.details[1]
    assert "[n=1, row=2, column=2]" in line and "1 of 75 elements" in line
    assert result.cell == (2, 2) and result.yours.shape == result.expected.shape == (5, 5)
    difference = result.yours - result.expected
    assert difference[2, 2] == pytest.approx(0.5, abs=1e-6) and np.abs(difference).sum() == pytest.approx(0.5, abs=1e-4)


def test_three_pictures():
    result = exercises.check_blend(spoilt)
    bundle = result._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/png"}
    assert bundle["image/png"] in bundle["text/html"] and "<img alt=" in bundle["text/html"]
    image = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    pixels = np.asarray(image.convert("RGB"), int)
    unit = 190 // 5
    cells = [pixels[34 + 3 + 2 * unit, left + 3 + 2 * unit] for left in (0, 200, 400)]
    assert (cells[0] != cells[1]).any()
    flat = pixels[34 + 3, 400 + 3]  # the difference is 0 there: the colours' middle, which is nearly white
    assert flat.min() > 230 and cells[2].min() < 230


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, 0.0, -3.0])
def test_odd_numbers_are_drawn(wrong):
    result = exercises.check_softmax(lambda a: softmax_by_hand(a) * 0 + wrong)
    assert not result.passed and result.picture().startswith(b"\x89PNG")


def test_numbers_in_a_row_and_scalars_are_drawn():
    row = exercises.check_decode_box(lambda *args: decode_signs(*args) + 1)
    assert row.expected.shape == (1, 4) and row.picture()
    scalar = exercises.check_mask_loss(lambda x, t, w: x.sum())
    assert scalar.expected.shape == (1, 1) and scalar.picture()
    assert "first difference at []" not in scalar.details[1]


def test_words_are_escaped():
    result = exercises.check_blend(lambda r, s: {}["b<i>"])
    html = result._repr_mimebundle_()["text/html"]
    assert "<i>" not in html and "b&lt;i&gt;" in html


def test_another_seed_draws_other_inputs():
    seen = {}
    for seed in (0, 7, 0):
        calls = []

        def spy(bases, attention, boxes, output_size, calls=calls):
            calls.append(bases.clone())
            return blender_steps(bases, attention, boxes, output_size)

        assert exercises.check_blender(spy, seed=seed).passed
        seen.setdefault(seed, []).append(calls[0])
    assert torch.equal(*seen[0]) and not torch.equal(seen[0][0], seen[7][0])


def test_a_result_by_hand():
    result = Result("blend", False, "It does something.", ("a line",))
    assert repr(result) == "✗ blend: It does something.\n  a line"
