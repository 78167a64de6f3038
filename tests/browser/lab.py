"""A real JupyterLab on the loopback interface, and a page of headless Chromium that works in it. Each cleans up."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path

import nbformat

REPOSITORY = Path(__file__).parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Where the browser is; None if it is not there."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@contextmanager
def jupyterlab(root: Path, scratch: Path):
    """The URL of a JupyterLab that serves `root` with the project's server configuration and fresh settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_CONFIG_PATH": str(REPOSITORY / "blendlab" / "jupyter"),
        "JUPYTER_DATA_DIR": str(scratch / "data"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(scratch / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(scratch / "workspaces"),
        "IPYTHONDIR": str(scratch / "ipython"),
    }
    news = scratch / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    quiet = '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}'
    (news / "notification.jupyterlab-settings").write_text(quiet)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={root}"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
    url = f"http://127.0.0.1:{port}"
    with (scratch / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(server, f"{url}/api/status", scratch / "server.log")
            yield url
        finally:
            server.terminate()  # it ends its kernels
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(server: subprocess.Popen, url: str, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.1)  # between two questions to the server; the answer, not the sleep, is the signal


@contextmanager
def browser():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield chrome
        finally:
            chrome.close()


def write_notebook(path: Path, cells) -> str:
    """Write a notebook of code cells; its file name."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(notebook, path)
    return path.name


class Notebook:
    """A notebook in a JupyterLab page: run it, find its controls, wait for what it shows."""

    def __init__(self, chrome, url: str, path: str, width: int = 1400, height: int = 1000, script: str = ""):
        """`script` runs in the page before JupyterLab's own."""
        self.page = chrome.new_page(viewport={"width": width, "height": height})
        self.page.add_init_script(script)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(f"{url}/lab/workspaces/{uuid.uuid4().hex[:8]}/tree/{path}")
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        self.page.wait_for_function(
            "() => { const k = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;"
            " return k && k.status === 'idle' && k.connectionStatus === 'connected' }",
            timeout=60_000,
        )
        self.page.evaluate("() => jupyterapp.shell.collapseLeft()")

    def run_all(self) -> None:
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_selector(".bl-board .bl-text:not(:empty)", timeout=90_000)

    def board(self, index: int = 0):
        return self.page.locator(".bl-board").nth(index)

    def text(self, index: int = 0) -> str:
        return self.board(index).locator(".bl-text").inner_text()

    def slider(self, letter: str, index: int = 0):
        """The handle of the slider described by `letter` in the index-th explorer."""
        label = self.page.locator(".widget-label", has_text=letter).filter(has_text=_exactly(letter)).nth(index)
        return label.locator("xpath=..").locator(".noUi-handle")

    def dropdown(self, description: str, index: int = 0):
        label = self.page.locator(".widget-label").filter(has_text=_exactly(description)).nth(index)
        return label.locator("xpath=..").locator("select")

    def wait_for_text(self, part: str, index: int = 0) -> None:
        self.page.wait_for_function(
            "([part, index]) => document.querySelectorAll('.bl-board .bl-text')[index].textContent.includes(part)",
            arg=[part, index],
            timeout=20_000,
        )

    def close(self) -> None:
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()


def _exactly(text: str):
    import re

    return re.compile(rf"^\s*{re.escape(text)}\s*$")
