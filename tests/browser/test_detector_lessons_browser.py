"""The explorers of lessons 01 and 07 by hand: cells, attention and the detector's stages, by keys and pointer."""

import lab
import pytest

from blendlab.sources import shipped_model

pytestmark = pytest.mark.browser

CELLS = (
    """
from blendlab.explorers import AttentionExplorer, DetectorExplorer, LocationExplorer
from blendlab.pictures import scene

dress = scene(38, "held_out")
location = LocationExplorer(dress, level=0, row=10, column=10)
location
""".strip(),
    "attention = AttentionExplorer(dress, instance=3)\nattention",
    "detector = DetectorExplorer(dress, threshold=0.3)\ndetector",
    "for value in (0.2, 0.4, 0.6, 0.3):\n    detector.threshold.value = value\nprint('set in a row')",
    "print('still', detector.threshold.value)",
)
CELL, WHOSE, STAGES = 0, 1, 2
SIDE = shipped_model().config.short_side  # of the network's image; the scene is 128
P3 = SIDE // 8  # cells on a side of the scores' map


@pytest.fixture(scope="module")
def notebook(chrome, server):
    url, root, _ = server
    notebook = lab.Notebook(chrome, url, lab.write_notebook(root / "detector_lessons.ipynb", CELLS), height=1100)
    notebook.run_all()
    notebook.wait_for_text("candidates above", STAGES)
    yield notebook
    notebook.close()
    assert notebook.problems == []


def board(notebook, index):
    view = notebook.board(index)
    view.scroll_into_view_if_needed()
    return view


def wait_for_note(notebook, index, part):
    notebook.page.wait_for_function(
        "([part, index]) => document.querySelectorAll('.bl-notes')[index].textContent.includes(part)",
        arg=[part, index],
        timeout=20_000,
    )


def panel(notebook, index, label):
    """The colours on the sheet under the panel of that label, each once."""
    return board(notebook, index).evaluate(
        """(board, label) => {
            const panel = [...board.querySelectorAll(".bl-panel")].find((p) => p.ariaLabel.includes(label));
            const sheet = board.querySelector(".bl-sheet"), frame = sheet.getBoundingClientRect();
            const scale = sheet.width / frame.width, area = panel.getBoundingClientRect();
            const place = [area.left - frame.left + 1, area.top - frame.top + 1, area.width - 2, area.height - 2];
            const words = new Uint32Array(
                sheet.getContext("2d").getImageData(...place.map((length) => Math.round(length * scale))).data.buffer);
            return [...new Set(words)];
        }""",
        label,
    )


def test_arrow_keys_on_the_photograph_go_from_cell_to_cell(notebook):
    board(notebook, CELL).locator(".bl-photo svg").focus()
    notebook.wait_for_text("P3 row 10 column 10", CELL)
    for key, place in (("ArrowRight", "row 10 column 11"), ("ArrowDown", "row 11 column 11")):
        notebook.page.keyboard.press(key)
        notebook.wait_for_text(f"P3 {place}", CELL)
    wait_for_note(notebook, CELL, "Against P3 row 10 column 11")
    for _ in range(3):  # quicker than the kernel answers: each counts
        notebook.page.keyboard.press("ArrowLeft")
    notebook.wait_for_text("P3 row 11 column 8", CELL)


def test_arrow_keys_on_the_maps_do_so_too(notebook):
    grid = board(notebook, CELL).locator(".bl-grid")
    grid.focus()
    before = notebook.text(CELL)
    notebook.page.keyboard.press("ArrowUp")
    notebook.page.wait_for_function(
        "t => document.querySelectorAll('.bl-text')[0].textContent !== t", arg=before, timeout=20_000
    )


def test_a_click_on_the_scores_map_chooses_the_cell_under_it(notebook):
    scores = board(notebook, CELL).get_by_role("img", name="scores of P3")
    area = scores.bounding_box()
    notebook.page.mouse.click(area["x"] + area["width"] * 20.5 / P3, area["y"] + area["height"] * 4.5 / P3)
    notebook.wait_for_text("P3 row 4 column 20", CELL)


def test_a_click_on_the_photograph_does_so_and_the_box_stays_where_the_network_put_it(notebook):
    photo = board(notebook, CELL).locator(".bl-photo svg")
    area = photo.bounding_box()
    x, y = area["x"] + area["width"] * 0.75, area["y"] + area["height"] * 0.75
    notebook.page.mouse.move(x, y)
    notebook.page.mouse.down()
    notebook.page.mouse.move(x + 40, y + 40, steps=4)  # a drag moves no box here
    notebook.page.mouse.up()
    notebook.wait_for_text(f"P3 row {P3 * 3 // 4} column {P3 * 3 // 4}", CELL)
    drawn = photo.locator(".bl-box").evaluate("r => ['x', 'y', 'width', 'height'].map((n) => +r.getAttribute(n))")
    told = notebook.text(CELL).split("; box ")[1].split(";")[0].split(", ")
    x1, y1, x2, y2 = map(int, told)
    assert drawn == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1.01)
    assert photo.locator(".bl-handle").count() == 0


def test_the_level_changes_its_map(notebook):
    notebook.dropdown("level").select_option("P5, stride 32")
    there = (P3 * 3 // 4 + 0.5) * 8 // 32  # the same place
    notebook.wait_for_text(f"P5 row {there:.0f} column {there:.0f}", CELL)
    assert board(notebook, CELL).get_by_role("img", name="scores of P5").count() == 1


def test_anothers_attention_and_a_muted_basis(notebook):
    board(notebook, WHOSE)
    notebook.dropdown("attention of").select_option("2 face")
    notebook.wait_for_text("with the attention of instance 2 (face)", WHOSE)
    notebook.dropdown("attention of").select_option("its own")
    notebook.wait_for_text("with its own attention", WHOSE)
    mute = notebook.page.get_by_role("button", name="mute 1")
    mute.focus()
    notebook.page.keyboard.press("Space")
    notebook.wait_for_text("muted 1", WHOSE)
    assert len(panel(notebook, WHOSE, "weights, s = softmaxₖ(a′), k = 1")) == 1  # one colour: no weight anywhere


def test_the_panels_lie_in_their_frames_when_the_picture_is_coloured(notebook):
    """The grid is laid out anew then. A map drawn where its frame was before would show through at the rim."""
    board(notebook, WHOSE)
    notebook.dropdown("colour by").select_option("deciding product")
    wait_for_note(notebook, WHOSE, "Decides, of the mask")
    assert len(panel(notebook, WHOSE, "weights, s = softmaxₖ(a′), k = 1")) == 1
    assert board(notebook, WHOSE).locator(".bl-mask").is_hidden()
    notebook.dropdown("colour by").select_option("photograph")
    notebook.page.wait_for_function("() => !document.querySelectorAll('.bl-mask')[1].hidden", timeout=20_000)


def test_values_set_in_code_are_not_undone_by_the_page(notebook):
    """A page that rounds otherwise than Python once sent 0.6 back, after the 0.3 that came next."""
    for index, said in ((STAGES + 1, "set in a row"), (STAGES + 2, "still 0.3")):
        notebook.page.evaluate(
            "index => { jupyterapp.shell.currentWidget.content.activeCellIndex = index;"
            " return jupyterapp.commands.execute('notebook:run-cell') }",
            index,
        )
        notebook.page.locator(".jp-OutputArea-output", has_text=said).wait_for(timeout=60_000)
        notebook.wait_for_text("above 0.30", STAGES)


def test_the_threshold_by_keys_and_the_stages_by_name(notebook):
    board(notebook, STAGES)
    before = notebook.text(STAGES)
    assert "above 0.30" in before
    notebook.slider("threshold").focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.wait_for_text("above 0.35", STAGES)
    notebook.dropdown("show").select_option("1 candidates")
    candidates = int(notebook.text(STAGES).split(" candidates")[0].split("; ")[1])
    boxes = board(notebook, STAGES).locator(".bl-photo rect:is(.bl-other, .bl-box)")
    notebook.page.wait_for_function(
        "n => document.querySelectorAll('.bl-photo')[2].querySelectorAll('.bl-other, .bl-box').length === n",
        arg=candidates,
        timeout=20_000,
    )
    assert boxes.count() == candidates
    assert board(notebook, STAGES).locator(".bl-k").all_inner_texts() == ["P3", "P4", "P5"]


def test_arrow_keys_choose_the_next_box(notebook):
    notebook.dropdown("show").select_option("2 after NMS")
    wait_for_note(notebook, STAGES, "Chosen, 0 of those shown")
    board(notebook, STAGES).locator(".bl-photo svg").focus()
    notebook.page.keyboard.press("ArrowRight")
    wait_for_note(notebook, STAGES, "Chosen, 1 of those shown")


def test_no_box_is_left_where_none_is_chosen(notebook):
    handle = notebook.slider("threshold")
    handle.focus()
    notebook.page.keyboard.press("End")
    notebook.wait_for_text("0 after NMS", STAGES)
    view = board(notebook, STAGES)
    assert view.locator(".bl-photo rect").count() == 0
    assert view.locator(".bl-mask").is_hidden()
    assert view.locator(".bl-panel-box").first.is_hidden()
