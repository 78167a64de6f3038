"""The photograph's explorer without a browser: files, the hand's tools as the page sends them, fits, models."""

import dataclasses
import importlib
import io
import sys
import threading
from datetime import datetime

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import draw

from blendlab.blendmask.found import LEAST
from blendlab.explorers import BlenderExplorer, PhotoExplorer
from blendlab.explorers import hand as hand_module
from blendlab.explorers.photo import HAND
from blendlab.sources import random_source

sys.path.insert(0, __file__.rsplit("/blendmask/", 1)[0])  # tests/, where parity.py lies

import parity
from elsewhere import elsewhere

OFFICIAL = importlib.import_module("blendlab.blendmask.official")  # the module; the package's name is its function
IMAGE = draw((4, 4, 30, 40), (20, 20, 60, 50)).image


def png(image=IMAGE, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", **options)
    return file.getvalue()


def missing():
    raise ValueError("weights.pth is not on this machine")


@pytest.fixture
def quick(monkeypatch):
    """Fits that take no time, and what they were asked for."""
    asked = []

    def fit(picture, *, steps, progress, device):
        asked.append((picture, steps, device))
        for step in range(1, steps + 1):
            progress(step, steps, 0.5)
        return dataclasses.replace(random_source(picture), name="fitted")

    monkeypatch.setattr(hand_module, "fit_nested", fit)
    return asked


@pytest.fixture
def photo(tiny):
    return PhotoExplorer(png(), models={"tiny": lambda: tiny, "missing": missing})


def upload(photo, content: bytes, name="mine.png"):
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content)}
    photo.upload.value = (file | {"last_modified": datetime(2020, 1, 1)},)


def stroke(photo, *points, radius=4.0, erase=False, number=1):
    """A stroke as the page sends it."""
    content = {"kind": "stroke", "points": [list(p) for p in points], "radius": radius, "erase": erase, "id": number}
    photo.board._event(None, content, [])


def painted(photo) -> np.ndarray:
    shown = photo.board.painted
    bits = np.unpackbits(np.frombuffer(shown["bits"], np.uint8), count=shown["width"] * shown["height"])
    return bits.reshape(shown["height"], shown["width"]).astype(bool)


# ---------------------------------------------------------------- which photograph


def test_after_a_file_that_cannot_be_read_the_menu_leads_back(photo, tmp_path):
    photo.draw([4, 4, 30, 40])
    said = photo.text
    with pytest.raises(ValueError, match="there is no file"):
        photo.path.value = str(tmp_path / "nothing.png")
    assert "there is no file" in photo.board.error and photo.photo.value is None
    photo.photo.value = "photograph"  # the one before: what is drawn on it is there
    assert photo.board.error == "" and photo.text == said
    with pytest.raises(ValueError, match="it seems to be text"):
        upload(photo, b"milk, eggs")
    photo.photo.value = "voc"
    assert photo.board.error == "" and photo.text.startswith("voc, 500 × 375 px")


def test_a_path_that_was_refused_can_be_entered_again(photo, tmp_path):
    """The page sends no value that has not changed: it sends that Enter was hit, before the value if that is new."""
    enter = ({"event": "submit"}, [])
    file = tmp_path / "later.png"
    photo.path._handle_custom_msg(*enter)
    with pytest.raises(ValueError, match="there is no file"):
        photo.path.value = str(file)
    file.write_bytes(b"milk, eggs")
    photo.path._handle_custom_msg(*enter)
    assert "it seems to be text" in photo.board.error
    file.write_bytes(png())
    photo.path._handle_custom_msg(*enter)
    assert photo.photo.value == "later.png" and not photo.board.error
    photo.photo.value = "voc"
    photo.path._handle_custom_msg(*enter)  # of what was opened well it is no word: a new value may be on its way
    assert photo.photo.value == "voc"


def test_a_path_may_stand_in_quotes(photo, tmp_path):
    (tmp_path / "my own.png").write_bytes(png())
    photo.path.value = f'"{tmp_path / "my own.png"}"'
    assert photo.text.startswith("my own.png, 64 × 64 px")


def test_bundled_photographs_by_name_and_by_menu():
    photo = PhotoExplorer("arc2017")
    assert photo.text.startswith("arc2017, 640 × 480 px: nothing is drawn yet.")
    photo.photo.value = "voc"
    assert photo.text.startswith("voc, 500 × 375 px: nothing is drawn yet.")
    assert (photo.board.picture["width"], photo.board.picture["height"]) == (500, 375)


def test_an_upload_is_shown_and_let_go(photo):
    upload(photo, png(np.full((1400, 20, 3), 90, np.uint8)), "tall.png")
    assert photo.text.startswith("tall.png, 19 × 1333 px")
    assert photo.board.notes == ["tall.png: reduced from 20 × 1400."]
    assert photo.upload.value == () and photo.photo.value == "tall.png"
    upload(photo, png(), "mine.png")
    assert photo.text.startswith("mine.png, 64 × 64 px") and photo.board.notes == []
    assert "tall.png" not in photo.photo.options


def test_a_path_is_opened_on_enter(photo, tmp_path):
    (tmp_path / "here.png").write_bytes(png())
    photo.path.value = f"  {tmp_path / 'here.png'} "
    assert photo.text.startswith("here.png, 64 × 64 px")


@pytest.mark.parametrize("content", [b"", b"milk, eggs", png()[:150]], ids=["empty", "text", "cut short"])
def test_what_is_no_image_is_said_on_the_board_and_the_one_before_is_still_there(photo, content):
    with pytest.raises(ValueError, match=r"^bad\.png: "):
        upload(photo, content, "bad.png")
    assert photo.board.error.startswith("ValueError: bad.png: the file ")
    assert photo._repr_mimebundle_()["text/plain"] == photo.board.error
    photo.tool.value = "brush"
    assert photo.board.error == "" and photo.text.startswith("photograph, 64 × 64 px")
    upload(photo, png(), "good.png")
    assert photo.board.error == "" and photo.text.startswith("good.png")


def test_a_missing_path_is_said(photo):
    with pytest.raises(ValueError, match="there is no file"):
        photo.path.value = "nowhere.jpg"
    assert "nowhere.jpg" in photo.board.error


# ---------------------------------------------------------------- drawn by hand


def test_a_box_then_a_brush(photo):
    photo.tool.value = "box"
    assert photo.board.tool == "box"
    photo.board._event(None, {"kind": "new_box", "box": [4, 4, 30, 40]}, [])
    assert photo.tool.value == photo.board.tool == "brush"  # what comes next
    assert list(photo.board.boxes) == [4, 4, 30, 40]
    assert photo.fit_button.disabled and "0 pixels brushed" in photo.text
    stroke(photo, (10, 10), (20, 30))
    assert not photo.fit_button.disabled and f"{painted(photo).sum()} pixels brushed. Now press 'fit'." in photo.text
    before = painted(photo)
    stroke(photo, (10, 10), erase=True, number=2)
    assert 0 < painted(photo).sum() < before.sum() and not (painted(photo) & ~before).any()
    assert photo.board.painted["last"] == 2


def test_the_first_stroke_makes_an_instance_and_strokes_go_to_the_chosen_one(photo):
    photo.tool.value = "brush"
    stroke(photo, (10, 10))
    assert len(photo.instance.options) == 1 and list(photo.board.boxes) == [6, 6, 14, 14]
    photo.draw([30, 30, 60, 60])
    assert photo.instance.value == 1 and not painted(photo).any()
    stroke(photo, (45, 45))
    photo.instance.value = 0
    assert painted(photo)[10, 10] and not painted(photo)[45, 45]
    photo.remove.click()
    assert len(photo.instance.options) == 1 and painted(photo)[45, 45]


def test_what_lies_outside_the_box_is_said(photo):
    photo.draw([10, 10, 20, 20])
    photo.brush([(10, 15)], radius=5)
    outside = int(painted(photo)[:, :10].sum())
    assert f"; {outside} of them lie outside its box, and are left out" in photo.text
    photo.board.on_box(0.0, 0.0, 30.0, 30.0)
    assert "outside" not in photo.text


def test_a_click_chooses_the_smallest_box(photo):
    photo.draw([0, 0, 60, 60])
    photo.draw([10, 10, 20, 20])
    photo.board.on_click(40, 40)
    assert photo.instance.value == 0
    photo.board.on_click(15, 15)
    assert photo.instance.value == 1


def test_a_fit_gives_the_whole_explorer_and_drawing_takes_it_away(photo, quick):
    photo.draw([4, 4, 30, 40])
    photo.brush([(10, 10), (20, 30)], radius=4)
    photo.tool.value = "brush"
    photo.fit()
    ((picture, steps, _),) = quick
    assert np.array_equal(picture.masks[0], painted(photo)) and picture.boxes.tolist() == [[4, 4, 30, 40]]
    assert steps == 300 and photo.tool.value == photo.board.tool == ""
    assert "source fitted: K=4" in photo.text and "IoU with your mask" in photo.text
    assert any("seen the answer" in note for note in photo.board.notes)
    photo.K.value = 2
    assert "K=2 bases" in photo.text and photo.trace.regions.shape == (1, 2, 56, 56)
    photo.board.on_box(0.0, 0.0, 40.0, 50.0)
    assert "in the box 0, 0 to 40, 50" in photo.text
    photo.tool.value = "erase"  # the brushed mask again, and the fit waits
    assert photo.trace is None and photo.board.bases == {} and "choose 'look'" in photo.text
    photo.tool.value = ""
    assert "source fitted: K=2" in photo.text and len(quick) == 1
    photo.tool.value = "brush"
    stroke(photo, (12, 20))
    assert "Now press 'fit'." in photo.text
    photo.tool.value = ""
    assert photo.trace is None  # no picture of what is no longer drawn


def test_a_real_fit_draws_the_brushed_masks(photo):
    """Two boxes over one another; IoU with what was brushed at least 0.9."""
    photo.draw([4, 4, 40, 40])
    photo.brush([(12, 12), (12, 32)], radius=6)
    photo.draw([10, 4, 60, 40])
    photo.brush([(30, 12), (50, 32)], radius=6)
    photo.fit()
    for instance in (0, 1):
        photo.instance.value = instance
        assert photo.iou >= 0.9


def test_undo_takes_back_a_stroke_a_box_and_a_removed_instance(photo, quick):
    assert photo.undo.disabled
    photo.draw([4, 4, 30, 40])
    stroke(photo, (10, 10), (20, 20))
    brushed = painted(photo)
    stroke(photo, (10, 10), radius=6.0, erase=True, number=2)
    photo.fit()
    photo.undo.click()  # and the fit is no longer one to what is drawn
    assert np.array_equal(painted(photo), brushed) and photo._fitted is None and photo.trace is None
    photo.remove.click()
    assert "nothing is drawn yet" in photo.text and photo.remove.disabled
    photo.undo.click()
    assert "instance 0 of 1: box 4, 4, 30, 40" in photo.text and np.array_equal(painted(photo), brushed)
    photo.undo.click()
    assert "0 pixels brushed" in photo.text and not painted(photo).any()
    photo.undo.click()
    assert "nothing is drawn yet" in photo.text and photo.undo.disabled
    photo.undo.click()  # one click too many does nothing
    assert photo.board.error == ""
    photo.brush([(10, 10)], radius=4)
    photo.look_at("voc")
    assert photo.undo.disabled


def test_nothing_to_fit_is_a_clear_error(photo):
    with pytest.raises(ValueError, match="nothing is drawn yet"):
        photo.fit()
    photo.draw([4, 4, 30, 40])
    with pytest.raises(ValueError, match="instance 0 has no brushed pixel"):
        photo.fit()
    assert photo.fit_button.disabled


class Held:
    """A fit that goes on to its next step only when told."""

    def __init__(self):
        self.started, self.go, self.steps = threading.Event(), threading.Event(), []

    def __call__(self, picture, *, steps, progress, device):
        for step in range(1, steps + 1):
            progress(step, steps, 0.5)
            self.steps.append(step)
            self.started.set()
            self.go.wait(10)
        return random_source(picture)


@pytest.mark.parametrize("way", ["stop", "stroke", "photograph", "another fit"])
def test_a_fit_is_stopped_by_hand_and_by_what_makes_it_pointless(photo, monkeypatch, way):
    held = Held()
    monkeypatch.setattr(hand_module, "fit_nested", held)
    photo.draw([4, 4, 30, 40])
    photo.brush([(10, 10)], radius=4)
    photo.fit_button.click()
    assert held.started.wait(10) and photo.beside.layout.visibility == "visible"
    assert "fitting bases and attention to 1 mask, 300 steps" in photo.text
    first = photo.beside._thread
    if way == "stop":
        photo.beside.stop.click()
    elif way == "stroke":
        photo.brush([(20, 20)], radius=4)
    elif way == "photograph":
        photo.look_at("voc")
    else:
        photo.fit_button.click()
    held.go.set()
    first.join(10)
    assert not first.is_alive() and held.steps[:2] in ([1], [1, 1])  # it ended at its next step
    photo.beside.wait()
    assert (photo._fitted is not None) == (way == "another fit")
    assert photo.beside.layout.visibility == "hidden"
    if way != "another fit":
        assert photo.trace is None and "fitting" not in photo.text


def test_nothing_comes_of_a_fit_that_is_cancelled_at_its_very_end(photo, monkeypatch):
    """It is done, and waits for the upload, which has the turn, to come to its end."""
    ended = threading.Event()

    def fit(picture, *, steps, progress, device):
        ended.set()
        return random_source(picture)

    monkeypatch.setattr(hand_module, "fit_nested", fit)
    photo.draw([4, 4, 30, 40])
    photo.brush([(10, 10)], radius=4)
    with photo._turn:
        photo.fit_button.click()
        assert ended.wait(10)
        photo.look_at("voc")
    photo.beside.wait()
    assert photo._fitted is None and photo.text.startswith("voc, 500 × 375 px: nothing is drawn yet.")


def test_a_fit_that_ends_while_a_model_is_looked_at_waits_for_the_hand(photo, monkeypatch):
    held = Held()
    monkeypatch.setattr(hand_module, "fit_nested", held)
    photo.draw([4, 4, 30, 40])
    photo.brush([(10, 10)], radius=4)
    photo.fit_button.click()
    assert held.started.wait(10)
    photo.score.value = LEAST
    photo.masks.value = "tiny"
    said, options = photo.text, photo.instance.options
    held.go.set()
    photo.beside.wait()
    assert photo.text == said and "source tiny" in said and photo.instance.options == options
    photo.masks.value = HAND
    assert "IoU with your mask" in photo.text and photo.instance.options == (("0 yours", 0),)


def test_what_a_slider_would_show_is_worked_out_in_turn_and_only_of_a_fit(photo, quick, monkeypatch):
    photo.draw([4, 4, 30, 40])
    photo.brush([(10, 10)], radius=4)
    assert photo._ahead(photo.K.model_id) == {}  # there are no steps to foresee
    photo.fit()
    free, steps = [], BlenderExplorer._steps

    def seen(explorer, **moved):
        other = threading.Thread(target=lambda: free.append(photo._turn.acquire(blocking=False)))
        other.start()
        other.join()
        return steps(explorer, **moved)

    monkeypatch.setattr(BlenderExplorer, "_steps", seen)
    assert sorted(photo._ahead(photo.K.model_id)) == [photo.K.value - 1, photo.K.value + 1]
    assert free == [False, False]


def test_an_error_in_a_fit_appears_on_the_board_and_in_the_cell(photo, monkeypatch):
    def broken(picture, *, steps, progress, device):
        raise MemoryError("no room")

    monkeypatch.setattr(hand_module, "fit_nested", broken)
    photo.draw([4, 4, 30, 40])
    photo.brush([(10, 10)], radius=4)
    with pytest.raises(MemoryError, match="no room"):
        photo.fit()
    assert photo.board.error == "MemoryError: no room"


def test_an_error_in_a_stroke_appears_on_the_board(photo):
    with pytest.raises(ValueError, match="points must be finite"):
        stroke(photo, (float("nan"), 1))
    assert "points must be finite" in photo.board.error


# ---------------------------------------------------------------- found by a model


@pytest.fixture
def found(photo):
    photo.score.value = LEAST
    photo.masks.value = "tiny"
    return photo


def test_a_models_detections_are_explored(found):
    n = len(found.found.picture)
    assert n > 3 and len(found.instance.options) == n and len(found.board.boxes) == 4 * n
    assert "source tiny: K=3 bases of 16×16" in found.text and "IoU with the mask as detected 1.000" in found.text
    assert f"{n} of {n} detections score 0.25 or more" in found.board.notes[0]
    assert (found.K.min, found.K.max, found.M.max) == (1, 3, 4)
    found.M.value = 1
    assert found.iou < 1
    assert found._hand_row.layout.display == "none" and found.score.layout.display is None
    found.masks.value = HAND
    assert "nothing is drawn yet" in found.text and found.trace is None
    assert found._hand_row.layout.display is None and found.score.layout.display == "none"


def test_the_score_leaves_the_best_and_keeps_the_chosen_one(found, tiny, monkeypatch):
    monkeypatch.setattr(tiny, "forward", None)  # the network is not asked again
    scores = found.found.scores
    found.instance.value = 1
    found.board.on_box(1.0, 2.0, 30.0, 40.0)
    found.score.value = float(scores[2]) - 1e-3
    left = int((scores >= found.score.value).sum())
    assert len(found.instance.options) == left < len(scores) and len(found.board.boxes) == 4 * left
    assert found.instance.value == 1 and "in the box 1, 2 to 30, 40" in found.text
    assert f"{left} of {len(scores)} detections" in found.board.notes[0]
    found.score.value = 1.0
    best = found.found.picture.labels[0]
    assert "finds nothing that scores 1.00 or more; the best is " + best in found.text
    assert found.trace is None and not found.board.boxes and found.board.bases == {}
    found.K.value = 2  # nothing to blend, and no error
    found.board.on_click(10, 10)
    assert found.board.error == ""
    found.score.value = LEAST
    assert len(found.instance.options) == len(scores) and "K=2" in found.text


def test_another_photograph_is_looked_at_at_once(found):
    before = found.found
    upload(found, png(np.rot90(IMAGE).copy()), "turned.png")
    assert found.found is not before and found.found.picture.name == "turned.png"
    assert found.text.startswith("turned.png, instance 0")


def test_while_a_model_looks_nothing_of_another_photograph_is_shown(found, monkeypatch):
    module, seen = importlib.import_module("blendlab.blendmask.found"), []

    def look(*arguments, **options):
        board = found.board
        seen.append((found.text, board.boxes, board.steps["words"], board.bases, found.instance.options, board.tool))
        return real(*arguments, **options)

    real = module.look
    monkeypatch.setattr(module, "look", look)
    found.look_at("voc")
    ((text, boxes, steps, bases, options, tool),) = seen
    assert text.startswith("voc: tiny looks at the photograph.") and '"panels": []' in steps
    assert (boxes, bases, options, tool) == ([], {}, (), "")
    assert "voc, instance 0" in found.text


def test_a_model_that_is_not_here_is_a_plain_word_and_the_hand_stays(photo):
    photo.masks.value = "missing"
    assert photo.masks.value == HAND and photo.found is None and photo.board.error == ""
    assert photo.board.notes == ["missing cannot be asked: weights.pth is not on this machine"]
    assert "nothing is drawn yet" in photo.text
    photo.look_at("voc")
    assert photo.board.notes == []
    photo.masks.value = "missing"
    photo.masks.value = "tiny"
    assert not any("cannot be asked" in note for note in photo.board.notes)


def test_two_models_never_live_at_once(tiny):
    alive, photo = [], None

    def make():
        alive.append(photo.model)
        return tiny

    photo = PhotoExplorer(png(), models={"one": make, "two": make})
    photo.masks.value = "one"
    photo.masks.value = "two"
    photo.masks.value = HAND
    photo.masks.value = "two"
    assert alive == [None, None] and photo.model is tiny


def test_without_the_authors_weights_it_says_which_file_to_bring_and_where(monkeypatch, tmp_path):
    monkeypatch.setattr(OFFICIAL, "official_file", lambda name: None)
    monkeypatch.setattr(OFFICIAL, "by_hand", lambda name: tmp_path / f"{name}.pth")
    photo = PhotoExplorer("voc")
    photo.masks.value = "R_101_3x"
    (word,) = photo.board.notes
    for part in (
        "R_101_3x.pth",
        "official('R_101_3x')",
        "ZjuCv/AdelaiDet",
        "non-commercial",
        "draw by hand",
        str(tmp_path),
    ):
        assert part in word


def test_the_authors_network_from_a_file_is_explored(monkeypatch, tmp_path):
    """Their R-50 with the parity test's weights, put where an explorer looks for it: every step of a detection."""
    weights = parity.parity_weights.checkpoint(parity.DATA / "manifest_r50.json")
    torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, tmp_path / "R_50_1x.pth")
    monkeypatch.setattr(OFFICIAL, "by_hand", lambda name: tmp_path / f"{name}.pth")
    photo = PhotoExplorer(png(np.tile(IMAGE[10:40], (1, 6, 1))))  # 30 x 384: to the network 104 x 1333, the quickest
    photo.score.value = LEAST
    photo.masks.value = "R_50_1x"
    assert len(photo.found.picture) > 0, photo.text
    assert "K=4 bases of 26×334" in photo.text and "4·14·14 = 784 attention numbers" in photo.text
    assert "IoU with the mask as detected 1.000" in photo.text
    assert (photo.K.min, photo.K.max, photo.M.max) == (4, 4, 14)
    assert any("non-commercial" in note for note in photo.board.notes)


# ---------------------------------------------------------------- devices


def test_the_menu_of_devices_is_shown_where_there_is_a_choice(photo, monkeypatch):
    if not torch.cuda.is_available():
        assert photo.device not in photo._first_row.children and photo.device not in photo._step_rows[1].children
    elsewhere(monkeypatch)
    other = PhotoExplorer(png(), models={})
    assert other.device in other._first_row.children and other.device.value == "cpu"
    with pytest.raises(ValueError, match="device must be one of cpu.*; got 'cuda:7'"):
        PhotoExplorer(png(), models={}, device="cuda:7")


def test_a_fit_is_made_and_blended_on_the_device_that_the_menu_names(quick, monkeypatch):
    other = elsewhere(monkeypatch)
    photo = PhotoExplorer(png(), models={})
    photo.device.value = other  # with nothing drawn yet
    assert "nothing is drawn yet" in photo.text and not photo.board.error
    photo.draw([4, 4, 30, 40])
    photo.brush([(10, 10)], radius=4)
    photo.device.value = "cpu"
    photo.device.value = other
    assert "pixels brushed" in photo.text
    photo.fit()
    assert [device for *_, device in quick] == [other]
    assert other in photo.board.timing and photo.trace.logits.device.type == "cpu"
    before = photo.trace.logits
    photo.device.value = "cpu"
    assert "on cpu" in photo.board.timing
    torch.testing.assert_close(photo.trace.logits, before, rtol=0, atol=1e-4)


def test_a_model_looks_on_the_device_that_the_menu_names(tiny, monkeypatch):
    other = elsewhere(monkeypatch)
    photo = PhotoExplorer(png(), models={"tiny": lambda: tiny}, device=other)
    photo.score.value = LEAST
    photo.masks.value = "tiny"
    assert photo.model is not tiny and photo.model.mean.device == torch.tensor(0, device=other).device
    n, said = len(photo.found.scores), photo.text
    assert n > 3 and other in photo.board.timing
    photo.device.value = "cpu"
    assert len(photo.found.scores) == n and photo.text == said and "on cpu" in photo.board.timing


def test_the_score_moves_by_hundredths_and_keeps_to_its_places(found):
    found.score.value = 0.333
    assert found.score.value == 0.33
    assert len(found.score.options) == 76
