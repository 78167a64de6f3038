"""The board without a browser: what crosses to the page, events, the snapshot."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from blendlab import Blender, paste_masks, views
from blendlab.board import Board, snapshot
from blendlab.board.board import COLOURS, HERE
from blendlab.pictures import Picture

K, M, R = 3, 4, 8
BOX = [6.0, 4.0, 38.0, 28.0]
SUMS = ("logits", "probabilities")


@pytest.fixture(scope="module")
def trace():
    noise = torch.Generator().manual_seed(0)
    bases, attention = torch.randn(1, K, 10, 12, generator=noise) * 3, torch.randn(1, K, M, M, generator=noise)
    return Blender(R)(bases, attention, torch.tensor([BOX]))


@pytest.fixture(scope="module")
def panels(trace):
    limits = views.Limits.of(trace.inputs.bases, trace.inputs.attention)
    return [views.base_panel(trace.inputs.bases, limits), *views.step_panels(trace, limits)]


@pytest.fixture
def picture() -> Picture:
    masks = np.zeros((2, 40, 48), bool)
    masks[0, 4:28, 6:38] = masks[1, 30:38, 30:46] = True
    return Picture.from_masks(np.full((40, 48, 3), (10, 200, 90), np.uint8), masks, name="green")


def make_board(picture, panels, pixel=None, **options) -> Board:
    board = Board(**options)
    board.show_picture(picture)
    board.show_bases(panels[0])
    board.boxes = [*BOX, *picture.boxes[1].tolist()]
    board.show_steps(panels[1:], 0, pixel)
    return board


# ---------------------------------------------------------------- what crosses to the page


def test_panels_are_packed_one_after_the_other(picture, panels):
    board = make_board(picture, panels)
    unpacked = snapshot._unpack(board.bases) + snapshot._unpack(board.steps)
    assert [spec["name"] for spec, _ in unpacked] == [panel.name for panel in panels]
    for (spec, codes), panel in zip(unpacked, panels, strict=True):
        assert np.array_equal(codes, panel.codes())
        for word in ("colours", "low", "high", "title", "equation", "description", "space"):
            assert spec[word] == getattr(panel, word)
    assert len(board.steps["codes"]) == sum(panel.codes().size for panel in panels[1:])  # nothing else crosses
    assert isinstance(board.steps["codes"], bytes)


def test_the_pinned_pixel_crosses_as_it_is_shown(picture, panels, trace):
    pixel = views.pixel_sum(trace, 2, 5)
    words = json.loads(make_board(picture, panels, pixel).steps["words"])["pixel"]
    assert (words["row"], words["column"], words["multiplied"]) == (2, 5, False)
    assert words["rows"] == [[f"{number:.4f}" for number in row] for row in pixel.rows]
    assert words["total"] == f"{pixel.total:.4f}"
    assert json.loads(make_board(picture, panels).steps["words"])["pixel"] is None


def test_numbers_that_json_lacks_cross_as_words(picture, panels):
    pixel = views.PixelSum(0, 0, [(float("nan"), 1.0, float("-inf")), (-0.0, -0.00004, 0.0)], float("nan"), 0.5, False)
    steps = make_board(picture, panels, pixel).steps

    def strict(constant):
        raise AssertionError(f"{constant} is no JSON")

    words = json.loads(steps["words"], parse_constant=strict)["pixel"]
    assert words["rows"] == [["nan", "1.0000", "-inf"], ["0.0000", "0.0000", "0.0000"]]
    assert (words["total"], words["probability"]) == ("nan", "0.5000")


def test_the_photograph_crosses_as_it_is(picture, panels):
    sent = make_board(picture, panels).picture
    assert (sent["name"], sent["width"], sent["height"]) == ("green", 48, 40)
    assert sent["rgb"] == picture.image.tobytes()


# ---------------------------------------------------------------- events


def test_events_call_the_functions(picture, panels):
    board, calls = make_board(picture, panels), []
    board.on_click = lambda *at: calls.append(("click", *at))
    board.on_pixel = lambda *at: calls.append(("pixel", *at))
    board.on_box = lambda *box: calls.append(("box", *box))
    board._handle_custom_msg({"kind": "click", "x": 1.5, "y": 2.5}, [])
    board._handle_custom_msg({"kind": "pixel", "row": 3, "column": 4}, [])
    board._handle_custom_msg({"kind": "pixel", "row": None, "column": None}, [])
    board.set_state({"dragged": [1, 2.5, 3, 4, 99.0]})  # the last is when
    board.set_state({"dragged": [1, 2.5, 3, 4, 100.0]})
    box = ("box", 1.0, 2.5, 3.0, 4.0)
    assert calls == [("click", 1.5, 2.5), ("pixel", 3, 4), ("pixel", None, None), box, box]


def test_a_board_alone_ignores_events():
    board = Board()
    board._handle_custom_msg({"kind": "click", "x": 0, "y": 0}, [])
    board._handle_custom_msg({"kind": "pixel", "row": 0, "column": 0}, [])
    board.set_state({"dragged": [0, 0, 1, 1, 5.0]})


# ---------------------------------------------------------------- colours and snapshot


def test_the_one_table_has_matplotlibs_colours():
    matplotlib = pytest.importorskip("matplotlib")
    for name, source in (("magnitude", "cividis"), ("diverging", "RdBu_r")):
        expected = np.round(255 * matplotlib.colormaps[source](np.arange(256))[:, :3])
        assert np.array_equal(snapshot.TABLE[name], expected)
    assert set(snapshot.TABLE) == set(COLOURS) == {"magnitude", "diverging"}
    assert json.loads((HERE / "colours.json").read_text()) == COLOURS == Board().colours


def test_zero_is_white_and_red_never_stands_against_green():
    table = snapshot.TABLE["diverging"].astype(int)
    assert (table[127:129] >= 245).all()
    assert table[0, 2] > table[0, 0] and table[255, 0] > table[255, 2]  # blue below, red above
    green = (table[:, 1] > table[:, 0] + 20) & (table[:, 1] > table[:, 2] + 20)
    assert not green.any()


def opened(board) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(board.snapshot())).convert("RGB"))


def cell(i, k, transposed) -> tuple[int, int]:
    """The upper left corner, x and y, of the k-th map of the i-th step."""
    column, row = (k, i) if transposed else (i, k)
    step, left = snapshot.CELL + snapshot.GAP, snapshot.PHOTO + snapshot.GAP
    left, top = (left + 3 * snapshot.HEAD, 0) if transposed else (left, snapshot.HEAD)
    return left + column * step, top + row * step


@pytest.mark.parametrize("transposed", (False, True))
def test_the_snapshot_has_every_map_in_its_place_and_colours(picture, panels, transposed):
    pixels = opened(make_board(picture, panels, transposed=transposed))
    for i, panel in enumerate(panel for panel in panels if panel.name not in SUMS):
        codes = panel.codes()
        h, w = codes.shape[1:]
        high = round(snapshot.CELL * h / w) if w > h else snapshot.CELL
        for k in range(K):
            x, y = cell(i, k, transposed)
            for row in range(h):
                for column in range(w):  # the middle of each of its cells
                    at = (y + int((row + 0.5) * high / h), x + int((column + 0.5) * snapshot.CELL / w))
                    assert np.array_equal(pixels[at], snapshot.TABLE[panel.colours][codes[k, row, column]])


@pytest.mark.parametrize("transposed", (False, True))
def test_the_snapshot_has_the_sums(picture, panels, transposed):
    pixels = opened(make_board(picture, panels, transposed=transposed))
    step = snapshot.CELL + snapshot.GAP
    for i, panel in enumerate(panels[-2:]):
        if transposed:
            left = snapshot.PHOTO + snapshot.GAP + 3 * snapshot.HEAD
            x, y = left + i * (snapshot.LARGE + snapshot.GAP), 6 * step + snapshot.HEAD
        else:
            x = snapshot.PHOTO + snapshot.GAP + 6 * step
            y = i * (snapshot.LARGE + snapshot.HEAD) + snapshot.HEAD
        bin_ = snapshot.LARGE / R
        drawn = pixels[y : y + snapshot.LARGE, x : x + snapshot.LARGE]
        centres = (np.arange(R) * bin_ + bin_ / 2).astype(int)
        assert np.array_equal(drawn[np.ix_(centres, centres)], snapshot.TABLE[panel.colours][panel.codes()[0]])


def test_the_photographs_mask_is_the_pasted_one(picture, panels, trace):
    pixels = opened(make_board(picture, panels)).astype(int)
    scale = snapshot.PHOTO / 48
    kept = (paste_masks(trace.probabilities, torch.tensor([BOX]), (40, 48))[0] >= 0.5).numpy()
    assert 20 < kept.sum() < 32 * 24 - 20
    agree, checked = 0, 0
    for row in range(6, 27):
        for column in range(8, 36):  # inside the box, clear of its outline
            around = kept[row - 1 : row + 2, column - 1 : column + 2]
            if around.all() or not around.any():  # enlarging blurs the mask's rim
                colour = pixels[int((row + 0.5) * scale), int((column + 0.5) * scale)]
                orange = colour[0] > 100
                agree, checked = agree + (orange == kept[row, column]), checked + 1
    assert agree == checked > 50


def test_the_snapshot_outlines_the_boxes(picture, panels):
    pixels = opened(make_board(picture, panels))
    scale = snapshot.PHOTO / 48
    assert tuple(pixels[int(16 * scale), int(6 * scale) + 1]) == (255, 209, 102)  # the selected one's left side
    assert tuple(pixels[int(34 * scale), int(30 * scale)]) == (255, 255, 255)  # the other one's
    assert tuple(pixels[int(2 * scale), int(44 * scale)]) == (10, 200, 90)  # and beside them, the photograph


def test_an_error_stands_alone_in_the_snapshot(picture, panels):
    board = make_board(picture, panels)
    whole = opened(board)
    board.error = "ValueError: " + "long " * 100 + "\nof two lines"
    alone = opened(board)
    assert alone.shape[0] < whole.shape[0]
    assert (alone == alone[..., :1]).all()  # black on white: nothing of the picture is left
    assert (alone < 128).any()


def test_an_empty_board_has_a_snapshot():
    assert opened(Board()).min() == 255


def test_the_snapshot_is_the_same_twice_and_in_another_process():
    script = """
import hashlib, sys
import numpy as np
from blendlab.explorers import BlenderExplorer
from blendlab.pictures import Picture
from blendlab.sources import random_source
masks = np.zeros((1, 20, 30), bool)
masks[0, 3:15, 4:20] = True
picture = Picture.from_masks(np.zeros((20, 30, 3), np.uint8), masks)
for _ in range(2):
    explorer = BlenderExplorer(picture, sources={"random": random_source(picture)})
    bundle = explorer._repr_mimebundle_()
    print(hashlib.sha256(bundle["image/png"].encode()).hexdigest(), bundle["text/plain"], explorer)
assert not {"matplotlib", "torchvision", "IPython.core.pylabtools"} & set(sys.modules), "heavy imports"
"""
    first, second = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second
    lines = first.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]


# ---------------------------------------------------------------- large maps alone, and points over them


def large_map(values, name, marks=()) -> views.Panel:
    return views.Panel(name, values[None], "magnitude", 0.0, 1.0, name, "x", "a map", large=True, marks=tuple(marks))


def test_points_cross_as_their_places():
    board = Board()
    marks = views.Lattice("ring", torch.tensor([0.5, 2 / 3]), [1])
    board.show_steps([large_map(torch.zeros(2, 2), "only", [marks])], 0, None)
    (spec,) = json.loads(board.steps["words"])["panels"]
    assert spec["large"] is True and spec["marks"] == [{"shape": "ring", "xs": [0.5, 0.667], "ys": [1.0], "only": None}]


@pytest.mark.parametrize("shape", ["dot", "ring", "cross"])
def test_the_snapshot_draws_points_where_they_lie(shape):
    def drawn(marks) -> np.ndarray:
        board = Board()
        board.show_steps([large_map(torch.ones(2, 2), "only", marks)], 0, None)
        return np.asarray(Image.open(io.BytesIO(board.snapshot())).convert("L")).astype(int)

    without, marked = drawn([]), drawn([views.Lattice(shape, [0.5], [1.5])])
    rows, columns = np.nonzero(without != marked)
    side = 2 * snapshot.LARGE  # of the first map, below its title
    assert abs(columns.mean() - side / 4) <= 1.5 and abs(rows.mean() - snapshot.HEAD - side * 3 / 4) <= 1.5
    assert (marked[rows, columns] < 60).all()  # black


def test_large_maps_alone_stand_side_by_side_without_a_photograph():
    board = Board()
    board.show_steps([large_map(torch.ones(3, 3), "first"), large_map(torch.zeros(5, 5), "second")], 0, None)
    image = Image.open(io.BytesIO(board.snapshot())).convert("RGB")
    side = snapshot.LARGE
    assert image.size == (3 * (side + snapshot.GAP), 2 * side + snapshot.HEAD)
    ends = [tuple(snapshot.TABLE["magnitude"][code]) for code in (255, 0)]
    places = [(side, snapshot.HEAD + side), (2 * side + snapshot.GAP + side // 2, snapshot.HEAD + side // 2)]
    assert [image.getpixel(place) for place in places] == ends


# ---------------------------------------------------------------- drawing


def test_what_is_drawn_calls_the_functions(picture, panels):
    board, calls = make_board(picture, panels), []
    board.on_new_box = lambda *box: calls.append(box)
    board.on_stroke = lambda points, radius, erase: calls.append((points, radius, erase))
    board._handle_custom_msg({"kind": "new_box", "box": [1, 2, 3.5, 4]}, [])
    board._handle_custom_msg({"kind": "stroke", "points": [[1, 2], [3, 4]], "radius": 5, "erase": True, "id": 7}, [])
    assert calls == [(1, 2, 3.5, 4), ([[1, 2], [3, 4]], 5, True)]
    board.show_painted(np.zeros((40, 48), bool))
    assert board.painted["last"] == 7  # so the page knows which of its strokes are in the mask


def test_a_painted_mask_crosses_bit_by_bit():
    board, mask = Board(), np.random.default_rng(0).random((5, 7)) < 0.5
    board.show_painted(mask)
    bits = "".join(f"{byte:08b}" for byte in board.painted["bits"])[:35]
    assert (board.painted["width"], board.painted["height"]) == (7, 5)
    assert [bit == "1" for bit in bits] == mask.ravel().tolist()


def test_the_snapshot_has_the_painted_mask_while_a_tool_is_in_the_hand(picture):
    board, mask = Board(), np.zeros((40, 48), bool)
    mask[:, 24:] = True
    board.show_picture(picture)
    board.show_painted(mask)

    def shown():
        return np.asarray(Image.open(io.BytesIO(board.snapshot())).convert("RGB")).astype(int)

    without, board.tool = shown(), "brush"
    changed = np.abs(shown() - without).max(2) > 0
    assert changed[:, 200:].all() and not changed[:, :180].any()
