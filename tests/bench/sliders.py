"""From a key on a slider to the painted picture, in JupyterLab in headless Chromium, against an empty explorer.

The empty explorer is a slider whose callback sends two numbers to a widget that fills an 8 x 8 canvas: what no explorer
that asks its kernel can go below. Both are measured in the same server and browser, in turns.
"""

import statistics
import tempfile
import time
from pathlib import Path

import nbformat

from ..browser import lab

EMPTY = '''
import anywidget, ipywidgets, traitlets
from IPython.display import display

class Empty(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 8;
      el.append(canvas);
      const draw = () => {
        const context = canvas.getContext("2d");
        context.fillStyle = model.get("state")[1] % 2 ? "#000" : "#fff";
        context.fillRect(0, 0, 8, 8);
      };
      model.on("change:state", draw);
      draw();
    } };
    """
    state = traitlets.List([0, 0]).tag(sync=True)

slider, view = ipywidgets.IntSlider(4, 1, 60, description="K"), Empty()
slider.observe(lambda change: setattr(view, "state", [change["new"], view.state[1] + 1]), "value")
display(ipywidgets.VBox([slider, view]))
'''
EXPLORER = """
from blendlab.explorers import BlenderExplorer
explorer = BlenderExplorer("voc", instance=16)
explorer
"""

# Notes every draw on a canvas of an output, and the time just after the frame that shows it.
HOOKS = """
(() => {
  const P = window.bench = { on: false, paints: [], values: [], key: 0 };
  const after = (done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  });
  const waiting = new Set();
  for (const name of ["putImageData", "fillRect"]) {
    const original = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...args) {
      const result = original.apply(this, args), canvas = this.canvas;
      if (P.on && !waiting.has(canvas)) {
        waiting.add(canvas);
        after(() => {
          waiting.delete(canvas);
          if (canvas.closest(".jp-OutputArea")) P.paints.push(performance.now());
        });
      }
      return result;
    };
  }
  window.addEventListener("keydown", (event) => { if (P.on) P.key = event.timeStamp; }, true);
  P.watch = (handle) => {
    const note = () => P.values.push([handle.getAttribute("aria-valuetext"), performance.now()]);
    new MutationObserver(note).observe(handle, { attributeFilter: ["aria-valuetext"] });
  };
  // resolves once something was painted and nothing more for `quiet` ms
  P.settled = (quiet, timeout) => new Promise((resolve) => {
    const start = performance.now();
    const look = () => {
      const last = P.paints.at(-1), now = performance.now();
      const still = last && now - last > quiet && !waiting.size;
      if (still || now - start > timeout) resolve(P.paints.map((t) => t - P.key));
      else setTimeout(look, 5);
    };
    look();
  });
})();
"""


class Bench(lab.Notebook):
    def steps(self, letter: str, keys: list[str]) -> list[float]:
        """ms from each key on a slider to the last picture it painted."""
        return self.keys(self.slider(letter), keys)

    def keys(self, element, keys: list[str]) -> list[float]:
        """ms from each key on an element of the page to the last picture it painted."""
        found = []
        for key in keys:
            element.focus()
            self.page.evaluate("() => Object.assign(bench, { on: true, paints: [], key: 0 })")
            self.page.keyboard.press(key)
            paints = self.page.evaluate("() => bench.settled(150, 3000)")
            if paints:
                found.append(paints[-1])
        return found

    def drag(self, letter: str, seconds: float = 1.5, moves: int = 75, reach: int = 150) -> tuple[int, int, float]:
        """Drag a slider to the right and half the way back: values passed, pictures painted, ms from the last value to
        the last picture."""
        handle, mouse = self.slider(letter), self.page.mouse
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        handle.evaluate("handle => bench.watch(handle)")
        mouse.move(x, y)
        mouse.down()
        self.page.evaluate("() => Object.assign(bench, { on: true, paints: [], values: [], key: 0 })")
        began = time.perf_counter()
        for i in range(1, moves + 1):
            share = i / moves
            mouse.move(x + reach * (2 * share if share < 0.5 else 1.5 - share), y)
            time.sleep(max(0.0, began + seconds * share - time.perf_counter()))  # the hand's own pace
        mouse.up()
        paints = self.page.evaluate("() => bench.settled(600, 5000)")
        values = self.page.evaluate("() => bench.values")
        changed = [t for i, (value, t) in enumerate(values) if i == 0 or value != values[i - 1][0]]
        pictures = [t for i, t in enumerate(paints) if i == 0 or t - paints[i - 1] > 5]  # its canvases are one picture
        return len(changed), len(pictures), paints[-1] - changed[-1]

    def kernel_megabytes(self) -> float:
        """The kernel's resident memory, asked of the kernel itself."""
        code = "import gc, psutil; gc.collect(); print(psutil.Process().memory_info().rss / 1e6)"
        answer = self.page.evaluate(
            """async (code) => {
                let text = "";
                const future = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
                future.onIOPub = (message) => { text += message.content.text || ""; };
                await future.done;
                return text;
            }""",
            code,
        )
        return float(answer)

    def heap(self) -> float:
        """The page's JavaScript heap in MB, after a collection."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("HeapProfiler.enable")
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        values = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        session.detach()
        return values["JSHeapUsedSize"] / 1e6


def measure(steps: int = 60, many: int = 1000) -> str:
    keys = (["ArrowRight"] * 3 + ["ArrowLeft"] * 3) * (steps // 6)  # K has few values
    with tempfile.TemporaryDirectory() as folder, lab.browser() as chrome:
        root = Path(folder, "root")
        root.mkdir()
        for name, source in (("empty", EMPTY), ("explorer", EXPLORER)):
            cell = nbformat.v4.new_code_cell(source)
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
            nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), root / f"{name}.ipynb")
        with lab.jupyterlab(root, Path(folder)) as url:
            empty, explorer = (_open(chrome, url, f"{name}.ipynb") for name in ("empty", "explorer"))
            found: dict[str, list[float]] = {"empty": [], "M": [], "R": [], "K": []}
            for _ in range(2):
                empty.page.bring_to_front()
                found["empty"] += empty.steps("K", keys[: steps // 2])
                explorer.page.bring_to_front()
                for letter in "MRK":
                    found[letter] += explorer.steps(letter, keys[: steps // 2])
            drag = explorer.drag("R")
            growth = _memory(explorer, many)
            problems = empty.problems + explorer.problems
    assert not problems, problems
    return _report(found, drag, growth, many)


def _open(chrome, url: str, name: str) -> Bench:
    notebook = Bench(chrome, url, name, script=HOOKS)
    notebook.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    notebook.page.wait_for_selector(".jp-OutputArea canvas", timeout=90_000)
    return notebook


def _memory(explorer: Bench, many: int) -> tuple[float, float]:
    """MB by which the kernel and the page's heap grow over `many` steps, after some to fill the caches."""

    def sweep(count: int) -> None:
        explorer.slider("R").focus()
        for i in range(count):
            explorer.page.keyboard.press("ArrowRight" if (i // 25) % 2 == 0 else "ArrowLeft")
            if i % 5 == 4:  # let every step be painted, as under a hand
                explorer.page.wait_for_function(
                    "() => document.querySelector('.bl-text').textContent.includes("
                    "`mask ${document.querySelectorAll('.noUi-handle')[2].getAttribute('aria-valuetext')}`)",
                )

    sweep(100)
    before = explorer.heap(), explorer.kernel_megabytes()
    sweep(many)
    after = explorer.heap(), explorer.kernel_megabytes()
    return after[1] - before[1], after[0] - before[0]


def _report(found: dict[str, list[float]], drag: tuple[int, int, float], growth: tuple[float, float], many: int) -> str:
    (values, pictures, late), (kernel, heap) = drag, growth
    words = f"""
A step is a key after a rest of the hand, in which the page has fetched what one step to either side would show. A drag
leaves no rest, and a key that is held down leaves none: each of their pictures is the kernel's answer. A drag of R over
{values} values painted {pictures} pictures, the last {late:.0f} ms after the last value. Over {many} steps of R the
kernel grew by {kernel:.1f} MB and the page's heap by {heap:.1f} MB.
"""
    return "## Sliders in JupyterLab, key to painted picture\n\n" + table(found) + words


def table(found: dict[str, list[float]]) -> str:
    """Rows of what was measured, "empty" among them, as ratios to it."""

    def p95(values: list[float]) -> float:
        return statistics.quantiles(values, n=20)[-1]

    floor = found["empty"]
    lines = [
        "| slider | steps painted | median, ms | ratio to the empty explorer | p95, ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in found.items():
        median, tail = statistics.median(values), p95(values)
        ratios = median / statistics.median(floor), tail / p95(floor)
        lines.append(f"| {name} | {len(values)} | {median:.1f} | {ratios[0]:.2f} | {tail:.1f} | {ratios[1]:.2f} |")
    return "\n".join(lines) + "\n"
