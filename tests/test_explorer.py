"""The blender's explorer without a browser: controls set in code, events as the page sends them.

N boxes, K bases, M attention side, R output side.
"""

import base64
import dataclasses
import functools
import io
import math
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from blendlab import Blender
from blendlab.explorers import BlenderExplorer
from blendlab.paste import mask_iou
from blendlab.pictures import Picture
from blendlab.sources import Source, random_source

BOXES = ([4, 6, 40, 30], [30, 20, 62, 48], [44, 26, 54, 36])

# an explorer blends on one thread, and the last bit of a softmax depends on their number
pytestmark = pytest.mark.usefixtures("one_thread")


def make_picture(boxes=BOXES, height=52, width=66, name="small") -> Picture:
    """Rectangles as masks: 1 lies over a corner of 0, and 2 within 1."""
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture.from_masks(image, masks, name=name)


def narrow(picture: Picture, K_range=(4, 4), M_range=(1, 14), R_range=(7, 56), name="narrow", seed=1) -> Source:
    """A source that serves less, as the authors' weights do."""
    source, K, M = random_source(picture, seed), K_range[1], M_range[1]
    attention = source.attention[:, :K, :M, :M].contiguous()
    return Source(name, "", source.bases[:, :K], attention, source.boxes, 0.25, K_range, M_range, R_range)


@pytest.fixture
def picture() -> Picture:
    return make_picture()


@pytest.fixture
def explorer(picture) -> BlenderExplorer:
    return make_explorer(picture)


def make_explorer(picture, **options) -> BlenderExplorer:
    sources = options.pop("sources", None) or {"random": random_source(picture), "narrow": lambda: narrow(picture)}
    return BlenderExplorer(picture, sources=sources, **options)


def by_hand(explorer, box=None):
    """What the controls say, blended without the explorer."""
    source = explorer._sources[explorer.source.value]
    inputs = source.inputs(explorer.K.value, explorer.M.value, explorer.instance.value)
    boxes = inputs.boxes if box is None else torch.tensor([box])
    options = {
        name: getattr(explorer, name).value
        for name in ("sampling_ratio", "aligned", "pooling", "interpolation", "normalizer", "order")
    }
    return Blender(explorer.R.value, 0.25, **options)(inputs.bases, inputs.attention, boxes)


def assert_shows(explorer, box=None):
    """Trace, IoU, panels and sentence are those of the controls."""
    expected = by_hand(explorer, box)
    for name in ("regions", "attention", "upsampled", "scores", "products", "logits", "probabilities"):
        assert torch.equal(getattr(explorer.trace, name), getattr(expected, name)), name
    drawn = {spec["name"]: codes for spec, codes in shown_panels(explorer.board)}
    assert np.abs(drawn["probabilities"] / 255 - expected.probabilities.numpy()).max() <= 0.5 / 255 + 1e-6
    instance = explorer.instance.value
    box = explorer.picture.boxes[instance].tolist() if box is None else box
    truth = explorer.picture.masks[instance]
    assert explorer.iou == mask_iou(expected.probabilities[0], box, truth)
    K, M, R = explorer.K.value, explorer.M.value, explorer.R.value
    assert f"K={K} bases of 13×17; {K}·{M}·{M} = {K * M * M} attention numbers" in explorer.text
    assert f"instance {instance} " in explorer.text
    assert f"mask {R}×{R} " in explorer.text
    assert f"IoU with the true mask {explorer.iou:.3f}" in explorer.text
    assert explorer.board.error == ""


def shown_panels(board):
    from blendlab.board.snapshot import _unpack

    return _unpack(board.bases) + _unpack(board.steps)


def shown_pixel(explorer):
    import json

    return json.loads(explorer.board.steps["words"])["pixel"]


def shown_box(explorer):
    start = 4 * explorer.instance.value
    return list(explorer.board.boxes[start : start + 4])


# ---------------------------------------------------------------- controls


def test_it_starts_where_the_issue_says(explorer):
    assert (explorer.K.value, explorer.M.value, explorer.R.value) == (4, 14, 56)
    assert [(s.min, s.max) for s in (explorer.K, explorer.M, explorer.R)] == [(1, 8), (1, 28), (7, 112)]
    assert [s.description for s in (explorer.K, explorer.M, explorer.R)] == ["K", "M", "R"]
    assert explorer.source.options == ("random", "narrow")
    assert [label for label, _ in explorer.instance.options] == ["0 instance 0", "1 instance 1", "2 instance 2"]
    assert_shows(explorer)


@pytest.mark.parametrize(("K", "M", "R"), [*product((1, 4, 8), (1, 14, 28), (7, 56, 112))])
def test_every_corner_of_the_sliders(explorer, K, M, R):
    explorer.K.value, explorer.M.value, explorer.R.value = K, M, R
    assert explorer.trace.regions.shape == (1, K, R, R)
    assert explorer.trace.attention.shape == (1, K, M, M)
    assert_shows(explorer)
    panels = {spec["name"]: codes for spec, codes in shown_panels(explorer.board)}
    assert panels["bases"].shape == (8, 13, 17)  # all that the source has: the page shows the first K
    assert panels["attention"].shape == (K, M, M)
    assert panels["products"].shape == (K, R, R)
    assert any("samples the attention down" in note for note in explorer.board.notes) == (M > R)


@pytest.mark.parametrize(
    ("name", "value"),
    (
        ("normalizer", "sigmoid"),
        ("normalizer", "tanh"),
        ("normalizer", "none"),
        ("order", "normalize-first"),
        ("interpolation", "nearest"),
        ("pooling", "pool"),
        ("sampling_ratio", 2),
        ("sampling_ratio", 4),
        ("sampling_ratio", 0),
        ("aligned", False),
    ),
)
def test_each_option_is_the_blenders(explorer, name, value):
    explorer.R.value = 7  # wide bins, so that an adaptive ratio takes more than one sample
    before = explorer.trace
    getattr(explorer, name).value = value
    assert getattr(explorer.trace.settings, name) == value
    assert not torch.equal(explorer.trace.logits, before.logits)
    assert_shows(explorer)


def test_a_slider_set_beyond_its_range_stops_at_its_end(explorer):
    explorer.K.value, explorer.M.value, explorer.R.value = 99, -3, 1000
    assert (explorer.K.value, explorer.M.value, explorer.R.value) == (8, 1, 112)
    assert_shows(explorer)


def test_the_instances_are_each_shown(explorer):
    for instance in (2, 0, 1):
        explorer.instance.value = instance
        assert torch.equal(explorer.trace.inputs.boxes[0, 1:], torch.tensor(BOXES[instance]).float())
        assert_shows(explorer)


# ---------------------------------------------------------------- K = 1


def test_one_basis_says_that_its_attention_is_inert_and_offers_the_papers_form(explorer):
    assert "product" not in explorer.normalizer.options
    explorer.K.value = 1
    assert any("inert" in note and "product" in note for note in explorer.board.notes)
    logits = explorer.trace.logits
    explorer.M.value = 3
    assert torch.equal(explorer.trace.logits, logits)  # as the note says
    explorer.normalizer.value = "product"
    assert not any("inert" in note for note in explorer.board.notes)
    assert_shows(explorer)
    expected = (explorer.trace.upsampled.sigmoid() * explorer.trace.regions.sigmoid())[0, 0]
    torch.testing.assert_close(explorer.trace.probabilities[0], expected, rtol=0, atol=1e-6)


def test_the_papers_form_is_given_up_with_a_word_when_k_grows(explorer):
    explorer.K.value, explorer.normalizer.value = 1, "product"
    explorer.K.value = 2
    assert explorer.normalizer.value == "softmax"
    assert "product" not in explorer.normalizer.options
    assert any("product is for K=1 alone" in note for note in explorer.board.notes)
    assert_shows(explorer)
    explorer.K.value = 3
    assert not any("product" in note for note in explorer.board.notes)


def test_another_normalizer_stays_when_k_leaves_1(explorer):
    explorer.normalizer.value = "tanh"
    for K in (1, 5):
        explorer.K.value = K
        assert explorer.normalizer.value == "tanh"
        assert_shows(explorer)


# ---------------------------------------------------------------- sources


def test_ranges_follow_the_source_and_what_was_wanted_comes_back(explorer):
    explorer.K.value, explorer.M.value, explorer.R.value = 7, 20, 30
    explorer.source.value = "narrow"
    assert [(s.min, s.max) for s in (explorer.K, explorer.M, explorer.R)] == [(4, 4), (1, 14), (7, 56)]
    assert (explorer.K.value, explorer.M.value, explorer.R.value) == (4, 14, 30)
    notes = "\n".join(explorer.board.notes)
    assert "K moved from 7 to 4: the source narrow serves K 4 to 4." in notes
    assert "M moved from 20 to 14: the source narrow serves M 1 to 14." in notes
    assert "R moved" not in notes
    assert_shows(explorer)
    explorer.R.value = 40  # a value of one's own choice is the one to keep
    explorer.source.value = "random"
    assert [(s.min, s.max) for s in (explorer.K, explorer.M, explorer.R)] == [(1, 8), (1, 28), (7, 112)]
    assert (explorer.K.value, explorer.M.value, explorer.R.value) == (7, 20, 40)
    assert not any("moved" in note for note in explorer.board.notes)
    assert_shows(explorer)


@pytest.mark.parametrize("order", ((0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)))
def test_ranges_that_do_not_even_meet_can_follow_each_other(picture, order):
    ranges = [((1, 2), (1, 3), (7, 9)), ((6, 8), (20, 28), (80, 112)), ((4, 4), (7, 7), (30, 30))]
    sources = {str(i): narrow(picture, *ranges[i], name=str(i)) for i in range(3)}
    explorer = BlenderExplorer(picture, sources=sources, source=str(order[0]))
    for i in order[1:]:
        explorer.source.value = str(i)
        for slider, (low, high), wanted in zip(
            (explorer.K, explorer.M, explorer.R), ranges[i], (4, 14, 56), strict=True
        ):
            assert (slider.min, slider.max, slider.value) == (low, high, min(max(wanted, low), high))
        assert_shows(explorer)


def test_a_source_is_made_once_when_it_is_first_chosen(picture):
    made = []
    sources = {"first": random_source(picture), "later": lambda: made.append(1) or narrow(picture)}
    explorer = BlenderExplorer(picture, sources=sources)
    assert made == []
    for name in ("later", "first", "later"):
        explorer.source.value = name
    assert made == [1]


def test_the_sources_note_is_on_the_board(explorer):
    assert any("noise" in note for note in explorer.board.notes)


def test_a_source_that_fails_is_shown_and_raised_and_no_old_picture_takes_its_name(picture):
    failing, tries = [True], []

    def fragile():
        tries.append(1)
        if failing[0]:
            raise ValueError("no weights here")
        return narrow(picture, name="fragile")

    explorer = BlenderExplorer(picture, sources={"random": random_source(picture), "fragile": fragile})
    with pytest.raises(ValueError, match="no weights here"):
        explorer.source.value = "fragile"
    assert explorer.board.error == "ValueError: no weights here"
    assert explorer._repr_mimebundle_()["text/plain"] == "ValueError: no weights here"
    with pytest.raises(ValueError, match="no weights here"):  # not the first source's picture under this one's name
        explorer.R.value = 20
    assert explorer.board.error
    failing[0] = False
    explorer.R.value = 24
    assert "source fragile" in explorer.text
    assert explorer.K.min == explorer.K.max == 4
    assert_shows(explorer)
    assert len(tries) == 3


def test_a_source_whose_making_is_interrupted_gives_way_to_the_one_before(picture):
    noise, calls = random_source(picture), []

    def slow():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return dataclasses.replace(noise, name="slow")

    explorer = make_explorer(picture, sources={"random": noise, "slow": slow})
    before = explorer.board.steps
    explorer.source.value = "slow"
    assert explorer.source.value == "random" and "source random" in explorer.text and not explorer.board.error
    assert "interrupted" in explorer.board.notes[0] and explorer.board.steps["codes"] == before["codes"]
    explorer.source.value = "slow"
    assert "source slow" in explorer.text and not any("interrupted" in note for note in explorer.board.notes)


def test_a_first_source_that_is_interrupted_interrupts_the_cell(picture):
    def slow():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_explorer(picture, sources={"slow": slow})


def test_a_fit_that_is_chosen_from_the_menu_tells_how_far_it_is(picture, tmp_path, monkeypatch):
    from blendlab.fit import store

    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(store, "fit_nested", functools.partial(store.fit_nested, steps=100))
    explorer, notes = BlenderExplorer(picture, source="random"), []
    explorer.board.observe(lambda change: notes.extend(change["new"]), "notes")
    explorer.source.value = "fitted"
    steps = [int(note.split()[2]) for note in notes if note.startswith("fitting: step ")]
    assert len(steps) == 50 and steps == sorted(steps) and steps[-1] == 100
    assert not any("fitting" in note for note in explorer.board.notes) and "source fitted" in explorer.text


def test_after_a_source_that_fails_another_one_can_be_chosen(picture):
    def broken():
        raise RuntimeError("broken")

    explorer = BlenderExplorer(picture, sources={"random": random_source(picture), "broken": broken})
    with pytest.raises(RuntimeError, match="broken"):
        explorer.source.value = "broken"
    explorer.source.value = "random"
    assert_shows(explorer)


def test_a_source_that_fails_at_one_setting_recovers_at_the_next(picture):
    class Fragile(Source):
        def inputs(self, K, M, instance=None):
            if K == 5:
                raise RuntimeError("five is too many")
            return super().inputs(K, M, instance)

    whole = random_source(picture)
    fragile = Fragile("fragile", "", whole.bases, whole.attention, whole.boxes)
    explorer = BlenderExplorer(picture, sources={"fragile": fragile})
    with pytest.raises(RuntimeError, match="five"):
        explorer.K.value = 5
    assert explorer.board.error == "RuntimeError: five is too many"
    explorer.K.value = 6
    assert_shows(explorer)


def test_boxes_are_the_sources(picture):
    """A source may have found its own boxes: what is outlined is what is blended."""
    whole = random_source(picture)
    explorer = BlenderExplorer(picture, sources={"exact": whole, "moved": whole.with_boxes(whole.boxes + 3)})
    explorer.source.value = "moved"
    moved = [side + 3.0 for side in BOXES[0]]
    assert shown_box(explorer) == moved
    assert_shows(explorer, moved)
    explorer.source.value = "exact"
    assert shown_box(explorer) == BOXES[0]
    assert_shows(explorer)


def test_nan_in_the_bases_is_counted_and_the_rest_drawn(picture):
    whole = random_source(picture)
    bases = whole.bases.clone()
    bases[0, 2] = math.nan
    ill = Source("ill", "", bases, whole.attention, whole.boxes)
    explorer = BlenderExplorer(picture, sources={"ill": ill})
    assert any(f"{56 * 56} of the mask logits are NaN" in note for note in explorer.board.notes)
    explorer.board.on_pixel(5, 6)
    assert [row[2] for row in shown_pixel(explorer)["rows"]].count("nan") == 1
    assert shown_pixel(explorer)["total"] == "nan"
    explorer.K.value = 2  # without the ill one
    assert not any("NaN" in note for note in explorer.board.notes)
    assert_shows(explorer)


# ---------------------------------------------------------------- what the hand does on the board


def test_a_dragged_box_is_the_one_that_is_blended_and_each_instance_keeps_its_own(explorer):
    explorer.board.on_box(10.5, 3.25, 50.0, 44.0)
    assert shown_box(explorer) == [10.5, 3.25, 50.0, 44.0]
    assert "in the box 10.5, 3.2 to 50, 44" in explorer.text
    assert_shows(explorer, [10.5, 3.25, 50.0, 44.0])
    explorer.instance.value = 1
    assert_shows(explorer)
    explorer.instance.value = 0
    assert_shows(explorer, [10.5, 3.25, 50.0, 44.0])


@pytest.mark.parametrize(
    "box",
    (
        [-30.0, -20.0, 20.0, 20.0],
        [60.0, 45.0, 200.0, 150.0],
        [-500.0, -500.0, -400.0, -400.0],
        [-1e5, -1e5, 1e5, 1e5],
        [20.0, 20.0, 20.001, 20.001],
        [0.0, 0.0, 66.0, 52.0],
    ),
)
def test_boxes_that_leave_the_image_and_very_large_and_small_ones(explorer, box):
    explorer.board.on_box(*box)
    assert_shows(explorer, box)
    Image.open(io.BytesIO(explorer.board.snapshot())).load()
    explorer.pooling.value = "pool"
    assert_shows(explorer, box)


def test_a_box_that_cannot_be_is_refused_and_the_one_before_stays(explorer):
    for box in ([10.0, 10.0, 5.0, 20.0], [math.nan, 0.0, 5.0, 5.0]):
        with pytest.raises(ValueError, match="box"):
            explorer.board.on_box(*box)
        assert "box" in explorer.board.error
        explorer.R.value += 1
        assert_shows(explorer)


def test_a_drag_from_the_page_arrives_and_the_same_drag_again_after_a_reset(explorer):
    explorer.board.set_state({"dragged": [1.0, 2.0, 30.0, 40.0, 17.0]})  # the last is the page's clock
    assert_shows(explorer, [1.0, 2.0, 30.0, 40.0])
    explorer.reset.click()
    assert_shows(explorer)
    explorer.board.set_state({"dragged": [1.0, 2.0, 30.0, 40.0, 18.0]})
    assert_shows(explorer, [1.0, 2.0, 30.0, 40.0])


def test_a_click_on_another_instance_selects_it(explorer):
    explorer.board.on_click(58.0, 44.0)
    assert explorer.instance.value == 1
    assert shown_pixel(explorer) is None
    assert_shows(explorer)


def test_a_click_on_the_selected_instance_pins_the_pixel_there(explorer):
    explorer.board.on_click(4 + 36 * 0.25, 6 + 24 * 0.75)
    assert explorer.instance.value == 0
    assert (shown_pixel(explorer)["row"], shown_pixel(explorer)["column"]) == (42, 14)  # of 56


def test_where_masks_overlap_every_instance_can_be_reached(explorer):
    explorer.board.on_click(50.0, 30.0)  # 1 and 2: the smaller is the one on top
    assert explorer.instance.value == 2
    explorer.board.on_click(33.0, 25.0)  # 0 (864 pixels) and 1 (896)
    assert explorer.instance.value == 0
    explorer.board.on_click(33.0, 40.0)
    assert explorer.instance.value == 1


@pytest.mark.parametrize("at", ((-0.5, 10.0), (10.0, -3.0), (66.0, 10.0), (10.0, 52.0), (1e9, 1e9), (1.0, 50.0)))
def test_a_click_beside_everything_changes_nothing(explorer, at):
    before = explorer.trace
    explorer.board.on_click(*at)
    assert explorer.instance.value == 0
    assert explorer.trace is before
    assert shown_pixel(explorer) is None


def test_a_click_in_the_box_but_on_no_mask_pins(explorer):
    explorer.board.on_box(0.0, 0.0, 60.0, 50.0)
    explorer.board.on_click(2.0, 48.0)
    assert explorer.instance.value == 0
    assert (shown_pixel(explorer)["row"], shown_pixel(explorer)["column"]) == (53, 1)  # 48/50*56, 2/60*56


def test_the_pin_shows_the_sum_and_follows_r(explorer):
    explorer.board.on_pixel(28, 14)
    for R, (row, column) in ((56, (28, 14)), (112, (57, 29)), (7, (3, 1)), (56, (28, 14))):
        explorer.R.value = R
        pixel = shown_pixel(explorer)
        assert (pixel["row"], pixel["column"]) == (row, column)
        parts = [float(part) for _, _, part in pixel["rows"]]
        expected = explorer.trace.products[0, :, row, column].tolist()
        assert parts == pytest.approx(expected, abs=1.001e-4)
        assert round(sum(parts), 4) == float(pixel["total"])
    explorer.board.on_pixel(None, None)
    assert shown_pixel(explorer) is None


@pytest.mark.parametrize("pixel", ((56, 0), (0, 56), (-1, 0)))
def test_a_pin_beyond_the_mask_is_let_go(explorer, pixel):
    explorer.board.on_pixel(*pixel)  # the page showed another R when it was clicked
    assert shown_pixel(explorer) is None


def test_the_pages_messages_reach_the_explorer(explorer):
    explorer.board._handle_custom_msg({"kind": "click", "x": 58.0, "y": 44.0}, [])
    assert explorer.instance.value == 1
    explorer.board._handle_custom_msg({"kind": "pixel", "row": 3, "column": 4}, [])
    assert shown_pixel(explorer)["column"] == 4


def test_reset_puts_everything_back(picture):
    explorer = make_explorer(picture, source="narrow", instance=1, M=5, R=21)
    start = (repr(explorer), explorer.text, explorer.board.notes, explorer.board.snapshot())
    explorer.board.on_box(1.0, 1.0, 20.0, 20.0)
    explorer.source.value, explorer.instance.value = "random", 2
    explorer.board.on_box(3.0, 3.0, 50.0, 50.0)
    explorer.K.value, explorer.M.value, explorer.R.value = 1, 28, 112
    explorer.normalizer.value, explorer.order.value, explorer.pooling.value = "product", "normalize-first", "pool"
    explorer.interpolation.value, explorer.sampling_ratio.value, explorer.aligned.value = "nearest", 2, False
    explorer.board.on_pixel(1, 1)
    explorer.reset.click()
    assert (repr(explorer), explorer.text, explorer.board.notes, explorer.board.snapshot()) == start
    assert [(s.min, s.max) for s in (explorer.K, explorer.M, explorer.R)] == [(4, 4), (1, 14), (7, 56)]
    assert shown_pixel(explorer) is None
    assert explorer.normalizer.value == "softmax"
    assert_shows(explorer)
    for instance in range(3):
        explorer.instance.value = instance
        assert_shows(explorer)


# ---------------------------------------------------------------- odd pictures


def test_without_instances_it_says_so_and_nothing_raises():
    picture = make_picture(boxes=())
    explorer = make_explorer(picture)
    text = "small: no instance, so there is nothing to blend."
    assert explorer.text == text
    assert repr(explorer) == "BlenderExplorer('small', source='random')"
    assert all(control.disabled for control in explorer._controls)
    explorer.K.value, explorer.R.value, explorer.normalizer.value = 2, 9, "tanh"
    explorer.source.value = "narrow"
    explorer.board.on_click(3.0, 3.0)
    explorer.board.on_pixel(None, None)  # Escape on the empty grid
    explorer.board.on_box(1.0, 1.0, 5.0, 5.0)
    explorer._reset()
    assert (explorer.text, explorer.board.error, explorer.trace) == (text, "", None)
    assert explorer._repr_mimebundle_()["text/plain"] == text
    Image.open(io.BytesIO(explorer.board.snapshot())).load()


def test_a_picture_of_one_pixel():
    explorer = make_explorer(make_picture(boxes=([0, 0, 1, 1],), height=1, width=1))
    for R in (7, 112):
        explorer.R.value = R
        assert explorer.trace.logits.shape == (1, R, R)
    assert explorer.iou in (0.0, 1.0)
    explorer.board.on_click(0.5, 0.5)
    assert shown_pixel(explorer)["row"] == 56
    Image.open(io.BytesIO(explorer.board.snapshot())).load()


@pytest.mark.parametrize("size", ((1, 400), (400, 1)))
def test_a_picture_of_one_line_has_a_snapshot_of_a_sane_size(size):
    height, width = size
    explorer = make_explorer(make_picture(boxes=([0, 0, width, height],), height=height, width=width))
    snapshot = Image.open(io.BytesIO(explorer.board.snapshot()))
    assert max(snapshot.size) < 3000


# ---------------------------------------------------------------- what stands beside the widget


def test_the_bundle_has_a_picture_and_a_line_without_timings(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == explorer.text
    assert " ms" not in bundle["text/plain"]
    assert " ms" in explorer.board.timing
    assert "application/vnd.jupyter.widget-view+json" in bundle
    Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).load()


def test_repr_is_stable(picture):
    first, second = make_explorer(picture), make_explorer(picture)
    assert repr(first) == repr(second) == "BlenderExplorer('small', source='random', instance=0, K=4, M=14, R=56)"
    assert first._repr_mimebundle_()["image/png"] == second._repr_mimebundle_()["image/png"]


def test_two_explorers_do_not_disturb_each_other(picture):
    sources = {"random": random_source(picture), "narrow": lambda: narrow(picture)}
    first, second = (BlenderExplorer(picture, sources=sources) for _ in range(2))
    still = (repr(second), second.text, second.board.snapshot(), second.trace)
    first.K.value, first.instance.value, first.source.value = 2, 1, "narrow"
    first.board.on_box(1.0, 1.0, 9.0, 9.0)
    first.board.on_pixel(2, 2)
    assert (repr(second), second.text, second.board.snapshot(), second.trace) == still
    assert callable(sources["narrow"])


def test_the_figure_is_a_row_a_step(picture):
    explorer = make_explorer(picture, figure=True)
    names = [spec["name"] for spec, _ in shown_panels(explorer.board)]
    assert names == ["regions", "scores", "products", "probabilities"]
    assert explorer.children == (explorer.instance, explorer.board)
    explorer.instance.value = 1
    assert_shows(explorer)


def test_the_pictures_names_are_known():
    picture = "arc2017"
    from blendlab.pictures import load

    explorer = BlenderExplorer(picture, sources={"random": lambda: random_source(load(picture))}, instance=3)
    assert explorer.picture.name == "arc2017"
    assert "arc2017, instance 3 (" in explorer.text


# ---------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    (
        ({"picture": 3}, TypeError, "picture must be a Picture or a name"),
        ({"picture": "nowhere"}, ValueError, "name must be one of .*'nowhere'"),
        ({"sources": {}}, ValueError, "sources must name at least one source"),
        ({"sources": {"a": 3}}, TypeError, r"sources\['a'\] must be a Source or a function that makes one; got int 3"),
        ({"sources": {"a": lambda: "x"}}, TypeError, r"sources\['a'\] must .* got str 'x'"),
        ({"source": "other"}, ValueError, "source must be one of random; got 'other'"),
        ({"instance": 3}, ValueError, "instance must be from 0 to 2; got 3"),
        ({"instance": -1}, ValueError, "instance must be from 0 to 2; got -1"),
        ({"instance": "0"}, TypeError, "instance must be a whole number"),
        ({"K": 0}, ValueError, "K must be at least 1; got 0"),
        ({"M": 2.5}, TypeError, "M must be a whole number; got float 2.5"),
        ({"R": "56"}, TypeError, "R must be a whole number"),
    ),
)
def test_wrong_arguments_are_named(picture, arguments, error, message):
    arguments = {"picture": picture, "sources": {"random": random_source(picture)}} | arguments
    with pytest.raises(error, match=message):
        BlenderExplorer(**arguments)


def test_a_hand_on_the_board_while_a_source_is_made_does_no_harm(picture):
    """JupyterLab hands over clicks in a thread of their own; a fit takes half a minute."""
    made = []

    def slow():
        made.append(explorer.board.error)
        explorer.board.on_click(50.0, 40.0)
        explorer.board.on_box(1.0, 2.0, 30.0, 40.0)
        explorer.board.on_pixel(3, 4)
        explorer.K.value = 2
        made.append(explorer.board.error)
        return random_source(picture, 1)

    explorer = make_explorer(picture, sources={"first": random_source(picture), "slow": slow})
    explorer.source.value = "slow"
    assert made == ["", ""] and explorer.board.error == ""
    assert explorer.trace.inputs.K == 2 and explorer._sources["slow"].N == len(picture)


def test_a_source_of_another_picture_is_refused(picture):
    other = random_source(make_picture(BOXES[:2]))
    with pytest.raises(ValueError, match="number of instances, 3; got 2"):
        BlenderExplorer(picture, sources={"other": other})


def test_k_m_r_to_start_with_move_to_what_is_served(picture):
    explorer = make_explorer(picture, K=20, M=40, R=300)
    assert (explorer.K.value, explorer.M.value, explorer.R.value) == (8, 28, 112)
    assert "K moved from 20 to 8" in "\n".join(explorer.board.notes)
    assert_shows(explorer)


# --- devices


def elsewhere(monkeypatch):
    """A second device on any machine: "cpu:0" is the CPU under another name, so all that is done for one is done."""
    names = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu", "cpu:0"]
    monkeypatch.setattr("blendlab.explorers.device.devices", lambda: names)
    return names[1]


def test_without_a_second_device_there_is_no_menu_of_them(explorer):
    if not torch.cuda.is_available():
        assert list(explorer.device.options) == ["cpu"]
        assert explorer.device not in explorer.children[1].children


def test_the_menu_moves_the_blend_to_another_device_and_the_picture_stays(picture, monkeypatch):
    other = elsewhere(monkeypatch)
    explorer = make_explorer(picture)
    assert explorer.device in explorer.children[1].children and explorer.device.value == "cpu"
    explorer.K.value, explorer.R.value = 5, 20
    before, panels = explorer.trace, shown_panels(explorer.board)
    explorer.device.value = other
    assert other in explorer.board.timing and not explorer.board.error
    assert explorer.trace is not before and explorer.trace.logits.device.type == "cpu"
    torch.testing.assert_close(explorer.trace.logits, before.logits, rtol=0, atol=1e-4)
    for one, two in zip(panels, shown_panels(explorer.board), strict=True):
        assert np.abs(one[1].astype(int) - two[1]).max() <= 1
    explorer.M.value, explorer.instance.value = 7, 1
    expected = by_hand(explorer).logits
    torch.testing.assert_close(explorer.trace.logits, expected, rtol=0, atol=1e-4)


def test_a_step_copies_the_panels_home_and_nothing_else(picture, monkeypatch):
    explorer = make_explorer(picture, device=elsewhere(monkeypatch))
    moved, to = [], torch.Tensor.to

    def counted(tensor, *where, **options):
        if where == ("cpu",):
            moved.append(tuple(tensor.shape))
        return to(tensor, *where, **options)

    monkeypatch.setattr(torch.Tensor, "to", counted)
    explorer.R.value = 20
    K, M = 4, 14
    assert sorted(moved) == sorted([(1, K, 20, 20)] * 4 + [(1, K, M, M), (1, 20, 20)])


def test_a_device_that_is_not_there_is_named(picture):
    with pytest.raises(ValueError, match="device must be one of cpu.*; got 'cuda:7'"):
        make_explorer(picture, device="cuda:7")
