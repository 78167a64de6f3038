"""Bad input: a ValueError or TypeError whose message holds the argument's name, what came, and what was expected.

Each row of the tables is (what is called, the error, the argument's name, what came, what was expected).
"""

import math

import numpy as np
import pytest
import torch

from blendlab import Blender, BlenderInputs, blend, interpolate, paste_masks, roi_align, roi_pool, softmax
from blendlab.paste import clip_boxes

pytestmark = pytest.mark.usefixtures("one_thread")
MAPS, ATTENTION, REGIONS, MASKS = (torch.rand(s) for s in ((2, 3, 6, 6), (2, 3, 4, 4), (2, 3, 5, 5), (2, 5, 5)))
BOXES = torch.tensor([[0.0, 1, 2, 9, 8], [1, 3, 3, 12, 20]])
FOUR = BOXES[:, 1:]
FORMS = r"(N,5) image index, x1, y1, x2, y2, or (N,4) for one image, or a list of (n,4), one an image"


def raises(call, error, *parts):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in {str(caught.value)!r}"


def described(value):
    """What a message says of a value that is no tensor of the right kind."""
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__


# --- boxes, in everything that takes them

TAKE_BOXES = {
    "roi_align": lambda boxes, maps=MAPS: roi_align(maps, boxes, 3),
    "roi_align adaptive": lambda boxes, maps=MAPS: roi_align(maps, boxes, 3, 0.25, 0),
    "roi_pool": lambda boxes, maps=MAPS: roi_pool(maps, boxes, 3),
    "BlenderInputs": lambda boxes, maps=MAPS: BlenderInputs(maps, ATTENTION, boxes),
    "Blender": lambda boxes, maps=MAPS: Blender(3)(maps, ATTENTION, boxes),
    "Blender.logits": lambda boxes, maps=MAPS: Blender(3).logits(maps, ATTENTION, boxes),
    "Blender torchvision": lambda boxes, maps=MAPS: Blender(3, backend="torchvision").logits(maps, ATTENTION, boxes),
}


@pytest.fixture(params=TAKE_BOXES.values(), ids=TAKE_BOXES.keys())
def take(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", range(5))
def test_nan_and_infinite_boxes(take, column, value, dtype):
    boxes = BOXES.to(dtype, copy=True)
    boxes[1, column] = value
    if column:
        name = ("image", "x1", "y1", "x2", "y2")[column]
        raises(lambda: take(boxes), ValueError, "boxes[1]", f"{name}={value}", "finite with x1 <= x2 and y1 <= y2")
    else:
        raises(lambda: take(boxes), ValueError, "boxes[1]", f"image {value}", "a whole number from 0 to 1")


@pytest.mark.parametrize("rows", [1, 40])
def test_boxes_so_far_away_that_a_coordinate_would_overflow(take, rows):
    """Infinity less infinity is a NaN, which ends the process in torchvision's kernel."""
    boxes = BOXES[:1].repeat(rows, 1).double()
    for far in (3e38, 1e300):
        boxes[-1, 1:] = torch.tensor([-far, -far, far, far], dtype=torch.float64)
        given = boxes.float() if far < 1e39 else boxes
        raises(lambda given=given: take(given), ValueError, f"boxes[{rows - 1}]", f"x2={far:g}", "1e+32 pixels away")


@pytest.mark.parametrize("box", [[0, 9.0, 2, 1, 8], [0, 1, 8.0, 9, 2], [1, 5, 5, 4.999, 4]], ids=str)
def test_inverted_boxes(take, box):
    boxes = torch.stack((BOXES[0], torch.tensor(box)))
    raises(lambda: take(boxes), ValueError, "boxes[1]", f"x1={box[1]:g}, y1={box[2]:g}, x2={box[3]:g}", "x1 <= x2")


@pytest.mark.parametrize("image", [1.5, -1, 2, 1e9])
def test_a_boxs_image_index(take, image):
    boxes = BOXES.clone()
    boxes[1, 0] = image
    raises(lambda: take(boxes), ValueError, "boxes[1]", f"image {image:g}", "a whole number from 0 to 1")


@pytest.mark.parametrize(
    ("boxes", "error"),
    [
        (None, TypeError),
        (BOXES.numpy(), TypeError),
        (7, TypeError),
        (BOXES[0], ValueError),
        (BOXES[None], ValueError),
        (BOXES[:, :3], ValueError),
        (torch.zeros(0), ValueError),
        (torch.zeros(2, 6), ValueError),
        (BOXES.long(), TypeError),
        (BOXES.bool(), TypeError),
        (BOXES.half(), TypeError),
        (BOXES.bfloat16(), TypeError),
        (BOXES + 0j, TypeError),
    ],
    ids=lambda v: described(v) + (str(v.dtype) if hasattr(v, "dtype") else ""),
)
def test_what_is_no_table_of_boxes(take, boxes, error):
    kind = (
        [str(boxes.dtype), "float32 or float64"] if error is TypeError and isinstance(boxes, torch.Tensor) else [FORMS]
    )
    raises(lambda: take(boxes), error, "boxes", described(boxes), *kind)


@pytest.mark.parametrize(
    ("boxes", "error", "parts"),
    [
        ([], ValueError, ["boxes", "one tensor an image, here 2", "got 0"]),
        ([FOUR], ValueError, ["boxes", "here 2", "got 1"]),
        ([FOUR] * 3, ValueError, ["boxes", "here 2", "got 3"]),
        ([FOUR, None], TypeError, ["boxes[1]", "NoneType", FORMS]),
        ([FOUR, FOUR.tolist()], TypeError, ["boxes[1]", "list", FORMS]),
        ([BOXES, FOUR], ValueError, ["boxes[0]", "(2, 5)", FORMS]),
        ([torch.zeros(0), FOUR], ValueError, ["boxes[0]", "(0,)", FORMS]),
        ([FOUR, FOUR.int()], TypeError, ["boxes[1]", "torch.int32", "float32 or float64"]),
        ([FOUR, -FOUR], ValueError, ["boxes[1][0]", "x1=-1, y1=-2, x2=-9, y2=-8", "x1 <= x2"]),
        ((torch.zeros(0, 4), FOUR * math.nan), ValueError, ["boxes[1][0]", "x1=nan", "finite"]),
        (FOUR, ValueError, ["boxes (N,4)", "one image", "got 2 images", "(N,5) or a list"]),
    ],
    ids=lambda v: None,
)
def test_lists_of_boxes_and_boxes_for_one_image(take, boxes, error, parts):
    raises(lambda: take(boxes), error, *parts)


def test_boxes_on_another_device(take):
    raises(lambda: take(BOXES.to("meta")), ValueError, "boxes", "on meta", "the maps' device, cpu")


@pytest.mark.parametrize("name", ["roi_align", "roi_align adaptive", "roi_pool"])
def test_maps_on_another_device(name):
    raises(lambda: TAKE_BOXES[name](BOXES, MAPS.to("meta")), ValueError, "boxes", "on cpu", "the maps' device, meta")


# --- features and bases: one name or the other for the same maps

WRONG_MAPS = [
    (None, TypeError, "a floating tensor (B,K,H,W)"),
    (MAPS.numpy(), TypeError, "a floating tensor (B,K,H,W)"),
    (MAPS.tolist(), TypeError, "a floating tensor (B,K,H,W)"),
    (MAPS[0], ValueError, "shape (B,K,H,W)"),
    (MAPS[None], ValueError, "shape (B,K,H,W)"),
    (MAPS.long(), TypeError, "floating"),
    (MAPS.bool(), TypeError, "floating"),
    (MAPS + 0j, TypeError, "floating"),
    (MAPS.to_sparse(), TypeError, "dense"),
    (MAPS.to(torch.float8_e4m3fn), TypeError, "16, 32 or 64 bits"),
    (MAPS[:0], ValueError, "has no B"),
    (MAPS[:, :0], ValueError, "has no K"),
    (MAPS[:, :, :0], ValueError, "has no H"),
    (MAPS[..., :0], ValueError, "has no W"),
]


@pytest.mark.parametrize(("maps", "error", "expected"), WRONG_MAPS, ids=lambda v: None)
def test_maps(take, maps, error, expected):
    name = "bases" if "Blender" in str(take.__code__.co_names) else "features"
    raises(lambda: take(BOXES, maps), error, name, described(maps), expected)


# --- attention, regions and scores

WRONG_SQUARES = [
    (None, TypeError, "a floating tensor"),
    (ATTENTION.numpy(), TypeError, "a floating tensor"),
    (ATTENTION[0], ValueError, "shape (N,K"),
    (ATTENTION[None], ValueError, "shape (N,K"),
    (ATTENTION.int(), TypeError, "floating"),
    (ATTENTION.bool(), TypeError, "floating"),
    (ATTENTION[..., :3], ValueError, "square maps (N,K"),
    (ATTENTION[:, :0], ValueError, "has no K"),
    (ATTENTION[..., :0, :0], ValueError, "has no"),
]
TAKE_SQUARES = {
    "interpolate": ("attention", lambda a: interpolate(a, 5)),
    "BlenderInputs": ("attention", lambda a: BlenderInputs(MAPS, a, BOXES)),
    "Blender": ("attention", lambda a: Blender(5)(MAPS, a, BOXES)),
    "Blender.logits": ("attention", lambda a: Blender(5).logits(MAPS, a, BOXES)),
    "blend regions": ("regions", lambda a: blend(a, REGIONS)),
    "blend scores": ("scores", lambda a: blend(REGIONS, a)),
}


@pytest.mark.parametrize(("value", "error", "expected"), WRONG_SQUARES, ids=lambda v: None)
@pytest.mark.parametrize(("name", "call"), TAKE_SQUARES.values(), ids=TAKE_SQUARES.keys())
def test_attention_regions_and_scores(name, call, value, error, expected):
    raises(lambda: call(value), error, name, described(value), expected)


@pytest.mark.parametrize(("value", "error", "expected"), [row for row in WRONG_SQUARES if "square" not in row[2]])
def test_softmax(value, error, expected):
    raises(lambda: softmax(value), error, "attention", described(value), expected)


# --- arguments that do not fit one another

MISFITS = {
    "K": (lambda: Blender(5)(MAPS, ATTENTION[:, :2], BOXES), ValueError, "bases and attention", "one K", "K=3", "K=2"),
    "N": (
        lambda: Blender(5)(MAPS, ATTENTION, BOXES[:1]),
        ValueError,
        "boxes and attention",
        "one N",
        "1 boxes",
        "for 2",
    ),
    "no boxes": (lambda: Blender(5)(MAPS, ATTENTION, BOXES[:0]), ValueError, "boxes and attention", "0 boxes", "for 2"),
    "dtype": (
        lambda: Blender(5)(MAPS, ATTENTION.double(), BOXES),
        *(TypeError, "bases and attention", "one dtype", "torch.float32 and torch.float64"),
    ),
    "half": (
        lambda: Blender(5).logits(MAPS.half(), ATTENTION, BOXES),
        *(TypeError, "bases and attention", "one dtype", "torch.float16 and torch.float32"),
    ),
    "device": (
        lambda: Blender(5)(MAPS, ATTENTION.to("meta"), BOXES),
        *(ValueError, "bases and attention", "one device", "cpu and meta"),
    ),
    "blend K": (lambda: blend(REGIONS, REGIONS[:, :1]), ValueError, "regions and scores", "one shape", "(2, 1, 5, 5)"),
    "blend N": (lambda: blend(REGIONS[:1], REGIONS), ValueError, "regions and scores", "one shape", "(1, 3, 5, 5)"),
    "blend R": (lambda: blend(REGIONS, ATTENTION), ValueError, "regions and scores", "one shape", "(2, 3, 4, 4)"),
    "blend dtype": (lambda: blend(REGIONS, REGIONS.double()), TypeError, "regions and scores", "one dtype", "float64"),
    "blend device": (
        lambda: blend(REGIONS, REGIONS.to("meta")),
        ValueError,
        "regions and scores",
        "one device",
        "meta",
    ),
    "product": (
        lambda: Blender(5, normalizer="product")(MAPS, ATTENTION, BOXES),
        *(ValueError, "normalizer='product'", "K=1", "got K=3"),
    ),
    "nearest corners": (
        lambda: interpolate(ATTENTION, 5, "nearest", True),
        *(ValueError, "align_corners=True", "mode='bilinear'", "got mode='nearest'"),
    ),
}


@pytest.mark.parametrize("row", MISFITS.values(), ids=MISFITS.keys())
def test_arguments_that_do_not_fit(row):
    raises(*row)


# --- numbers and names

TAKE_SIDE = {
    "roi_align": lambda R: roi_align(MAPS, BOXES, R),
    "roi_pool": lambda R: roi_pool(MAPS, BOXES, R),
    "interpolate": lambda R: interpolate(ATTENTION, R),
    "Blender": lambda R: Blender(R),
}
TAKE_SCALE = {
    "roi_align": lambda s: roi_align(MAPS, BOXES, 3, s),
    "roi_pool": lambda s: roi_pool(MAPS, BOXES, 3, s),
    "Blender": lambda s: Blender(3, s),
    "BlenderInputs": lambda s: BlenderInputs(MAPS, ATTENTION, BOXES, s),
}
TAKE_RATIO = {
    "roi_align": lambda n: roi_align(MAPS, BOXES, 3, 0.25, n),
    "Blender": lambda n: Blender(3, sampling_ratio=n),
}
TAKE_FLAG = {
    "aligned": lambda v: roi_align(MAPS, BOXES, 3, 0.25, 1, v),
    "aligned in Blender": lambda v: Blender(3, aligned=v),
    "align_corners": lambda v: interpolate(ATTENTION, 5, "bilinear", v),
}


@pytest.mark.parametrize("call", TAKE_SIDE.values(), ids=TAKE_SIDE.keys())
def test_output_size(call):
    for value in (0, -3, (0, 0)):
        raises(lambda value=value: call(value), ValueError, "output_size", "at least 1", f"got {np.ravel(value)[0]}")
    for value in (2.5, 7.0, True, "7", None, torch.tensor(3), np.float32(3), (3, 3, 3), np.array(3)):
        raises(lambda value=value: call(value), TypeError, "output_size", "a whole number", f"got {kind_of(value)}")
    raises(lambda: call((3, 4)), ValueError, "output_size", "one side R", "got tuple (3, 4)")


@pytest.mark.parametrize("call", TAKE_SCALE.values(), ids=TAKE_SCALE.keys())
def test_spatial_scale(call):
    for value in (0, -0.25, math.nan, math.inf, -math.inf, 1e7):
        raises(lambda value=value: call(value), ValueError, "spatial_scale", "positive and finite", f"got {value}")
    for value in ("1/4", None, True, torch.tensor(0.25), 1j, [0.25]):
        raises(lambda value=value: call(value), TypeError, "spatial_scale", "a number", f"got {kind_of(value)}")


@pytest.mark.parametrize("call", TAKE_RATIO.values(), ids=TAKE_RATIO.keys())
def test_sampling_ratio(call):
    for value in (1.0, 2.5, True, "2", None, torch.tensor(1)):
        raises(lambda value=value: call(value), TypeError, "sampling_ratio", "a whole number", f"got {kind_of(value)}")


@pytest.mark.parametrize(("name", "call"), TAKE_FLAG.items(), ids=TAKE_FLAG.keys())
def test_flags(name, call):
    for value in ("False", 0, 1, None, torch.tensor(True)):
        raises(lambda value=value: call(value), TypeError, name.split()[0], "True or False", f"got {kind_of(value)}")


@pytest.mark.parametrize("value", ["bicubic", "Bilinear", "", None, 3, ["bilinear"]])
def test_names_of_options(value):
    raises(lambda: interpolate(ATTENTION, 5, value), ValueError, "mode", "'bilinear', 'nearest'", f"got {value!r}")
    options = {
        "pooling": "'align', 'pool'",
        "interpolation": "'bilinear', 'nearest'",
        "backend": "'torch', 'torchvision'",
    }
    options |= {"normalizer": "'softmax', 'sigmoid', 'tanh', 'none'", "order": "'interpolate-first', 'normalize-first'"}
    for name, expected in options.items():
        wrong = ["nearest"] if name == "interpolation" and value == "bilinear" else value
        raises(lambda name=name, wrong=wrong: Blender(3, **{name: wrong}), ValueError, name, expected, f"got {wrong!r}")


def kind_of(value):
    return "a torch." if isinstance(value, torch.Tensor) else type(value).__name__


# --- paste

PASTE = {
    "list": (lambda: paste_masks(MASKS.tolist(), FOUR, (9, 9)), TypeError, "probabilities", "list", "(N,R,R)"),
    "NumPy": (lambda: paste_masks(MASKS.numpy(), FOUR, (9, 9)), TypeError, "probabilities", "ndarray", "(N,R,R)"),
    "rank": (lambda: paste_masks(MASKS[0], FOUR, (9, 9)), ValueError, "probabilities", "(5, 5)", "(N,R,R)"),
    "bool": (lambda: paste_masks(MASKS > 0.5, FOUR, (9, 9)), TypeError, "probabilities", "torch.bool", "floating"),
    "square": (lambda: paste_masks(MASKS[:, :3], FOUR, (9, 9)), ValueError, "probabilities", "(2, 3, 5)", "square"),
    "no R": (lambda: paste_masks(MASKS[:, :0, :0], FOUR, (9, 9)), ValueError, "probabilities", "(2, 0, 0)", "no R"),
    "N": (lambda: paste_masks(MASKS, FOUR[:1], (9, 9)), ValueError, "probabilities and boxes", "one N", "2 and 1"),
    "NaN": (lambda: paste_masks(MASKS, FOUR * math.nan, (9, 9)), ValueError, "boxes[0]", "x1=nan", "finite"),
    "inverted": (lambda: paste_masks(MASKS, -FOUR, (9, 9)), ValueError, "boxes[0]", "x1=-1", "x1 <= x2"),
    "int boxes": (lambda: paste_masks(MASKS, FOUR.long(), (9, 9)), TypeError, "boxes", "torch.int64", "float32"),
    "no tensor": (lambda: paste_masks(MASKS, None, (9, 9)), TypeError, "boxes", "NoneType", "(N,4)"),
    "device": (lambda: paste_masks(MASKS, FOUR.to("meta"), (9, 9)), ValueError, "boxes", "on meta", "cpu"),
    "size": (lambda: paste_masks(MASKS, FOUR, 9), TypeError, "image_size", "int 9", "(height, width)"),
    "three": (lambda: paste_masks(MASKS, FOUR, (9, 9, 3)), TypeError, "image_size", "(9, 9, 3)", "(height, width)"),
    "no rows": (lambda: paste_masks(MASKS, FOUR, (0, 9)), ValueError, "image_size[0]", "got 0", "at least 1"),
    "half a row": (lambda: paste_masks(MASKS, FOUR, (9, 2.5)), TypeError, "image_size[1]", "float 2.5", "whole"),
    "clip NaN": (lambda: clip_boxes(FOUR * math.nan, (9, 9)), ValueError, "boxes[0]", "x1=nan", "finite"),
    "clip NumPy": (lambda: clip_boxes(FOUR.numpy(), (9, 9)), TypeError, "boxes", "ndarray", "(N,4)"),
    "clip size": (lambda: clip_boxes(FOUR, (-1, 9)), ValueError, "image_size[0]", "got -1", "at least 1"),
}


@pytest.mark.parametrize("row", PASTE.values(), ids=PASTE.keys())
def test_paste(row):
    raises(*row)


# --- the messages themselves


def test_a_long_value_is_cut_short():
    with pytest.raises(TypeError) as caught:
        roi_align("x" * 10_000, BOXES, 3)
    assert len(str(caught.value)) < 200


def test_nothing_is_changed_by_a_refusal():
    before = BOXES.clone(), MAPS.clone()
    with pytest.raises(ValueError):
        roi_align(MAPS, BOXES - torch.tensor([0, 0, 0, 99.0, 0]), 3)
    assert torch.equal(BOXES, before[0]) and torch.equal(MAPS, before[1])


@pytest.mark.gpu
def test_cuda_and_cpu_do_not_mix():
    raises(lambda: roi_align(MAPS.cuda(), BOXES, 3), ValueError, "boxes", "on cpu", "cuda:0")
    raises(lambda: Blender(3)(MAPS.cuda(), ATTENTION, BOXES.cuda()), ValueError, "one device", "cuda:0 and cpu")
    raises(lambda: roi_align(MAPS.cuda(), BOXES.cuda() * math.nan, 3), ValueError, "boxes[0]", "nan")
