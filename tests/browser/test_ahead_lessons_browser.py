"""Steps that move boxes, and sliders of shares: seen before the kernel has answered, in a real JupyterLab."""

import lab
import pytest
from foresight import HOOKS, begin, rest, seen

pytestmark = pytest.mark.browser

CELLS = (
    """
from blendlab.explorers import AttentionExplorer, DetectorExplorer, LocationExplorer
from blendlab.pictures import scene

dress = scene(38, "held_out")
LocationExplorer(dress, level=0, row=10, column=10)
""".strip(),
    "AttentionExplorer(dress, instance=3)",
    "DetectorExplorer(dress, threshold=0.25)",
)
MOVES = {  # the explorer, its slider, which of that name on the page, whether the boxes move, how to go on
    "location, column": (0, "column", 0, True, "ArrowRight"),
    "location, row": (0, "row", 0, True, "ArrowLeft"),
    "location, K": (0, "K", 0, False, "ArrowRight"),
    "attention, K": (1, "K", 1, False, "ArrowLeft"),
    "detector, threshold": (2, "threshold", 0, True, "ArrowRight"),
    "detector, NMS": (2, "NMS at IoU", 0, True, "ArrowLeft"),
}


@pytest.fixture(scope="module")
def opened(chrome, server):
    url, root, _ = server
    path = lab.write_notebook(root / "ahead_lessons.ipynb", CELLS)
    notebook = lab.Notebook(chrome, url, path, height=1100, script=HOOKS)
    notebook.run_all()
    notebook.wait_for_text("candidates above", 2)
    yield notebook
    notebook.close()
    assert notebook.problems == []


@pytest.fixture
def go(tmp_path):
    """The file that a busy kernel waits for."""
    yield tmp_path / "go"
    (tmp_path / "go").touch()


def look(board) -> tuple[str, list[str]]:
    """The panels' pixels, and the boxes on the photograph with the mask that lies over it."""
    return board.evaluate(
        """board => [board.querySelector(".bl-sheet").toDataURL(), [
            ...[...board.querySelectorAll(".bl-photo rect")].map((r) =>
                [r.getAttribute("class"), ...["x", "y", "width", "height"].map((n) => r.getAttribute(n))].join(" ")),
            board.querySelector(".bl-mask").toDataURL()]]"""
    )


def wait_for_another_text(notebook, index: int, before: str) -> None:
    notebook.page.wait_for_function(
        "([i, t]) => document.querySelectorAll('.bl-board .bl-text')[i].textContent !== t",
        arg=[index, before],
        timeout=20_000,
    )


@pytest.mark.parametrize("move", MOVES)
def test_a_step_is_seen_with_its_boxes_while_the_kernel_is_busy(opened, go, move):
    index, letter, nth, moves_boxes, key = MOVES[move]
    board = opened.board(index)
    board.scroll_into_view_if_needed()
    text, before = opened.text(index), seen(opened, "ahead")
    opened.slider(letter, nth).focus()
    opened.page.keyboard.press(key)
    wait_for_another_text(opened, index, text)
    rest(opened, before)

    begin(opened, f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)")
    late, text, drawn = look(board), opened.text(index), seen(opened, "drawn")
    opened.page.keyboard.press(key)
    opened.page.wait_for_function("drawn => seen.drawn > drawn", arg=drawn, timeout=20_000)
    early = look(board)
    assert early != late and opened.text(index) == text  # the kernel has not yet spoken
    assert (early[1][:-1] != late[1][:-1]) == moves_boxes

    drawn, before = seen(opened, "drawn"), seen(opened, "ahead")
    go.touch()
    wait_for_another_text(opened, index, text)
    rest(opened, before)
    assert seen(opened, "drawn") == drawn  # its answer was the same: nothing was drawn again
    assert look(board) == early


def test_nothing_is_drawn_ahead_where_the_photograph_changes_too(opened):
    """The masks in their colours: panels and photograph come together, from the kernel."""
    board = opened.board(2)
    board.scroll_into_view_if_needed()
    opened.dropdown("show").select_option("3 masks")
    opened.page.wait_for_function("() => document.querySelectorAll('.bl-board .bl-mask')[2].hidden", timeout=20_000)
    before, text = seen(opened, "ahead"), opened.text(2)
    opened.slider("threshold").focus()
    opened.page.keyboard.press("ArrowRight")
    wait_for_another_text(opened, 2, text)
    rest(opened, before)  # it was asked, and there was none
    was, text = board.locator(".bl-photo canvas").first.evaluate("c => c.toDataURL()"), opened.text(2)
    opened.page.keyboard.press("ArrowRight")
    wait_for_another_text(opened, 2, text)
    assert board.locator(".bl-photo canvas").first.evaluate("c => c.toDataURL()") != was
