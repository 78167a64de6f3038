"""Models with random weights that every test here may use."""

import pytest
import torch
from tiny import tiny_config

from blendlab.blendmask import BlendMask
from blendlab.pictures.scenes import CATEGORIES


@pytest.fixture
def tiny():
    """A tiny model with random weights, whose class prior is raised so that it sees things everywhere."""
    torch.manual_seed(0)
    model = BlendMask(tiny_config()).eval()
    torch.nn.init.constant_(model.fcos.classes.bias, 0.0)
    torch.nn.init.normal_(model.attention.weight, std=0.3)  # attention that differs from place to place
    return model


@pytest.fixture
def tiny_scenes():
    """A tiny model for composed scenes."""
    torch.manual_seed(0)
    return BlendMask(tiny_config(categories=CATEGORIES))
