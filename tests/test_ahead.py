"""What a slider's next values would show: told before the hand moves, exactly as it is shown after."""

import json

import pytest

from blendlab.explorers import (  # fmt: skip
    AttentionExplorer,
    BlenderExplorer,
    DetectorExplorer,
    HullExplorer,
    InterpolateExplorer,
    LocationExplorer,
    Microscope,
    PasteExplorer,
    PhotoExplorer,
    SoftmaxExplorer,
)
from blendlab.explorers.base import Share
from blendlab.pictures import scene

SCENE = scene(38, "held_out")
EXPLORERS = {
    "blender": (lambda: BlenderExplorer("voc", instance=3), ("K", "M", "R")),
    "figure": (lambda: BlenderExplorer("voc", figure=True), ("K", "M", "R")),
    "softmax": (lambda: SoftmaxExplorer("voc", R=20), ("K", "M", "R")),
    "hull": (lambda: HullExplorer("voc"), ("K", "M", "R")),
    "interpolate": (InterpolateExplorer, ("M", "R")),
    "microscope": (Microscope, ("R",)),
    "paste": (PasteExplorer, ("x", "R", "threshold")),
    "attention": (lambda: AttentionExplorer(SCENE, instance=3), ("K",)),
    "location": (lambda: LocationExplorer(SCENE), ("row", "column", "K")),
    "detector": (lambda: DetectorExplorer(SCENE), ("threshold", "nms")),
}


def shown(explorer) -> dict:
    return {key: explorer.board.steps[key] for key in ("words", "codes")}


def assert_same(explorer, steps: dict) -> None:
    """They are what the board shows now, with the boxes that it has now."""
    assert shown(explorer) == steps
    words = json.loads(steps["words"])
    assert words.get("boxes", explorer.board.boxes) == explorer.board.boxes


def ahead(explorer, name: str) -> dict[int, dict]:
    return explorer.board.on_ahead(getattr(explorer, name).model_id)


@pytest.mark.parametrize("kind", EXPLORERS)
def test_the_steps_ahead_are_those_that_come(kind):
    make, names = EXPLORERS[kind]
    explorer = make()
    for name in names:
        slider, before = getattr(explorer, name), dict(explorer.board.steps)
        at = "index" if isinstance(slider, Share) else "value"  # what the page knows of it
        start, text, boxes = getattr(slider, at), explorer.text, explorer.board.boxes
        near = ahead(explorer, name)
        assert set(near) == {start - 1, start + 1}
        now = (explorer.board.steps, getattr(slider, at), explorer.text, explorer.board.boxes)
        assert now == (before, start, text, boxes)  # looking changes nothing
        for place, steps in near.items():
            setattr(slider, at, place)
            assert_same(explorer, steps)
        setattr(slider, at, start)


@pytest.mark.parametrize("chosen", ["pixel", "attention cell", "base cell"])
def test_ahead_with_a_pinned_pixel_or_a_chosen_cell(chosen):
    explorer = BlenderExplorer("voc", K=4, M=7, R=20)
    explorer.board.on_pixel(4, 6)
    for name in ("K", "M", "R"):
        slider, start = getattr(explorer, name), getattr(explorer, name).value
        for value in (start - 1, start + 1):
            if chosen != "pixel":
                explorer.board.on_cell("attention" if chosen == "attention cell" else "bases", 3, 6, 6)
            steps = ahead(explorer, name)[value]
            slider.value = value
            assert shown(explorer) == steps
            slider.value = start


def test_a_cell_that_the_next_value_would_take_away_is_kept_until_it_does():
    explorer = BlenderExplorer("voc", K=4, M=7, R=20)
    explorer.board.on_cell("attention", 3, 6, 6)
    near = ahead(explorer, "K") | ahead(explorer, "M")  # K=3 and M=6 have no such cell
    assert explorer._provenance.cell == ("attention", 3, 6, 6)
    explorer.M.value = 6
    assert explorer._provenance.cell is None and shown(explorer) == near[6]


def test_ends_of_the_range_and_values_that_change_a_menu_are_left_out():
    explorer = BlenderExplorer("voc", K=2, R=112)
    assert set(ahead(explorer, "K")) == {3}  # at K=1 the normaliser "product" joins the menu
    assert set(ahead(explorer, "R")) == {111}
    explorer.K.value = 1
    assert set(ahead(explorer, "K")) == set()


def test_nothing_is_ahead_where_nothing_is_shown():
    explorer = PhotoExplorer("voc")  # nothing is drawn yet
    assert ahead(explorer, "R") == {}


def test_the_page_gets_the_steps_with_the_serial_of_those_they_are_beside(monkeypatch):
    explorer, sent = BlenderExplorer("voc"), []
    monkeypatch.setattr(explorer.board, "send", lambda content, buffers: sent.append((content, buffers)))
    explorer.M.value = 9
    explorer.board._event(None, {"kind": "ahead", "slider": explorer.M.model_id}, [])
    ((content, buffers),) = sent
    assert content["serial"] == explorer.board.steps["serial"]
    assert (content["kind"], content["slider"], content["values"]) == ("ahead", explorer.M.model_id, [8, 10])
    explorer.M.value = 10
    assert shown(explorer) == {"words": content["words"][1], "codes": buffers[1]}
    assert explorer.board.steps["serial"] == content["serial"] + 1
    assert set(explorer.board.sliders) == {explorer.K.model_id, explorer.M.model_id, explorer.R.model_id}


def test_a_step_to_the_same_numbers_has_a_serial_of_its_own():
    """The page waits for the answer to every step, and equal traits would not be sent."""
    explorer = BlenderExplorer("voc", K=1)  # M is inert under softmax
    before = explorer.board.steps
    explorer.normalizer.value = "softmax"
    explorer.interpolation.value = "nearest"
    explorer.interpolation.value = "bilinear"
    assert explorer.board.steps["serial"] == before["serial"] + 2 and shown(explorer)["codes"] == before["codes"]


def test_ahead_with_anothers_attention_and_muted_bases():
    explorer = AttentionExplorer(SCENE, instance=3)
    for whose in ("mean", 2):
        explorer.whose.value = whose
        for k in (1, 4):  # the fifth basis is silent as soon as it is read
            explorer.mute[k].value = True
        for K in (4, 5, 2, 1):  # K=1 has another form
            explorer.K.value = K
            for value, steps in ahead(explorer, "K").items():
                explorer.K.value = value
                assert shown(explorer) == steps
                explorer.K.value = K


def test_nothing_is_ahead_where_the_photographs_colours_would_change_too():
    explorer = AttentionExplorer(SCENE, instance=3)
    for colour in explorer.colour.options[1:]:
        explorer.colour.value = colour
        assert ahead(explorer, "K") == {}
    explorer.colour.value = explorer.colour.options[0]
    assert set(ahead(explorer, "K")) == {3, 5}


def test_ahead_from_cell_to_cell_of_each_level():
    explorer = LocationExplorer(SCENE, K=2)
    for level, row, column in ((0, 10, 10), (1, 0, 3), (2, 1, 1)):
        explorer.speak(level, row, column)
        for name in ("row", "column", "K"):
            slider = getattr(explorer, name)
            start, boxes = slider.value, explorer.board.boxes
            before = (boxes, explorer.board.notes, explorer.location, explorer.trace)
            near = ahead(explorer, name)
            assert set(near) == {v for v in (start - 1, start + 1) if slider.min <= v <= slider.max}
            assert before == (explorer.board.boxes, explorer.board.notes, explorer.location, explorer.trace)
            for value, steps in near.items():
                slider.value = value
                assert_same(explorer, steps)
                assert name == "K" or explorer.board.boxes != boxes  # each cell has a box of its own
            slider.value = start


@pytest.mark.parametrize("show", ["1 candidates", "2 after NMS", "true objects"])
def test_ahead_of_both_decisions_whatever_is_shown(show):
    explorer = DetectorExplorer(SCENE, threshold=0.5)
    explorer.show.value = show
    for threshold, nms in ((0.5, 0.6), (0.25, 0.3), (0.95, 0.6)):
        for chosen in (0, 3):
            for name in ("threshold", "nms"):
                explorer.threshold.value, explorer.nms.value = threshold, nms
                explorer.chosen.value = chosen  # the last there is, where there are fewer
                slider = getattr(explorer, name)
                start, drawn = slider.index, len(explorer.board.boxes)
                for index, steps in ahead(explorer, name).items():
                    explorer.threshold.value, explorer.nms.value = threshold, nms
                    explorer.chosen.value = chosen
                    assert len(explorer.board.boxes) == drawn
                    slider.index = index
                    assert_same(explorer, steps)
                slider.index = start


def test_the_detectors_ends_and_its_coloured_masks():
    explorer = DetectorExplorer(SCENE, threshold=1.0)
    last = len(explorer.threshold.options) - 1
    assert set(ahead(explorer, "threshold")) == {last - 1}
    (steps,) = ahead(explorer, "threshold").values()
    assert json.loads(steps["words"])["selected"] == -1 and json.loads(steps["words"])["boxes"] == []
    explorer.threshold.value = 0.05
    assert set(ahead(explorer, "threshold")) == {1}
    explorer.show.value = "3 masks"  # the photograph changes with them
    assert ahead(explorer, "threshold") == ahead(explorer, "nms") == {}
