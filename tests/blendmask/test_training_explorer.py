"""The explorer of a run in training, without a browser: buttons clicked and sliders moved in code."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from elsewhere import elsewhere
from tiny import Drawn, live

from blendlab.explorers.curve import curve_svg
from blendlab.explorers.training import TrainingExplorer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def explorer():
    return TrainingExplorer(live(steps=4))


def finish(explorer):
    explorer.start()
    explorer.wait()


def test_it_opens_before_the_first_step(explorer):
    assert explorer.go.description == "start"
    assert explorer.progress.value == 0
    assert explorer.text.startswith("After 0 steps: K=3 bases of 16×16, 3·4·4 = 48 attention numbers an instance;")
    assert explorer.board.bases and explorer.board.steps and explorer.board.picture["name"] == "drawn"
    assert len(explorer.board.boxes) == 4 * len(explorer.picture)
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == explorer.text and bundle["image/png"]


def test_the_picture_follows_the_run_and_ends_with_it(explorer):
    before = explorer.board.steps["codes"]
    finish(explorer)
    assert explorer.progress.value == 1
    assert explorer.told.value == "step 4, of 4 steps"
    assert explorer.go.description == "go on"
    assert explorer.text.startswith("After 4 steps") and "mask loss" in explorer.text
    assert explorer.board.steps["codes"] != before
    assert explorer.moment.value == explorer.moment.max == len(explorer.live.moments) - 1
    torch.testing.assert_close(explorer.trace.inputs.bases, explorer.live.moments[-1].bases, rtol=0, atol=0)


def test_the_moment_can_be_moved_back_while_it_runs_and_stays_there(explorer):
    newer, told = explorer.live.tell, []

    def tell():
        newer()
        told.append(explorer.moment.value)
        if len(told) == 3:
            explorer.moment.value = 1

    explorer.live.tell = tell
    finish(explorer)
    assert told[:3] == [1, 2, 3] and set(told[3:]) == {1} and len(explorer.live.moments) > 4
    assert explorer.moment.value == 1 and explorer.text.startswith("After 1 steps")
    torch.testing.assert_close(explorer.trace.inputs.attention[0], explorer.live.moments[1].attention[0])


def test_going_on_follows_the_run_again(explorer):
    finish(explorer)
    explorer.moment.value = 1
    explorer.live.tell = lambda tell=explorer.live.tell: (tell(), explorer.live.stop())
    explorer.start()
    explorer.wait()
    assert len(explorer.live.losses) > 4
    assert explorer.moment.value == explorer.moment.max == len(explorer.live.moments) - 1
    assert explorer.text.startswith(f"After {explorer.live.trainer.steps} steps")


def test_the_button_starts_stops_and_goes_on():
    explorer = TrainingExplorer(live(steps=100_000))
    explorer.go.click()
    assert explorer.go.description == "stop"
    explorer.go.click()
    assert not explorer.live.running and explorer.go.description in ("go on", "start")  # it may not have had a step
    steps = len(explorer.live.losses)
    explorer.go.click()
    explorer.stop()
    assert len(explorer.live.losses) >= steps


def test_another_object_by_menu_and_by_a_click(explorer):
    explorer.instance.value = 1
    assert "instance 1 (disc)" in explorer.text
    assert torch.equal(explorer.trace.inputs.boxes[0, 1:], torch.tensor(explorer.picture.boxes[1]))
    explorer.board.on_click(8.0, 8.0)
    assert explorer.instance.value == 0 and "instance 0 (square)" in explorer.text
    explorer.board.on_click(1.0, 60.0)  # nothing there
    assert explorer.instance.value == 0


def test_a_failed_run_says_so_on_the_board_and_where_one_waits():
    class Broken(Drawn):
        def sample(self, index):
            raise OSError("the disk is gone")

    explorer = TrainingExplorer(live(source=Broken()))
    explorer.start()
    with pytest.raises(OSError, match="the disk is gone"):
        explorer.wait()
    assert explorer.board.error == "OSError: the disk is gone"
    assert explorer.go.description == "start"


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="instance must be from 0 to 1; got 2"):
        TrainingExplorer(live(), instance=2)
    with pytest.raises(TypeError, match="K: options are for a run that is made here"):
        TrainingExplorer(live(), K=4)


@pytest.mark.parametrize("steps", (0, 1, 7, 1000))
def test_the_curves_are_one_drawing_with_its_words(steps):
    losses = [0.7 - 0.3 * i / max(steps, 1) for i in range(steps)]
    drawing = curve_svg(losses, [(0, 0.1), (steps, 0.625)], steps)
    root = ElementTree.fromstring(drawing)
    assert root.get("role") == "img"
    assert root.get("aria-label").startswith(f"after {steps} steps: ")
    assert "mean IoU 0.62" in root.get("aria-label")
    texts = [element.text for element in root if element.tag == "text"]
    assert ("mask loss" in " ".join(texts)) == (steps > 0)
    numbers = [float(n) for line in root if line.tag == "polyline" for n in re.split("[ ,]", line.get("points"))]
    assert all(0 <= n <= 640 for n in numbers) and len(numbers) < 1200  # no more than the eye can follow


def test_the_loss_curve_goes_through_its_values():
    drawing = ElementTree.fromstring(curve_svg([0.5] * 40, [], 40))
    (line,) = [e for e in drawing if e.tag == "polyline" and e.get("stroke-dasharray") == "5 2"]
    heights = {point.split(",")[1] for point in line.get("points").split()}
    ticks = {e.text: float(e.get("y")) - 4 for e in drawing if e.tag == "text"}
    assert len(heights) == 1 and float(heights.pop()) == pytest.approx(ticks["0.5"], abs=0.1)


def test_the_slider_of_moments_is_made_anew_when_a_run_ends(explorer):
    """The page's slider goes with End to the maximum that it was made with."""
    turns = []
    explorer.moment.observe(lambda change: turns.append((change["new"], explorer.moment.max)), "orientation")
    finish(explorer)
    newest = len(explorer.live.moments) - 1
    assert newest > 1 and turns[-2:] == [("vertical", newest), ("horizontal", newest)]
    before = len(turns)
    explorer.wait()  # no moment has come since
    assert len(turns) == before


def test_the_slider_is_made_anew_once_and_before_the_button_says_that_the_run_has_ended():
    explorer, seen = TrainingExplorer(live(steps=100_000)), []
    newer = explorer.live.tell

    def tell():  # the stop comes while the picture of a step is drawn, and one look more is to follow
        explorer.live._stop.set()
        newer()

    explorer.live.tell = tell
    explorer.moment.observe(lambda change: seen.append(change["new"]), "orientation")
    explorer.go.observe(lambda change: seen.append(change["new"]), "description")
    finish(explorer)
    assert seen == ["stop", "vertical", "horizontal", "go on"]


# --- on another device


def test_a_menu_of_one_device_is_not_shown_and_a_device_that_is_not_there_is_named(explorer):
    assert explorer.device not in explorer.children[1].children or torch.cuda.is_available()
    with pytest.raises(ValueError, match="device must be one of cpu.*; got 'cuda:7'"):
        TrainingExplorer(live(), device="cuda:7")


def test_the_menu_moves_the_run_while_it_is_under_way(monkeypatch):
    other = elsewhere(monkeypatch)
    whole, moved = TrainingExplorer(live(steps=4)), TrainingExplorer(live(steps=4))
    finish(whole)
    assert moved.device in moved.children[1].children and moved.board.timing == "on cpu"
    newer = moved.live.tell

    def tell():
        newer()
        if moved.live.trainer.steps == 2:
            moved.device.value = other

    moved.live.tell = tell
    finish(moved)
    assert str(moved.live.device) == moved.device.value == other and moved.board.timing == f"on {other}"
    assert moved.live.trainer.steps == 4 and not moved.board.error
    assert moved.text == whole.text and moved.trace.logits.device.type == "cpu"
    moved.device.value = "cpu"
    assert str(moved.live.device) == "cpu" and moved.board.timing == "on cpu" and moved.text == whole.text


def test_a_run_opens_on_the_device_that_is_named_and_the_menu_follows_code(monkeypatch):
    other = elsewhere(monkeypatch)
    named = TrainingExplorer(live(), device=other)
    assert str(named.live.device) == named.device.value == other and named.board.timing == f"on {other}"
    named.live.to("cpu")
    named.stop()
    assert named.device.value == "cpu" and named.board.timing == "on cpu"


@pytest.mark.parametrize("under_way", [False, True])
def test_where_a_run_cannot_move_the_menu_goes_back_and_the_board_says_why(monkeypatch, under_way):
    other = elsewhere(monkeypatch)
    explorer = TrainingExplorer(live(steps=4))

    def full(device):
        raise torch.OutOfMemoryError("there is no room")

    monkeypatch.setattr(explorer.live.trainer, "to", full)
    if under_way:
        newer, run = explorer.live.tell, explorer.live
        run.tell = lambda: (newer(), run.trainer.steps == 2 and run.problem is None and run.to(other))
        explorer.start()
        with pytest.raises(torch.OutOfMemoryError, match="no room"):
            explorer.wait()
    else:
        with pytest.raises(torch.OutOfMemoryError, match="no room"):
            explorer.device.value = other
    assert explorer.device.value == "cpu" and "there is no room" in explorer.board.error
    explorer.live.tell = lambda: None
    finish(explorer)
    assert len(explorer.live.losses) == 4 and not explorer.board.error
