"""The comparison with the reference, as a program: it takes what README's table promises, and every row can fail.

What the reference would have said of other images is made here from our own model: that shows nothing about the model,
and all about the comparison.
"""

import functools
import json
import sys

import numpy as np
import pytest
import torch

sys.path.insert(0, __file__.rsplit("/blendmask/", 1)[0])  # tests/, where parity.py lies

import parity

from blendlab.blendmask import BlendMask, authors
from blendlab.blendmask.adelaidet import from_adelaidet, their_name
from blendlab.blendmask.postprocess import funnel
from blendlab.blendmask.predict import blender, finish

R50 = parity.DATA / "manifest_r50.json"


@pytest.fixture(scope="module")
def model():
    return from_adelaidet(parity.parity_weights.checkpoint(R50))


@torch.no_grad()
def expect(model: BlendMask, size: tuple[int, int], seed: int, threshold: float) -> dict[str, np.ndarray]:
    """README's arrays, as our own model has them."""
    height, width = size
    pixels = torch.from_numpy(parity.parity_weights.image(*size, seed=seed)).flip(0)
    output = model(model.normalise(pixels))
    decided = funnel(output.dense, 0, model.config, threshold)
    best = decided.best
    attention = model.attention_at(output.dense, torch.zeros_like(best.location), best.location)
    found = finish(model, output, best, (width, height), (width, height), 4, 14, 56)
    width3, width5 = output.maps["p3"].shape[3], output.maps["p5"].shape[3]
    given = torch.tensor([width3 + 2, int((output.dense.level < 2).sum()) + 3 * width5 + 4])
    given_attention = model.attention_at(output.dense, torch.zeros(2, dtype=torch.long), given)
    given_boxes = torch.tensor([[3.0, 5.0, width - 9.0, height - 4.0], [-20.0, -31.0, 60.0, 50.0]])
    arrays = {
        "p5": output.maps["p5"][0],
        "p6": output.maps["p6"][0],
        "p7": output.maps["p7"][0],
        "p3_mean": output.maps["p3"][0].mean((1, 2)),
        "p4_mean": output.maps["p4"][0].mean((1, 2)),
        "bases": output.bases[0],
        "candidates_per_level": torch.tensor(decided.candidates.per_level(5)),
        "boxes": best.boxes,
        "scores": best.scores,
        "classes": best.labels,
        "levels": best.level,
        "attentions": attention.flatten(1),
        "mask_probs": blender(4, 56)(output.bases, attention, best.boxes).probabilities,
        "given_boxes": given_boxes,
        "given_attentions": given_attention.flatten(1),
        "given_mask_probs": blender(4, 56)(output.bases, given_attention, given_boxes).probabilities,
        "final_boxes": found.boxes,
        "final_scores": found.scores,
        "final_classes": found.labels,
    }
    packed = np.packbits(found.masks.numpy(), axis=2)
    return {name: value.numpy() for name, value in arrays.items()} | {"final_masks_packed": packed}


@pytest.mark.parametrize(
    "size,threshold,detections",
    [((131, 165), 0.9999, 0), ((131, 165), 1e-4, 100), ((390, 141), 0.3, None), ((129, 500), 0.3, None)],
    ids=["none", "many", "tall", "wide"],
)
def test_images_of_any_shape_with_any_number_of_detections(model, size, threshold, detections):
    expected = expect(model, size, 1, threshold)
    if detections is None:
        assert 1 < len(expected["boxes"])
    else:
        assert len(expected["boxes"]) == detections
    assert threshold > 1e-3 or expected["candidates_per_level"].max() > 1000  # so that top-k has something to do
    assert parity.compare(model, expected, size, 1, threshold).failed == []


def test_the_program_on_another_network_and_size(tmp_path, capsys, monkeypatch):
    """R-101 by its manifest, from the command line, as the authors' other files will be tried."""
    monkeypatch.setattr(parity.parity_weights, "checkpoint", functools.cache(parity.parity_weights.checkpoint))
    with torch.device("meta"):
        entries = BlendMask(authors(101)).state_dict()
    manifest = tmp_path / "manifest_r101.json"
    manifest.write_text(json.dumps({their_name(name): list(t.shape) for name, t in entries.items()}))
    model = from_adelaidet(parity.parity_weights.checkpoint(manifest), 101)
    np.savez(tmp_path / "expected.npz", **expect(model, (150, 201), 5, 0.2))
    arguments = ["--manifest", str(manifest), "--expected", str(tmp_path / "expected.npz"), "--size", "150", "201"]
    arguments += ["--depth", "101", "--threshold", "0.2"]
    assert parity.main([*arguments, "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if line.startswith("ok  ")]) == 19
    assert parity.main([*arguments, "--seed", "6"]) == 1  # another image
    assert "FAIL  bases" in capsys.readouterr().out


def changed(array: np.ndarray, by: float) -> np.ndarray:
    return (array + by).astype(array.dtype)


WRONG = {  # the row that must find it: the array, and what is added to it
    "p5": ("p5", 0.01),
    "p6": ("p6", 0.01),
    "p7": ("p7", 0.01),
    "p3_mean": ("p3_mean", 0.01),
    "p4_mean": ("p4_mean", 0.01),
    "bases": ("bases", 0.01),
    "candidates_per_level, wrong": ("candidates_per_level", 1),
    "given_attentions": ("given_attentions", 0.01),
    "given_mask_probs, largest": ("given_mask_probs", 0.002),
    "levels, wrong": ("levels", 1),
    "attentions, largest ratio": ("attentions", 0.01),
    "mask_probs, largest difference": ("mask_probs", 0.002),
    "final masks, smallest IoU": ("final_masks_packed", 1),
}


@pytest.fixture(scope="module")
def right(model):
    return expect(model, (131, 165), 1, 0.3)


def test_each_row_finds_what_is_wrong_in_it_and_nothing_else(model, right):
    wrong = {name: changed(right[name], by) for name, by in WRONG.values()}
    assert sorted(parity.compare(model, right | wrong, (131, 165), 1, 0.3).failed) == sorted(WRONG)


@pytest.mark.parametrize("name,by", [("classes", 1), ("scores", 0.001), ("boxes", 0.2)])
def test_another_class_score_or_box_is_no_partner(model, right, name, by):
    wrong = {name: changed(right[name], by), f"final_{name}": changed(right[f"final_{name}"], by)}
    if name == "boxes":
        wrong["final_boxes"] = changed(right["boxes"], by).clip(0, [165, 131, 165, 131]).astype(np.float32)
    failed = parity.compare(model, right | wrong, (131, 165), 1, 0.3).failed
    assert {"detections without a partner", "final detections without a partner"} <= set(failed)


def test_a_detection_too_many_or_few_is_a_toss_and_two_are_not(model, right):
    def without(n):
        rows = ("boxes", "scores", "classes", "levels", "attentions", "mask_probs")
        final = ("final_boxes", "final_scores", "final_classes", "final_masks_packed")
        return right | {name: right[name][n:] for name in (*rows, *final)}

    assert parity.compare(model, without(1), (131, 165), 1, 0.3).failed == []
    assert parity.compare(model, without(2), (131, 165), 1, 0.3).failed == ["detections, difference in number"]


def test_a_missing_file_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        parity.main(["--manifest", str(R50), "--expected", str(tmp_path / "no.npz"), "--size", "9", "9", "--seed", "0"])
    assert stop.value.code == 2 and "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("expected", lambda data: b"", "cannot be read"),
        ("expected", lambda data: data[: len(data) // 2], "cannot be read"),
        ("expected", lambda data: b"PK\x03\x04" + bytes(100), "cannot be read"),
        ("expected", lambda data: b"no arrays", "cannot be read"),
        ("manifest", lambda data: data[: len(data) // 2], "cannot be read"),
        ("manifest", lambda data: b"[1, 2]", "it holds a list, no names and shapes"),
        ("manifest", lambda data: b'{"a": [1]}', "cannot be read"),
        ("manifest", lambda data: b'{"a": 3}', "cannot be read"),
        ("manifest", lambda data: b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_file_is_said_in_a_line(tmp_path, name, damage, said):
    files = {"manifest": R50, "expected": parity.DATA / "expected_r50.npz"}
    broken = tmp_path / "broken"
    broken.write_bytes(damage(files[name].read_bytes()))
    files |= {name: broken}
    arguments = [word for key, path in files.items() for word in (f"--{key}", str(path))]
    with pytest.raises(SystemExit, match=f"^parity: --{name} .*broken cannot be read: .*") as stop:
        parity.main([*arguments, "--size", "192", "256", "--seed", "0"])
    assert said in stop.value.code and "\n" not in stop.value.code


def test_an_expectation_that_lacks_arrays_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "weights", lambda path: {})
    monkeypatch.setattr(parity, "from_adelaidet", lambda weights, depth: None)
    with np.load(parity.DATA / "expected_r50.npz") as file:
        np.savez(tmp_path / "few.npz", **{key: file[key] for key in file.files if key not in ("bases", "levels")})
    given = ["--manifest", str(R50), "--expected", str(tmp_path / "few.npz"), "--size", "9", "9", "--seed", "0"]
    with pytest.raises(SystemExit, match="few.npz cannot be read: it has no bases, levels"):
        parity.main(given)
