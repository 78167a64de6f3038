"""What a slider's next values would show: told before the hand moves, exactly as it is shown after."""

import pytest

from blendlab.explorers import (  # fmt: skip
    AttentionExplorer,
    BlenderExplorer,
    HullExplorer,
    InterpolateExplorer,
    Microscope,
    PasteExplorer,
    PhotoExplorer,
    SoftmaxExplorer,
)
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
}


def shown(explorer) -> dict:
    return {key: explorer.board.steps[key] for key in ("words", "codes")}


def ahead(explorer, name: str) -> dict[int, dict]:
    return explorer.board.on_ahead(getattr(explorer, name).model_id)


@pytest.mark.parametrize("kind", EXPLORERS)
def test_the_steps_ahead_are_those_that_come(kind):
    make, names = EXPLORERS[kind]
    explorer = make()
    for name in names:
        slider, before = getattr(explorer, name), dict(explorer.board.steps)
        start, text = slider.value, explorer.text
        near = ahead(explorer, name)
        assert set(near) == {start - 1, start + 1}
        assert (explorer.board.steps, slider.value, explorer.text) == (before, start, text)  # looking changes nothing
        for value, steps in near.items():
            slider.value = value
            assert shown(explorer) == steps
        slider.value = start


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
