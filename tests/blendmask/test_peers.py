"""The bench's peers at tiny size: they train through the same Trainer, every part of them learns, and they draw."""

import dataclasses
import json

import pytest
import torch
from bench import peers
from bench.peer_models import PEERS, Coefficients, coefficient_losses, inside, shares
from tiny import Drawn, draw, tiny_config

from blendlab.blendmask import BlendMask
from blendlab.blendmask.average_precision import average_precision
from blendlab.blendmask.data import Scenes, batch
from blendlab.blendmask.losses import losses
from blendlab.blendmask.trainer import Settings, Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def trainer(name, steps=6, **settings):
    torch.manual_seed(0)
    make, objective = PEERS[name]
    return Trainer(make(tiny_config()), Drawn(), Settings(steps, batch=3, warmup=2, **settings), objective)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_learns_three_pictures_by_heart(name):
    one = trainer(name, 60 if name == "mask_rcnn" else 40, rate=5e-3, average=0.9)
    before = average_precision(one.averaged, Drawn.pictures)
    first = one.step()
    while one.progress < 1:
        last = one.step()
    assert sum(v for k, v in last.items() if k != "rate") < 0.7 * sum(v for k, v in first.items() if k != "rate")
    after = average_precision(one.averaged, Drawn.pictures)
    assert before["mask_ap"] < 0.1 < 0.3 < after["mask_ap"] and after["box_ap"] > 0.3


@pytest.mark.parametrize("name", PEERS)
def test_the_loss_reaches_every_parameter(name):
    one = trainer(name)
    one.model.train()
    images, truths = batch(one.model, [one.source.sample(i) for i in range(2)])
    found = PEERS[name][1](one.model, one.model(images), truths, [], 100, None)
    assert all(value.isfinite() and value >= 0 for value in found.values())
    sum(found.values()).backward()
    silent = [n for n, p in one.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("name", PEERS)
def test_a_picture_without_objects_is_no_trouble(name):
    one = trainer(name)
    one.model.train()
    images, truths = batch(one.model, [one.source.sample(2)])
    assert len(truths[0].boxes) == 0
    total = sum(PEERS[name][1](one.model, one.model(images), truths, [], 100, None).values())
    total.backward()
    assert total.isfinite()


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("threshold", (0.0, 1.0))
def test_detections_lie_in_the_image_whatever_its_size(name, threshold):
    model = trainer(name).averaged
    picture = draw((10, 20, 80, 90), (40, 30, 90, 70), size=96)  # the network works at 64
    found = model.predict(picture.image, threshold)
    n = len(found.boxes)
    assert found.masks.shape == (n, 96, 96) and found.masks.dtype == torch.bool
    assert len(found.scores) == len(found.labels) == n
    assert threshold == 0.0 or n == 0
    assert ((found.boxes >= 0) & (found.boxes <= 96 + 1e-3)).all()
    assert set(found.labels.tolist()) <= {0, 1}
    rows, columns = torch.arange(96) + 0.5, torch.arange(96) + 0.5
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes, strict=True):  # nothing is drawn beside its box
        outside = (rows < y1 - 1) | (rows > y2 + 1)
        assert not mask[outside].any()
        assert not mask[:, (columns < x1 - 1) | (columns > x2 + 1)].any()


def test_yolacts_masks_are_the_sum_spelled_out():
    model = Coefficients(tiny_config(), prototypes=5).eval()
    images, _ = batch(model, [Drawn().sample(0), Drawn().sample(1)])
    with torch.no_grad():
        model.attention.weight.normal_()
        output = model(images)
        logits = model.assemble(output, torch.tensor([1, 0]), torch.tensor([3, 70]))
        for n, (image, location) in enumerate(((1, 3), (0, 70))):
            c = model.attention_at(output.dense, torch.tensor([image]), torch.tensor([location]))[0, :, 0, 0]
            slow = sum(torch.tanh(c[k]) * output.bases[image, k].clamp(min=0) for k in range(5))
            torch.testing.assert_close(logits[n], slow, rtol=1e-4, atol=1e-4)
    assert (logits < 0).any()  # it may subtract, which the blender cannot


def test_yolacts_loss_looks_inside_the_true_box_alone():
    model = Coefficients(tiny_config(), prototypes=5).eval()
    images, truths = batch(model, [Drawn().sample(0)])
    output = model(images)
    output.bases.retain_grad()
    coefficient_losses(model, output, truths, [], 100, None)["mask"].backward()
    touched = output.bases.grad[0].abs().sum(0) > 0  # (H,W)
    assert touched.any() and not touched[~inside(truths[0].boxes, touched.shape, 4).any(0)].any()


def test_cells_of_a_box_and_shares_of_a_mask():
    cells = inside(torch.tensor([[4.0, 0.0, 12.0, 8.0]]), (3, 4), 4)[0]
    assert cells.int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    mask = torch.zeros(1, 8, 6, dtype=torch.bool)
    mask[0, :4, :3] = True
    assert shares(mask, (3, 2))[0].tolist() == [[0.75, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_the_bench_trains_resumes_measures_and_writes(tmp_path, monkeypatch, capsys):
    def tiny(name, core_minutes, folder):
        make, objective = peers.CONTESTANTS[name]
        config = tiny_config(categories=Scenes.categories, bases=8, attention_side=14)
        source, settings = Scenes(0, 64, 64, size=64, side=(20, 40)), Settings(steps=2, batch=2)
        trainer = Trainer(make(config), source, settings, objective)
        if (folder / "last.pt").exists():
            trainer.load_state(peers.load_state(folder / "last.pt"))
        return trainer

    monkeypatch.setattr(peers, "contestant", tiny)
    monkeypatch.setattr(peers, "DOCS", tmp_path / "docs")
    command = ["--threads", "1", "--scenes", "2", "--folder", str(tmp_path / "runs")]
    peers.main(command)
    table = (tmp_path / "docs" / "peers.md").read_text()
    assert all(f"| {words} |" in table for _, _, words in peers.ROWS)
    rows = json.loads((tmp_path / "docs" / "peers.json").read_text())["rows"]
    assert [row["steps"] for row in rows] == [2] * len(peers.ROWS)
    assert all(row["ms_per_image"] > 0 and row["parameters"] > 1e5 for row in rows)
    before = (tmp_path / "runs" / "yolact" / "log.jsonl").exists()
    (tmp_path / "docs" / "peers.md").unlink()
    peers.main(["yolact", *command])  # trained already: it is measured alone, and no table is written
    assert "yolact: 2 steps so far" in capsys.readouterr().out
    assert not before or not (tmp_path / "docs" / "peers.md").exists()


def test_contestants_are_alike_but_for_what_is_compared(tmp_path):
    for name in peers.CONTESTANTS:
        trainer = peers.contestant(name, 0.5, tmp_path)
        config = trainer.model.config
        assert (config.backbone, config.short_side, config.fpn_channels) == ("lite0", 128, 64)
        assert dataclasses.replace(trainer.settings) == Settings(cpu_seconds=30, backbone_rate=0.3)
    assert peers.CONTESTANTS["nested"] == (BlendMask, losses)
    with pytest.raises(SystemExit):
        peers.main(["nobody"])
