"""The whole blender: every option against the chain of slow loops, its trace, its backends, and what it teaches.

Tolerances: float64 1e-10; float32 1e-4 where crops of two implementations meet (see test_steps), else 1e-5.
"""

import itertools

import pytest
import torch
import twins
from torch.autograd import gradcheck
from torch.testing import assert_close

from blendlab import Blender, BlenderInputs, BlendTrace, blend, interpolate, roi_align, roi_pool, softmax

pytestmark = pytest.mark.usefixtures("one_thread")
F64 = {"rtol": 0, "atol": 1e-10}
F32 = {"rtol": 0, "atol": 1e-4}
STEPS = ("regions", "attention", "upsampled", "scores", "products", "logits", "probabilities")
FORMS = [  # (normalizer, K)
    *itertools.product(("softmax", "sigmoid", "tanh", "none"), (3,)),
    ("softmax", 1),
    ("product", 1),
]


def inputs(K=3, M=4, B=2, dtype=torch.float64):
    """Five boxes on two maps of 9 x 11 at stride 4: inside, across the border, large, and one empty."""
    boxes = torch.tensor(
        [[0, 3, 2, 31, 30], [1, -9, 5.5, 20, 22], [0, -19, -20.5, 90, 81], [1, 7, 7, 7, 20], [1, 1, 1, 9, 9]]
    )
    boxes[:, 0].clamp_(max=B - 1)
    return torch.randn(B, K, 9, 11, dtype=dtype), torch.randn(5, K, M, M, dtype=dtype) * 2, boxes.to(dtype)


def looped(blender, bases, attention, boxes):
    """Every intermediate, from the slow loops alone."""

    def normalize(values):
        if blender.normalizer == "softmax":
            return twins.softmax(values)
        return {"tanh": torch.tanh, "none": lambda v: v}.get(blender.normalizer, torch.sigmoid)(values)

    R, scale = blender.output_size, blender.spatial_scale
    if blender.pooling == "pool":
        regions = twins.roi_pool(bases, boxes, R, scale)
    else:
        regions = twins.roi_align(bases, boxes, R, scale, blender.sampling_ratio, blender.aligned)
    if blender.order == "normalize-first":
        upsampled = scores = twins.interpolate(normalize(attention), R, blender.interpolation)
    else:
        upsampled = twins.interpolate(attention, R, blender.interpolation)
        scores = normalize(upsampled)
    if blender.normalizer == "product":
        products = scores * regions.sigmoid()
        logits = products[:, 0].logit()
    else:
        products, logits = regions * scores, twins.blend(regions, scores)
    return regions, attention, upsampled, scores, products, logits, logits.sigmoid()


# --- every option


@pytest.mark.parametrize("order", ["interpolate-first", "normalize-first"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(("normalizer", "K"), FORMS)
def test_every_weighting_is_the_chain_of_loops(normalizer, K, interpolation, order):
    blender = Blender(5, normalizer=normalizer, interpolation=interpolation, order=order)
    given = inputs(K)
    trace = blender(*given)
    for name, expected in zip(STEPS, looped(blender, *given), strict=True):
        assert_close(getattr(trace, name), expected, **F64, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "pool"},
        {"aligned": False},
        {"sampling_ratio": 3},
        {"sampling_ratio": 0, "aligned": False},
        {"sampling_ratio": -1},
        {"spatial_scale": 0.5},
        {"output_size": 1},
        {"output_size": 2},
    ],
    ids=str,
)
def test_every_crop_is_the_chain_of_loops(options):
    blender, given = Blender(**{"output_size": 5, **options}), inputs()
    for name, expected in zip(STEPS, looped(blender, *given), strict=True):
        assert_close(getattr(blender(*given), name), expected, **F64, msg=lambda m, name=name: f"{name}: {m}")


def test_the_defaults_are_the_reference_blender():
    bases, attention, boxes = inputs(K=4, M=14)
    trace = Blender()(bases, attention, boxes)
    regions = roi_align(bases, boxes, 56, 0.25, 1, True)
    scores = softmax(interpolate(attention, 56, "bilinear", False))
    assert_close(trace.logits, blend(regions, scores), **F64)
    assert trace.logits.shape == (5, 56, 56)


def test_pooling_is_roi_pool():
    bases, attention, boxes = inputs()
    assert torch.equal(Blender(7, pooling="pool")(bases, attention, boxes).regions, roi_pool(bases, boxes, 7))


# --- the trace


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_trace_has_every_step_by_name_and_shape(dtype):
    given = inputs(dtype=dtype)
    blender = Blender(6)
    trace = blender(*given)
    shapes = [(5, 3, 6, 6), (5, 3, 4, 4), (5, 3, 6, 6), (5, 3, 6, 6), (5, 3, 6, 6), (5, 6, 6), (5, 6, 6)]
    assert [tuple(getattr(trace, name).shape) for name in STEPS] == shapes
    assert {getattr(trace, name).dtype for name in STEPS} == {dtype}
    assert isinstance(trace, BlendTrace) and trace.settings is blender
    assert trace.inputs.bases is given[0] and trace.inputs.attention is given[1]
    assert torch.equal(trace.inputs.boxes, given[2]) and trace.inputs.spatial_scale == 0.25
    assert (trace.inputs.N, trace.inputs.K, trace.inputs.M) == (5, 3, 4)
    assert repr(trace.inputs) == "BlenderInputs(B=2, N=5, K=3, M=4, H=9, W=11)"
    assert repr(trace) == f"BlendTrace({trace.inputs!r}, {blender!r})"


def test_the_steps_of_a_trace_follow_from_one_another():
    trace = Blender(6)(*inputs())
    assert torch.equal(trace.products, trace.regions * trace.scores)
    assert torch.equal(trace.logits, trace.products.sum(1))
    assert torch.equal(trace.probabilities, trace.logits.sigmoid())
    assert torch.equal(trace.scores, trace.upsampled.softmax(1))


@pytest.mark.parametrize("backend", ["auto", "torch", "torchvision"])
@pytest.mark.parametrize(("normalizer", "K"), FORMS)
def test_logits_alone_are_the_traces(normalizer, K, backend):
    for order, pooling in itertools.product(("interpolate-first", "normalize-first"), ("align", "pool")):
        blender = Blender(6, normalizer=normalizer, order=order, pooling=pooling, backend=backend)
        given = inputs(K, dtype=torch.float32)
        assert_close(blender.logits(*given), blender(*given).logits, rtol=0, atol=1e-5)


def test_traces_and_inputs_compare_by_identity():
    """Their tensors have no single truth value, so anything else would raise in a list's `in`."""
    given = inputs()
    first, second = Blender(3)(*given), Blender(3)(*given)
    assert first == first and first != second and first.inputs != second.inputs
    assert second in [first, second] and len({first, second}) == 2


# --- settings


def test_settings_compare_hash_and_print_by_value():
    import numpy as np

    assert Blender() == Blender(56, 0.25) == Blender(output_size=(56, 56), spatial_scale=1 / 4)
    assert Blender() != Blender(order="normalize-first") and Blender(28) != Blender(56)
    assert len({Blender(), Blender(56), Blender(28)}) == 2
    expected = (
        "Blender(output_size=28, spatial_scale=1.0, sampling_ratio=2, aligned=True, pooling='align',"
        " interpolation='bilinear', normalizer='softmax', order='interpolate-first', backend='auto')"
    )
    blender = Blender(28, 1, sampling_ratio=2)
    assert repr(blender) == expected and eval(expected) == blender
    assert repr(Blender(np.int64(28), np.float32(1), sampling_ratio=np.int64(2))) == expected
    with pytest.raises(AttributeError):
        blender.output_size = 7


def test_options_go_by_name_only():
    with pytest.raises(TypeError):
        Blender(56, 0.25, 1)


# --- backends


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [1, 2, 0])
@pytest.mark.parametrize("aligned", [True, False])
def test_torchvisions_crop_gives_the_same_blend_and_gradient(ratio, aligned, dtype):
    bases, attention, boxes = (t.requires_grad_(i < 2) for i, t in enumerate(inputs(dtype=dtype)))
    boxes[:, 1:] += 0.0137  # no sample on the map's very limits, where rounding would decide
    results = []
    for backend in ("torch", "torchvision"):
        blender = Blender(7, sampling_ratio=ratio, aligned=aligned, backend=backend)
        trace = blender(bases, attention, boxes)
        results.append((trace, torch.autograd.grad(trace.logits.square().sum(), (bases, attention))))
    (ours, grads), (theirs, their_grads) = results
    for name in STEPS:
        assert_close(getattr(ours, name), getattr(theirs, name), **(F64 if dtype == torch.float64 else F32))
    # squared logits of up to 6 and 245 pixels add up: a hundred times the crop's own error
    for mine, other in zip(grads, their_grads, strict=True):
        assert_close(mine, other, rtol=0, atol=1e-8 if dtype == torch.float64 else 1e-2)


def test_torchvisions_pooling_gives_the_same_regions_and_gradient():
    bases, attention, boxes = torch.randn(2, 3, 9, 11), torch.randn(40, 3, 4, 4), torch.rand(40, 5) * 30 - 5
    boxes = torch.cat((torch.randint(2, (40, 1)), boxes[:, 1:3], boxes[:, 1:3] + boxes[:, 3:].abs()), 1)
    found = []
    for backend in ("torch", "torchvision"):
        leaf = bases.clone().requires_grad_()
        regions = Blender(5, pooling="pool", backend=backend)(leaf, attention, boxes).regions
        regions.square().sum().backward()
        found.append((regions, leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert_close(found[0][1], found[1][1], atol=1e-4, rtol=1e-4)


def test_adaptive_sampling_without_end_is_refused_by_torchvisions_crop_too():
    boxes = torch.tensor([[0, 0, 0, 1e9, 1e9]])
    with pytest.raises(ValueError, match="boxes.*8192 map pixels.*got one of 2.5e"):
        Blender(4, sampling_ratio=0, backend="torchvision")(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2), boxes)


def test_auto_is_ours_on_the_cpu():
    given = inputs()
    assert torch.equal(Blender(7).logits(*given), Blender(7, backend="torch").logits(*given))


# --- gradients, precision, modes


@pytest.mark.parametrize("order", ["interpolate-first", "normalize-first"])
@pytest.mark.parametrize(("normalizer", "K"), FORMS)
@pytest.mark.parametrize("options", [{}, {"pooling": "pool"}, {"interpolation": "nearest", "aligned": False}], ids=str)
def test_gradcheck(normalizer, K, order, options):
    bases, attention = torch.randn(2, K, 5, 5, dtype=torch.float64), torch.randn(3, K, 2, 2, dtype=torch.float64)
    boxes = torch.tensor([[0, 1.3, 2.1, 14.9, 17.3], [1, -5.2, 3.1, 9.7, 30], [1, 3, 3, 12, 12.0]], dtype=torch.float64)
    blender = Blender(3, normalizer=normalizer, order=order, **options)
    assert gradcheck(lambda b, a: blender.logits(b, a, boxes), (bases.requires_grad_(), attention.requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["torch", "torchvision"])
def test_half_inputs_blend_in_float32(dtype, backend):
    bases, attention, boxes = inputs(dtype=torch.float32)
    bases, attention = bases.to(dtype), attention.to(dtype)
    trace = Blender(6, backend=backend)(bases, attention, boxes)
    assert {getattr(trace, name).dtype for name in STEPS} == {torch.float32}
    assert_close(trace.logits, Blender(6, backend=backend).logits(bases.float(), attention.float(), boxes))
    bases.requires_grad_(), attention.requires_grad_()
    Blender(6, backend=backend).logits(bases, attention, boxes).sum().backward()
    assert bases.grad.dtype == attention.grad.dtype == dtype and bases.grad.isfinite().all()


def test_autocast_leaves_the_blend_in_float32_and_lets_dtypes_mix():
    bases, attention, boxes = inputs(dtype=torch.float32)
    expected = Blender(6).logits(bases.bfloat16().float(), attention, boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = Blender(6).logits(bases.bfloat16(), attention, boxes)
    assert got.dtype == torch.float32
    assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("normalizer", ["softmax", "sigmoid"])
def test_inference_mode_first_and_training_after(normalizer):
    blender, (bases, attention, boxes) = Blender(43, normalizer=normalizer), inputs(M=13)
    with torch.inference_mode():
        first = blender.logits(bases, attention, boxes)
    out = blender.logits(bases.requires_grad_(), attention.requires_grad_(), boxes)
    assert torch.equal(out, first)
    out.sum().backward()
    assert bases.grad.any() and attention.grad.any()


def test_mask_loss_reaches_every_input_it_should():
    bases, attention, boxes = inputs()
    boxes.requires_grad_()
    logits = Blender(6).logits(bases.requires_grad_(), attention.requires_grad_(), boxes)
    torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
    assert bases.grad.any() and attention.grad.any() and boxes.grad is None


@pytest.mark.parametrize("backend", ["torch", "torchvision"])
@pytest.mark.parametrize("pooling", ["align", "pool"])
@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_no_boxes_give_an_empty_trace(backend, pooling, ratio):
    bases, attention = torch.randn(2, 3, 5, 5), torch.zeros(0, 3, 4, 4)
    blender = Blender(6, backend=backend, pooling=pooling, sampling_ratio=ratio)
    for boxes in (torch.zeros(0, 5), [torch.zeros(0, 4)] * 2):
        trace = blender(bases, attention, boxes)
        assert trace.regions.shape == trace.scores.shape == (0, 3, 6, 6) and trace.logits.shape == (0, 6, 6)
        assert blender.logits(bases, attention, boxes).shape == (0, 6, 6)


def test_boxes_in_any_form_and_the_instances_of_a_batch_do_not_mix():
    bases, attention, boxes = inputs()
    blender = Blender(6)
    together = blender.logits(bases, attention, boxes)
    for n, box in enumerate(boxes):
        alone = blender.logits(bases[int(box[0])][None], attention[n : n + 1], box[None, 1:])
        assert_close(together[n : n + 1], alone, **F64)
    order = boxes[:, 0].argsort(stable=True)
    parts = [boxes[boxes[:, 0] == image, 1:] for image in (0, 1)]
    assert_close(blender.logits(bases, attention[order], parts), together[order], **F64)
    kept = BlenderInputs(bases, attention[order], parts).boxes
    assert torch.equal(kept, boxes[order])


# --- what it teaches


def test_softmax_weights_keep_every_logit_in_the_hull_and_others_leave_it():
    given = inputs(K=4)
    trace = Blender(9)(*given)
    low, high = trace.regions.amin(1), trace.regions.amax(1)
    assert (trace.logits >= low - 1e-12).all() and (trace.logits <= high + 1e-12).all()
    free = Blender(9, normalizer="none")(*given).logits
    assert ((free < low) | (free > high)).any()


def test_a_constant_added_to_all_k_changes_nothing_under_softmax_alone():
    bases, attention, boxes = inputs()
    shift = torch.randn(5, 1, 4, 4, dtype=torch.float64) * 5
    assert_close(Blender(9).logits(bases, attention + shift, boxes), Blender(9).logits(bases, attention, boxes), **F64)
    free = Blender(9, normalizer="sigmoid")
    assert not torch.allclose(free.logits(bases, attention + shift, boxes), free.logits(bases, attention, boxes))


@pytest.mark.parametrize("order", ["interpolate-first", "normalize-first"])
def test_one_basis_is_inert_under_softmax_bit_for_bit(order):
    bases, attention, boxes = inputs(K=1, dtype=torch.float32)
    blender = Blender(9, order=order, interpolation="nearest" if order == "normalize-first" else "bilinear")
    first, second = (blender(bases, a, boxes) for a in (attention, torch.randn_like(attention) * 50))
    assert torch.equal(first.logits, second.logits) and torch.equal(first.logits, first.regions[:, 0])


def test_m_of_1_is_one_weighted_sum_for_the_whole_box():
    bases, attention, boxes = inputs(M=1)
    weights = attention[:, :, 0, 0].softmax(1)
    for order in ("interpolate-first", "normalize-first"):
        trace = Blender(9, order=order)(bases, attention, boxes)
        assert_close(trace.logits, torch.einsum("nk,nkij->nij", weights, trace.regions), **F64)


def test_m_of_r_needs_no_interpolation():
    bases, attention, boxes = inputs(M=9)
    for interpolation in ("bilinear", "nearest"):
        assert_close(Blender(9, interpolation=interpolation)(bases, attention, boxes).upsampled, attention, **F64)


def test_m_above_r_samples_down():
    bases, attention, boxes = inputs(M=11)
    trace = Blender(4)(bases, attention, boxes)
    assert_close(trace.upsampled, twins.interpolate(attention, 4), **F64)


@pytest.mark.parametrize(("side", "R"), [(3, 9), (3, 7), (2, 5)])
def test_one_hot_weights_are_the_assembler(side, R):
    """K = k*k bases, M = k, nearest: basis k fills tile k (FCIS's analogue). Through softmax it takes logits of 20."""
    K = side * side
    bases, boxes = torch.rand(1, K, 9, 11), torch.tensor([[2.0, 3, 30, 33]])
    one_hot = torch.eye(K).view(1, K, side, side)
    assembler = Blender(R, interpolation="nearest", normalizer="none")(bases, one_hot, boxes)
    tile = torch.arange(R) * side // R
    expected = assembler.regions[0, tile[:, None] * side + tile, torch.arange(R)[:, None], torch.arange(R)]
    assert torch.equal(assembler.logits[0], expected)
    soft = Blender(R, interpolation="nearest")
    assert_close(soft.logits(bases, one_hot * 20, boxes)[0], expected, rtol=0, atol=1e-6)
    assert (soft.logits(bases, one_hot, boxes)[0] - expected).abs().max() > 0.1


def test_order_matters_with_bilinear_and_not_with_nearest():
    given = inputs(M=5)
    paper, swapped = (Blender(20, order=order).logits(*given) for order in ("interpolate-first", "normalize-first"))
    assert (paper - swapped).abs().max() > 0.1
    orders = ("interpolate-first", "normalize-first")
    paper, swapped = (Blender(20, order=order, interpolation="nearest").logits(*given) for order in orders)
    assert_close(paper, swapped, **F64)


def test_how_many_mask_pixels_flip_on_noise():
    """Regions normal * 3 and attention normal * 2 at 14 x 14, K=4, R=56: softmax before the interpolation flips 6.1 %
    of the mask pixels, align_corners=True 8.5 %. Within a point, over 48 instances."""
    regions, attention = torch.randn(48, 4, 56, 56) * 3, torch.randn(48, 4, 14, 14) * 2
    mask = blend(regions, softmax(interpolate(attention, 56))) >= 0
    early = blend(regions, interpolate(softmax(attention), 56)) >= 0
    corners = blend(regions, softmax(interpolate(attention, 56, align_corners=True))) >= 0
    assert (mask != early).double().mean().item() == pytest.approx(0.061, abs=0.01)
    assert (mask != corners).double().mean().item() == pytest.approx(0.085, abs=0.01)


# --- the paper's K=1 form


@pytest.mark.parametrize("order", ["interpolate-first", "normalize-first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_product_is_one_logit_even_where_sigmoids_saturate(order, dtype):
    """sigmoid(m) is sigmoid(a') * sigmoid(r) to 1e-6, and logits and gradients are finite at +-200."""
    extremes = torch.tensor([-200.0, -60, -20, -1, 0, 1, 20, 60, 200], dtype=dtype)
    attention = extremes.view(9, 1, 1, 1).expand(9, 1, 2, 2).clone()
    attention[0, 0, 0, 0] = 200  # one mask with both in it
    bases = extremes.view(1, 1, 1, 9).expand(1, 1, 9, 9).clone()
    boxes = torch.tensor([[0.0, 0, 9, 9]], dtype=dtype).expand(9, 4)
    blender = Blender(9, 1.0, normalizer="product", order=order)
    trace = blender(bases.requires_grad_(), attention.requires_grad_(), boxes)
    a = attention.double()
    weight = interpolate(a, 9).sigmoid() if order == "interpolate-first" else interpolate(a.sigmoid(), 9)
    expected = weight[:, 0] * bases.double()[0].sigmoid()
    assert_close(trace.probabilities.double(), expected, rtol=0, atol=1e-6)
    assert_close(trace.products[:, 0].double(), expected, rtol=0, atol=1e-6)
    assert trace.logits.isfinite().all()
    trace.logits.sum().backward()
    assert bases.grad.isfinite().all() and attention.grad.isfinite().all()


def test_the_product_is_a_soft_minimum():
    given = inputs(K=1)
    trace = Blender(6, normalizer="product")(*given)
    smaller = torch.minimum(trace.upsampled, trace.regions)[:, 0]
    assert (trace.logits < smaller).all() and not torch.equal(trace.logits, Blender(6).logits(*given))
    # both near 0 or apart: at most log 3 below the smaller, plus what a shared positive range adds
    assert (smaller - trace.logits).max() <= torch.log(torch.tensor(3.0)) + (-smaller).clamp(max=0).abs().max()


# --- CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["auto", "torch", "torchvision"])
@pytest.mark.parametrize(("normalizer", "K"), FORMS)
def test_cuda_agrees_with_the_cpu(normalizer, K, backend):
    given = inputs(K, dtype=torch.float32)
    for order in ("interpolate-first", "normalize-first"):
        blender = Blender(14, normalizer=normalizer, order=order, backend=backend)
        on_cuda = blender(*(t.cuda() for t in given))
        assert_close(on_cuda.logits.cpu(), blender(*given).logits, rtol=0, atol=5e-4)
        assert_close(blender.logits(*(t.cuda() for t in given)), on_cuda.logits, rtol=0, atol=5e-4)


@pytest.mark.gpu
def test_training_on_cuda_after_inference_on_the_cpu():
    bases, attention, boxes = inputs(dtype=torch.float32)
    with torch.inference_mode():
        Blender(14).logits(bases, attention, boxes)
        Blender(14).logits(bases.cuda(), attention.cuda(), boxes.cuda())
    leaves = bases.cuda().requires_grad_(), attention.cuda().requires_grad_()
    Blender(14).logits(*leaves, boxes.cuda()).sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
