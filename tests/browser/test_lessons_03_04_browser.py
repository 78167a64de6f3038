"""The explorers of lessons 03 and 04 by hand, in a real JupyterLab. Each test waits for what it expects to see."""

import re

import lab
import pytest

pytestmark = pytest.mark.browser

GRIDS = (
    """
import torch
from blendlab.explorers import Guesses, InterpolateExplorer
from blendlab.sources import Source

noise = torch.Generator().manual_seed(0)
bases, attention = (torch.randn(*shape, generator=noise) for shape in ((1, 4, 8, 8), (1, 4, 28, 28)))
source = Source("noise", "", bases, attention, torch.tensor([[2.0, 2, 30, 30]]), K_range=(1, 4))
grids = InterpolateExplorer(source, instance=0, M=5, R=20)
grids
""".strip(),
    "guesses = Guesses()",
    'guesses.ask("Which?", ["this", "that"], 1, "It is < that.")',
    "guesses",
)
ORDERS = (
    """
import numpy as np
from blendlab.explorers import SoftmaxExplorer
from blendlab.pictures import Picture
from blendlab.sources import random_source

masks = np.zeros((2, 96, 96), bool)
masks[0, 10:60, 10:60] = masks[1, 50:90, 40:90] = True
picture = Picture.from_masks(np.full((96, 96, 3), 90, np.uint8), masks, name="two")
orders = SoftmaxExplorer(picture, sources={"random": random_source(picture)}, M=28)
orders
""".strip(),
)
# the darkest pixel of the panel on the sheet, in a window of `reach` screen pixels round the point (u, v) of it
DARKEST = """(board, [panel, u, v, reach]) => {
    const sheet = board.querySelector(".bl-sheet"), frame = sheet.getBoundingClientRect();
    const area = board.querySelectorAll(".bl-panel")[panel].getBoundingClientRect(), scale = sheet.width / frame.width;
    const x = (area.left - frame.left + u * area.width) * scale, y = (area.top - frame.top + v * area.height) * scale;
    const window = [Math.round(x) - reach, Math.round(y) - reach, 2 * reach, 2 * reach];
    const { data } = sheet.getContext("2d").getImageData(...window);
    let least = 765;
    for (let i = 0; i < data.length; i += 4) least = Math.min(least, data[i] + data[i + 1] + data[i + 2]);
    return least;
}"""


def opened(chrome, server, cells, name):
    url, root, _ = server
    notebook = lab.Notebook(chrome, url, lab.write_notebook(root / name, cells))
    notebook.run_all()
    return notebook


@pytest.fixture(scope="module")
def grids(chrome, server):
    notebook = opened(chrome, server, GRIDS, "grids.ipynb")
    yield notebook
    assert notebook.problems == []
    notebook.close()


@pytest.fixture(scope="module")
def orders(chrome, server):
    notebook = opened(chrome, server, ORDERS, "orders.ipynb")
    yield notebook
    assert notebook.problems == []
    notebook.close()


def wait_for_note(notebook, part: str) -> None:
    notebook.page.wait_for_function(
        "part => document.querySelector('.bl-board .bl-notes').textContent.includes(part)", arg=part, timeout=20_000
    )


def test_sliders_by_keyboard_move_both_grids(grids):
    grids.slider("M").press("ArrowRight")
    grids.wait_for_text("6×6 = 36 numbers of basis 0 become 20×20.")
    wait_for_note(grids, "M = 6 does not divide R = 20")
    grids.slider("R").press("ArrowLeft")
    grids.wait_for_text("become 19×19.")
    grids.slider("M").press("ArrowLeft")
    grids.slider("R").press("ArrowRight")
    grids.wait_for_text("5×5 = 25 numbers of basis 0 become 20×20.")
    grids.dropdown("basis").select_option(label="k = 2")
    grids.wait_for_text("numbers of basis 2 become")


def test_points_are_drawn_where_the_samples_fall(grids):
    board = grids.board()
    place = (0 + 0.5) / 20  # the first sample of align_corners=False, as a share of the panel
    assert board.evaluate(DARKEST, [0, place, place, 2]) == 0
    assert board.evaluate(DARKEST, [0, 2 * place, 2 * place, 2]) > 0  # between the first and the second
    assert board.evaluate(DARKEST, [1, place, place, 2]) > 0  # no points over the other maps


def test_a_click_then_arrow_keys_choose_a_pixel_and_its_cells_are_read_out(grids):
    panel = grids.board().locator(".bl-panel").nth(2)
    area = panel.bounding_box()
    panel.click(position={"x": area["width"] * 7.5 / 20, "y": area["height"] * 0.5 / 20})
    wait_for_note(grids, "Pixel row 0, column 7 (bilinear) reads rows 0 × 1.00; columns 1 × 0.62, 2 × 0.38.")
    grids.board().locator(".bl-grid").focus()
    grids.page.keyboard.press("ArrowDown")
    wait_for_note(grids, "Pixel row 1, column 7")
    grids.page.keyboard.press("Escape")
    grids.page.wait_for_function("() => !document.querySelector('.bl-board .bl-notes').textContent.includes('Pixel')")


def test_there_is_no_room_left_for_a_photograph(grids):
    board, panel = grids.board().bounding_box(), grids.board().locator(".bl-panel").first.bounding_box()
    assert grids.board().locator(".bl-photo").is_hidden()
    assert panel["width"] > 0.25 * board["width"] and panel["x"] - board["x"] < 40


def test_a_guess_is_kept_and_summed_up(grids):
    page = grids.page
    summary = page.locator(".widget-html", has_text="No prediction has been made yet; 1 not answered.")
    summary.wait_for()
    page.get_by_role("radio", name="this").check()
    page.locator(".widget-html", has_text=re.compile(r"It did not hold: that\..*It is < that\.")).wait_for()
    page.locator(".widget-html", has_text="0 of 1 predictions held.").wait_for()
    page.get_by_role("radio", name="that").check()
    page.locator(".widget-html", has_text=re.compile(r"It held\..*It is < that\.")).wait_for()
    assert page.locator(".widget-html", has_text="0 of 1 predictions held.").count() == 1  # the first guess stands


def test_nearest_leaves_no_pixel_flipped(orders):
    shown = float(re.search(r"([\d.]+) % of the mask's pixels flip", orders.text()).group(1))
    assert shown > 1
    orders.dropdown("interpolation").select_option(label="nearest")
    orders.wait_for_text(" 0.0 % of the mask's pixels flip")
    orders.page.get_by_role("button", name="reset").click()
    orders.wait_for_text(f" {shown:.1f} % of the mask's pixels flip")


def test_a_click_on_the_picture_chooses_the_other_object(orders):
    svg = orders.board().locator(".bl-photo svg").first
    area = svg.bounding_box()
    svg.click(position={"x": area["width"] * 80 / 96, "y": area["height"] * 80 / 96})
    orders.wait_for_text("two, instance 1 ")
    orders.slider("K").press("ArrowLeft")
    orders.wait_for_text("K=3 bases")
    assert orders.board().locator(".bl-panel:not(.bl-off)").count() == 4 * 3 + 3
