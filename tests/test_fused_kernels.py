"""The fused kernels against the steps in float64: natively where there is a GPU, else in Triton's interpreter.

Without a GPU this module runs in a process of its own, which tests/test_fused.py starts with TRITON_INTERPRET=1 (it
must be set before Triton is imported). Sizes are small: the interpreter takes a second for what a GPU does in 20 us.

Tolerance: the norm of the difference over the norm of the reference, 1e-5 in float32 and 1e-2 in half precision.
"""

import os

import pytest
import strategies
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blendlab import Blender, fused
from blendlab.fused import fused_blend, fused_probabilities

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("runs in Triton's interpreter, in a process that test_fused.py starts", allow_module_level=True)

triton = pytest.importorskip("triton")  # after the variable has been looked at
import triton.language as tl  # noqa: E402

from blendlab import fused_kernels  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = ((1, 1, 1), (3, 4, 5), (4, 14, 6), (5, 3, 4), (2, 9, 3), (4, 5, 5))  # (K,M,R): M above, at and below R
BOXES = torch.tensor(
    [
        [0, 3, 2, 31, 30],  # inside
        [1, -9, 5.5, 20, 22],  # across the border
        [0, -19, -20.5, 90, 81],  # around the map
        [1, 7, 7, 7, 20],  # a line
        [1, 200, 200, 240, 240],  # outside
    ]
)


def inputs(K=3, M=4, dtype=torch.float32, boxes=BOXES, H=9, W=11):
    bases, attention = torch.randn(2, K, H, W), torch.randn(len(boxes), K, M, M) * 2
    return bases.to(DEVICE, dtype), attention.to(DEVICE, dtype), boxes.to(DEVICE)


def by_steps(bases, attention, boxes, R, scale=0.25, ratio=1, interpolation="bilinear"):
    blender = Blender(R, scale, sampling_ratio=ratio, interpolation=interpolation, backend="torch")
    return blender.logits(bases.double(), attention.double(), boxes.double())


def error(got, expected):
    assert got.shape == expected.shape and got.isfinite().all()
    difference = (got.double() - expected.double()).norm()
    return 0.0 if difference == 0 else float(difference / expected.double().norm())


def both(given, R, *how, sigmoid=False):
    """(result, gradient of bases, gradient of attention) of the kernel, and of the steps in float64."""
    results = []
    for kernel in (True, False):
        bases, attention = (tensor.detach().clone().requires_grad_() for tensor in given[:2])
        if kernel:
            out = (fused_probabilities if sigmoid else fused_blend)(bases, attention, given[2], R, *how)
            weight = torch.randn_like(out)
        else:
            bases, attention = (tensor.detach().double().requires_grad_() for tensor in given[:2])
            out = by_steps(bases, attention, given[2], R, *how)
            out = out.sigmoid() if sigmoid else out
        results.append((out.detach(), *torch.autograd.grad(out, (bases, attention), weight.to(out))))
    return results


def assert_same(given, R, *how, limit=1e-5, **more):
    (out, d_bases, d_attention), (expected, expected_bases, expected_attention) = both(given, R, *how, **more)
    assert out.dtype == torch.float32 and d_bases.dtype == given[0].dtype and d_attention.dtype == given[1].dtype
    assert error(out, expected) < limit
    assert error(d_bases, expected_bases) < limit
    if given[0].shape[1] > 1:
        assert error(d_attention, expected_attention) < limit
    else:  # one basis has weight 1 whatever its attention
        assert not d_attention.any()


# --- any box, any map


@settings(max_examples=30 if DEVICE == "cuda" else 12)
@given(
    st.sampled_from(SHAPES),
    st.integers(1, 7),
    st.integers(1, 7),
    strategies.boxes(images=2),
    strategies.scales,
    st.sampled_from(fused.RATIOS),
    st.sampled_from(("bilinear", "nearest")),
)
def test_any_boxes_forward_and_backward(shape, H, W, boxes, scale, ratio, interpolation):
    K, M, R = shape
    given = inputs(K, M, boxes=boxes.float()[:3], H=H, W=W)
    assume(not strategies.on_the_brink(given[0], boxes[:3], R, scale, ratio, True, margin=1e-3))
    assert_same(given, R, scale, ratio, interpolation)


def test_samples_at_the_very_limits():
    """A sample exactly one cell outside takes the edge's value, one farther out is 0: every eighth of a cell around."""
    ramp = torch.arange(1.0, 13).view(1, 1, 3, 4).to(DEVICE)
    for axis, length in ((0, 4), (1, 3)):
        at = torch.arange(-12, 8 * length + 13) / 8  # where the one sample of each box falls, in cells
        centre = torch.ones(len(at), 2)
        centre[:, axis] = at
        boxes = torch.cat((centre + 0.5 - 0.25, centre + 0.5 + 0.25), 1).to(DEVICE)
        got = fused_blend(ramp, torch.zeros(len(at), 1, 1, 1, device=DEVICE), boxes, 1, 1.0).flatten().cpu()
        inside = (at >= -1) & (at <= length)
        held = at.clamp(0, length - 1)
        expected = torch.where(inside, (5 + held) if axis == 0 else (2 + 4 * held), 0.0)
        assert torch.equal(got, expected)


def test_boxes_outside_are_0_and_boxes_of_no_area_read_their_point():
    bases, attention, _ = inputs()
    boxes = torch.tensor([[1, 200.0, 2, 240, 30], [0, -1e30, -1e30, -1e29, -1e29], [0, 8, 8, 8, 8]], device=DEVICE)
    out = fused_blend(bases, attention[:3], boxes, 4)
    assert not out[:2].any() and error(out[2:], by_steps(bases, attention[2:3], boxes[2:], 4)) < 1e-5
    assert out[2].any()


def test_far_from_the_origin_a_sample_keeps_its_digits():
    """Near cell 4000 a float32 position has an error of 1e-4; on noise that would be one of the result too."""
    boxes = torch.tensor([[0, 16001.3, 1.1, 16020.7, 15.9]], device=DEVICE)
    given = inputs(2, 3, boxes=boxes, H=5, W=4010)
    assert error(fused_blend(*given, 4), by_steps(*given, 4)) < 2e-6


@triton.jit
def cells_of(starts, sides, lengths, out, COUNT: tl.constexpr):
    i, sample = tl.program_id(0), tl.arange(0, COUNT)
    start, side, length = tl.load(starts + i), tl.load(sides + i), tl.load(lengths + i)
    cell, after, _, _ = fused_kernels.sample_at(start, side, sample, COUNT, length)
    tl.store(out + (2 * i) * COUNT + sample, cell)
    tl.store(out + (2 * i + 1) * COUNT + sample, after)


def test_no_sample_of_any_box_has_a_cell_beyond_the_map():
    """Far from 0 neighbouring float32 are several cells apart; a cell beyond the map is memory of something else."""
    starts = torch.cat([sign * 2.0 ** torch.linspace(0, 110, 300) for sign in (-1, 1)])
    sides = starts.abs() * torch.rand(len(starts)) * 3
    lengths = torch.randint(1, 5000, (len(starts),), dtype=torch.int32)
    out = torch.full((len(starts), 2, 64), -1, dtype=torch.int32, device=DEVICE)
    cells_of[(len(starts),)](starts.to(DEVICE), sides.to(DEVICE), lengths.to(DEVICE), out, 64)
    assert (out >= 0).all() and (out.cpu() < lengths[:, None, None]).all()


def test_no_boxes():
    bases, attention, boxes = inputs()
    bases.requires_grad_()
    out = fused_blend(bases, attention[:0], boxes[:0], 6)
    assert out.shape == (0, 6, 6)
    out.sum().backward()
    assert bases.grad.shape == bases.shape and not bases.grad.any()


# --- sizes


@pytest.mark.parametrize(("K", "M", "R"), [(32, 1, 2), (17, 3, 3), (2, 64, 2)])
def test_many_bases_and_fine_attention(K, M, R):
    assert_same(inputs(K, M, boxes=BOXES[1:3]), R)


def test_a_walk_of_several_parts_gives_the_same(monkeypatch):
    """R above a program's columns, and attention wider than it spreads to at once: sizes that a GPU has at R > 64."""
    monkeypatch.setattr(fused, "_columns", lambda K, M, R: (4, 4, 2, 1))
    monkeypatch.setattr(fused, "_tile", lambda K: (4, 16, 1))
    assert_same(inputs(3, 5, boxes=BOXES[1:3]), 6, 0.25, 2)


def test_each_image_keeps_to_its_boxes():
    bases, attention, boxes = inputs()
    out = fused_blend(bases, attention, boxes, 4)
    for n, box in enumerate(boxes):
        alone = fused_blend(bases[int(box[0])][None], attention[n : n + 1], box[None, 1:], 4)
        assert torch.equal(out[n : n + 1], alone)


def test_one_basis_is_the_crop_bit_for_bit():
    bases, attention, boxes = inputs(K=1)
    first, second = (fused_blend(bases, a, boxes, 4) for a in (attention, attention * 50))
    assert torch.equal(first, second)


# --- precision, layout, modes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_storage_alone(dtype):
    given = inputs(4, 5, dtype, BOXES[:3])
    assert_same(given, 4, limit=1e-2)
    lifted = fused_blend(given[0].float(), given[1].float(), given[2], 4)
    assert torch.equal(fused_blend(*given, 4), lifted)


def test_autocast_mixes_dtypes_and_keeps_float32():
    bases, attention, boxes = inputs(boxes=BOXES[:2])
    expected = fused_blend(bases.bfloat16().float(), attention, boxes, 4)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        bases = bases.bfloat16().requires_grad_()
        got = fused_blend(bases, attention, boxes, 4)
        got.sum().backward()
    assert torch.equal(got, expected) and bases.grad.dtype == torch.bfloat16 and bases.grad.any()


def test_layout_of_the_inputs_does_not_matter():
    bases, attention, boxes = inputs(boxes=BOXES[:2])
    expected = fused_blend(bases, attention, boxes, 4)
    strided = torch.stack((boxes, boxes), 2)[:, :, 0]
    for same in (
        (bases.contiguous(memory_format=torch.channels_last), attention, boxes),
        (bases.mT.contiguous().mT, attention.mT.contiguous().mT, strided),
        (torch.cat((bases, bases), 3)[..., :11], attention.permute(1, 0, 2, 3).contiguous().transpose(0, 1), boxes),
        (bases, attention, boxes.double()),
        (bases, attention, [boxes[:1, 1:], boxes[1:, 1:]]),
    ):
        assert torch.equal(fused_blend(*same, 4), expected)


def test_a_gradient_that_is_not_contiguous():
    given = [t.requires_grad_(i < 2) for i, t in enumerate(inputs(boxes=BOXES[:2]))]
    weight = torch.randn(2, 4, 4, device=DEVICE)
    straight = torch.autograd.grad(fused_blend(*given, 4), given[:2], weight)
    turned = torch.autograd.grad(fused_blend(*given, 4), given[:2], weight.mT.contiguous().mT)
    for one, other in zip(straight, turned, strict=True):
        assert error(one, other) < 1e-6


def test_the_variant_with_the_sigmoid():
    assert_same(inputs(boxes=BOXES[:3]), 4, 0.25, 2, sigmoid=True)


def test_the_same_again():
    bases, attention, boxes = inputs(boxes=BOXES[:3])
    attention.requires_grad_()
    runs = [fused_blend(bases, attention, boxes, 4) for _ in range(2)]
    assert torch.equal(*runs)
    grads = [torch.autograd.grad(run.square().sum(), attention)[0] for run in runs]
    assert torch.equal(*grads)


@pytest.mark.parametrize("which", [0, 1])
def test_a_gradient_for_one_input_alone(which):
    given = inputs(boxes=BOXES[:2])
    given[which].requires_grad_()
    weight = torch.ones(2, 4, 4, device=DEVICE)
    (got,) = torch.autograd.grad(fused_blend(*given, 4), given[which], weight)
    wanted = given[which].detach().double().requires_grad_()
    double = [wanted if i == which else t.detach().double() for i, t in enumerate(given)]
    (expected,) = torch.autograd.grad(by_steps(*double, 4), wanted, weight.double())
    assert error(got, expected) < 1e-5


# --- an operator of torch


@pytest.mark.parametrize("requires_grad", [False, True])
def test_torchs_own_checks_of_the_operator(requires_grad):
    bases, attention, boxes = inputs(boxes=BOXES[:2])
    given = (bases.requires_grad_(requires_grad), attention.requires_grad_(requires_grad), boxes)
    torch.library.opcheck(torch.ops.blendlab.fused_blend, (*given, 3, 0.25, 1, False, False), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("to_bases", "to_attention"), [(True, True), (True, False), (False, True)])
def test_torchs_own_checks_of_the_backward_operator(to_bases, to_attention):
    bases, attention, boxes = inputs(boxes=BOXES[:2])
    given = (torch.randn(2, 3, 3, device=DEVICE), bases.bfloat16(), attention.half(), boxes)
    settings = (0.25, 1, False, False, to_bases, to_attention)
    torch.library.opcheck(torch.ops.blendlab.fused_blend_backward, (*given, *settings), atol=1e-2, rtol=1e-2)


def test_a_second_derivative_is_refused_with_the_way_out():
    given = [t.requires_grad_(i < 2) for i, t in enumerate(inputs(boxes=BOXES[:1]))]
    loss = fused_blend(*given, 2).square().sum()
    for first in torch.autograd.grad(loss, given[:2], create_graph=True):
        with pytest.raises(RuntimeError, match=r"no second derivative; the steps have: Blender\(backend='torch'\)"):
            torch.autograd.grad(first.sum(), given[0], retain_graph=True)


@pytest.mark.parametrize("which", [0, 1])
def test_a_forward_mode_derivative_is_the_steps_and_not_a_silent_0(which):
    given = inputs(boxes=BOXES[:2])
    direction = torch.randn_like(given[which])

    def along(function):
        def of_one(tensor):
            return function(*given[:which], tensor, *given[which + 1 :])

        return torch.func.jvp(of_one, (given[which],), (direction,))[1]

    expected = along(Blender(4, backend="torch").logits)
    assert expected.any() and error(along(lambda *tensors: fused_blend(*tensors, 4)), expected) < 1e-6
    with pytest.raises(ValueError, match="backend='fused' cannot run: it has no forward-mode derivative"):
        along(Blender(4, backend="fused").logits)


def test_compiled_without_a_break_in_the_graph():
    given = [t.requires_grad_(i < 2) for i, t in enumerate(inputs(boxes=BOXES[:3]))]

    def loss(bases, attention, boxes):
        return (fused_blend(bases * 2, attention, boxes, 4).sigmoid() - 0.3).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    eager, graph = loss(*given), compiled(*given)
    torch.testing.assert_close(graph, eager)
    for one, other in zip(torch.autograd.grad(graph, given[:2]), torch.autograd.grad(eager, given[:2]), strict=True):
        assert error(one, other) < 1e-5


def test_a_bad_box_inside_a_compiled_function_is_nan_and_reads_nowhere_else():
    bases, attention, _ = inputs()
    nan = float("nan")
    bad = [[0, nan, 2, 31, 30], [1, 20, 5.5, -9, 22], [2, 3, 2, 31, 30], [-1, 3, 2, 31, 30], [0, 3, 2, 31, 30]]
    boxes = torch.tensor(bad, device=DEVICE)
    out = torch.compile(fused_blend, fullgraph=True, backend="eager")(bases, attention, boxes, 3)
    assert out[:4].isnan().all() and torch.equal(out[4:], fused_blend(bases, attention[4:], boxes[4:], 3))
    with pytest.raises(ValueError, match=r"boxes\[0\] must be finite"):
        fused_blend(bases, attention, boxes, 3)


def test_blender_takes_the_kernel_where_it_is_asked_to(monkeypatch):
    given = inputs(boxes=BOXES[:2])
    calls, run = [], fused.run
    monkeypatch.setattr(fused, "run", lambda *a: calls.append(a) or run(*a))
    out = Blender(4, backend="fused").logits(*given)
    assert len(calls) == 1 and error(out, by_steps(*given, 4)) < 1e-5
    Blender(4).logits(*given)
    assert len(calls) == (2 if DEVICE == "cuda" else 1)  # "auto" is the kernel on a GPU alone
    for other in (Blender(4, backend="torch"), Blender(4, normalizer="sigmoid"), Blender(4, sampling_ratio=3)):
        other.logits(*given)
    Blender(4, backend="fused")(*given)  # a trace keeps every step
    assert len(calls) == (2 if DEVICE == "cuda" else 1)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((inputs(33, 2), 2), "K up to 32 and M up to 64; got K=33 and M=2"),
        ((inputs(2, 65), 2), "K up to 32 and M up to 64; got K=2 and M=65"),
        (([t.double() for t in inputs()], 2), "float32; got bases of torch.float64"),
    ],
)
def test_what_it_does_not_serve_goes_by_the_steps(given, reason):
    tensors, R = given
    with pytest.raises(ValueError, match=f"backend='fused' cannot run: .*{reason}"):
        Blender(R, backend="fused").logits(*tensors)
    out = fused_blend(*tensors, R)
    assert error(out, by_steps(*tensors, R)) < 1e-5 and out.dtype == tensors[0].dtype


# --- natively alone


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("N", "K", "M", "R", "ratio", "interpolation"),
    [
        (200, 4, 14, 56, 1, "bilinear"),
        (50, 16, 14, 112, 2, "nearest"),
        (10, 32, 64, 224, 1, "bilinear"),
        (40, 1, 14, 56, 2, "bilinear"),
        (40, 5, 28, 28, 1, "nearest"),
    ],
)
def test_real_sizes(N, K, M, R, ratio, interpolation, dtype):
    corner, size = torch.rand(N, 2) * 500 - 50, 1 + torch.rand(N, 2) * 400
    boxes = torch.cat((torch.randint(2, (N, 1)).float(), corner, corner + size), 1)
    given = inputs(K, M, dtype, boxes, 100, 133)
    assert_same(given, R, 0.25, ratio, interpolation, limit=1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.gpu
def test_more_numbers_than_an_int32_counts():
    N, R = 45_000, 224
    bases = torch.randn(1, 1, 50, 50, device="cuda")
    boxes = torch.tensor([0, 20.0, 30, 150, 170], device="cuda").repeat(N, 1)
    attention = torch.zeros(N, 1, 1, 1, device="cuda")
    out = fused_blend(bases, attention, boxes, R)
    assert out.numel() > 2**31 and torch.equal(out[-1], out[0]) and torch.equal(out[N // 2], out[0])


@pytest.mark.gpu
def test_boxes_are_looked_at_once_and_again_when_they_have_changed():
    bases, attention, boxes = inputs()
    fused_blend(bases, attention, boxes, 4)
    with torch.cuda.graph(torch.cuda.CUDAGraph()):  # a capture forbids to wait for the device
        fused_blend(bases, attention, boxes, 4)
    boxes[2, 1] = float("nan")
    with pytest.raises(ValueError, match=r"boxes\[2\] must be finite"):
        fused_blend(bases, attention, boxes, 4)
