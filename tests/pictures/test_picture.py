"""Picture: what it accepts, what it refuses, and what it shows. All comparisons are exact unless said."""

import gc
import io

import numpy as np
import pytest
import torch
from PIL import Image

from blendlab.pictures import Picture
from blendlab.pictures.convert import to_rgb
from blendlab.pictures.picture import tight_boxes

H, W = 6, 8
IMAGE = np.random.default_rng(0).integers(0, 256, (H, W, 3)).astype(np.uint8)
MAP = np.zeros((H, W), np.int64)
MAP[1:3, 2:5] = 7
MAP[4, 6:8] = 3
MASKS = np.stack([MAP == 3, MAP == 7])
BOXES = np.array([[6, 4, 8, 5], [2, 1, 5, 3]], np.float32)


@pytest.mark.parametrize(
    "masks",
    [MASKS, MASKS.astype(float), MASKS.astype(np.uint8) * 255, list(MASKS), tuple(MASKS.astype(int)), MAP, -1 * -MAP],
    ids=["bool", "float", "0/255", "list", "tuple", "map", "map again"],
)
def test_every_form_of_masks_gives_the_same_picture(masks):
    picture = Picture.from_masks(IMAGE, masks)
    np.testing.assert_array_equal(picture.masks, MASKS)
    np.testing.assert_array_equal(picture.boxes, BOXES)
    assert picture.masks.dtype == bool and picture.boxes.dtype == np.float32
    assert picture.labels == ["instance 0", "instance 1"]
    assert picture.size == (H, W) and len(picture) == 2


def test_pixel_centres_lie_inside_the_tight_box_and_no_box_is_tighter():
    rng = np.random.default_rng(1)
    masks = rng.random((20, 9, 7)) < 0.1
    masks[:, 4, 3] = True
    for (x1, y1, x2, y2), mask in zip(tight_boxes(masks), masks, strict=True):
        y, x = np.nonzero(mask)
        assert (x1, x2, y1, y2) == (x.min(), x.max() + 1, y.min(), y.max() + 1)


@pytest.mark.parametrize("masks", [None, [], np.zeros((H, W), int), np.zeros((0, H, W), bool)])
def test_no_instances_is_legal(masks):
    picture = Picture.from_masks(IMAGE, masks, boxes=None if masks is None else [])
    assert picture.masks.shape == (0, H, W) and picture.boxes.shape == (0, 4) and picture.labels == []
    assert len(picture) == 0 and bool(picture)
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_names_labels_credit_are_kept_and_the_repr_is_stable():
    picture = Picture.from_masks(IMAGE, MASKS[:1], labels=["cup"], name="desk", credit="me", licence="CC0")
    assert (picture.labels, picture.credit, picture.licence) == (["cup"], "me", "CC0")
    assert repr(picture) == "Picture('desk', 8 x 6 px, 1 instance)"


def test_png_shows_boxes_and_tint_and_enlarges_a_small_picture():
    grey = np.full((40, 48, 3), 100, np.uint8)
    mask = np.zeros((1, 40, 48), bool)
    mask[0, 10:30, 10:40] = True
    shown = np.asarray(Image.open(io.BytesIO(Picture.from_masks(grey, mask)._repr_png_())))
    assert shown.shape == (320, 384, 3)
    assert (shown[8, 8] == 100).all(), "outside stays as it was"
    assert tuple(shown[29 * 8 + 7, 39 * 8 + 7]) == (230, 159, 0), "the box's last pixel is the last of its last cell"
    assert np.ptp(shown[200, 200].astype(int)) > 10, "inside is tinted"


# ---- images ----


def png(array_or_image, **options) -> bytes:
    file = io.BytesIO()
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    image.save(file, "PNG", **options)
    return file.getvalue()


def test_path_bytes_and_pil_agree(tmp_path):
    (tmp_path / "a.png").write_bytes(png(IMAGE))
    forms = (tmp_path / "a.png", str(tmp_path / "a.png"), png(IMAGE), memoryview(png(IMAGE)), Image.fromarray(IMAGE))
    for form in forms:
        np.testing.assert_array_equal(to_rgb(form), IMAGE)
    assert Picture.from_masks(tmp_path / "a.png").name == "a.png"


def test_grey_alpha_palette_bool_float_and_16_bit():
    grey = IMAGE[:, :, 0]
    as_rgb = np.repeat(grey[:, :, None], 3, axis=2)
    deep = grey.astype(np.uint16) * 257
    for form in (grey, grey[:, :, None], grey.astype(int), deep, png(grey), png(deep), grey / 255):
        np.testing.assert_array_equal(to_rgb(form), as_rgb)
    np.testing.assert_array_equal(to_rgb(grey > 99), np.repeat((grey > 99)[:, :, None], 3, axis=2) * np.uint8(255))
    np.testing.assert_array_equal(to_rgb(Image.fromarray(grey).convert("P")), as_rgb)


def test_transparency_is_laid_over_white():
    alpha = np.array([0, 128, 255] + [255] * 5, np.uint8)
    rgba = np.dstack([IMAGE, np.broadcast_to(alpha, (H, W))])
    expected = IMAGE * (alpha / 255)[None, :, None] + 255 * (1 - alpha / 255)[None, :, None]
    for form in (rgba, Image.fromarray(rgba), png(rgba)):
        assert np.abs(to_rgb(form) - expected).max() <= 0.5
    palette = Image.fromarray(np.zeros((2, 2), np.uint8), "L").convert("P")
    palette.info["transparency"] = 0
    assert (to_rgb(png(palette, transparency=0)) == 255).all()


def test_exif_orientation_turns_the_image():
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to show"
    np.testing.assert_array_equal(to_rgb(png(Image.fromarray(IMAGE), exif=exif)), np.rot90(IMAGE, -1))


def test_the_image_is_a_copy():
    mine = IMAGE.copy()
    picture = Picture.from_masks(mine)
    mine[:] = 0
    np.testing.assert_array_equal(picture.image, IMAGE)


# ---- bad input: the type, and the words that must be in the message ----

NAN = [[1, 1, np.nan, 3], [0, 0, 1, 1]]
BAD_MASKS = {
    "other size": (np.ones((2, H, W + 1), bool), ValueError, r"masks.*\(6, 8\).*\(2, 6, 9\)"),
    "other size in a list": ([MASKS[0], np.ones((3, 3))], ValueError, r"masks\[1\].*\(3, 3\).*\(6, 8\)"),
    "rank": (np.ones(5), ValueError, "masks"),
    "empty": (np.stack([MASKS[0], MASKS[0] & False]), ValueError, r"masks\[1\] is empty"),
    "values": (MASKS * 2, ValueError, r"masks.*0, 2"),
    "NaN": (np.where(MASKS, np.nan, 0), ValueError, "masks.*nan"),
    "float map": (MAP.astype(float), TypeError, "masks.*float64"),
    "words": (np.full((H, W), "a"), TypeError, "masks"),
}
BAD_BOXES = {
    "NaN": (NAN, r"boxes\[0\].*nan.*finite"),
    "infinite": ([[0, 0, 1, 1], [0, 0, np.inf, 1]], r"boxes\[1\].*finite"),
    "inverted": ([[0, 0, 1, 1], [5, 0, 2, 1]], r"boxes\[1\].*x1 < x2"),
    "no area": ([[0, 0, 1, 1], [5, 2, 6, 2]], r"boxes\[1\].*y1 < y2"),
    "too few": ([[0, 0, 1, 1]], r"boxes.*N = 2.*\(1, 4\)"),
    "image index first": ([[0, 0, 0, 1, 1]] * 2, r"boxes.*\(2, 5\)"),
}
BAD_IMAGES = {
    "missing": ("no/such/file.png", ValueError, "no file 'no/such/file.png'"),
    "not an image": (b"hello", ValueError, "image.*5 bytes.*PIL"),
    "truncated": (
        png(np.random.default_rng(0).integers(0, 255, (99, 99, 3)).astype(np.uint8))[:5000],
        ValueError,
        "read",
    ),
    "channels first": (IMAGE.transpose(2, 0, 1), ValueError, r"\(3, 6, 8\).*transpose"),
    "two channels": (IMAGE[:, :, :2], ValueError, r"\(6, 8, 2\)"),
    "batch": (IMAGE[None], ValueError, r"\(1, 6, 8, 3\)"),
    "no pixels": (IMAGE[:0], ValueError, r"\(0, 8, 3\)"),
    "float out of range": (IMAGE.astype(float), ValueError, r"0\.\.1"),
    "float NaN": (np.full((H, W), np.nan), ValueError, "nan"),
    "int out of range": (IMAGE.astype(int) - 9, ValueError, r"0\.\.255"),
    "words": (np.full((H, W), "a"), TypeError, "dtype"),
    "a number": (5, TypeError, "image.*int"),
    "none": (None, TypeError, "image.*NoneType"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_bad_masks(case):
    masks, error, words = BAD_MASKS[case]
    with pytest.raises(error, match=words):
        Picture.from_masks(IMAGE, masks)


@pytest.mark.parametrize("case", BAD_BOXES)
def test_bad_boxes(case):
    boxes, words = BAD_BOXES[case]
    with pytest.raises(ValueError, match=words):
        Picture.from_masks(IMAGE, MASKS, boxes=boxes)


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(case):
    image, error, words = BAD_IMAGES[case]
    with pytest.raises(error, match=words):
        Picture.from_masks(image)


def test_a_folder_is_not_an_image(tmp_path):
    with pytest.raises(ValueError, match="image"):
        Picture.from_masks(tmp_path)


@pytest.mark.parametrize("labels", [["one"], ["a", 2], "ab"], ids=repr)
def test_bad_labels(labels):
    with pytest.raises(ValueError, match="labels"):
        Picture.from_masks(IMAGE, MASKS, labels=labels)


@pytest.mark.parametrize("field", ["image", "masks", "boxes"])
def test_the_class_itself_checks_types(field):
    right = {"name": "x", "image": IMAGE, "masks": MASKS, "boxes": BOXES, "labels": ["a", "b"]}
    Picture(**right)
    with pytest.raises(TypeError, match=f"{field}.*int16"):
        Picture(**right | {field: right[field].astype(np.int16)})
    with pytest.raises(TypeError, match=f"{field}.*list"):
        Picture(**right | {field: right[field].tolist()})
    with pytest.raises(ValueError, match=field):
        Picture(**right | {field: right[field][None]})


def test_a_click_means_the_smallest_mask_there_or_else_the_smallest_box():
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 0:20, 0:20], masks[1, 5:15, 5:15], masks[2, 8:18, 22:28] = True, True, True
    masks[1, 10:15, 10:15] = False  # an L, within the large one
    boxes = np.array([[0, 0, 20, 20], [5, 5, 15, 15], [18, 4, 30, 20]], np.float32)
    picture = Picture.from_masks(np.zeros((20, 30, 3), np.uint8), masks, boxes=boxes)
    points = {(1, 1): 0, (6, 6): 1, (12, 12): 0, (23.9, 9.5): 2, (19.5, 10): 0, (21, 10): 2, (29.99, 19.99): 2}
    assert {point: picture.instance_at(*point) for point in points} == points
    for nowhere in ((21, 2), (-0.1, 3), (3, -0.1), (30, 10), (10, 20), (np.nan, 3), (np.inf, 3), (1e9, 1e9)):
        assert picture.instance_at(*nowhere) is None
    assert Picture.from_masks(np.zeros((4, 4, 3), np.uint8)).instance_at(1, 1) is None


def test_tensors_that_carry_a_gradient_are_read():
    masks = torch.zeros(2, 4, 5, requires_grad=True) + torch.eye(4, 5)
    picture = Picture.from_masks(torch.full((4, 5, 3), 0.5, requires_grad=True), masks)
    assert picture.image[0, 0, 0] == 128 and len(picture) == 2
    assert Picture.from_masks(picture.image, list(masks)).boxes.tolist() == picture.boxes.tolist()


@pytest.mark.parametrize("boxes", ["x", [["a"] * 4], [[1, 2, 3], [1, 2, 3, 4]]], ids=["a word", "words", "ragged"])
def test_boxes_that_are_no_numbers_are_named(boxes):
    with pytest.raises(ValueError, match=r"boxes must be \(N,4\) numbers, got"):
        Picture.from_masks(np.zeros((4, 4)), np.ones((1, 4, 4)), boxes=boxes)


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_file_of_several_frames_is_closed(tmp_path):
    frames = [Image.new("L", (3, 2), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (Picture.from_masks(tmp_path / "a.gif").image == 10).all()
    gc.collect()


def test_a_photograph_with_damaged_exif_is_read_with_a_warning(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4), (9, 9, 9)).save(tmp_path / "a.jpg", exif=exif)
    assert Picture.from_masks(tmp_path / "a.jpg").size == (6, 4)
    damaged = (tmp_path / "a.jpg").read_bytes().replace(b"MM\0*", b"MM\xae*")
    with pytest.warns(UserWarning, match="EXIF data are damaged"):
        picture = Picture.from_masks(damaged)
    assert picture.size == (4, 6)
