"""Whatever a function does, a check returns a line that helps: it raises nothing and disturbs nothing."""

import random
import signal
import threading
import time

import numpy as np
import pytest
import torch
from right_answers import blend_einsum, blender_steps, interpolate_torch, loss_softplus, roi_align_grid, softmax_by_hand

from blendlab import exercises
from blendlab.exercises import check_blend, check_blender, check_mask_loss, check_roi_align, check_softmax


def raises(regions, scores):
    narrow = regions[:, :, 0]
    return (narrow.view(2, 3) * scores).sum(1)  # the line that is named


def unfinished(regions, scores):
    # YOUR CODE HERE
    raise NotImplementedError()


def in_place(regions, scores):
    regions *= scores
    return regions.sum(1)


def no_return(regions, scores):
    (regions * scores).sum(1)


def generator(regions, scores):
    yield (regions * scores).sum(1)


def recursive(regions, scores):
    return recursive(regions, scores)


def leaves(regions, scores):
    raise SystemExit(1)


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def speechless(regions, scores):
    raise Silent


LINE = raises.__code__.co_firstlineno + 2
MISBEHAVIOUR = {
    "raises": (raises, ("RuntimeError", f"line {LINE}, in raises", "narrow.view(2, 3)")),
    "unfinished": (unfinished, ("not written yet", "NotImplementedError")),
    "returns None": (no_return, ("None", "return")),
    "NumPy": (lambda r, s: (r * s).sum(1).numpy(), ("NumPy",)),
    "a NumPy number": (lambda r, s: np.float32(1), ("NumPy",)),
    "a list": (lambda r, s: (r * s).sum(1).tolist(), ("a list",)),
    "a tuple": (lambda r, s: ((r * s).sum(1), r), ("a tuple",)),
    "values and indices": (lambda r, s: (r * s).max(1), ("a max", "tensor")),
    "a generator": (generator, ("a generator",)),
    "float64": (lambda r, s: (r * s).sum(1).double(), ("torch.float64", "dtype")),
    "whole numbers": (lambda r, s: (r * s).sum(1).long(), ("torch.int64",)),
    "booleans": (lambda r, s: (r * s).sum(1) > 0, ("torch.bool",)),
    "sparse": (lambda r, s: (r * s).sum(1).to_sparse(), ("sparse",)),
    "another device": (lambda r, s: (r * s).sum(1).to("meta"), ("device meta", "cpu")),
    "in place": (in_place, ("changes its input regions", "in place")),
    "too few parameters": (lambda regions: regions, ("cannot be called as blend(regions, scores)",)),
    "too many parameters": (lambda r, s, boxes: r, ("cannot be called as blend(regions, scores)",)),
    "without end": (recursive, ("RecursionError", "in recursive")),
    "leaves": (leaves, ("SystemExit",)),
    "an error without words": (speechless, ("Silent",)),
    "the result instead of the function": (torch.ones(2, 3, 3), ("without calling",)),
    "nothing": (None, ("got None",)),
    "its name": ("my_blend", ("got a str",)),
    "a built-in that takes something else": (len, ("cannot be called as blend",)),
    "a built-in that does not say what it takes": (max, ("RuntimeError",)),
}


@pytest.mark.parametrize(("function", "words"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR.keys())
def test_a_line_that_helps(function, words, capsys):
    result = check_blend(function)
    assert not result.passed and not result
    assert all(word in result.diagnosis for word in words), result.diagnosis
    assert "Traceback" not in repr(result) and "\n" not in result.diagnosis
    assert capsys.readouterr() == ("", "")


def test_every_check_survives_nonsense():
    for name in exercises.EXERCISES:
        check = getattr(exercises, f"check_{name}")
        for function in (None, lambda *args: None, lambda *args: args[0], lambda *args: 1 / 0, lambda: 0, dict, print):
            result = check(function)
            assert not result.passed and result.diagnosis, (name, function)


def test_an_input_changed_behind_a_clone_of_the_result_is_seen():
    def normalises_boxes(bases, attention, boxes, output_size):
        masks = blender_steps(bases, attention, boxes, output_size)
        boxes[:, 1:].clamp_(min=0)
        return masks

    result = check_blender(normalises_boxes)
    assert not result.passed and "changes its input boxes" in result.diagnosis


def test_a_function_that_does_not_end_is_stopped():
    def endless(attention):
        i = 0
        while i < 1:
            attention = attention + 1

    began = time.thread_time()
    result = check_softmax(endless)
    assert not result.passed and "did not return in time" in result.diagnosis and "in endless" in result.diagnosis
    assert time.thread_time() - began < 5  # of work: a bound that no machine's speed touches
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_function_that_waits_is_stopped(monkeypatch):
    monkeypatch.setattr("blendlab.exercises.calling.CLOCK_SECONDS", 0.2)
    result = check_softmax(lambda attention: threading.Event().wait())
    assert not result.passed and "did not return in time" in result.diagnosis


def test_an_import_inside_the_function_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setattr("blendlab.exercises.calling.PROCESSOR_SECONDS", 0.1)
    module = "import time\nend = time.thread_time() + 0.5\nwhile time.thread_time() < end: pass"
    (tmp_path / "slow_to_import.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)

    def imports(attention):
        import slow_to_import  # noqa: F401

        return attention.softmax(1)

    assert check_softmax(imports).passed


def test_outside_the_main_thread_a_check_works():
    results = []
    thread = threading.Thread(target=lambda: results.append(check_blend(blend_einsum)))
    thread.start()
    thread.join()
    assert results[0].passed


def test_random_numbers_and_modes_are_left_as_they_were():
    def careless(regions, scores):
        torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
        return blend_einsum(regions, scores)

    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    assert check_blend(careless).passed
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()  # noqa: NPY002
    assert random.random() == expected[2]


def test_the_users_modes_play_no_part():
    with torch.no_grad():
        assert check_blender(blender_steps).passed
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert check_blender(blender_steps).passed
    torch.set_default_dtype(torch.float64)
    try:
        assert check_blend(blend_einsum).passed
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def detached(function):
    return lambda *args: function(*args).detach()


DETACHED = {
    "roi_align": (check_roi_align, detached(roi_align_grid), "features"),
    "interpolate": (exercises.check_interpolate, detached(interpolate_torch), "attention"),
    "softmax": (check_softmax, lambda a: torch.tensor(softmax_by_hand(a).tolist()).view(a.shape), "attention"),
    "blend": (check_blend, lambda r, s: blend_einsum(r, s.detach()), "scores"),
    "blender": (check_blender, lambda b, a, x, R: blender_steps(b.detach(), a, x, R), "bases"),
    "mask_loss": (check_mask_loss, detached(loss_softplus), "logits"),
}


@pytest.mark.parametrize(("check", "function", "name"), DETACHED.values(), ids=DETACHED.keys())
def test_a_gradient_that_is_cut_off_is_named(check, function, name):
    result = check(function)
    assert not result.passed and f"No gradient comes back to {name}" in result.diagnosis


def test_a_gradient_through_numpy_is_explained():
    result = check_blend(lambda r, s: torch.from_numpy((r.numpy() * s.numpy()).sum(1)))
    assert not result.passed and "with gradients" in result.diagnosis and "detach" in result.diagnosis


def test_a_gradient_that_is_partly_cut_off_is_seen():
    result = check_softmax(lambda a: (a - a.logsumexp(1, keepdim=True).detach()).exp())
    assert not result.passed and "gradient that comes back to attention is not" in result.diagnosis
