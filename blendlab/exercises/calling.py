"""Calling a function that somebody else wrote: whatever it does, the notebook goes on and a sentence says what."""

import inspect
import random
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
import torch

PROCESSOR_SECONDS, CLOCK_SECONDS = 1.5, 10.0  # a check stops a function that takes longer over all its cases
PACKAGE = str(Path(__file__).parents[1])
LIBRARIES = (PACKAGE, "<frozen", *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")))


class TooLong(BaseException):
    """Raised inside the function under test. No Exception, so that its own `except Exception` does not swallow it."""


def takes(function: Callable, count: int) -> bool:
    """Whether `count` positional arguments fit; True where a built-in does not say."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def parameter_names(function: Callable) -> list[str]:
    """The names that a function gives its positional parameters; none where a built-in does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def complaint(error: BaseException) -> str:
    """An exception in one sentence, with the line of the student's own code that it came through."""
    if isinstance(error, NotImplementedError):
        return f"It is not written yet: it raises NotImplementedError{where(error)}."
    if isinstance(error, TooLong):
        return (
            f"It was stopped, since it did not return in time{where(error)}: is there a loop that does not end, or one "
            "over far more than the output's elements?"
        )
    text = " ".join("".join(traceback.format_exception_only(type(error), error)).split())
    return f"It raises {text if len(text) <= 240 else text[:237] + '...'}{where(error)}."


def where(error: BaseException) -> str:
    """The innermost frame that belongs to no library: in a notebook, a line of a cell."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(LIBRARIES)]
    if not own:
        return ""
    frame = own[-1]
    return f" (line {frame.lineno}, in {frame.name}" + (f": {frame.line})" if frame.line else ")")


@contextmanager
def undisturbed() -> Iterator[None]:
    """The user's random numbers and torch's modes stay as they were, whatever runs inside; and play no part there."""
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002  (the user's global generator)
    dtype = torch.get_default_dtype()
    on_cpu = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")  # it slows every call
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad(), on_cpu:
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(python)
            np.random.set_state(array)  # noqa: NPY002


@contextmanager
def listening(heard: set[str]) -> Iterator[None]:
    """Put into `heard` the dotted names of blendlab's and torchvision's functions that run inside.

    Frames are recognised by the module that their code was written in, so an alias, a partial or a lambda changes
    nothing, and a student's own function of the same name is none of them.
    """

    def hear(frame, event, _):
        if event == "call":
            module = frame.f_globals.get("__name__") or ""
            if module.startswith(("blendlab.", "torchvision.ops.")):
                heard.add(f"{module}.{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(hear)
    try:
        yield
    finally:
        sys.setprofile(before)


def now() -> list[float]:
    """What this thread has worked, and the clock, in seconds."""
    return [time.thread_time(), time.monotonic()]


def limited(function: Callable, args: Sequence, began: list[float]) -> object:
    """function(*args), with TooLong raised inside PROCESSOR_SECONDS of work or CLOCK_SECONDS of waiting after `began`.

    Work and not the clock, so that a busy machine condemns nobody. An import is let finish and does not count. A
    function that swallows TooLong (a bare `except:`) gets the next a moment later, until one falls outside its `try`.
    Without interval timers (Windows) or outside the main thread there is no limit but the notebook's own stop button.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return function(*args)

    def called() -> object:
        return function(*args)

    def ring(_, frame):
        if _within(frame, lambda code: code.co_filename.startswith("<frozen importlib")):
            began[:] = now()
            return
        work, clock = now()
        late = work - began[0] > PROCESSOR_SECONDS or clock - began[1] > CLOCK_SECONDS
        if late and _within(frame, lambda code: code is called.__code__):  # never in the lines that clear up below
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        return called()
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def _within(frame: FrameType | None, wanted: Callable[[CodeType], bool]) -> bool:
    """Whether a function whose code is `wanted` is being called, at or above `frame`."""
    while frame is not None and not wanted(frame.f_code):
        frame = frame.f_back
    return frame is not None
