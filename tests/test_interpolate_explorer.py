"""The explorer of interpolation without a browser. M attention side, R output side."""

import json
from itertools import product

import pytest
import torch

from blendlab import interpolate
from blendlab.explorers import InterpolateExplorer
from blendlab.explorers.interpolate import sample_places, tile_widths
from blendlab.sources import Source
from blendlab.steps import interpolation_matrix

pytestmark = pytest.mark.usefixtures("one_thread")


def make_source(**options) -> Source:
    noise = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[2.0, 2, 30, 30], [4, 4, 20, 28]])
    bases, attention = (torch.randn(*shape, generator=noise) for shape in ((1, 8, 8, 8), (2, 8, 28, 28)))
    return Source("noise", "", bases, attention, boxes, **options)


@pytest.fixture
def explorer() -> InterpolateExplorer:
    return InterpolateExplorer(make_source(), instance=1)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("M", "R"), [(1, 1), (1, 4), (5, 56), (14, 56), (28, 10), (7, 1)])
def test_samples_lie_where_the_step_reads(M, R, align_corners):
    """U applied to the cells' own places gives back each sample's place, held between the outermost centres."""
    U = interpolation_matrix(M, R, align_corners, torch.float64, torch.device("cpu"))
    read = U @ (torch.arange(M, dtype=torch.float64) + 0.5)
    places = torch.tensor(sample_places(M, R, align_corners), dtype=torch.float64)
    assert torch.allclose(places.clamp(0.5, M - 0.5), read, atol=1e-12)
    assert ((places > 0) & (places < M)).all()


def test_tiles_of_nearest():
    assert tile_widths(5, 56) == [12, 11, 11, 11, 11]
    assert tile_widths(14, 56) == [4] * 14
    assert tile_widths(3, 2) == [1, 1, 0]  # floor(0 * 3/2), floor(1 * 3/2)


@pytest.mark.parametrize(("M", "R"), list(product((1, 5, 14, 28), (1, 2, 20, 56))))
def test_every_corner_shows_what_the_step_gives(explorer, M, R):
    explorer.M.value, explorer.R.value, explorer.basis.value = M, R, 3
    a = make_source().inputs(8, M, 1).attention[:, 3:4]
    assert torch.equal(explorer.attention, a[0, 0])
    assert torch.equal(explorer.nearest, interpolate(a, R, "nearest")[0, 0])
    assert torch.equal(explorer.bilinear, interpolate(a, R)[0, 0])
    assert torch.equal(explorer.corners, interpolate(a, R, align_corners=True)[0, 0])
    panels = {spec["name"]: spec for spec in json.loads(explorer.board.steps["words"])["panels"]}
    assert panels["attention"]["shape"] == [1, M, M]
    assert {tuple(panels[name]["shape"]) for name in ("nearest", "bilinear", "corners", "difference")} == {(1, R, R)}
    rings, dots = panels["attention"]["marks"]
    assert (rings["shape"], dots["shape"]) == ("ring", "dot") and len(rings["xs"]) == len(dots["ys"]) == R
    assert rings["xs"] == pytest.approx(sample_places(M, R, True), abs=1e-3)
    assert dots["xs"] == pytest.approx(sample_places(M, R, False), abs=1e-3)
    assert explorer.text.startswith(f"{M}×{M} = {M * M} numbers of basis 3 become {R}×{R}.")
    assert not explorer.board.error


def test_notes_say_uneven_tiles_and_downsampling(explorer):
    explorer.M.value, explorer.R.value = 5, 56
    assert explorer.board.notes == ["M = 5 does not divide R = 56: the tiles of nearest are uneven."]
    assert "12, 11, 11, 11, 11 samples" in explorer.text
    explorer.M.value, explorer.R.value = 28, 7
    (note,) = explorer.board.notes
    assert "samples down" in note and "14 of 28 rows" in note  # each of 7 samples lies midway between two of 28 cells
    explorer.R.value = 28
    assert explorer.board.notes == []


def test_a_chosen_pixel_is_read_out(explorer):
    explorer.M.value, explorer.R.value = 5, 20
    explorer.board.on_pixel(0, 7)  # (7 + 0.5) / 4 - 0.5 = 1.375
    assert explorer.board.notes == ["Pixel row 0, column 7 (bilinear) reads rows 0 × 1.00; columns 1 × 0.62, 2 × 0.38."]
    words = json.loads(explorer.board.steps["words"])
    assert (words["pixel"]["row"], words["pixel"]["column"], words["pixel"]["rows"]) == (0, 7, [])
    cross = words["panels"][0]["marks"][-1]
    assert cross["shape"] == "cross" and cross["ys"] == [0.5]
    assert cross["xs"] == pytest.approx([0.5 + 7 * 4 / 19], abs=1e-3)
    explorer.R.value = 40  # the same place of another output
    assert "Pixel row 1, column 15 " in explorer.board.notes[0]
    explorer.board.on_pixel(40, 0)  # of an older picture
    assert "Pixel row 1, column 15 " in explorer.board.notes[0]
    explorer.board.on_pixel(None, None)
    assert explorer.board.notes == []


def test_the_sliders_follow_the_source():
    explorer = InterpolateExplorer(make_source(M_range=(2, 14)), instance=0, M=28)
    assert (explorer.M.min, explorer.M.max, explorer.M.value) == (2, 14, 14)


def test_the_bundle_says_the_text_line_and_shows_a_picture(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == explorer.text and bundle["image/png"]
    assert repr(explorer) == "InterpolateExplorer(M=5, R=20, basis=0)"


def test_wrong_arguments():
    with pytest.raises(TypeError, match="source must be a Source; got str"):
        InterpolateExplorer("voc")
    with pytest.raises(ValueError, match="R must be at most 56 here; got 112"):
        InterpolateExplorer(make_source(), instance=0, R=112)
    with pytest.raises(ValueError, match="instance must be from 0 to 1; got 2"):
        InterpolateExplorer(make_source(), instance=2)
