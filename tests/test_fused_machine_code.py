"""The fused kernels as machine code, without a GPU: Triton and its assembler translate them for absent devices too.

What the interpreter lets pass and a compiler does not (types that change in a loop, shapes known too late) fails here;
and the machine code tells whether the K numbers of a pixel come with one wide load, and whether registers suffice.
"""

import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from blendlab import fused, fused_kernels  # noqa: E402

pytestmark = pytest.mark.skipif(
    tuple(map(int, triton.__version__.split(".")[:2])) < (3, 4), reason="Triton compiles for absent devices since 3.4"
)
NUMBERS = {"B": "i32", "N": "i32", "H": "i32", "W": "i32", "scale": "fp32"}


def compiled(kernel, capability: int, storage: str, warps: int, **constants):
    """The kernel for a device of this compute capability (times ten), bases and attention of type `storage`."""
    names = kernel.arg_names
    pointers = {name: storage if name in ("bases", "attention") else "fp32" for name in names if name not in NUMBERS}
    types = NUMBERS | {name: f"*{kind}" for name, kind in pointers.items()} | dict.fromkeys(constants, "constexpr")
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if types[name].startswith("*")}
    source = ASTSource(
        kernel,
        {name: types[name] for name in names},
        {(names.index(name),): value for name, value in constants.items()},
        aligned,  # as torch's allocations are
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})


def forward(capability: int, storage: str, K: int, M: int, R: int, ratio: int = 1, nearest=False, sigmoid=False):
    K_full, pixels, warps = fused._tile(K)
    sizes = {"K": K, "M": M, "R": R, "RATIO": ratio, "NEAREST": nearest, "SIGMOID": sigmoid}
    return compiled(fused_kernels.forward, capability, storage, warps, **sizes, K_FULL=K_full, PIXELS=pixels)


def backward(capability: int, storage: str, K: int, M: int, R: int, ratio: int = 1, nearest=False, sigmoid=False):
    K_full, C, cells, warps = fused._columns(K, M, R)
    sizes = {"K": K, "M": M, "R": R, "RATIO": ratio, "NEAREST": nearest, "SIGMOID": sigmoid}
    wanted = {"TO_BASES": True, "TO_ATTENTION": True}
    tile = {"K_FULL": K_full, "C": C, "CELLS": cells}
    return compiled(fused_kernels.backward, capability, storage, warps, **sizes, **wanted, **tile)


def resources(kernel, folder: Path) -> dict[str, int]:
    """Registers a thread, and bytes a thread of stack and spilled registers."""
    program, file = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump", folder / "kernel.cubin"
    file.write_bytes(kernel.asm["cubin"])
    told = subprocess.run([program, "-res-usage", file], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", told.stdout + told.stderr)}


@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize(("storage", "how"), [("fp32", (4, 14, 56)), ("bf16", (3, 7, 28, 2, True, True))])
@pytest.mark.parametrize("make", [forward, backward])
def test_they_assemble(make, storage, how, capability):
    assert len(make(capability, storage, *how).asm["cubin"]) > 1000


def test_the_forward_kernel_loads_a_pixels_numbers_at_once_and_spills_nothing(tmp_path):
    kernel = forward(90, "fp32", 4, 14, 56)
    assert kernel.asm["ptx"].count("ld.global.v4.b32") == 4  # K=4 numbers of each of the four cells of the bases
    used = resources(kernel, tmp_path)
    assert used["REG"] <= 64 and used["STACK"] == used["LOCAL"] == 0


def test_the_backward_kernel_adds_a_pixels_numbers_at_once_and_spills_nothing(tmp_path):
    kernel = backward(90, "fp32", 4, 14, 56)
    assert len(re.findall(r"(?:red|atom)\.global\S*\.v4\.f32", kernel.asm["ptx"])) == 8
    used = resources(kernel, tmp_path)
    assert used["STACK"] == used["LOCAL"] == 0
