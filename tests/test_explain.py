"""Provenance adds up to the trace, and reverse provenance is the gradient, whatever the blender's options.

Forward: in float64 within 1e-12, in float32 within 1e-4. Reverse: against autograd in float64 within 1e-10.
"""

import itertools

import pytest
import torch
import twins
from torch.nn.functional import binary_cross_entropy_with_logits

from blendlab import Blender, explain
from blendlab.blender import NORMALIZERS

BOXES = torch.tensor(  # inside; across the left and upper edge; beyond the lower right; one cell; empty
    [[0, 9, 6, 31, 27], [1, -9, -14, 20, 12], [0, 25, 20, 61, 53], [1, 12, 12, 16, 16], [0, 14, 9, 14, 30.0]],
    dtype=torch.float64,
)
CROPS = [
    {"sampling_ratio": ratio, "aligned": aligned} for ratio, aligned in itertools.product((0, 1, 2), (True, False))
] + [{"pooling": "pool"}]
WEIGHTS = [
    {"normalizer": normalizer, "order": order, "interpolation": mode}
    for normalizer, order, mode in itertools.product(
        NORMALIZERS, ("interpolate-first", "normalize-first"), ("bilinear", "nearest")
    )
]
OPTIONS = (
    [crop | {} for crop in CROPS] + WEIGHTS + [{"pooling": "pool", "normalizer": "tanh", "order": "normalize-first"}]
)


def names(options):
    return "-".join(f"{value}" for value in options.values())


def make(options, dtype=torch.float64, R=5, M=3, requires_grad=False):
    K = 1 if options.get("normalizer") == "product" else 3
    bases = 3 * torch.randn(2, K, 9, 11, dtype=dtype)
    attention = 2 * torch.randn(len(BOXES), K, M, M, dtype=dtype)
    if requires_grad:
        bases.requires_grad_(), attention.requires_grad_()
    return Blender(R, **options)(bases, attention, BOXES.to(dtype))


def places(trace):
    N, R = trace.inputs.N, trace.settings.output_size
    return itertools.product(range(N), (0, R // 2, R - 1), (0, 1, R - 1))


@pytest.mark.parametrize("options", OPTIONS, ids=names)
@pytest.mark.parametrize(("dtype", "tolerance"), ((torch.float64, 1e-12), (torch.float32, 1e-4)), ids=("f64", "f32"))
def test_the_numbers_of_a_pixel_add_up_to_the_trace(options, dtype, tolerance):
    trace = make(options, dtype)

    def close(number):
        return pytest.approx(float(number), abs=tolerance, rel=0)

    for n, row, column in places(trace):
        origin = explain.pixel(trace, row, column, n)
        for term in origin.terms:
            assert sum(c.weight * c.value for c in term.base_cells) == close(trace.regions[n, term.k, row, column])
            assert sum(c.weight * c.value for c in term.attention_cells) == close(
                trace.upsampled[n, term.k, row, column]
            )
            assert sum(c.weight for c in term.attention_cells) == close(1)
            assert (term.base, term.score) == (
                trace.regions[n, term.k, row, column].item(),
                trace.scores[n, term.k, row, column].item(),
            )
            for c in term.base_cells:
                image = int(BOXES[n, 0])
                assert c.value == trace.inputs.bases[image, term.k, c.row, c.column].item()
        total = sum(term.product for term in origin.terms)
        if options.get("normalizer") == "product":
            assert total == pytest.approx(origin.probability, abs=1e-6)
        else:
            assert total == pytest.approx(origin.logit, abs=tolerance)
        assert origin.logit == trace.logits[n, row, column].item()
        assert origin.probability == close(trace.probabilities[n, row, column])


@pytest.mark.parametrize("options", CROPS[:-1], ids=names)
def test_the_points_are_where_the_loop_samples(options):
    trace = make(options)
    scale = (0.25, options["sampling_ratio"], options["aligned"])
    for n, row, column in places(trace):
        _, x1, y1, x2, y2 = BOXES[n].tolist()
        ys = twins.sample_positions(y1, y2, 5, *scale)[row]
        xs = twins.sample_positions(x1, x2, 5, *scale)[column]
        expected = [number for y in ys for x in xs for number in (y, x)]
        points = explain.pixel(trace, row, column, n).points
        assert [number for point in points for number in point] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", CROPS, ids=names)
def test_no_cell_is_named_that_the_pixel_does_not_read(options):
    """Change every cell that is not named: the pixel stays. Change one that is: it moves by its weight."""
    trace = make(options)
    for n, row, column in places(trace):
        term = explain.pixel(trace, row, column, n).terms[1]
        image, named = int(BOXES[n, 0]), {(c.row, c.column): c.weight for c in term.base_cells}
        others = torch.ones(9, 11, dtype=torch.bool)
        for place in named:
            others[place] = False
        bases = trace.inputs.bases.clone()
        bases[image, 1, others] -= 100  # downwards: a maximum, too, must not move
        again = trace.settings(bases, trace.attention, BOXES)
        assert again.regions[n, 1, row, column].item() == pytest.approx(term.base, abs=1e-10)
        for place, weight in named.items():
            bases = trace.inputs.bases.clone()
            bases[(image, 1, *place)] += 1e-3
            moved = trace.settings(bases, trace.attention, BOXES).regions - trace.regions
            assert moved[n, 1, row, column].item() == pytest.approx(1e-3 * weight, abs=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_the_gradient_of_a_cell_is_autograds(options):
    trace = make(options, requires_grad=True)
    target = torch.rand_like(trace.logits)
    loss = binary_cross_entropy_with_logits(trace.logits, target)
    to_bases, to_attention = torch.autograd.grad(loss, (trace.inputs.bases, trace.inputs.attention))
    K = trace.inputs.K
    for image, k, row, column in itertools.product((0, 1), range(K), (0, 1, 4, 8), (0, 2, 5, 10)):
        reach = explain.base_cell(trace, k, row, column, image=image, target=target)
        assert reach.gradient == pytest.approx(to_bases[image, k, row, column].item(), abs=1e-10)
    for n, k, row, column in itertools.product(range(len(BOXES)), range(K), range(3), range(3)):
        reach = explain.attention_cell(trace, k, row, column, instance=n, target=target)
        assert reach.gradient == pytest.approx(to_attention[n, k, row, column].item(), abs=1e-10)
    assert to_attention.abs().max() > 1e-6 or K == 1  # there was something to compare


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_the_slopes_of_each_pixel_are_autograds(options):
    trace = make(options, requires_grad=True)
    base, cell = explain.base_cell(trace, 0, 3, 4), explain.attention_cell(trace, 0, 1, 1, instance=2)
    assert (base.gradient, cell.gradient) == (None, None)
    for n, i, j in places(trace):
        logit = trace.logits[n, i, j]
        to_bases, to_attention = torch.autograd.grad(
            logit, (trace.inputs.bases, trace.inputs.attention), retain_graph=True
        )
        assert base.slopes[n, i, j].item() == pytest.approx(to_bases[0, 0, 3, 4].item(), abs=1e-10)
        assert cell.slopes[n, i, j].item() == pytest.approx(to_attention[2, 0, 1, 1].item(), abs=1e-10)
        assert cell.depends[n, i, j] or cell.slopes[n, i, j] == 0


def test_forward_and_reverse_name_each_other():
    trace = make({"sampling_ratio": 2})
    for n, row, column in places(trace):
        for c in explain.pixel(trace, row, column, n).terms[0].base_cells:
            reach = explain.base_cell(trace, 0, c.row, c.column, image=int(BOXES[n, 0]))
            assert reach.depends[n, row, column]
            assert reach.slopes[n, row, column].item() == pytest.approx(
                c.weight * trace.scores[n, 0, row, column].item()
            )


def test_equal_largest_cells_share_as_autograd_has_it():
    bases = torch.ones(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    trace = Blender(2, pooling="pool")(bases, torch.zeros(1, 1, 2, 2, dtype=torch.float64), BOXES[:1, 1:])
    (gradient,) = torch.autograd.grad(trace.regions[0, 0, 1, 0], bases)
    cells = explain.pixel(trace, 1, 0).terms[0].base_cells
    assert len(cells) > 1
    found = torch.zeros(6, 6, dtype=torch.float64)
    for c in cells:
        found[c.row, c.column] = c.weight
    torch.testing.assert_close(found, gradient[0, 0], rtol=0, atol=1e-12)


def test_a_sample_exactly_on_the_outer_limit_counts_as_in_the_step():
    """At scale 1 the box's first sample is at -1 exactly: the edge value, whole; a hair farther out it is 0."""
    bases = torch.randn(1, 1, 4, 4)
    for left, weights in ((-1.0, [1.0]), (-1.0 - 2**-10, [])):
        trace = Blender(1, 1.0)(bases, torch.zeros(1, 1, 1, 1), torch.tensor([[left, 1.0, left + 1, 2.0]]))
        origin = explain.pixel(trace, 0, 0)
        assert [c.weight for c in origin.terms[0].base_cells] == weights
        assert origin.terms[0].base == (bases[0, 0, 1, 0].item() if weights else 0)


def test_the_torchvision_backend_is_explained_too():
    trace = make({"backend": "torchvision", "sampling_ratio": 2})
    for n, row, column in places(trace):
        for term in explain.pixel(trace, row, column, n).terms:
            assert sum(c.weight * c.value for c in term.base_cells) == pytest.approx(term.base, abs=1e-12)


def test_half_precision_is_explained_in_the_traces_dtype():
    trace = Blender(3)(torch.randn(1, 2, 8, 8).half(), torch.randn(1, 2, 3, 3).half(), torch.tensor([[3.0, 4, 21, 25]]))
    for term in explain.pixel(trace, 1, 2).terms:
        assert sum(c.weight * c.value for c in term.base_cells) == pytest.approx(term.base, abs=1e-5)
    assert explain.base_cell(trace, 0, 3, 3).depends.any()


def test_lines_say_the_sum_and_the_reach():
    bases = torch.tensor([-1.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    attention = torch.tensor([0.0, 2.1972246]).view(1, 2, 1, 1)  # weights 0.1 and 0.9
    trace = Blender(2)(bases, attention, torch.tensor([[8.0, 8.0, 16.0, 16.0]]))
    assert explain.pixel(trace, 0, 1).line() == "m = 0.10*-1.00 + 0.90*3.00 = 2.60, p = 0.93"
    text = explain.base_cell(trace, 1, 2, 2, target=torch.ones(1, 2, 2)).line()
    assert text.startswith("base cell k=1, row 2, column 2 = 3.00: read by 1 mask pixel; ")
    assert "by 0.9 at most; gradient of the loss -1.56e-02" in text  # (0.9309 - 1) / 4 * 0.9
    product = Blender(2, normalizer="product")(bases[:, :1], attention[:, :1], torch.tensor([[8.0, 8.0, 16.0, 16.0]]))
    assert explain.pixel(product, 0, 0).line() == "p = 0.50*sigmoid(-1.00) = 0.13, m = -1.86"


@pytest.mark.parametrize(
    ("call", "message"),
    (
        (lambda t: explain.pixel(t, 5, 0), "row must be from 0 to 4; got 5"),
        (lambda t: explain.pixel(t, 0, -1), "column must be from 0 to 4; got -1"),
        (lambda t: explain.pixel(t, 0, 0, 9), "instance must be from 0 to 4; got 9"),
        (lambda t: explain.base_cell(t, 3, 0, 0), "k must be from 0 to 2; got 3"),
        (lambda t: explain.base_cell(t, 0, 0, 11), "column must be from 0 to 10; got 11"),
        (lambda t: explain.base_cell(t, 0, 0, 0, image=2), "image must be from 0 to 1; got 2"),
        (lambda t: explain.attention_cell(t, 0, 3, 0), "row must be from 0 to 2; got 3"),
        (
            lambda t: explain.base_cell(t, 0, 0, 0, target=torch.zeros(1, 5, 5)),
            r"target must have the logits' shape \(5, 5, 5\); got a torch.float32 tensor of shape \(1, 5, 5\)",
        ),
    ),
)
def test_a_place_that_is_not_there_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(make({}))


def test_a_place_that_is_no_whole_number_is_named():
    with pytest.raises(TypeError, match=r"row must be a whole number; got float 1\.5"):
        explain.pixel(make({}), 1.5, 0)


def test_what_is_no_trace_and_what_is_no_target():
    trace = make({"normalizer": "softmax"})
    for call in (explain.pixel, explain.base_cell, explain.attention_cell):
        with pytest.raises(TypeError, match="trace must be a BlendTrace.*got BlenderInputs"):
            call(trace.inputs, 0, 0, 0)
    for wrong in (255.0, -0.1, float("nan")):  # a mask of bytes, a logit, nothing
        target = torch.full_like(trace.logits, wrong)
        with pytest.raises(ValueError, match="target must lie in 0..1; got values from"):
            explain.base_cell(trace, 0, 0, 0, target=target)
    nobody = Blender(4)(trace.inputs.bases, trace.inputs.attention[:0], trace.inputs.boxes[:0])
    with pytest.raises(ValueError, match="instance must be one that the trace has, and it has none"):
        explain.pixel(nobody, 0, 0)
    assert "read by 0 mask pixels" in explain.base_cell(nobody, 0, 0, 0).line()
