"""What a page draws ahead of its kernel, seen from outside: the hooks and the waits of the tests of it."""

# Counts what came from the kernel ahead of the hand, and how often the sheet of panels, or the mask, was drawn.
HOOKS = """
window.seen = { ahead: 0, drawn: 0 };
window.WebSocket = new Proxy(WebSocket, { construct(Socket, given) {
  const socket = new Socket(...given);
  socket.addEventListener("message", async ({ data }) => {
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    if (text.includes('"kind": "ahead"') || text.includes('"kind":"ahead"')) seen.ahead += 1;
  });
  return socket;
}});
const draw = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
  if (this.canvas.matches(".bl-sheet, .bl-mask")) seen.drawn += 1;
  return draw.apply(this, given);
};
"""


def seen(notebook, what: str) -> int:
    return notebook.page.evaluate("what => seen[what]", what)


def run(notebook, code: str) -> None:
    """In the kernel, and wait: what came from it before has been handled then, since the page takes it in turn."""
    notebook.page.evaluate(
        "code => jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code }).done", code
    )


def begin(notebook, code: str) -> None:
    notebook.page.evaluate(
        "code => { jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code }) }", code
    )


def rest(notebook, before: int) -> None:
    """Wait until the pictures ahead are in the page."""
    notebook.page.wait_for_function("before => seen.ahead > before", arg=before, timeout=20_000)
    run(notebook, "pass")
