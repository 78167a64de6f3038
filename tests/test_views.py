"""Views without a browser: what a panel's colours say, and numbers that add up. N boxes, K bases, M, R sides."""

import math
from decimal import Decimal
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blendlab import Blender, views
from blendlab.views import Limits, Panel

OPTIONS = [
    dict(zip(("pooling", "interpolation", "normalizer", "order", "sampling_ratio", "aligned"), values, strict=True))
    for values in product(
        ("align", "pool"),
        ("bilinear", "nearest"),
        ("softmax", "sigmoid", "tanh", "none", "product"),
        ("interpolate-first", "normalize-first"),
        (0, 1, 2),
        (True, False),
    )
]


def blended(K=3, M=4, R=6, scale=2.0, seed=0, **options):
    noise = torch.Generator().manual_seed(seed)
    bases = scale * torch.randn(1, K, 9, 11, generator=noise)
    attention = torch.randn(2, K, M, M, generator=noise)
    boxes = torch.tensor([[3.0, 5.0, 30.0, 27.0], [0.0, 0.0, 44.0, 36.0]])
    return Blender(R, **options)(bases, attention, boxes)


def limits(trace) -> Limits:
    return Limits.of(trace.inputs.bases, trace.inputs.attention)


def panel(values, colours="diverging", low=-2.0, high=2.0) -> Panel:
    return Panel("name", torch.as_tensor(values), colours, low, high, "title", "equation", "description")


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_codes_are_the_numbers_between_low_and_high(dtype):
    values = torch.tensor([[[-9, -2, -1, 0, 1, 2, 9]]], dtype=dtype)
    codes = panel(values).codes()
    assert codes.dtype == np.uint8
    assert codes.shape == (1, 1, 7)
    # 256 steps have no middle one: 0 is the upper of the two beside it, which the map draws as good as white
    assert codes.tolist() == [[[0, 0, 64, 128, 191, 255, 255]]]


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1), st.floats(-50, 50), st.floats(0.01, 100))
def test_a_code_tells_its_number_to_half_a_step(values, low, reach):
    high = low + reach
    tensor = torch.tensor(values, dtype=torch.float64).view(1, 1, -1)
    codes = panel(tensor, low=low, high=high).codes().ravel()
    told = low + codes / 255 * (high - low)
    assert np.abs(told - np.clip(values, low, high)).max() <= 0.5 * (high - low) / 255 + 1e-9 * (1 + abs(low) + reach)


def test_codes_grow_with_the_numbers_and_leave_the_panel_as_it_was():
    values = torch.linspace(-3, 3, 500).view(1, 1, -1)
    before = values.clone()
    codes = panel(values).codes().astype(int)
    assert (np.diff(codes) >= 0).all()
    assert set(codes.ravel()) == set(range(256))
    assert torch.equal(values, before)


@pytest.mark.filterwarnings("error")
def test_nan_and_infinity_have_a_code():
    codes = panel([[[math.nan, -math.inf, math.inf, 3e38, -3e38]]]).codes()
    assert codes.tolist() == [[[0, 0, 255, 255, 0]]]


# ---------------------------------------------------------------- limits


def test_limits_are_the_reach_of_most_numbers_not_of_outliers():
    bases = torch.rand(1, 4, 50, 50) * 2 - 1
    calm = Limits.of(bases, torch.ones(2, 4, 7, 7))
    assert calm.base == pytest.approx(0.9, abs=0.01)  # the 90th percentile of |uniform|: 10,000 numbers
    assert calm.attention == 1.0
    attention = torch.rand(2, 4, 7, 7)
    attention[:, 0, 0] = 50.0  # one in 28: a trained attention's few cells far above all others
    assert Limits.of(bases, attention).attention < 1.0
    bases[0, 0, 0, :5] = torch.tensor([1e6, -1e6, math.nan, math.inf, -math.inf])
    assert Limits.of(bases, torch.ones(2, 4, 7, 7)).base == pytest.approx(calm.base, abs=0.01)


@pytest.mark.parametrize(
    ("values", "expected"),
    (
        (torch.zeros(0, 4, 7, 7), 1.0),
        (torch.full((1, 1, 2, 2), math.nan), 1.0),
        (torch.zeros(1, 1, 2, 2), 1e-6),
        (torch.full((1, 1, 1, 1), -3.0), 3.0),
    ),
)
def test_limits_of_nothing_are_still_a_range(values, expected):
    reach = Limits.of(values, values)
    assert reach.base == reach.attention == pytest.approx(expected)
    assert reach.base > 0


# ---------------------------------------------------------------- panels


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_panels_hold_the_trace_under_every_option(options):
    K, M, R = (1 if options["normalizer"] == "product" else 3), 4, 6
    trace = blended(K, M, R, **options)
    panels = {panel.name: panel for panel in views.step_panels(trace, limits(trace))}
    steps = ["regions", "attention", "upsampled", "scores", "products", "logits", "probabilities"]
    assert list(panels) == steps
    for name, panel in panels.items():
        side = M if name == "attention" else R
        n = 1 if name in ("logits", "probabilities") else K
        assert panel.values.shape == (n, side, side)
        assert torch.equal(panel.values, getattr(trace, name)[0].view(n, side, side))  # the first instance of two
        assert panel.codes().shape == (n, side, side)
        assert panel.space == "box"
        assert panel.title and panel.equation and f"{side} × {side}" in panel.description
        assert panel.low < panel.high
        assert panel.low == (0 if panel.colours == "magnitude" else -panel.high)  # diverging: centred on 0
    assert len({panel.title for panel in panels.values()}) == len(panels)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_equations_and_descriptions_say_which_options_were_taken(options):
    trace = blended(1 if options["normalizer"] == "product" else 3, **options)
    panels = {panel.name: panel for panel in views.step_panels(trace, limits(trace))}
    first, normalizer = options["order"] == "normalize-first", options["normalizer"]
    assert panels["regions"].equation == f"r = {'RoIPool' if options['pooling'] == 'pool' else 'RoIAlign'}(B, box)"
    assert options["interpolation"] in panels["upsampled"].description
    assert normalizer in panels["scores"].description
    sign = {"softmax": "softmax", "sigmoid": "σ", "tanh": "tanh", "none": "s = a′", "product": "σ"}[normalizer]
    assert (panels["scores"].equation == "s = a′") if first else (sign in panels["scores"].equation)
    assert ("norm" in panels["upsampled"].equation) == first
    assert ("σ(r)" in panels["products"].equation) == (normalizer == "product")


@pytest.mark.parametrize("normalizer", ("softmax", "sigmoid", "tanh", "product"))
@pytest.mark.parametrize("order", ("interpolate-first", "normalize-first"))
def test_what_is_bounded_is_never_cut_by_the_colours(normalizer, order):
    trace = blended(1 if normalizer == "product" else 3, normalizer=normalizer, order=order)
    panels = {panel.name: panel for panel in views.step_panels(trace, limits(trace))}
    for name in ("scores", "probabilities") + (("upsampled",) if order == "normalize-first" else ()):
        assert panels[name].low <= panels[name].values.min()
        assert panels[name].values.max() <= panels[name].high
        assert (panels[name].colours == "diverging") == (normalizer == "tanh" and name != "probabilities")


def test_the_bases_cover_the_image():
    trace = blended()
    panel = views.base_panel(trace.inputs.bases, limits(trace))
    assert torch.equal(panel.values, trace.inputs.bases[0])
    assert (panel.name, panel.space, panel.colours) == ("bases", "image", "diverging")
    assert "bases of 9 × 11" in panel.description
    assert panel.low == -panel.high == -limits(trace).base


def test_colours_do_not_move_with_the_box_or_the_slider():
    source = blended(K=3)
    fixed = limits(source)
    for options in ({"R": 3}, {"R": 12}, {"seed": 5}):
        for panel, before in zip(
            views.step_panels(blended(**options), fixed), views.step_panels(source, fixed), strict=True
        ):
            assert (panel.low, panel.high) == (before.low, before.high)


@pytest.mark.filterwarnings("error")
def test_numbers_that_no_picture_can_show_are_counted():
    trace = blended()
    assert views.not_finite(trace) == 0
    bases = trace.inputs.bases.clone()
    bases[0, 1] = math.nan
    ill = Blender(6)(bases, trace.inputs.attention, trace.inputs.boxes)
    assert views.not_finite(ill) == 2 * 6 * 6  # both instances, every pixel
    for panel in views.step_panels(ill, limits(ill)):
        assert math.isfinite(panel.low) and math.isfinite(panel.high)
        panel.codes()
    sums = views.pixel_sum(ill, 2, 3)
    assert math.isnan(sums.total) and math.isnan(sums.probability)


# ---------------------------------------------------------------- the sum behind a pixel


def shown(number: float) -> Decimal:
    """The number as the page prints it."""
    return Decimal(f"{number:.{views.PixelSum.DIGITS}f}")


@given(
    K=st.integers(1, 8),
    scale=st.sampled_from((1e-5, 0.01, 1.0, 7.0, 100.0, 1e5)),
    seed=st.integers(0, 10**6),
    normalizer=st.sampled_from(("softmax", "sigmoid", "tanh", "none")),
)
def test_the_column_adds_up_exactly_as_shown(K, scale, seed, normalizer):
    trace = blended(K, M=2, R=2, scale=scale, seed=seed, normalizer=normalizer)
    unit = Decimal(1).scaleb(-views.PixelSum.DIGITS)
    for row, column in product(range(2), range(2)):
        sums = views.pixel_sum(trace, row, column)
        assert (sums.row, sums.column, sums.multiplied, len(sums.rows)) == (row, column, False, K)
        assert sum(shown(p) for _, _, p in sums.rows) == shown(sums.total)
        r, s, p = (values[0, :, row, column].tolist() for values in (trace.regions, trace.scores, trace.products))
        for k, (base, weight, part) in enumerate(sums.rows):
            assert abs(shown(base) - Decimal(r[k])) <= unit / 2
            assert abs(shown(weight) - Decimal(s[k])) <= unit / 2
            assert abs(shown(part) - Decimal(p[k])) < unit
        assert abs(shown(sums.total) - sum(map(Decimal, p))) <= unit / 2
        sigmoid = 1 / (1 + math.exp(-sums.total)) if sums.total > -700 else 0.0
        assert abs(Decimal(sums.probability) - Decimal(sigmoid)) <= unit / 2 + Decimal("1e-12")


@given(seed=st.integers(0, 10**6), scale=st.sampled_from((0.1, 3.0, 40.0)))
def test_the_product_form_multiplies_two_sigmoids(seed, scale):
    trace = blended(1, M=2, R=2, scale=scale, seed=seed, normalizer="product")
    sums = views.pixel_sum(trace, 1, 0)
    ((r, s, p),) = sums.rows
    assert sums.multiplied
    assert r == pytest.approx(trace.regions[0, 0, 1, 0].item(), abs=5.1e-5)  # four digits are shown
    assert s == pytest.approx(trace.scores[0, 0, 1, 0].item(), abs=5.1e-5)
    assert p == pytest.approx(trace.products[0, 0, 1, 0].item(), abs=5.1e-5)
    assert sums.total == pytest.approx(trace.logits[0, 1, 0].item(), abs=5.1e-5)
    assert sums.probability == pytest.approx(p, abs=1.1e-4)  # both are the probability, one by way of the shown logit


def test_a_saturated_pixel_has_a_probability():
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        bases = torch.full((1, 2, 4, 4), sign * 5000.0)
        trace = Blender(2)(bases, torch.zeros(1, 2, 1, 1), torch.tensor([[2.0, 2.0, 14.0, 14.0]]))
        sums = views.pixel_sum(trace, 0, 0)
        assert (sums.total, sums.probability) == (sign * 5000.0, expected)
        assert [p for _, _, p in sums.rows] == [sign * 2500.0] * 2


@pytest.mark.parametrize(("row", "column"), ((6, 0), (0, 6)))
def test_a_pixel_beyond_the_mask_is_refused(row, column):
    with pytest.raises(IndexError):
        views.pixel_sum(blended(R=6), row, column)
