"""The blender's explorer by hand: keys and pointer in a real JupyterLab in headless Chromium.

Nothing here waits for a time: each test waits for what it expects to see.
"""

import re
from decimal import Decimal

import lab
import pytest

pytestmark = pytest.mark.browser

START = "voc, instance 0 (bottle), source random: K=4 "
CELLS = (
    """
from blendlab.explorers import BlenderExplorer
from blendlab.pictures import load
from blendlab.sources import Source, random_source

picture = load("voc")
noise = random_source(picture)
few = Source("few", "", noise.bases[:, :4], noise.attention[:, :4], noise.boxes,
             K_range=(4, 4), M_range=(1, 14), R_range=(7, 56))
ill = Source("ill", "", noise.bases * float("nan"), noise.attention, noise.boxes)

def broken():
    raise RuntimeError("no weights here")

explorer = BlenderExplorer(picture, sources={"random": noise, "few": few, "ill": ill, "broken": broken})
explorer
""".strip(),
    "explorer",
)


@pytest.fixture(scope="module")
def opened(chrome, server):
    url, root, _ = server
    notebook = lab.Notebook(chrome, url, lab.write_notebook(root / "explorer.ipynb", CELLS))
    notebook.run_all()
    notebook.wait_for_text(START, 1)
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(opened):
    """The notebook, its two views as they were at the start; afterwards, no error was thrown in the page."""
    opened.page.get_by_role("button", name="reset").first.click()
    opened.page.wait_for_function(
        "start => [...document.querySelectorAll('.bl-board')].every(b => !b.matches('.bl-broken, .bl-pinned')"
        " && b.querySelector('.bl-text').textContent.startsWith(start)"
        " && b.querySelector('.bl-text').textContent.includes('56×56 in the box 220, 255 to 260, 345;'))",
        arg=START,
    )
    opened.board().scroll_into_view_if_needed()
    opened.problems.clear()
    yield opened
    assert opened.problems == []


def pixels(notebook, index=0) -> list[str]:
    """The pixels of each panel in the grid, as the page drew them on the one sheet below."""
    return notebook.board(index).evaluate(
        """board => {
            const sheet = board.querySelector(".bl-sheet"), frame = sheet.getBoundingClientRect();
            const scale = sheet.width / frame.width, context = sheet.getContext("2d");
            return [...board.querySelectorAll(".bl-panel:not(.bl-off)")].map((panel) => {
                const area = panel.getBoundingClientRect();
                const place = [area.left - frame.left, area.top - frame.top, area.width, area.height];
                return context.getImageData(...place.map((length) => Math.round(length * scale))).data.join();
            });
        }"""
    )


def mask_pixels(notebook, index=0) -> str:
    return notebook.board(index).locator(".bl-mask").evaluate("canvas => canvas.toDataURL()")


def outline(notebook, index=0) -> list[float]:
    """x1, y1, x2, y2 of the selected box as it is drawn."""
    return notebook.board(index).locator("rect.bl-box").evaluate(
        "r => { const [x, y, w, h] = ['x', 'y', 'width', 'height'].map(n => r[n].baseVal.value);"
        " return [x, y, x + w, y + h] }"
    )  # fmt: skip


def told_box(text: str) -> list[float]:
    return [float(side) for side in re.search(r"in the box (\S+), (\S+) to (\S+), (\S+);", text).groups()]


def wait_until(notebook, script: str, arg=None):
    notebook.page.wait_for_function(script, arg=arg)


def to_page(notebook, x: float, y: float) -> tuple[float, float]:
    """Image pixels of voc (500 x 375) to the page's."""
    photo = notebook.board().locator(".bl-photo svg").bounding_box()
    return photo["x"] + x / 500 * photo["width"], photo["y"] + y / 375 * photo["height"]


def drag(notebook, start, end, steps=5):
    mouse = notebook.page.mouse
    mouse.move(*to_page(notebook, *start))
    mouse.down()
    mouse.move(*to_page(notebook, *end), steps=steps)
    return mouse


# ---------------------------------------------------------------- sliders and menus


@pytest.mark.parametrize(
    ("letter", "shown"), (("K", "K=5 bases"), ("M", "4·15·15 = 900 attention"), ("R", "mask 57×57 "))
)
def test_a_key_on_each_slider_changes_text_and_panels(notebook, letter, shown):
    before = pixels(notebook)
    notebook.slider(letter).focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.wait_for_text(shown)
    after = pixels(notebook)
    assert len(after) == len(before) + (6 if letter == "K" else 0)
    assert after[-1] != before[-1]  # the mask
    notebook.page.keyboard.press("ArrowLeft")
    notebook.wait_for_text(START if letter == "K" else {"M": "784 attention", "R": "mask 56×56 "}[letter])
    assert pixels(notebook) == before


def test_a_dragged_slider_ends_at_its_last_value_and_the_picture_with_it(notebook):
    handle = notebook.slider("R").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    notebook.page.mouse.move(x, y)
    notebook.page.mouse.down()
    notebook.page.mouse.move(x + 60, y, steps=15)
    notebook.page.mouse.move(x - 30, y, steps=15)
    notebook.page.mouse.up()
    value = int(notebook.slider("R").get_attribute("aria-valuetext").split(".")[0])
    assert 7 <= value < 56
    notebook.wait_for_text(f"mask {value}×{value} ")
    mask = notebook.board().locator(".bl-sums .bl-panel").last
    area = mask.bounding_box()
    mask.hover(position={"x": area["width"] - 1, "y": area["height"] - 1})  # the last cell tells the side
    told = notebook.board().locator(".bl-value").inner_text()
    assert f"row {value - 1}, column {value - 1}:" in told


def test_rows_come_and_go_with_k(notebook):
    rows = notebook.board().locator(".bl-k:visible")
    before = pixels(notebook)
    assert rows.count() == 4
    notebook.slider("K").focus()
    for K in (5, 6, 7, 8):
        notebook.page.keyboard.press("ArrowRight")
        notebook.wait_for_text(f"K={K} ")
        assert rows.count() == K
    for K in (7, 6, 5, 4):
        notebook.page.keyboard.press("ArrowLeft")
        notebook.wait_for_text(f"K={K} ")
    assert rows.count() == 4
    assert pixels(notebook) == before


def test_one_basis_offers_the_papers_form(notebook):
    notebook.slider("K").focus()
    notebook.page.keyboard.press("Home")
    notebook.wait_for_text("K=1 ")
    assert "inert" in notebook.board().locator(".bl-notes").inner_text()
    notebook.dropdown("normalizer").select_option("product")
    notebook.board().get_by_text("s · σ(r)", exact=True).wait_for()
    notebook.page.keyboard.press("Home")


def test_ranges_follow_the_source(notebook):
    notebook.dropdown("source").select_option("few")
    notebook.wait_for_text("source few")
    for letter, low, high in (("K", 4, 4), ("M", 1, 14), ("R", 7, 56)):
        handle = notebook.slider(letter)
        assert float(handle.get_attribute("aria-valuemin")) == low
        assert float(handle.get_attribute("aria-valuemax")) == high
    notebook.slider("K").focus()
    notebook.page.keyboard.press("ArrowRight")  # one value alone: a key must not break the page
    notebook.dropdown("source").select_option("random")
    notebook.wait_for_text(START)
    assert float(notebook.slider("K").get_attribute("aria-valuemax")) == 8


# ---------------------------------------------------------------- the photograph


def test_the_boxs_outline_follows_the_pointer_and_the_panels_follow(notebook):
    before, iou = pixels(notebook), notebook.text().split("IoU")[1]
    mouse = drag(notebook, (240, 300), (280, 250))
    assert outline(notebook) == pytest.approx([260, 205, 300, 295], abs=1.5)  # before the button is released
    mouse.up()
    notebook.wait_for_text("in the box 2")
    wait_until(notebook, "() => !document.querySelector('.bl-board .bl-text').textContent.includes('220, 255')")
    x1, y1, x2, y2 = outline(notebook)
    notebook.wait_for_text(f"{_short(x1)}, {_short(y1)} to {_short(x2)}, {_short(y2)};")
    assert (x2 - x1, y2 - y1) == pytest.approx((40, 90))
    assert notebook.text().split("IoU")[1] != iou
    assert pixels(notebook)[-1] != before[-1]
    assert [pixels(notebook)[0]] == [before[0]]  # a basis does not depend on the box


def test_a_handle_moves_one_corner(notebook):
    drag(notebook, (260, 345), (300, 365)).up()
    wait_until(notebook, "() => !document.querySelector('.bl-board .bl-text').textContent.includes('260, 345')")
    x1, y1, x2, y2 = outline(notebook)
    assert (x1, y1) == (220, 255)
    assert (x2, y2) == pytest.approx((300, 365), abs=1.5)
    notebook.wait_for_text(f"in the box 220, 255 to {_short(x2)}, {_short(y2)};")


def _short(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")


@pytest.mark.parametrize(
    ("key", "box"),
    (
        ("ArrowRight", "221, 255 to 261, 345"),
        ("Shift+ArrowUp", "220, 245 to 260, 335"),
        ("Alt+ArrowDown", "220, 255 to 260, 346"),
        ("Alt+Shift+ArrowLeft", "220, 255 to 250, 345"),
    ),
)
def test_keys_move_and_resize_the_box(notebook, key, box):
    notebook.board().locator(".bl-photo svg").focus()
    notebook.page.keyboard.press(key)
    notebook.wait_for_text(f"in the box {box};")
    assert outline(notebook) == told_box(notebook.text())


def test_quick_keys_all_count(notebook):
    notebook.board().locator(".bl-photo svg").focus()
    for _ in range(12):
        notebook.page.keyboard.press("ArrowLeft")
    notebook.wait_for_text("in the box 208, 255 to 248, 345;")
    assert outline(notebook) == [208, 255, 248, 345]


def test_the_same_move_works_again_after_a_reset(notebook):
    for _ in range(2):
        notebook.board().locator(".bl-photo svg").focus()
        notebook.page.keyboard.press("ArrowLeft")
        notebook.wait_for_text("in the box 219, 255 to 259, 345;")
        notebook.page.get_by_role("button", name="reset").first.click()
        notebook.wait_for_text("in the box 220, 255 to 260, 345;")


def test_a_box_may_leave_the_image(notebook):
    drag(notebook, (240, 300), (495, 370)).up()
    wait_until(notebook, "() => !document.querySelector('.bl-board .bl-text').textContent.includes('220, 255')")
    x1, y1, x2, y2 = outline(notebook)
    assert x2 > 500 and y2 > 375
    notebook.wait_for_text(f"to {_short(x2)}, {_short(y2)};")


def test_a_click_selects_another_instance_and_its_menu_follows(notebook):
    before = mask_pixels(notebook)
    notebook.page.mouse.click(*to_page(notebook, 230, 150))  # the man in the middle
    wait_until(notebook, "() => !document.querySelector('.bl-board .bl-text').textContent.includes('instance 0 ')")
    instance = re.search(r"instance (\d+) ", notebook.text()).group(1)
    selected = notebook.dropdown("instance").evaluate("menu => menu.selectedOptions[0].textContent")
    assert selected.split()[0] == instance
    assert "person" in selected
    assert mask_pixels(notebook) != before
    assert outline(notebook) == told_box(notebook.text())


# ---------------------------------------------------------------- the pinned pixel


def sum_table(notebook, index=0) -> list[list[str]]:
    return notebook.board(index).locator(".bl-sum").evaluate(
        "div => [...div.querySelectorAll('tr')].map(row => [...row.children].map(cell => cell.textContent))"
    )  # fmt: skip


def wait_for_pin(notebook, row: int, column: int):
    notebook.board().get_by_text(f"mask pixel: row {row}, column {column}", exact=True).wait_for()


def test_a_click_on_a_mask_pixel_opens_numbers_that_add_up(notebook):
    mask = notebook.board().locator(".bl-sums .bl-panel").last
    side = mask.bounding_box()["width"]
    mask.click(position={"x": side * 20.5 / 56, "y": side * 30.5 / 56})
    wait_for_pin(notebook, 30, 20)
    head, *rows, total, probability = sum_table(notebook)
    assert head == ["k", "base r", "weight s", "s · r"]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert sum(Decimal(row[3]) for row in rows) == Decimal(total[3])
    for _, base, weight, part in rows:
        assert float(base) * float(weight) == pytest.approx(float(part), abs=1e-3)  # of rounded factors
    assert float(probability[3]) == pytest.approx(1 / (1 + 2.718281828459045 ** -float(total[3])), abs=6e-5)
    assert sum(Decimal(row[2]) for row in rows) == pytest.approx(Decimal(1), abs=Decimal("0.0004"))
    pins = notebook.board().locator(".bl-pin").evaluate_all("all => all.map(p => getComputedStyle(p).display)")
    assert pins == ["block"] * (1 + 6 * 4 + 2)  # the photograph, six columns of four, two sums
    notebook.board().locator(".bl-grid").focus()
    notebook.page.keyboard.press("Escape")
    notebook.board().locator(".bl-sum table").wait_for(state="detached")


def test_a_click_on_the_photographs_mask_pins_too(notebook):
    notebook.page.mouse.click(*to_page(notebook, 240.2, 300.2))
    wait_for_pin(notebook, 28, 28)  # the middle of the bottle's box


def test_arrow_keys_move_the_pin_and_quick_ones_all_count(notebook):
    notebook.board().locator(".bl-grid").focus()
    notebook.page.keyboard.press("ArrowDown")
    wait_for_pin(notebook, 29, 28)
    for _ in range(10):
        notebook.page.keyboard.press("ArrowRight")
    wait_for_pin(notebook, 29, 38)
    notebook.page.keyboard.press("ArrowUp")
    wait_for_pin(notebook, 28, 38)


def test_the_crosshair_and_the_value_appear_on_hover(notebook):
    panel = notebook.board().locator(".bl-panel:visible").nth(4)
    crosses = notebook.board().locator(".bl-cross")
    notebook.page.mouse.move(5, 5)
    displays = "all => all.map(c => getComputedStyle(c).display)"
    assert set(crosses.evaluate_all(displays)) == {"none"}
    side = panel.bounding_box()["width"]
    panel.hover(position={"x": side * 10.5 / 56, "y": side * 40.5 / 56})
    assert crosses.evaluate_all(displays) == ["block"] * (1 + 6 * 4 + 2)
    notebook.board().get_by_text(
        re.compile(r"^cropped k = 0, row 40, column 10: (about|at least|at most) -?\d")
    ).wait_for()
    notebook.page.mouse.move(5, 5)
    assert set(crosses.evaluate_all(displays)) == {"none"}


def test_hovering_every_kind_of_panel_tells_its_value(notebook):
    heads = notebook.board().locator(".bl-head b").all_inner_texts()
    assert heads == ["bases", "cropped", "attention", "interpolated", "weights", "products", "mask logits", "mask"]
    for nth, head in zip((0, 4, 8, 12, 16, 20, 24, 25), heads, strict=True):
        notebook.board().locator(".bl-panel:visible").nth(nth).hover()
        notebook.board().get_by_text(
            re.compile(rf"^{head}( k = 0)?, row \d+, column \d+: (about|at least|at most) -?\d")
        ).wait_for()


# ---------------------------------------------------------------- errors, NaN, two views, restart


def test_an_exception_is_on_the_board_and_the_old_picture_is_not(notebook):
    notebook.dropdown("source").select_option("broken")
    notebook.board().get_by_text("RuntimeError: no weights here").wait_for()
    assert not notebook.board().locator(".bl-main").is_visible()
    assert not notebook.board().locator(".bl-foot").is_visible()
    notebook.dropdown("source").select_option("few")
    notebook.wait_for_text("source few")
    assert notebook.board().locator(".bl-main").is_visible()
    assert not notebook.board().locator(".bl-error").is_visible()


def test_nan_does_not_break_the_page(notebook):
    notebook.dropdown("source").select_option("ill")
    notebook.wait_for_text("source ill")
    notebook.board().locator(".bl-grid").focus()
    notebook.page.keyboard.press("ArrowDown")
    wait_for_pin(notebook, 29, 28)
    assert [row[3] for row in sum_table(notebook)[1:]] == ["nan"] * 6
    assert "are NaN or infinite" in notebook.board().locator(".bl-notes").inner_text()


def test_two_views_of_one_explorer_show_the_same(notebook):
    assert pixels(notebook, 0) == pixels(notebook, 1)
    notebook.slider("M", index=1).focus()  # in the second view
    notebook.page.keyboard.press("ArrowLeft")
    for index in (0, 1):
        notebook.wait_for_text("4·13·13 = 676", index)
    notebook.board(1).locator(".bl-photo svg").focus()
    notebook.page.keyboard.press("Shift+ArrowRight")
    for index in (0, 1):
        notebook.wait_for_text("in the box 230, 255 to 270, 345;", index)
        assert outline(notebook, index) == [230, 255, 270, 345]
    notebook.board().locator(".bl-photo svg").focus()  # and on from there in the first
    notebook.page.keyboard.press("ArrowRight")
    for index in (0, 1):
        notebook.wait_for_text("in the box 231, 255 to 271, 345;", index)
        assert outline(notebook, index) == [231, 255, 271, 345]
    assert pixels(notebook, 0) == pixels(notebook, 1)
    assert mask_pixels(notebook, 0) == mask_pixels(notebook, 1)


def test_the_kernels_socket_does_not_wait_for_full_packets(notebook, server):
    notebook.slider("R").focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.wait_for_text("57×57 ")
    assert (server[2] / "nodelay").read_text() == "1"  # read from the socket itself, see conftest.py


def test_it_works_again_after_a_restart(notebook):
    notebook.page.evaluate(
        "async () => { const panel = jupyterapp.shell.currentWidget; await panel.sessionContext.restartKernel();"
        " await jupyterapp.commands.execute('notebook:clear-all-cell-outputs') }"
    )
    notebook.page.wait_for_selector(".bl-board", state="detached")
    notebook.run_all()
    notebook.wait_for_text(START, 1)
    notebook.slider("R").focus()
    notebook.page.keyboard.press("ArrowRight")
    for index in (0, 1):
        notebook.wait_for_text("57×57 ", index)
