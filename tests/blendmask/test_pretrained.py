"""The models that ship: each by its name, small, quick to load, and good for what its name says."""

import json

import pytest
import torch
from safetensors import safe_open

from blendlab.blendmask import evaluate, pretrained
from blendlab.blendmask.average_precision import average_precision
from blendlab.blendmask.evaluate import SceneList
from blendlab.blendmask.pretrained import WEIGHTS, ZOO
from blendlab.pictures import scene


@pytest.mark.parametrize("name", ZOO)
def test_a_shipped_file_is_small_and_in_half_precision(name):
    path = WEIGHTS / ZOO[name]
    assert path.stat().st_size <= 8_000_000
    with safe_open(path, framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118 - not a dict


def test_no_file_lies_there_that_no_name_gives():
    assert {path.name for path in WEIGHTS.glob("*.safetensors")} == set(ZOO.values())


def test_each_serves_what_its_name_says():
    nested, dedicated = pretrained(), pretrained("K4M7")
    assert (nested.config.nested, nested.config.bases, nested.config.attention_side) == (True, 8, 14)
    config = dedicated.config
    assert (config.nested, config.bases, config.attention_side, config.output_side) == (False, 4, 7, 28)
    seen = dedicated.predict(scene(3, "held_out").image)
    assert len(seen) and tuple(seen.trace.attention.shape[1:]) == (4, 7, 7)
    with pytest.raises(ValueError, match="K is 5; this model serves whole numbers from 4 to 4"):
        dedicated.predict(scene(3, "held_out").image, K=5)


def test_the_dedicated_model_is_the_better_one_at_its_sizes():
    """On 40 held-out scenes; on 500 the difference is in the model card."""
    scenes = SceneList("held_out", 40)
    nested = average_precision(pretrained(), scenes, 4, 7, 28)["mask_ap"]
    assert average_precision(pretrained("K4M7"), scenes, 4, 7, 28)["mask_ap"] > nested


@pytest.mark.parametrize("name", ["K8M14", "", "scenes.safetensors", 4, None])
def test_a_name_that_none_has(name):
    with pytest.raises(ValueError, match="the models that ship are 'nested', 'K4M7'"):
        pretrained(name)


def test_the_evaluation_takes_a_name(capsys):
    evaluate.main(["K4M7", "--scenes", "1", "--k", "4"])
    assert "mask_ap" in json.loads(capsys.readouterr().out.splitlines()[-1])
    with pytest.raises(SystemExit):
        evaluate.main(["K4M7", "--scenes", "1", "--k", "3"])
    assert "K is 3; this model serves whole numbers from 4 to 4" in capsys.readouterr().err
