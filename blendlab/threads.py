"""One thread for work that is too small to share out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """A slider's step or a step of a fit is a few milliseconds of small operations: a second thread gains little on an
    idle machine, and on a busy one each operation waits for it (14 to 30 times slower was seen). It also makes the
    result the same whatever the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
