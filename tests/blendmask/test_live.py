"""A run that is watched: what it keeps, stopping and going on, and what goes wrong. Budgets are in steps: no clock."""

import asyncio
import dataclasses
import threading

import pytest
import torch
from tiny import Drawn, draw, live, tiny_config

from blendlab.blendmask import BlendMask
from blendlab.blendmask import trainer as trainer_module
from blendlab.blendmask.data import batch
from blendlab.blendmask.live import HELD_OUT, Live, classroom
from blendlab.blendmask.losses import losses, mask_alone
from blendlab.blendmask.measure import listen

pytestmark = pytest.mark.usefixtures("one_thread")
OTHER = "cuda:0" if torch.cuda.is_available() else "cpu:0"  # without a GPU the CPU under another name


def test_a_run_keeps_every_look_and_its_losses():
    run = live()
    assert [moment.step for moment in run.moments] == [0]
    run.start()
    run.wait()
    assert run.over and not run.running
    assert len(run.losses) == 6 and run.losses[-1] < run.losses[0]
    assert [moment.step for moment in run.moments] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert [step for step, _ in run.measured] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert not torch.equal(run.moments[0].bases, run.moments[-1].bases)
    said = listen(run.model, Drawn.pictures[0])
    assert torch.equal(said.bases, run.moments[-1].bases)
    assert torch.equal(said.attention, run.moments[-1].attention)
    assert run.moments[-1].ious.shape == (len(Drawn.pictures[0]),)


def test_stopping_and_going_on_loses_nothing():
    whole, parts = live(), live()
    whole.start()
    whole.wait()
    parts.tell = lambda: parts.stop() if parts.trainer.steps == 3 else None
    parts.start()
    parts.wait()
    assert len(parts.losses) == 3 and not parts.over
    parts.start()
    parts.wait()
    assert parts.losses == whole.losses
    assert torch.equal(parts.moments[-1].bases, whole.moments[-1].bases)


def test_the_clock_stands_still_while_a_run_does(monkeypatch):
    run = live(seconds=1000.0)
    run.tell = lambda: run.stop() if run.trainer.steps == 2 else None
    run.start()
    run.wait()
    now = trainer_module.time.perf_counter
    monkeypatch.setattr(trainer_module.time, "perf_counter", lambda: now() + 5000.0)
    run.start()
    run.wait()
    assert len(run.losses) == 6


def test_what_is_awaited_with_a_run_goes_on_beside_it():
    run, heard = live(steps=100_000), asyncio.Event()

    async def a_button():
        run.stop()  # reached only if the awaited run leaves the loop to others
        heard.set()

    async def cell():
        run.start()
        asyncio.create_task(a_button())
        await run.finished()

    asyncio.run(cell())
    assert heard.is_set() and not run.running and not run.over


def test_cancelling_what_awaits_a_run_stops_it_and_nothing_is_lost():
    run = live(steps=100_000)

    async def cell():
        run.start()
        awaiting = asyncio.create_task(run.finished())
        await asyncio.sleep(0)  # it has begun to wait
        awaiting.cancel()
        await awaiting

    asyncio.run(cell())
    assert not run.running and not run.over and run.moments[-1].step == len(run.losses)


def test_what_goes_wrong_in_an_awaited_run_is_raised(monkeypatch):
    run = live()
    monkeypatch.setattr(run.trainer, "step", lambda: 1 / 0)
    run.start()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run.finished())


def test_ctrl_c_while_waiting_stops_the_run_and_nothing_is_lost(monkeypatch):
    run = live(steps=100_000)
    join = threading.Thread.join

    def interrupted(thread, timeout=None):
        if timeout is not None and run.trainer.steps >= 3:
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    run.start()
    run.wait()
    assert not run.running and run.problem is None
    assert 3 <= len(run.losses) < 100_000
    assert run.moments[-1].step == run.trainer.steps == len(run.losses)


def test_a_run_whose_budget_is_used_up_can_go_on():
    run = live(steps=2)
    run.start()
    run.wait()
    run.tell = lambda: run.stop() if run.trainer.steps >= 4 else None
    run.start()
    run.wait()
    assert len(run.losses) == 4
    assert run.trainer.settings.steps is None and run.trainer.settings.seconds > 50


def test_what_goes_wrong_is_raised_where_one_waits_and_the_run_can_go_on():
    class Broken(Drawn):
        broken = True

        def sample(self, index):
            if self.broken and index >= 4:
                raise OSError("the disk is gone")
            return super().sample(index)

    run = live(source=Broken())
    told = []
    run.tell = lambda: told.append(run.problem)
    run.start()
    with pytest.raises(OSError, match="the disk is gone"):
        run.wait()
    assert isinstance(told[-1], OSError) and len(run.losses) == 2
    Broken.broken = False
    run.start()
    run.wait()
    assert run.problem is None and len(run.losses) == 6


def test_starting_a_run_stops_the_one_in_progress():
    one, other = live(steps=100_000), live(steps=2)
    one.start()
    assert one.running
    one.start()  # twice is once
    other.start()
    assert not one.running and not one.over
    other.wait()
    assert len(other.losses) == 2


def test_going_on_at_once_after_a_stop_is_not_lost():
    run = live(steps=100_000)
    run.tell = lambda: run.stop() if run.trainer.steps in (2, 4) else None
    run.start()
    while not run.stopping:
        threading.Event().wait(0.001)
    run.start()  # the first part may still be drawing its last look
    run.wait()
    assert len(run.losses) == 4


def test_a_picture_to_watch_is_needed():
    with pytest.raises(ValueError, match="pictures is empty, or its first holds no instance"):
        Live(live().trainer, [])
    with pytest.raises(ValueError, match="no instance"):
        Live(live().trainer, [draw()])


def test_the_mask_loss_alone_is_the_one_among_all():
    model = BlendMask(tiny_config())
    images, truths = batch(model, [Drawn().sample(i) for i in range(2)])
    output = model(images)
    everything = losses(model, output, truths, [(3, 4, 14)])
    alone = mask_alone(model, output, truths, [(3, 4, 14)])
    assert list(alone) == ["mask"]
    assert torch.equal(alone["mask"], everything["mask"])


def test_the_classroom_leaves_the_backbone_as_imagenet_made_it_and_trains_masks_alone():
    run = classroom(K=2, M=3, R=14, steps=1, seconds=None)
    assert len(run.pictures) == len(HELD_OUT)
    config = run.model.config
    assert (config.bases, config.attention_side, config.output_side, config.nested) == (2, 3, 14, False)
    before = {name: value.clone() for name, value in run.trainer.model.state_dict().items()}
    run.start()
    run.wait()
    after = run.trainer.model.state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"pyramid", "fcos", "attention", "basis_module"}
    silent = [name for name in after if name.startswith(("fcos.cls_tower", "fcos.classes", "fcos.centerness"))]
    assert silent and all(torch.equal(after[name], before[name]) for name in silent)
    assert run.moments[-1].attention.shape[1:] == (2, 3, 3)


def test_the_classroom_from_nothing_trains_the_backbone_too():
    run = classroom(backbone="scratch", steps=1, seconds=None)
    assert all(parameter.requires_grad for parameter in run.trainer.model.parameters())
    assert dataclasses.asdict(run.trainer.settings)["seconds"] is None


# --- on another device


def assert_lies_on(run, device):
    """All that trains: the optimiser's step counts alone stay on the host, as torch has it."""
    models = [tensor for model in (run.trainer.model, run.model) for tensor in (*model.parameters(), *model.buffers())]
    moments = [state[name] for state in run.trainer.optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert moments and {tensor.device for tensor in models + moments} == {torch.empty(0, device=device).device}


def moved_to(run, monkeypatch):
    """The devices that the run's model, averaged model and optimiser have gone to."""
    there, to = [], run.trainer.to
    monkeypatch.setattr(run.trainer, "to", lambda device: there.append((str(device), run.trainer.steps)) or to(device))
    return there


def test_a_run_that_changes_its_device_on_the_way_goes_on_as_if_it_had_not(monkeypatch):
    whole, moved = live(), live()
    whole.start()
    whole.wait()
    there = moved_to(moved, monkeypatch)
    moved.tell = lambda: moved.to(OTHER) if moved.trainer.steps == 3 else None
    moved.start()
    moved.wait()
    assert there == [(OTHER, 3)] and str(moved.device) == OTHER
    assert_lies_on(moved, OTHER)
    assert moved.trainer.steps == 6 and moved.problem is None
    torch.testing.assert_close(moved.losses, whole.losses, rtol=1e-4 * (OTHER != "cpu:0"), atol=0)
    assert moved.moments[-1].bases.device.type == moved.moments[-1].attention.device.type == "cpu"
    torch.testing.assert_close(moved.moments[-1].bases, whole.moments[-1].bases, rtol=1e-3, atol=1e-4)


def test_a_run_that_stands_still_moves_at_once_and_back(monkeypatch):
    run = live()
    there = moved_to(run, monkeypatch)
    run.to(OTHER)
    run.to(OTHER)
    assert there == [(OTHER, 0)]
    run.start()
    run.wait()
    run.to("cpu")
    assert there == [(OTHER, 0), ("cpu", 6)] and run.over
    assert_lies_on(run, "cpu")


def test_what_trains_after_a_move_is_what_moved(monkeypatch):
    """Between some devices a parameter cannot move in place, and the module holds another one afterwards."""
    whole, run = live(), live()
    whole.start()
    whole.wait()
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    before = {id(parameter) for parameter in run.trainer.model.parameters()}
    run.tell = lambda: run.to(OTHER) if run.trainer.steps == 3 else None
    run.start()
    run.wait()
    assert before.isdisjoint({id(parameter) for parameter in run.trainer.model.parameters()})
    torch.testing.assert_close(run.losses, whole.losses, rtol=1e-4 * (OTHER != "cpu:0"), atol=0)


def test_there_and_back_within_one_step_is_no_move(monkeypatch):
    run = live()
    there = moved_to(run, monkeypatch)
    run.tell = lambda: (run.to(OTHER), run.to("cpu"))
    run.start()
    run.wait()
    assert there == [] and str(run.device) == "cpu" and len(run.losses) == 6


def test_a_device_without_room_leaves_the_run_where_it_is(monkeypatch):
    whole, run = live(), live()
    whole.start()
    whole.wait()
    to = torch.nn.Module.to

    def full(module, device, *more):
        if module is run.trainer.averaged and str(device) == OTHER:
            raise torch.OutOfMemoryError("there is no room")
        return to(module, device, *more)

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        run.to(OTHER)
    assert str(run.device) == "cpu"
    run.tell = lambda: run.to(OTHER) if run.trainer.steps == 2 and run.problem is None else None
    run.start()
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        run.wait()
    assert str(run.device) == "cpu" and len(run.losses) == 2
    run.tell = lambda: None
    run.start()
    run.wait()
    assert_lies_on(run, "cpu")
    assert run.losses == whole.losses


def test_the_classroom_on_a_device():
    run = classroom(K=2, M=3, R=14, steps=1, seconds=None, device=OTHER)
    run.start()
    run.wait()
    assert run.moments[-1].bases.device.type == "cpu"
    assert run.model.mean.device == torch.empty(0, device=OTHER).device and run.device == run.model.mean.device
