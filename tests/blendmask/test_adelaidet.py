import dataclasses
import os
import sys

import numpy as np
import pytest
import torch

sys.path.insert(0, __file__.rsplit("/blendmask/", 1)[0])  # tests/, where parity.py lies

import parity

from blendlab.blendmask import authors
from blendlab.blendmask.adelaidet import from_adelaidet, load_file

ROWS = [("expected_r50.npz", (256, 320), 0, 0.05), ("expected_r50_odd.npz", (203, 310), 3, 0.45)]


@pytest.fixture(scope="module")
def weights():
    return parity.parity_weights.checkpoint(parity.DATA / "manifest_r50.json")


@pytest.fixture(scope="module")
def model(weights):
    return from_adelaidet(weights)


@pytest.mark.parametrize("file,size,seed,threshold", ROWS)
def test_the_authors_weights_give_the_authors_numbers(model, file, size, seed, threshold):
    """Norm of the difference at most 1e-4 of the norm, and the other limits that parity.py prints."""
    with np.load(parity.DATA / file) as expected:
        report = parity.compare(model, dict(expected), size, seed, threshold)
    assert report.failed == []


@pytest.mark.parametrize("M,R", [(None, 56), (7, 28), (1, 112)])
def test_predict_serves_the_authors_network_as_it_serves_ours(model, monkeypatch, M, R):
    small = dataclasses.replace(model.config, short_side=96)  # so that the test is short
    monkeypatch.setattr(model, "config", small)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    found = model.predict(image, score_threshold=0.2, M=M, R=R)
    n = len(found)
    assert n > 0 and found.masks.shape == (n, 60, 80) and found.trace.logits.shape == (n, R, R)
    assert found.trace.attention.shape == (n, 4, M or 14, M or 14)
    assert {found.categories[label] for label in found.labels.tolist()} <= set(authors(50).categories)
    with pytest.raises(ValueError, match="K is 3; this model serves whole numbers from 4 to 4"):
        model.predict(image, K=3)
    with pytest.raises(ValueError, match="M is 15; this model serves whole numbers from 1 to 14"):
        model.predict(image, M=15)


def test_a_network_that_is_not_the_authors_fails_the_comparison(weights):
    """The comparison can fail: stride 2 in the 3x3 convolution, as torchvision has it, is found out."""
    model = from_adelaidet(weights)
    for stage in (model.backbone.c3, model.backbone.c4, model.backbone.c5):
        stage[0].conv1.stride, stage[0].conv2.stride = (1, 1), (2, 2)
    file, size, seed, threshold = ROWS[1]
    with np.load(parity.DATA / file) as expected:
        report = parity.compare(model, dict(expected), size, seed, threshold)
    assert {"p5", "bases", "given_attentions", "detections without a partner"} <= set(report.failed)


def test_tensors_nested_under_model_older_names_and_no_training_head(weights, model):
    old = {name.replace("ctrness", "centerness"): torch.from_numpy(array) for name, array in weights.items()}
    old = {name: tensor for name, tensor in old.items() if "seg_head" not in name} | {"pixel_mean": torch.zeros(3)}
    loaded = from_adelaidet({"model": old, "iteration": 89999})
    assert loaded.semantic is None
    assert torch.equal(loaded.fcos.centerness.weight, model.fcos.centerness.weight)


def test_what_is_missing_extra_or_misshapen_is_named_as_the_file_names_it(weights):
    broken = dict(weights)
    del broken["top_layer.bias"]
    broken["tensor_mask_head.weight"] = np.zeros(3, np.float32)
    broken["basis_module.tower.5.weight"] = np.zeros((8, 128, 1, 1), np.float32)
    with pytest.raises(ValueError) as error:
        from_adelaidet(broken)
    for part in ("['top_layer.bias']", "['tensor_mask_head.weight']", "basis_module.tower.5.weight is (8, 128, 1, 1)"):
        assert part in str(error.value)


def test_numbers_that_are_no_weights_are_named_as_the_file_names_them(weights):
    broken = dict(weights)
    broken["top_layer.bias"] = broken["top_layer.bias"].astype(np.int32)
    broken["backbone.fpn_lateral3.weight"] = broken["backbone.fpn_lateral3.weight"] * np.nan
    with pytest.raises(ValueError) as error:
        from_adelaidet(broken)
    for part in ("top_layer.bias is torch.int32, expected floating", "backbone.fpn_lateral3.weight is not finite"):
        assert part in str(error.value)


def test_r50_weights_are_no_r101(weights):
    with pytest.raises(ValueError, match=r"R-101 checkpoint: missing.*res4\.6\.conv1"):
        from_adelaidet(weights, depth=101)


@pytest.mark.parametrize("weights", [[1, 2], torch.zeros(3), {1: torch.zeros(3)}, {"model": 5}])
def test_what_holds_no_arrays_by_name_is_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        from_adelaidet(weights)


def test_float32_entries_are_taken_without_a_copy(weights):
    """Loading must not hold two models."""
    loaded = from_adelaidet(weights)
    assert np.shares_memory(loaded.attention.weight.numpy(), weights["top_layer.weight"])
    assert np.shares_memory(loaded.backbone.stem[0].weight.numpy(), weights["backbone.bottom_up.stem.conv1.weight"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.int64])
def test_a_file_of_numpy_arrays_is_read_as_data(tmp_path, zipped, dtype):
    """Both of torch's formats: the authors' files are older than the zipped one."""
    arrays = {"model": {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": torch.ones(2)}, "iteration": 5}
    torch.save(arrays, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    loaded = load_file(tmp_path / "w.pth")["model"]
    assert loaded["a"].dtype == dtype and np.array_equal(loaded["a"], arrays["model"]["a"])
    assert torch.equal(loaded["b"], torch.ones(2))


def test_an_array_that_numpy_1_pickled_is_read(tmp_path):
    """NumPy 1 wrote numpy.core where NumPy 2 writes numpy._core; the authors' files are from its time."""
    torch.save({"a": np.arange(3.0)}, tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    written = (tmp_path / "new.pth").read_bytes()
    old = written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (tmp_path / "old.pth").write_bytes(old)
    assert np.array_equal(load_file(tmp_path / "old.pth")["a"], np.arange(3.0))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"model": Trap()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth cannot be read: it asks for .*open, which is not data"):
        load_file(tmp_path / "w.pth")
    assert not (tmp_path / "sprung").exists()


class Shell:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize(
    ("value", "word"),
    [(Shell(), "system"), (np.array([object]), "ObjectDType"), (np.array(["a"]), "StrDType")],
    ids=["a blocked module", "objects", "words"],
)
def test_what_a_file_asks_for_is_named(tmp_path, value, word):
    torch.save({"model": value}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"w\.pth cannot be read: it asks for \S*{word}, which is not data"):
        load_file(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_is_named(tmp_path, zipped):
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    for content in ((tmp_path / "w.pth").read_bytes()[:2000], b"<html>not found</html>", b""):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.pth cannot be read: it is cut short, or no file of torch.save"):
            load_file(tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not exist, or is no file"):
        load_file(tmp_path)
