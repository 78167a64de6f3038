import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from tiny import draw, tiny_config

from blendlab.blendmask import BlendMask, evaluate, train
from blendlab.blendmask.checkpoint import load_model, load_state, save_weights
from blendlab.blendmask.narrow import narrow
from blendlab.pictures import scene
from blendlab.pictures.coco import write_coco

MODEL = ["backbone=scratch", "fpn_channels=16", "tower_groups=4", "tower_convs=1", "bases=3", "attention_side=4"]
MODEL += ["output_side=14", "basis_channels=16", "short_side=64"]
SMALL = ["--model", *MODEL, "--set", "batch=2", "sides=(7,)", "--pictures", "2", "--threads", "1"]
QUIET = ["--report-every", "0", "--evaluate-every", "1e9"]


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {int(line["step"]): (line["class"], line["mask"]) for line in lines if "class" in line}


def numbers(folder):
    return {name: t.tolist() for name, t in load_state(folder / "last.pt")["model"].items() if "fcos.box" in name}


def test_a_run_ends_with_a_checkpoint_a_log_and_weights(tmp_path, capsys):
    train.main([str(tmp_path), "--steps", "2", *SMALL, *QUIET])
    assert load_state(tmp_path / "last.pt")["steps"] == 2
    assert load_model(tmp_path / "weights.safetensors").config.bases == 3
    told = capsys.readouterr().out
    for word in ("100.0%", "step 2", "class", "mask", "images_per_s", "mask_ap", "finished"):
        assert word in told
    assert set(losses(tmp_path)) == {1, 2}


def test_resuming_gives_the_numbers_of_a_run_that_never_stopped(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    fixed = ["falling=0"]  # the rate must not depend on the budget, which differs on the way
    train.main([str(whole), "--steps", "4", *SMALL, *QUIET, "--set", "batch=2", "sides=(7,)", *fixed])
    train.main([str(part), "--steps", "2", *SMALL, *QUIET, "--set", "batch=2", "sides=(7,)", *fixed])
    train.main([str(part), "--steps", "4", "--resume", "--pictures", "2", "--threads", "1", *QUIET])
    assert numbers(part) == numbers(whole)


def test_a_run_starts_from_weights_and_may_cut_a_nested_model(tmp_path):
    """At rate 0 the weights that come out are those that went in, cut to the K and M asked for."""
    train.main([str(tmp_path / "nested"), "--steps", "1", *SMALL, *QUIET])
    weights = tmp_path / "nested" / "weights.safetensors"
    still = ["--steps", "1", "--pictures", "1", "--set", "rate=0", "decay=0", "--threads", "1", *QUIET]
    cut = ["--model", "nested=False", "bases=2", "attention_side=2", "output_side=7"]
    train.main([str(tmp_path / "cut"), "--from", str(weights), *cut, *still])
    model, wanted = load_model(tmp_path / "cut" / "weights.safetensors"), narrow(load_model(weights), 2, 2, 7)
    assert model.config == wanted.config
    for (name, tensor), expected in zip(model.named_parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-4, msg=name)  # half precision


def test_a_run_starts_from_weights_of_other_categories(tmp_path):
    """All is kept but the layer that tells classes apart; at rate 0 it stays as it was before the first step."""
    weights = tmp_path / "weights.safetensors"
    save_weights(BlendMask(tiny_config(categories=("square", "disc", "ring"))), weights)
    write_coco([draw((4, 4, 30, 40), labels=["cat"])], tmp_path, ["cat", "dog"])
    data = ["--coco", str(tmp_path / "annotations.json"), str(tmp_path / "images")]
    still = ["--steps", "1", "--set", "rate=0", "decay=0", "--threads", "1", *QUIET]
    train.main([str(tmp_path / "run"), "--from", str(weights), *data, *still])
    begun, model = load_model(weights), load_model(tmp_path / "run" / "last.pt")
    assert model.config.categories == ("cat", "dog") and len(model.fcos.classes.weight) == 2
    for name in ("fcos.box.weight", "attention.weight", "basis_module.out.weight"):
        assert torch.equal(model.get_parameter(name), begun.get_parameter(name)), name


@pytest.mark.parametrize(
    "changes,message",
    [
        (["bases=2"], "--from: the file's network is not the one asked for"),
        (["nested=False", "bases=9"], "K is 9"),
        (["fpn_channels=32"], "--from: the file's network is not the one asked for"),
    ],
)
def test_a_start_that_does_not_fit(tmp_path, capsys, changes, message):
    weights = tmp_path / "weights.safetensors"
    save_weights(BlendMask(tiny_config()), weights)
    with pytest.raises(SystemExit) as left:
        train.main([str(tmp_path), "--steps", "1", "--from", str(weights), "--model", *changes])
    assert left.value.code == 2 and message in capsys.readouterr().err


def start(folder, *options):
    command = [sys.executable, "-m", "blendlab.blendmask.train", str(folder), *SMALL, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def wait_for_a_report(process):
    for line in process.stdout:
        if "step" in line:
            return
    raise AssertionError("the run ended before its first report")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_stopped_at_any_moment_leaves_a_checkpoint_to_go_on_from(tmp_path, how):
    """Ctrl-C saves; a kill leaves the last file whole. The run saves after every step, so a kill often hits a write."""
    process = start(tmp_path, "--steps", "100000", "--report-every", "0", "--save-every", "0")
    try:
        for _ in range(4):
            wait_for_a_report(process)
        process.send_signal(how)
        rest = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    steps = load_state(tmp_path / "last.pt")["steps"]
    assert steps >= 3
    if how == signal.SIGINT:
        assert process.returncode == 0 and "--resume goes on" in rest
        last = [line for line in rest.splitlines() if "step" in line]
        assert not last or f"step {steps} " in last[-1]
    train.main([str(tmp_path), "--resume", "--steps", str(steps + 1), "--pictures", "1", "--threads", "1", *QUIET])
    assert load_state(tmp_path / "last.pt")["steps"] == steps + 1


def test_two_processes_train_one_model(tmp_path):
    """torchrun with two gloo processes: one file, one log, and the process group is left in peace."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "blendlab.blendmask.train", str(tmp_path / "two"), "--steps", "3", *SMALL, *QUIET]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=90
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("finished") == 1
    assert set(losses(tmp_path / "two")) == {1, 2, 3}
    assert load_state(tmp_path / "two" / "last.pt")["steps"] == 3


def test_training_and_evaluating_on_a_coco_folder(tmp_path, capsys):
    write_coco([draw((4, 4, 30, 40), labels=["cat"]), draw((8, 8, 50, 60), labels=["dog"])], tmp_path, ["cat", "dog"])
    files = [str(tmp_path / "annotations.json"), str(tmp_path / "images")]
    train.main([str(tmp_path / "run"), "--steps", "2", "--coco", *files, "--check", *files, *SMALL, *QUIET])
    weights = tmp_path / "run" / "weights.safetensors"
    assert load_model(weights).config.categories == ("cat", "dog")
    capsys.readouterr()
    evaluate.main([str(weights), "--coco", *files, "--k", "1", "--m", "2", "--r", "7"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "mask_ap" in figures and "mask_ap_unseen" not in figures


def test_evaluation_prints_json_with_null_for_what_was_not_there(tmp_path, capsys):
    train.main([str(tmp_path), "--steps", "1", *SMALL, *QUIET])
    capsys.readouterr()
    evaluate.main([str(tmp_path / "last.pt"), "--scenes", "1"])
    line = capsys.readouterr().out.splitlines()[-1]
    assert "NaN" not in line
    assert len(json.loads(line)) == 11


@pytest.mark.parametrize(
    "options,message",
    [
        (["--steps", "1", "--set", "speed=3"], "expected NAME=VALUE with a name of"),
        (["--steps", "1", "--model", "bases"], "NAME=VALUE"),
        (["--steps", "1", "--model", "backbone=vgg"], "backbone is 'vgg'"),
        ([], "no budget"),
        (["--steps", "1", "--resume"], "does not exist"),
        (["--steps", "1", "--coco", "none.json", "none"], "none.json"),
        (["--steps", "1", "--check", "none.json", "none"], "--check: only with --coco"),
        (["--minutes", "nan"], "seconds is nan"),
        (["--steps", "1", "--set", "rate=-1", "--set", "batch=2"], "rate is -1"),
        (["--steps", "1", "--pictures", "-1"], "--pictures must be at least 0, got -1"),
        (["--steps", "1", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["--steps", "1", "--save-every", "nan"], "--save-every must be at least 0, got nan"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        train.main([str(tmp_path / "run"), *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_image_that_is_damaged_ends_an_evaluation_with_a_line(tmp_path, capsys):
    write_coco([draw((4, 4, 30, 40), labels=["cat"]), draw((8, 8, 50, 60), labels=["dog"])], tmp_path, ["cat", "dog"])
    files = [str(tmp_path / "annotations.json"), str(tmp_path / "images")]
    train.main([str(tmp_path / "run"), "--steps", "0", "--coco", *files, *SMALL, *QUIET])
    (tmp_path / "images" / "000002.png").write_bytes(b"not an image")
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(tmp_path / "run" / "last.pt"), "--coco", *files])
    assert stop.value.code == 2 and "000002.png" in capsys.readouterr().err


def test_two_runs_do_not_share_a_folder(tmp_path, capsys):
    with train.alone_in(tmp_path), pytest.raises(SystemExit) as stop:
        train.main([str(tmp_path), "--steps", "1", *SMALL, *QUIET])
    assert stop.value.code == 2 and "another run is at work there" in capsys.readouterr().err
    assert not (tmp_path / "last.pt").exists()
    train.main([str(tmp_path), "--steps", "1", *SMALL, *QUIET])  # now that it is free


def test_a_run_on_a_folder_is_not_resumed_on_scenes(tmp_path, capsys):
    write_coco([scene(0)], tmp_path)
    files = [str(tmp_path / "annotations.json"), str(tmp_path / "images")]
    train.main([str(tmp_path / "run"), "--steps", "1", "--coco", *files, *SMALL, *QUIET])
    with pytest.raises(SystemExit):
        train.main([str(tmp_path / "run"), "--steps", "2", "--resume", *QUIET])
    assert "read Folder, this one would read Scenes" in capsys.readouterr().err


def test_a_run_is_not_overwritten(tmp_path, capsys):
    train.main([str(tmp_path), "--steps", "1", *SMALL, *QUIET])
    with pytest.raises(SystemExit):
        train.main([str(tmp_path), "--steps", "1", *SMALL, *QUIET])
    assert "--resume to go on" in capsys.readouterr().err


def test_scenes_through_a_folder_have_the_figures_of_the_scenes(tmp_path, capsys, tiny_scenes):
    """Exactly: what is written is what is read, and both are measured alike."""
    torch.nn.init.constant_(tiny_scenes.fcos.classes.bias, -1.0)  # so that it finds something
    save_weights(tiny_scenes, tmp_path / "w.safetensors")
    write_coco([scene(i, "held_out") for i in range(3)], tmp_path)
    evaluate.main([str(tmp_path / "w.safetensors"), "--scenes", "3"])
    plain = json.loads(capsys.readouterr().out.splitlines()[-1])
    evaluate.main(
        [str(tmp_path / "w.safetensors"), "--coco", str(tmp_path / "annotations.json"), str(tmp_path / "images")]
    )
    folder = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert plain["box_ap"] > 0 and {name: plain[name] for name in folder} == folder
    assert set(plain) - set(folder) == {"mask_ap_unseen", "box_ap_unseen"}


def test_the_number_of_scenes_is_not_given_with_a_folder(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--scenes", "3", "--coco", "a.json", "images"])
    assert stop.value.code == 2 and "--scenes: not with --coco" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options,message", [(["none.pt"], "none.pt does not exist"), (["{run}", "--k", "9"], "K is 9")]
)
def test_what_cannot_be_evaluated_is_said_in_a_line(tmp_path, capsys, options, message):
    train.main([str(tmp_path), "--steps", "1", *SMALL, *QUIET])
    options = [option.format(run=tmp_path / "last.pt") for option in options]
    with pytest.raises(SystemExit) as stop:
        evaluate.main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
