"""A hub with one small repository, on this machine alone: it answers as the real one does for a large file.

A HEAD of .../resolve/main/FILE states commit, size and SHA-256 and sends on to a store; a GET from there may ask for a
range. The store can break off in the middle, and the stated SHA-256 can be another file's.
"""

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 39 + "1"


class FakeHub:
    """files: name -> bytes. stated: name -> the SHA-256 that is stated, where it is not the file's own.

    breaks: after how many bytes each next download breaks off, one number a download. requests: what was asked for,
    as (method, path, range). url: where it listens.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files, self.stated, self.breaks, self.requests = files, {}, [], []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.store = f"http://localhost:{self._server.server_port}/store"  # another host, as the real hub's
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def downloads(self) -> list[str | None]:
        """The range of each download, None for a whole one."""
        return [asked for method, path, asked in self.requests if method == "GET" and path.startswith("/store/")]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self._answer(body=False)

            def do_GET(self):
                self._answer(body=True)

            def _answer(self, body):
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                folder, _, name = self.path.rpartition("/")
                if name not in hub.files:
                    self._head(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT, "Content-Length": 0})
                elif folder == "/store":
                    self._store(hub.files[name], body)
                elif folder == "/ZjuCv/AdelaiDet/resolve/main":
                    content = hub.files[name]
                    sha = hub.stated.get(name) or hashlib.sha256(content).hexdigest()
                    linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": len(content), "X-Repo-Commit": COMMIT}
                    self._head(302, {"Location": f"{hub.store}/{name}", "Content-Length": 0} | linked)
                else:
                    self._head(404, {"X-Error-Code": "RepoNotFound", "Content-Length": 0})

            def _store(self, content, body):
                start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
                headers = {"Content-Length": len(content) - start}
                if start:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self._head(206 if start else 200, headers)
                if body:
                    end = start + hub.breaks.pop(0) if hub.breaks else len(content)
                    with contextlib.suppress(ConnectionError):  # a client that has seen enough
                        self.wfile.write(content[start:end])
                    self.close_connection = end < len(content)

            def _head(self, status, headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, str(value))
                self.end_headers()

            def log_message(self, *args):
                pass

        return Handler
