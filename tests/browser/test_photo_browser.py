"""The photograph's explorer by hand: a file through the real upload, a box and a mask by pointer and by keys, a fit.

Nothing here waits for a time: each test waits for what it expects to see.
"""

import re

import lab
import numpy as np
import pytest
from PIL import Image

from blendlab.pictures.brushed import line

pytestmark = pytest.mark.browser

W, H = 96, 64
CELLS = (
    """
from blendlab.explorers import PhotoExplorer

photo = PhotoExplorer("voc")
photo
""".strip(),
)
START = "voc, 500 × 375 px: nothing is drawn yet"


@pytest.fixture(scope="module")
def opened(chrome, server):
    url, root, _ = server
    notebook = lab.Notebook(chrome, url, lab.write_notebook(root / "photo.ipynb", CELLS))
    notebook.run_all()
    notebook.wait_for_text(START)
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(opened, tmp_path):
    """The notebook with a fresh upload of 96 x 64 pixels; afterwards, no error was thrown in the page."""
    opened.problems.clear()
    image = np.full((H, W, 3), 200, np.uint8)
    image[16:48, 24:72] = (0, 114, 178)
    Image.fromarray(image).save(tmp_path / "mine.png")
    upload(opened, tmp_path / "mine.png")
    opened.wait_for_text(f"mine.png, {W} × {H} px: nothing is drawn yet")
    yield opened
    assert opened.problems == []


def upload(notebook, path):
    with notebook.page.expect_file_chooser() as chooser:
        notebook.page.locator("button.widget-upload, .jupyter-button", has_text="upload").first.click()
    chooser.value.set_files(path)


def take(notebook, tool: str):
    notebook.page.get_by_role("button", name=tool, exact=True).click()
    notebook.page.wait_for_selector(".bl-drawing")


def to_page(notebook, x: float, y: float) -> tuple[float, float]:
    """Pixels of the photograph to the page's."""
    photo = notebook.board().locator(".bl-photo").bounding_box()
    return photo["x"] + x / W * photo["width"], photo["y"] + y / H * photo["height"]


def drag(notebook, *points):
    mouse = notebook.page.mouse
    mouse.move(*to_page(notebook, *points[0]))
    mouse.down()
    for point in points[1:]:
        mouse.move(*to_page(notebook, *point), steps=4)
    mouse.up()


def painted(notebook) -> np.ndarray:
    """(H,W) bool: the brushed mask as the page shows it."""
    alpha = notebook.board().locator(".bl-painted").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)"
    )  # fmt: skip
    return np.array(alpha).reshape(H, W) > 0


def brushed(notebook) -> int:
    return int(re.search(r"(\d+) pixels brushed", notebook.text())[1])


def test_an_uploaded_picture_a_box_a_brushed_mask_and_its_fit(notebook):
    take(notebook, "new box")
    drag(notebook, (20, 12), (76, 52))
    notebook.wait_for_text("0 pixels brushed")
    x1, y1, x2, y2 = map(int, re.search(r"box (\d+), (\d+), (\d+), (\d+)", notebook.text()).groups())
    assert (x1, y1, x2, y2) == pytest.approx((20, 12, 76, 52), abs=1)
    drag(notebook, (34, 26), (62, 26), (62, 38), (34, 38))  # the brush has come by itself
    notebook.wait_for_text("Now press 'fit'.")
    shown, asked = painted(notebook), line((H, W), [(34, 26), (62, 26), (62, 38), (34, 38)], 12)
    assert shown.sum() == brushed(notebook)  # what the kernel counts is what the page shows
    assert (shown ^ asked).sum() < 0.05 * asked.sum()  # to a pixel's rounding along the rim
    assert notebook.page.locator(".bl-easel polyline").count() == 0  # the line has become pixels

    take(notebook, "eraser")
    drag(notebook, (34, 26))
    notebook.page.wait_for_function(
        "n => +document.querySelector('.bl-text').textContent.match(/(\\d+) pixels/)[1] < n", arg=int(shown.sum())
    )
    assert not painted(notebook)[24:28, 32:36].any()
    notebook.page.get_by_role("button", name="undo", exact=True).click()
    notebook.wait_for_text(f"{shown.sum()} pixels brushed")
    assert np.array_equal(painted(notebook), shown)

    notebook.page.get_by_role("button", name="fit", exact=True).click()
    notebook.page.wait_for_function(
        "() => document.querySelector('.bl-text').textContent.includes('IoU with your mask')", timeout=90_000
    )
    assert float(notebook.text().rsplit(" ", 1)[1].rstrip(".")) >= 0.9
    assert (
        notebook.board().locator(".bl-mask").is_visible() and not notebook.board().locator(".bl-painted").is_visible()
    )
    notebook.slider("K").focus()
    notebook.page.keyboard.press("ArrowLeft")
    notebook.wait_for_text("K=3 bases")


def test_all_of_it_by_keys(notebook):
    take(notebook, "new box")
    easel, press = notebook.board().locator(".bl-easel"), notebook.page.keyboard.press
    easel.focus()
    press("Space")  # the first corner, in the middle of the picture
    press("Shift+ArrowRight")
    press("Shift+ArrowDown")
    press("ArrowLeft")
    assert "a new box at 57, 42, down." in easel.get_attribute("aria-label")
    press("Space")
    notebook.wait_for_text(f"box {W // 2}, {H // 2}, 57, 42; 0 pixels brushed")
    notebook.page.wait_for_function("() => document.querySelector('.bl-easel').ariaLabel.startsWith('brush')")
    press("Space")
    press("Shift+ArrowLeft")
    press("Escape")  # given up: nothing comes of it
    press("Space")
    press("Space")  # a dab where the brush is
    notebook.wait_for_text("outside its box")
    dab = line((H, W), [(W // 2 - 10, H // 2)], 12)
    assert brushed(notebook) == dab.sum() and np.array_equal(painted(notebook), dab)


def test_what_is_no_image_is_said_in_place_of_the_picture(notebook, tmp_path):
    (tmp_path / "notes.png").write_text("milk, eggs")
    upload(notebook, tmp_path / "notes.png")
    error = notebook.board().locator(".bl-error")
    error.wait_for(state="visible")
    assert "notes.png: the file is not an image" in error.inner_text() and "milk, eggs" in error.inner_text()
    assert not notebook.board().locator(".bl-photo").is_visible()
    notebook.dropdown("photograph").select_option("mine.png")  # back to the one before
    error.wait_for(state="hidden")
    assert f"mine.png, {W} × {H} px" in notebook.text()
    notebook.dropdown("photograph").select_option("voc")
    notebook.wait_for_text(START)


def test_a_path_that_was_refused_is_tried_again_with_enter(notebook, tmp_path):
    field, error = notebook.page.get_by_placeholder("then Enter"), notebook.board().locator(".bl-error")
    field.fill(str(tmp_path / "later.png"))
    field.press("Enter")
    error.wait_for(state="visible")
    (tmp_path / "mine.png").rename(tmp_path / "later.png")
    field.press("Enter")
    error.wait_for(state="hidden")
    notebook.wait_for_text(f"later.png, {W} × {H} px")


def test_a_photograph_of_thirty_megabytes_arrives(notebook, tmp_path):
    """More than the 10 MB at which a server without blendlab's configuration breaks the connection."""
    noise = np.random.default_rng(0).integers(0, 256, (2500, 4000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.bmp")
    assert (tmp_path / "large.bmp").stat().st_size > 30e6
    upload(notebook, tmp_path / "large.bmp")
    notebook.page.wait_for_function(
        "() => document.querySelector('.bl-text').textContent.startsWith('large.bmp, 1333 × 833 px')", timeout=60_000
    )
    assert "reduced from 4000 × 2500" in notebook.board().locator(".bl-notes").inner_text()


def test_the_missing_weights_are_a_plain_word(notebook):
    """Under a test no weights are in place: the menu goes back to the hand, and says which file to bring."""
    masks = notebook.dropdown("masks")
    masks.select_option("R_101_3x")
    notebook.page.wait_for_function(
        "() => document.querySelector('.bl-notes').textContent.includes('R_101_3x.pth')", timeout=60_000
    )
    assert "draw by hand" in notebook.board().locator(".bl-notes").inner_text()
    assert masks.input_value() == "drawn by hand"
