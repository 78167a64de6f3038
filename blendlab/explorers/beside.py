"""Work that takes seconds, beside the kernel's own thread: a bar, a stop button, and controls that still answer."""

import threading
from collections.abc import Callable

import ipywidgets as widgets
from ipywidgets import Layout

from ..fit.optimise import Progress


class Stopped(BaseException):
    """Raised inside the work, where it reports its progress. No Exception: nothing there is to take it for an error."""


class Beside(widgets.HBox):
    """One piece of work at a time. A second `start` stops the first.

    `work(progress)` runs in a thread and calls progress(step, steps, loss); `done(its result)` is called there too, in
    its `turn`: a lock that whoever cancels holds, so that nothing comes of work that was cancelled at its very end.
    """

    def __init__(self, turn: threading.RLock):
        self._turn = turn
        self.bar = widgets.IntProgress(0, 0, 100, layout=Layout(width="180px"))
        self.said = widgets.Label("")
        self.stop = widgets.Button(description="stop", layout=Layout(width="70px"))
        self.stop.on_click(lambda _: self.cancel())
        super().__init__([self.bar, self.stop, self.said], layout=Layout(visibility="hidden"))
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._problem: BaseException | None = None

    def start(self, work: Callable[[Progress], object], done: Callable[[object], None]) -> None:
        self.cancel()
        stopped, before = threading.Event(), self._thread
        self._stopped, self._problem = stopped, None
        self.bar.value, self.said.value, self.layout.visibility = 0, "", "visible"

        def progress(step: int, steps: int, loss: float) -> None:
            if stopped.is_set():
                raise Stopped
            share = 100 * step // steps
            if share > self.bar.value:
                self.bar.value, self.said.value = share, f"step {step} of {steps}"

        def run() -> None:
            if before is not None:
                before.join()  # it was stopped, and ends at its next step
            try:
                result = work(progress)
                with self._turn:
                    if not stopped.is_set():
                        done(result)
            except Stopped:
                pass
            except Exception as problem:  # shown by whoever guards `done`, and raised again in wait()
                self._problem = problem
            finally:
                if self._stopped is stopped:
                    self.layout.visibility = "hidden"

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop what is under way; nothing comes of it."""
        self._stopped.set()

    def wait(self) -> None:
        """Until the work is done or stopped; its exception is raised here. Interrupting the kernel stops the work."""
        if self._thread is None:
            return
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self.cancel()
            self._thread.join()
            raise
        if self._problem is not None:
            raise self._problem
