"""`import blendlab` brings torch and nothing heavier: asked of a fresh interpreter, not of a clock."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torchvision", "ipywidgets", "anywidget", "traitlets", "matplotlib", "IPython", "PIL", "imgviz", "skimage"}
STAGES = """
import json, sys
def tell(): print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
import torch
tell()
import blendlab
tell()
given = torch.rand(1, 2, 8, 8), torch.rand(1, 2, 4, 4), torch.tensor([[1.0, 1, 9, 9]])
blendlab.Blender(7).logits(*given)
tell()
blendlab.Blender(7, backend="torchvision").logits(*given)
tell()
"""


@pytest.fixture(scope="module")
def loaded():
    """Top-level modules in a fresh interpreter after: torch, blendlab, a blend, a blend with torchvision's crop."""
    done = subprocess.run([sys.executable, "-c", STAGES], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_import_brings_nothing_heavy(loaded):
    torch_alone, with_blendlab, *_ = loaded
    assert {"torch", "blendlab"} <= with_blendlab
    assert not with_blendlab & (HEAVY - torch_alone)


def test_a_blend_needs_no_torchvision_until_it_is_asked_for(loaded):
    _, _, blended, asked = loaded
    assert "torchvision" not in blended and "torchvision" in asked


def test_the_public_names_are_there():
    import blendlab

    assert all(hasattr(blendlab, name) for name in blendlab.__all__)
    assert {"roi_align", "interpolate", "softmax", "blend", "Blender", "BlenderInputs", "BlendTrace"} <= set(
        blendlab.__all__
    )
