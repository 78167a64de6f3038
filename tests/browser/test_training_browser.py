"""A run in training by hand, in a real JupyterLab. Each step waits for what it expects to see; no speed is judged."""

import inspect
import re

import lab
import pytest
from ipykernel.kernelbase import Kernel

pytestmark = pytest.mark.browser
CELLS = (
    """
from blendlab.explorers.training import TrainingExplorer
training = TrainingExplorer(K=2, backbone="scratch", seconds=3600)
training.start()
training
""".strip(),
    "training.wait(); print('the run stands still')",
    "await training.finished(); print('the run has ended')",
)
STEP = "least => Number(document.querySelector('.bl-text').textContent.match(/After (\\d+) steps/)[1]) >= least"


@pytest.fixture(scope="module")
def notebook(chrome, server):
    url, root, _ = server
    notebook = lab.Notebook(chrome, url, lab.write_notebook(root / "training.ipynb", CELLS))
    notebook.page.evaluate("() => jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
    notebook.page.wait_for_selector(".bl-board .bl-text:not(:empty)", timeout=90_000)
    yield notebook
    assert notebook.problems == []
    notebook.close()


def button(notebook, name):
    return notebook.page.get_by_role("button", name=re.compile(f"^{name}$"))


def step(notebook) -> int:
    return int(re.search(r"After (\d+) steps", notebook.text()).group(1))


def wait_for_step(notebook, least: int) -> None:
    notebook.page.wait_for_function(STEP, arg=least, timeout=90_000)


def test_it_moves_on_by_itself_stops_and_goes_on(notebook):
    wait_for_step(notebook, 2)
    button(notebook, "stop").click()
    button(notebook, "go on").wait_for(timeout=90_000)
    stopped = step(notebook)
    notebook.page.mouse.click(*centre_of_the_ball(notebook))
    notebook.wait_for_text("instance 2 (sport)")
    notebook.slider("moment").focus()
    notebook.page.keyboard.press("Home")
    notebook.wait_for_text("After 0 steps")
    notebook.page.keyboard.press("ArrowRight")
    wait_for_step(notebook, 1)
    notebook.page.keyboard.press("End")  # to the newest moment, which the picture then follows
    wait_for_step(notebook, stopped)
    button(notebook, "go on").click()
    wait_for_step(notebook, stopped + 2)
    assert "instance 2 (sport)" in notebook.text()


def run_cell(notebook, index: int) -> None:
    """Run a cell; return when the kernel has begun it."""
    notebook.page.evaluate(
        "index => { jupyterapp.shell.currentWidget.content.activeCellIndex = index;"
        " jupyterapp.commands.execute('notebook:run-cell') }",
        index,
    )
    notebook.page.wait_for_function(
        "index => document.querySelectorAll('.jp-InputPrompt')[index].textContent.includes('*')", arg=index
    )


def test_the_kernels_stop_button_ends_the_wait_and_the_run(notebook):
    page = notebook.page
    run_cell(notebook, 1)
    wait_for_step(notebook, step(notebook) + 1)  # the run goes on while the cell waits
    page.evaluate("() => jupyterapp.commands.execute('notebook:interrupt-kernel')")
    page.locator(".jp-OutputArea-output", has_text="the run stands still").wait_for(timeout=90_000)
    button(notebook, "go on").wait_for(timeout=90_000)
    assert page.locator(".jp-OutputArea-output", has_text="KeyboardInterrupt").count() == 0


@pytest.mark.skipif(
    "concurrent" not in inspect.signature(Kernel.dispatch_shell).parameters,
    reason="this ipykernel hears the page only between cells",
)
def test_the_controls_work_while_a_cell_awaits_the_run(notebook):
    button(notebook, "go on").click()
    button(notebook, "stop").wait_for(timeout=90_000)
    run_cell(notebook, 2)
    notebook.slider("moment").focus()
    notebook.page.keyboard.press("Home")
    notebook.wait_for_text("After 0 steps")
    ended = notebook.page.locator(".jp-OutputArea-output", has_text="the run has ended")
    assert ended.count() == 0
    button(notebook, "stop").click()
    ended.wait_for(timeout=90_000)
    button(notebook, "go on").wait_for(timeout=90_000)


def centre_of_the_ball(notebook) -> tuple[float, float]:
    photo = notebook.board().locator(".bl-photo svg").bounding_box()
    return photo["x"] + 60 / 128 * photo["width"], photo["y"] + 110 / 128 * photo["height"]
