"""The whole blender in one GPU kernel, forward and backward: the bases and the attention in, the mask logits out.

One letter legend: B images, N boxes, K bases, M attention side, R output side, H x W map.

The chain of steps writes regions, upsampled attention, scores and products to memory and reads them back, N*K*R*R
numbers each time; here they live in registers. The kernels are in fused_kernels.py; this file makes of them an operator
of torch (autograd, torch.compile, autocast), and says where they cannot run.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from . import check
from .blender import Blender, BlenderInputs
from .check import Boxes

K_MOST, M_MOST, R_MOST, RATIOS = 32, 64, 224, (1, 2)
STORAGE = (torch.float32, torch.float16, torch.bfloat16)


def fused_blend(
    bases: Tensor,
    attention: Tensor,
    boxes: Boxes,
    output_size: int,
    spatial_scale: float = 0.25,
    sampling_ratio: int = 1,
    interpolation: str = "bilinear",
) -> Tensor:
    """Mask logits (N,R,R) in float32: RoIAlign (aligned), interpolation, softmax, product and sum as one kernel.

    Arguments as in Blender; bases (B,K,H,W), attention (N,K,M,M). bfloat16 and float16 are read as they lie in memory,
    the arithmetic is float32. Bases in torch.channels_last are read where they are; others are copied to that layout.
    Gradients to bases and attention. The forward pass and the attention's gradient are the same in every run; the
    bases' gradient is summed by atomics, so its last digits are not.

    Where the kernel cannot run (a CPU, float64, K > 32, M > 64, R > 224, a sampling ratio other than 1 and 2,
    forward-mode derivatives), this is Blender's torch path: the same function, in the inputs' working dtype. Second
    derivatives and torch.func.grad need that path from the start, Blender(backend="torch"): they raise RuntimeError.
    Raises ValueError or TypeError as Blender does. Inside torch.compile, where the boxes' values cannot be looked at, a
    box that is NaN, inverted or of no image gives a mask of NaN.
    """
    return _blend(bases, attention, boxes, output_size, spatial_scale, sampling_ratio, interpolation, False)


def fused_probabilities(
    bases: Tensor,
    attention: Tensor,
    boxes: Boxes,
    output_size: int,
    spatial_scale: float = 0.25,
    sampling_ratio: int = 1,
    interpolation: str = "bilinear",
) -> Tensor:
    """`fused_blend` with the sigmoid in the same kernel: mask probabilities (N,R,R)."""
    return _blend(bases, attention, boxes, output_size, spatial_scale, sampling_ratio, interpolation, True)


def _blend(bases, attention, boxes, output_size, spatial_scale, sampling_ratio, interpolation, sigmoid) -> Tensor:
    blender = Blender(output_size, spatial_scale, sampling_ratio=sampling_ratio, interpolation=interpolation)
    inputs = BlenderInputs(bases, attention, boxes, blender.spatial_scale)
    if refusal(blender) is None and cannot_run(inputs) is None:
        return run(blender, inputs, sigmoid)
    logits = blender.logits_by_steps(inputs)
    return logits.sigmoid() if sigmoid else logits


def refusal(blender: Blender) -> str | None:
    """Why the kernel does not do what these settings ask for, or None."""
    for name, served in (
        ("pooling", ("align",)),
        ("aligned", (True,)),
        ("normalizer", ("softmax",)),
        ("order", ("interpolate-first",)),
        ("sampling_ratio", RATIOS),
    ):
        value = getattr(blender, name)
        if value not in served:
            return f"it has {name}={' or '.join(map(repr, served))} alone; got {name}={value!r}"
    if blender.output_size > R_MOST:
        return f"it serves R up to {R_MOST}; got output_size={blender.output_size}"
    return None


def cannot_run(inputs: BlenderInputs) -> str | None:
    """Why the kernel cannot run on these inputs here, or None."""
    if problem := _kernels_missing():
        return problem
    device = inputs.bases.device
    if device.type != "cuda" and not (device.type == "cpu" and interpreted()):
        found = "torch sees none here" if not torch.cuda.is_available() else "there is one here"
        return f"it needs tensors on a CUDA device ({found}); got {device}"
    for name, tensor in (("bases", inputs.bases), ("attention", inputs.attention)):
        if tensor.dtype not in STORAGE:
            return f"its arithmetic is float32; got {name} of {tensor.dtype}"
    if inputs.K > K_MOST or inputs.M > M_MOST:
        return f"it serves K up to {K_MOST} and M up to {M_MOST}; got K={inputs.K} and M={inputs.M}"
    if inputs.bases[0].numel() >= 2**31:
        return f"it serves maps of less than 2^31 numbers an image; got {check.got(inputs.bases)}"
    if not torch.compiler.is_compiling() and any(
        unpack_dual(tensor).tangent is not None for tensor in (inputs.bases, inputs.attention)
    ):
        return "it has no forward-mode derivative"  # and torch would take that for 0, without a word
    return None


def run(blender: Blender, inputs: BlenderInputs, sigmoid: bool = False) -> Tensor:
    """The kernel on inputs for which neither `refusal` nor `cannot_run` has an objection."""
    return _operator(
        inputs.bases,
        inputs.attention,
        inputs.boxes.detach(),
        blender.output_size,
        blender.spatial_scale,
        blender.sampling_ratio,
        blender.interpolation == "nearest",
        sigmoid,
    )


def interpreted() -> bool:
    """Whether TRITON_INTERPRET=1 was set before Triton was imported: the kernels then run in Python, on a CPU."""
    return type(_kernels().forward).__name__ == "InterpretedFunction"


def _kernels() -> ModuleType:
    from . import fused_kernels  # here, since Triton is a second to import, and not to be had everywhere

    return fused_kernels


def _kernels_missing() -> str | None:
    try:
        _kernels()
    except ImportError as error:
        return f"it needs Triton, which comes with torch for CUDA on Linux; importing it failed: {error}"
    return None


# The operator: blendlab::fused_blend. Boxes (N,5) on the device; everything else has been checked.


@torch.library.custom_op("blendlab::fused_blend", mutates_args=())
def _operator(
    bases: Tensor,
    attention: Tensor,
    boxes: Tensor,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int,
    nearest: bool,
    sigmoid: bool,
) -> Tensor:
    (B, K, H, W), (N, _, M, _), R = bases.shape, attention.shape, output_size
    out = bases.new_empty(N, R, R, dtype=torch.float32)
    if N == 0:
        return out
    K_full, pixels, warps = _tile(K)
    with torch.cuda.device_of(bases):
        _kernels().forward[N, -(-R * R // pixels)](
            *_as_read(bases, attention, boxes), out, B, H, W, spatial_scale,
            K, M, R, sampling_ratio, nearest, sigmoid, K_full, pixels, num_warps=warps,
        )  # fmt: skip
    return out


@torch.library.custom_op("blendlab::fused_blend_backward", mutates_args=())
def _backward_operator(
    gradient: Tensor,
    bases: Tensor,
    attention: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    nearest: bool,
    sigmoid: bool,
    to_bases: bool,
    to_attention: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of bases and attention; of one that is not wanted an empty tensor."""
    (B, K, H, W), (N, _, M, _), R = bases.shape, attention.shape, gradient.shape[-1]
    K_full, C, cells, warps = _columns(K, M, R)
    parts = -(-R // C)
    d_bases = _zeros_channels_last(bases, to_bases)
    d_attention = bases.new_zeros((parts * N, K, M, M) if to_attention else 0, dtype=torch.float32)
    if N > 0:
        with torch.cuda.device_of(bases):
            _kernels().backward[N, parts](
                gradient.contiguous(), *_as_read(bases, attention, boxes), d_bases, d_attention, B, N, H, W,
                spatial_scale, K, M, R, sampling_ratio, nearest, sigmoid, to_bases, to_attention,
                K_full, C, cells, num_warps=warps,
            )  # fmt: skip
    if to_attention and parts > 1:
        d_attention = d_attention.view(parts, N, K, M, M).sum(0)
    return d_bases.to(bases.dtype), d_attention.to(attention.dtype)


@_operator.register_fake
def _(bases, attention, boxes, output_size, spatial_scale, sampling_ratio, nearest, sigmoid):
    return bases.new_empty(attention.shape[0], output_size, output_size, dtype=torch.float32)


@_backward_operator.register_fake
def _(gradient, bases, attention, boxes, spatial_scale, sampling_ratio, nearest, sigmoid, to_bases, to_attention):
    d_bases = _zeros_channels_last(bases, to_bases).to(bases.dtype)
    return d_bases, attention.new_empty(attention.shape if to_attention else 0)


def _remember(ctx, inputs, output) -> None:
    bases, attention, boxes, _, *ctx.settings = inputs
    ctx.save_for_backward(bases, attention, boxes)


def _differentiate(ctx, gradient: Tensor):
    to_bases, to_attention = ctx.needs_input_grad[:2]
    d_bases, d_attention = _backward_operator(gradient, *ctx.saved_tensors, *ctx.settings, to_bases, to_attention)
    return d_bases if to_bases else None, d_attention if to_attention else None, *([None] * 6)


def _no_second_derivative(ctx, *gradients: Tensor):
    raise RuntimeError("the fused kernel has no second derivative; the steps have: Blender(backend='torch')")


_operator.register_autograd(_differentiate, setup_context=_remember)
_backward_operator.register_autograd(_no_second_derivative)


def _as_read(bases: Tensor, attention: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the kernels read them: bases channels last, boxes in float32 (half precision has too few digits)."""
    return bases.contiguous(memory_format=torch.channels_last), attention.contiguous(), boxes.float().contiguous()


def _zeros_channels_last(bases: Tensor, wanted: bool) -> Tensor:
    if not wanted:
        return bases.new_empty(0, dtype=torch.float32)
    return torch.zeros_like(bases, dtype=torch.float32, memory_format=torch.channels_last)


# Tile sizes: about four numbers of a tile a thread.


def _tile(K: int) -> tuple[int, int, int]:
    """For the forward pass: K filled up to a power of two, pixels a tile, warps a program."""
    K_full = _power_of_two(K)
    return K_full, max(16, 512 // K_full), 4


def _columns(K: int, M: int, R: int) -> tuple[int, int, int, int]:
    """For the backward pass: K filled up, columns a program, attention cells it spreads to at once, warps."""
    K_full, C = _power_of_two(K), min(64, max(16, _power_of_two(R)))
    cells = max(1, min(_power_of_two(M), 4096 // (C * K_full)))
    return K_full, C, cells, min(8, max(1, C * K_full // 128))


def _power_of_two(number: int) -> int:
    """The least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()
