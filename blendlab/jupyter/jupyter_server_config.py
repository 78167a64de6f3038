"""Jupyter Server, so that sliders answer at once: no waiting for a full packet on the kernel's WebSocket.

Jupyter Server (2.21) leaves Nagle's algorithm on there. A small message, such as one step of a slider, may then wait
about 40 ms for the browser's delayed acknowledgement of the one before. `make lab` uses this file; a hub or another
server can copy it into its own configuration. Comment out the line that sets `open` to switch it off.

And so that a photograph can be uploaded: a message of more than 10 MB, tornado's limit, would break the connection to
the kernel. Larger ones than the limit set here are better opened by their path.
"""

from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

_open = KernelWebsocketHandler.open


async def _open_at_once(self, *args, **kwargs):
    self.set_nodelay(True)  # TCP_NODELAY
    return await _open(self, *args, **kwargs)


KernelWebsocketHandler.open = _open_at_once

c.ServerApp.tornado_settings.update({"websocket_max_message_size": 200 * 2**20})  # noqa: F821 - Jupyter provides c
