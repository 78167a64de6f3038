"""One JupyterLab, one browser and one notebook serve all browser tests."""

import os

import lab
import pytest

INSTALL = "no Chromium here: apt install chromium"


@pytest.fixture(scope="session")
def chrome():
    if lab.chromium() is None:
        if os.environ.get("CI"):
            pytest.fail(f"{INSTALL} (under CI the browser tests must run)")
        pytest.skip(INSTALL)
    with lab.browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def server(chrome, tmp_path_factory):
    """(url, root, scratch) of a running JupyterLab."""
    root, scratch = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    (scratch / "config").mkdir()
    (scratch / "config" / "jupyter_server_config.py").write_text(PROBE.format(file=str(scratch / "nodelay")))
    with lab.jupyterlab(root, scratch) as url:
        yield url, root, scratch


# Asks the socket itself, once the project's configuration has had its turn.
PROBE = """
import socket
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

_receive = KernelWebsocketHandler.on_message


def _receive_and_tell(self, message):
    connected = self.ws_connection.stream.socket
    with open({file!r}, "w") as told:
        told.write(str(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    return _receive(self, message)


KernelWebsocketHandler.on_message = _receive_and_tell
"""
