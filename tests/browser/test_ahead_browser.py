"""A slider's step is on the screen before the kernel has answered it, in a real JupyterLab in headless Chromium."""

import lab
import pytest
from foresight import HOOKS, begin, rest, run, seen

pytestmark = pytest.mark.browser

CELLS = ('from blendlab.explorers import BlenderExplorer\nexplorer = BlenderExplorer("voc", instance=16)\nexplorer',)


@pytest.fixture(scope="module")
def opened(chrome, server):
    url, root, _ = server
    notebook = lab.Notebook(chrome, url, lab.write_notebook(root / "ahead.ipynb", CELLS), script=HOOKS)
    notebook.run_all()
    yield notebook
    notebook.close()


def test_a_step_is_seen_while_the_kernel_is_busy(opened, tmp_path):
    go, M = tmp_path / "go", opened.slider("M")
    M.focus()
    before = seen(opened, "ahead")
    opened.page.keyboard.press("ArrowRight")
    opened.wait_for_text("4·15·15")
    rest(opened, before)

    begin(opened, f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)")
    drawn, sheet = seen(opened, "drawn"), opened.board().locator(".bl-sheet").evaluate("c => c.toDataURL()")
    opened.page.keyboard.press("ArrowRight")
    opened.page.wait_for_function("drawn => seen.drawn > drawn", arg=drawn, timeout=20_000)
    early = opened.board().locator(".bl-sheet").evaluate("c => c.toDataURL()")
    assert early != sheet and "4·15·15" in opened.text()  # the kernel has not yet spoken

    drawn, before = seen(opened, "drawn"), seen(opened, "ahead")
    go.touch()
    opened.wait_for_text("4·16·16")
    rest(opened, before)
    assert seen(opened, "drawn") == drawn  # its answer was the same: nothing was drawn again
    assert opened.board().locator(".bl-sheet").evaluate("c => c.toDataURL()") == early


def test_pictures_of_another_state_are_not_used(opened, tmp_path):
    """Between the hand's rest and its next step, code chose another instance."""
    M = opened.slider("M")
    M.focus()
    before = seen(opened, "ahead")
    opened.page.keyboard.press("ArrowLeft")
    rest(opened, before)
    before = seen(opened, "ahead")
    run(opened, "explorer.instance.value = 2")
    opened.wait_for_text("instance 2 ")
    rest(opened, before)  # they were asked for anew
    M.focus()
    size = int(M.get_attribute("aria-valuetext"))
    opened.page.keyboard.press("ArrowLeft")
    opened.wait_for_text(f"4·{size - 1}·{size - 1}")
    shown = opened.board().locator(".bl-sheet").evaluate("c => c.toDataURL()")
    for instance in (0, 2):  # away and back: drawn from the kernel's own steps
        run(opened, f"explorer.instance.value = {instance}")
        opened.wait_for_text(f"instance {instance} ")
    assert opened.board().locator(".bl-sheet").evaluate("c => c.toDataURL()") == shown
    assert opened.problems == []


def test_a_kernel_that_is_gone_is_not_asked(opened):
    """The last test here: its kernel is another one afterwards."""
    opened.slider("R").focus()
    opened.page.keyboard.press("ArrowRight")
    opened.wait_for_text("57×57")
    opened.page.evaluate(
        """async () => {
            const restarted = jupyterapp.shell.currentWidget.sessionContext.restartKernel();
            const key = new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true });
            document.activeElement.dispatchEvent(key);  // the hand moves on, and the page would ask again
            await restarted;
            await new Promise((resolve) => setTimeout(resolve, 200));  // later than the page's own 50 ms
        }"""
    )
    assert opened.problems == []
