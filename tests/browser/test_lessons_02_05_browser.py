"""The microscope, explanations on the board and the explorers of lesson 05 by hand, in a real JupyterLab.

Each test waits for what it expects to see.
"""

import re

import lab
import pytest

pytestmark = pytest.mark.browser

SCENE = """
import numpy as np
from blendlab.explorers import BlenderExplorer, HullExplorer, Microscope, PasteExplorer
from blendlab.pictures import Picture
from blendlab.sources import random_source

masks = np.zeros((2, 96, 96), bool)
masks[0, 10:60, 10:60] = masks[1, 50:90, 40:90] = True
picture = Picture.from_masks(np.full((96, 96, 3), 90, np.uint8), masks, name="two")
sources = {"random": random_source(picture)}
"""


def opened(chrome, server, name, last):
    url, root, _ = server
    notebook = lab.Notebook(chrome, url, lab.write_notebook(root / f"{name}.ipynb", ((SCENE + last).strip(),)))
    notebook.run_all()
    notebook.board().scroll_into_view_if_needed()
    return notebook


@pytest.fixture(scope="module")
def microscope(chrome, server):
    notebook = opened(chrome, server, "microscope", "Microscope()")
    yield notebook
    assert notebook.problems == []
    notebook.close()


@pytest.fixture(scope="module")
def blender(chrome, server):
    notebook = opened(chrome, server, "explained", "BlenderExplorer(picture, sources=sources, R=8, M=4)")
    yield notebook
    assert notebook.problems == []
    notebook.close()


@pytest.fixture(scope="module")
def hull(chrome, server):
    notebook = opened(chrome, server, "hull", "HullExplorer(picture, sources=sources, R=8, M=4, pixel=(2, 5))")
    yield notebook
    assert notebook.problems == []
    notebook.close()


def reset(notebook, start):
    notebook.page.get_by_role("button", name="reset").click()
    notebook.wait_for_text(start)


def reset_blender(notebook):
    """Until the cell of the test before is let go, an arrow key would move it: the text alone does not tell."""
    reset(notebook, "two, instance 0 ")
    notebook.page.wait_for_function("() => document.querySelector('.bl-told').hidden")


def panel(notebook, title):
    return notebook.board().get_by_role("img", name=title)


def click_cell(notebook, title, row, column, side):
    """The middle of a cell of a map of side x side."""
    area = panel(notebook, title).bounding_box()
    place = {"x": (column + 0.5) / side * area["width"], "y": (row + 0.5) / side * area["height"]}
    panel(notebook, title).click(position=place)


def press(notebook, *keys):
    for key in keys:
        notebook.page.keyboard.press(key)


def wait_for_told(notebook, part):
    notebook.page.wait_for_function(
        "part => document.querySelector('.bl-told').textContent.includes(part)", arg=part, timeout=20_000
    )


# ---------------------------------------------------------------- the microscope


def test_arrow_keys_move_the_box_by_tenths_and_quick_ones_all_count(microscope):
    reset(microscope, "Box 9.0, 10.6 to 35.4, 37.0 ")
    microscope.board().locator(".bl-photo svg").first.focus()
    press(microscope, *["ArrowRight"] * 13, "ArrowUp")
    microscope.wait_for_text("Box 10.3, 10.5 to 36.7, 36.9 ")
    press(microscope, "Shift+ArrowDown", "Alt+ArrowLeft")
    microscope.wait_for_text("Box 10.3, 11.5 to 36.6, 37.9 ")


def test_the_pointer_moves_the_box_by_whole_tenths(microscope):
    reset(microscope, "Box 9.0, 10.6 to 35.4, 37.0 ")
    photo = microscope.board().locator(".bl-photo svg").first.bounding_box()
    scale = photo["width"] / 48
    mouse = microscope.page.mouse
    mouse.move(photo["x"] + 22.1 * scale, photo["y"] + 22.1 * scale)
    mouse.down()
    mouse.move(photo["x"] + 25.6 * scale, photo["y"] + 20.1 * scale, steps=6)
    mouse.up()
    microscope.page.wait_for_function(
        "() => { const t = document.querySelector('.bl-board .bl-text').textContent.match(/^Box ([\\d.]+), ([\\d.]+)/);"
        " return Math.abs(t[1] - 12.5) < .15 && Math.abs(t[2] - 8.6) < .15 }"
    )
    outline = microscope.board().locator("rect.bl-box")
    x, y = (outline.evaluate(f"r => r.{side}.baseVal.value") for side in "xy")
    assert microscope.text().startswith(f"Box {x:.1f}, {y:.1f} to ")
    assert x == pytest.approx(round(x, 1), abs=1e-4) and y == pytest.approx(round(y, 1), abs=1e-4)


def test_a_click_on_a_bin_puts_it_under_the_glass_and_arrow_keys_go_on_from_there(microscope):
    reset(microscope, "Box 9.0, 10.6 to 35.4, 37.0 ")
    dots = "() => document.querySelector('.bl-pointer .bl-dot').getAttribute('d').split('M').length - 1"
    assert microscope.page.evaluate(dots) == 16
    click_cell(microscope, "ratio 4, aligned", 1, 2, 4)
    microscope.wait_for_text("Bin row 1, column 2: ")
    assert "ratio 4 reads" in microscope.text()
    assert microscope.dropdown("shown").input_value() == "ratio 4"
    assert microscope.page.evaluate(dots) == 256
    wait_for_told(microscope, "the mean of 16 samples")
    microscope.board().locator(".bl-grid").focus()
    press(microscope, "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft")
    microscope.wait_for_text("Bin row 3, column 1: ")
    weights = microscope.board().locator(".bl-pointer text").all_text_contents()
    assert sum(map(float, weights)) == pytest.approx(1, abs=0.05)


def test_r_and_the_shown_crop_by_keyboard(microscope):
    reset(microscope, "Box 9.0, 10.6 to 35.4, 37.0 ")
    microscope.slider("R").focus()
    press(microscope, "ArrowRight")
    microscope.wait_for_text("R=5. ")
    microscope.dropdown("shown").select_option("RoIPool")
    microscope.wait_for_text("RoIPool reads 1 cell.")
    assert microscope.board().locator(".bl-pointer .bl-dot").get_attribute("d") == ""


# ---------------------------------------------------------------- a pixel's origin and a cell's reach


def test_a_pixels_numbers_unfold(blender):
    reset_blender(blender)
    click_cell(blender, "mask, p", 3, 4, 8)
    blender.page.wait_for_selector(".bl-pinned")
    told = blender.board().locator(".bl-told")
    assert not told.evaluate("details => details.open")
    told.locator("summary").focus()
    press(blender, "Enter")
    lines = told.inner_text().split("\n")
    assert lines[0] == "where these numbers come from"
    name, *numbers = re.findall(r"r₀|-?\d+\.\d+", next(line for line in lines if line.startswith("r₀")))
    *parts, total = map(float, numbers)
    assert sum(weight * value for weight, value in zip(parts[::2], parts[1::2], strict=True)) == pytest.approx(
        total, abs=0.02
    )
    assert blender.board().locator(".bl-sum tr").nth(1).locator("td").nth(1).inner_text() == f"{total:.4f}"


def test_a_click_on_an_attention_cell_tells_where_it_goes(blender):
    reset_blender(blender)
    click_cell(blender, "attention, a, k = 2", 1, 3, 4)
    wait_for_told(blender, "attention cell k=2, row 1, column 3 =")
    told = blender.board().locator(".bl-told")
    assert told.evaluate("details => details.open")
    assert "gradient of the loss" in told.inner_text()
    assert blender.board().locator(".bl-sum table").count() == 0


def test_a_click_on_a_base_cell_tells_where_it_goes(blender):
    reset_blender(blender)
    click_cell(blender, "bases, B, k = 1", 8, 10, 24)
    wait_for_told(blender, "base cell k=1, row 8, column 10 =")


def test_cells_by_keyboard(blender):
    reset_blender(blender)
    blender.board().locator(".bl-grid").focus()
    press(blender, "ArrowRight")
    blender.page.wait_for_selector(".bl-pinned")
    press(blender, "a")
    wait_for_told(blender, "attention cell k=0, row 2, column 2 =")
    press(blender, "ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp", "3")  # faster than the kernel, and held at the rim
    wait_for_told(blender, "attention cell k=3, row 0, column 3 =")
    press(blender, "b")
    wait_for_told(blender, "base cell k=3, row")
    press(blender, "m")
    wait_for_told(blender, "where these numbers come from")
    assert "mask pixel: row 4, column 5" in blender.board().locator(".bl-sum caption").inner_text()
    press(blender, "Escape")
    blender.page.wait_for_function("() => document.querySelector('.bl-told').hidden")


def test_a_slider_that_takes_the_cell_away_lets_it_go(blender):
    reset_blender(blender)
    click_cell(blender, "attention, a, k = 3", 3, 3, 4)
    wait_for_told(blender, "attention cell k=3, row 3, column 3 =")
    blender.slider("M").focus()
    press(blender, "ArrowLeft")
    blender.page.wait_for_function("() => document.querySelector('.bl-told').hidden")


# ---------------------------------------------------------------- lesson 05


def test_arrow_keys_walk_along_the_hull(hull):
    told = hull.page.locator(".widget-html svg[role=img]")
    assert told.get_attribute("aria-label").startswith("Row 2, column 5: bases from ")
    hull.board().locator(".bl-grid").focus()
    press(hull, "ArrowRight", "ArrowRight", "ArrowDown")
    hull.page.wait_for_function(
        "() => document.querySelector('.widget-html svg[role=img]').getAttribute('aria-label')"
        ".startsWith('Row 3, column 7:')"
    )
    hull.dropdown("normalizer").select_option("none")
    hull.board().get_by_text("s = a′", exact=True).wait_for()


def test_a_key_moves_the_pasted_disc(chrome, server):
    notebook = opened(chrome, server, "paste", "PasteExplorer()")
    notebook.wait_for_text("Box -30 to 90 ")
    notebook.slider("x").focus()
    press(notebook, "ArrowLeft")
    notebook.wait_for_text("Box -31 to 89 ")
    assert notebook.problems == []
    notebook.close()
