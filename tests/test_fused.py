"""What surrounds the fused kernels on any machine: where they run, what is said where not, and the steps in blocks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blendlab import Blender, fused
from blendlab.fused import fused_blend, fused_probabilities

KERNELS = Path(__file__).with_name("test_fused_kernels.py")


def inputs(N=5, K=3, M=4, dtype=torch.float32):
    corner, size = torch.rand(N, 2) * 30 - 5, torch.rand(N, 2) * 40
    boxes = torch.cat((torch.randint(2, (N, 1)).float(), corner, corner + size), 1)
    return torch.randn(2, K, 9, 11, dtype=dtype), torch.randn(N, K, M, M, dtype=dtype), boxes


def test_the_kernels_in_tritons_interpreter():
    """Their own tests, in a process where TRITON_INTERPRET=1 stands before Triton is imported."""
    pytest.importorskip("triton", reason="Triton comes with torch on Linux")
    # no GPU, so that they are interpreted where there is one too; pytest's own variables are not for another pytest
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", str(KERNELS), "-q", "-p", "no:cacheprovider", "-m", "not gpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 25 and "skipped" not in done.stdout


# --- without a GPU


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_on_a_cpu_it_is_the_steps(dtype):
    given = inputs(dtype=dtype)
    expected = Blender(6, backend="torch").logits(*given)
    assert torch.equal(fused_blend(*given, 6), expected)
    assert torch.equal(fused_probabilities(*given, 6), expected.sigmoid())
    how = {"spatial_scale": 0.5, "sampling_ratio": 3, "interpolation": "nearest"}
    assert torch.equal(fused_blend(*given, 6, **how), Blender(6, backend="torch", **how).logits(*given))


def test_a_cpu_is_named_as_the_reason():
    pytest.importorskip("triton")
    with pytest.raises(ValueError, match=r"backend='fused' cannot run: it needs tensors on a CUDA device .*; got cpu"):
        Blender(6, backend="fused").logits(*inputs())


def test_a_missing_triton_is_named_as_the_reason(monkeypatch):
    def missing():
        raise ImportError("No module named 'triton'")

    monkeypatch.setattr(fused, "_kernels", missing)
    with pytest.raises(ValueError, match="cannot run: it needs Triton.*No module named 'triton'"):
        Blender(6, backend="fused").logits(*inputs())
    assert fused_blend(*inputs(), 6).shape == (5, 6, 6)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pooling": "pool"}, "pooling='align' alone; got pooling='pool'"),
        ({"aligned": False}, "aligned=True alone; got aligned=False"),
        ({"normalizer": "tanh"}, "normalizer='softmax' alone; got normalizer='tanh'"),
        ({"order": "normalize-first"}, "order='interpolate-first' alone; got order='normalize-first'"),
        ({"sampling_ratio": 0}, "sampling_ratio=1 or 2 alone; got sampling_ratio=0"),
        ({"output_size": 225}, "R up to 224; got output_size=225"),
    ],
    ids=str,
)
def test_an_option_it_does_not_have_is_named_at_once(options, reason):
    with pytest.raises(ValueError, match=f"backend='fused' does not serve these options: .*{reason}"):
        Blender(**{"output_size": 6, **options}, backend="fused")


def test_a_trace_is_made_by_the_steps_whatever_the_backend():
    given = inputs()
    assert torch.equal(Blender(6, backend="fused")(*given).logits, Blender(6, backend="torch")(*given).logits)


def test_bad_input_is_refused_as_blender_refuses_it():
    bases, attention, boxes = inputs()
    for wrong, error, message in (
        ((bases, attention[:, :2], boxes), ValueError, "one K"),
        ((bases, attention[:2], boxes), ValueError, "one N"),
        ((bases, attention, boxes * float("nan")), ValueError, r"boxes\[0\]"),
        ((bases, attention, boxes.long()), TypeError, "boxes must be float32"),
        ((bases.long(), attention, boxes), TypeError, "bases must be floating"),
    ):
        with pytest.raises(error, match=message):
            fused_blend(*wrong, 6)
    for how, error, message in (
        ({"output_size": 0}, ValueError, "output_size must be at least 1"),
        ({"output_size": 6, "spatial_scale": -1}, ValueError, "spatial_scale must be positive"),
        ({"output_size": 6, "sampling_ratio": 1.5}, TypeError, "sampling_ratio must be a whole number"),
        ({"output_size": 6, "interpolation": "cubic"}, ValueError, "interpolation must be one of"),
    ):
        with pytest.raises(error, match=message):
            fused_blend(*inputs(), **how)


def test_importing_blendlab_does_not_import_triton():
    code = "import sys, blendlab, blendlab.fused; sys.exit('triton.language' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- on a CPU: a block of boxes at a time


def test_blocks_of_boxes_give_what_all_at_once_give(monkeypatch):
    bases, attention, boxes = inputs(N=11)
    whole = Blender(6, backend="torch")(bases, attention, boxes).logits
    for numbers in (1, 3 * 6 * 6 * 4, 10**9):  # blocks of 1, of 4 and a rest, all at once
        monkeypatch.setattr("blendlab.blender.IN_CACHE", numbers)
        torch.testing.assert_close(Blender(6).logits(bases, attention, boxes), whole, rtol=0, atol=1e-5)
    monkeypatch.setattr("blendlab.blender.IN_CACHE", 1)
    logits = Blender(6).logits(bases.requires_grad_(), attention, boxes)
    torch.testing.assert_close(logits, whole, rtol=0, atol=1e-5)
    logits.sum().backward()
    assert bases.grad.any()
