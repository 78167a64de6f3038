import json
import math
import pickle

import pytest
import safetensors.torch
import torch
from tiny import tiny_config

from blendlab.blendmask import BlendMask
from blendlab.blendmask.checkpoint import assemble, load_model, load_state, load_weights, save_state, save_weights


def test_weights_come_back_as_they_went_but_for_half_precision(tiny, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny, path)
    back = load_weights(path)
    assert back.config == tiny.config and not back.training
    for (name, ours), theirs in zip(tiny.state_dict().items(), back.state_dict().values(), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=1e-3, msg=name)
        assert theirs.dtype == ours.dtype
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(back(image).bases, tiny(image).bases, atol=1e-2, rtol=1e-2)
    assert torch.equal(back.mean, tiny.mean)


def test_weights_with_one_bit_turned_are_refused(tiny, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(tiny, path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"w\.safetensors are damaged: their checksum is"):
        load_model(path)


def test_weights_without_a_checksum_are_read(tiny, tmp_path):
    """As an older version wrote them."""
    path = tmp_path / "w.safetensors"
    tensors = {name: tensor.half() for name, tensor in tiny.state_dict().items() if "num_batches" not in name}
    path.write_bytes(safetensors.torch.save(tensors, {"config": json.dumps(tiny.config.to_dict())}))
    assert load_model(path).config == tiny.config


def test_weights_take_half_the_room(tiny, tmp_path):
    save_weights(tiny, tmp_path / "w.safetensors")
    numbers = sum(t.numel() for t in tiny.state_dict().values())
    assert (tmp_path / "w.safetensors").stat().st_size < 2.2 * numbers


def test_the_training_only_head_is_not_shipped(tmp_path):
    save_weights(BlendMask(tiny_config(seg_head=True)), tmp_path / "w.safetensors")
    assert load_weights(tmp_path / "w.safetensors").semantic is None


def test_weights_load_as_ever_whatever_defaults_the_reader_has_set(tiny, tmp_path):
    save_weights(tiny, tmp_path / "w.safetensors")
    try:
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
        back = load_weights(tmp_path / "w.safetensors")
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert {(t.device.type, t.dtype) for t in (back.mean, back.attention.weight)} == {("cpu", torch.float32)}
    assert back(torch.rand(1, 3, 64, 64)).bases.isfinite().all()


@pytest.mark.parametrize("size", [0, 5, 4000])
def test_a_cut_file_is_said_to_be_cut(tiny, tmp_path, size):
    path = tmp_path / "w.safetensors"
    save_weights(tiny, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="cut short"):
        load_weights(path)
    save_state(state_of(tiny), tmp_path / "last.pt")
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:size])
    with pytest.raises(ValueError, match="cut short"):
        load_state(tmp_path / "last.pt")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=name):
        load_model(tmp_path / name)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="lacks"):
        load_state(tmp_path / "other.pt")


def test_a_file_that_would_run_code_does_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(ValueError, match="cannot be read"):
        load_state(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


def test_tensors_of_another_shape_are_named(tiny):
    tensors = tiny.state_dict()
    tensors["attention.bias"] = torch.zeros(5)
    tensors["colour"] = torch.zeros(1)
    del tensors["fcos.box.bias"]
    with pytest.raises(ValueError) as error:
        assemble(tiny.config, tensors, "weights")
    for part in ("fcos.box.bias", "colour", r"attention.bias is (5,), expected (48,)"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.to(torch.int32), "attention.bias is torch.int32, expected floating"),
        (lambda t: t * math.nan, "attention.bias is not finite"),
    ],
    ids=["whole numbers", "NaN"],
)
def test_tensors_of_no_weights_are_named(tiny, change, words):
    tensors = tiny.state_dict()
    tensors["attention.bias"] = change(tensors["attention.bias"])
    with pytest.raises(ValueError, match=words):
        assemble(tiny.config, tensors, "weights")


@pytest.mark.parametrize("config", ["{", "[1]", "{}", '{"categories": ["a"], "bases": "8"}', '{"colour": 1}'])
def test_a_config_that_is_none_is_said_with_its_file(tiny, tmp_path, config):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, metadata={"config": config}))
    with pytest.raises(ValueError, match=r"w\.safetensors: its config cannot be used"):
        load_model(path)


def test_a_state_with_one_bit_turned_is_refused(tiny, tmp_path):
    """Most bits are of weights, where torch's own reader would take it for another number."""
    path = tmp_path / "last.pt"
    save_state(state_of(tiny), path)
    data = bytearray(path.read_bytes())
    place = data.index(tiny.attention.weight.detach().numpy().tobytes()[:64])
    data[place + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"last\.pt cannot be read: damaged"):
        load_state(path)


def test_a_write_that_fails_leaves_the_last_file_readable(tiny, tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_state(state_of(tiny), path)

    def killed(state, file):
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(state_of(tiny) | {"steps": 7}, path)
    assert load_state(path)["steps"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]  # half a file would keep a full disk full


def state_of(model):
    return {
        "config": model.config.to_dict(),
        "settings": {},
        "steps": 3,
        "model": model.state_dict(),
        "averaged": model.state_dict(),
        "optimiser": {},
    }
