"""Every test starts from one seed; hypothesis draws the same examples each time, and no test is judged by a clock."""

import importlib.util
import random

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile("blendlab", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("blendlab")


def pytest_addoption(parser):
    """Where there is no Jupyter, as on a bare machine with a GPU, pyproject's option for notebooks means nothing."""
    if importlib.util.find_spec("nbval") is None:
        parser.addoption("--nbval", action="store_true")


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (for libraries that still draw from the global generator)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread():
    """For modules of thousands of tiny operations: threads that wait for one another would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device, and torch sees none here")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)
