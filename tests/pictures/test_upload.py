"""Files as people have them: the right pixels and a word on what was done, or an error that says what is wrong."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blendlab.pictures.upload import LONG_SIDE, open_image

H, W = 24, 40
y, x = np.mgrid[:H, :W]
RGB = np.stack([x * 6, y * 10, 255 - x * 6], 2).astype(np.uint8)  # another colour in each corner


def encoded(image, kind="PNG", **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def assert_close(image, wanted, within):
    assert image.dtype == np.uint8 and image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).max() <= within


# ---------------------------------------------------------------- right pictures


@pytest.mark.parametrize(
    ("kind", "options", "within"),
    [("PNG", {}, 0), ("WEBP", {"lossless": True}, 0), ("BMP", {}, 0), ("TIFF", {}, 0), ("JPEG", {"quality": 95}, 12)],
)
def test_a_file_of_each_kind_comes_as_it_is_without_a_note(kind, options, within, tmp_path):
    data = encoded(RGB, kind, **options)
    (tmp_path / "photo").write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), tmp_path / "photo", str(tmp_path / "photo")):
        image, note = open_image(source)
        assert_close(image, RGB, within)
        assert note == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
def test_a_photograph_stands_upright(kind, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    image, note = open_image(encoded(RGB, kind, exif=exif, **lossless))
    assert_close(image, np.rot90(RGB, turn), 12 if kind == "JPEG" else 0)
    assert "turned upright" in note


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_large_photograph_is_turned_and_reduced_and_both_are_said(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    big = Image.fromarray(RGB).resize((W * 50, H * 50), Image.Resampling.NEAREST)  # 2000 x 1200
    image, note = open_image(encoded(big, kind, exif=exif))
    assert image.shape == (LONG_SIDE, 800, 3)
    assert note == "turned upright, as its EXIF orientation says; reduced from 1200 × 2000"
    corners = image[[[20], [-20]], [20, -20]]  # the middles of the corner cells
    assert_close(corners, np.rot90(RGB, -1)[[[0], [-1]], [0, -1]], 6)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("size", [1, 40])
def test_sixteen_bits_are_scaled_not_clipped(kind, size):
    deep = (np.arange(H * W).reshape(H, W) * 65535.0 / (H * W - 1)).astype(np.uint16)
    image, note = open_image(encoded(np.kron(deep, np.ones((size, size), np.uint16)), kind))
    assert "16 bits scaled to 8" in note and ("reduced" in note) == (size > 1)
    shown = image[:: len(image) // H, :: image.shape[1] // W] if size == 1 else image
    assert shown.min() <= 1 and shown.max() >= 254
    if size == 1:
        assert_close(image, np.rint(deep / 257)[:, :, None].repeat(3, 2), 0)
    else:
        assert abs(image.mean() - 127.5) < 1


def test_cmyk_becomes_rgb():
    image, note = open_image(encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95))
    assert_close(image, RGB, 16)
    assert "from CMYK" in note


@pytest.mark.parametrize("size", [1, 50])
def test_grey_with_alpha_is_laid_over_white(size):
    grey = Image.fromarray(np.full((H * size, W * size), 100, np.uint8))
    alpha = Image.fromarray(
        np.where(np.arange(W * size) < W * size // 2, 0, 255).astype(np.uint8)[None].repeat(H * size, 0)
    )
    image, note = open_image(encoded(Image.merge("LA", (grey, alpha))))
    assert "transparent parts laid over white" in note and ("reduced" in note) == (size > 1)
    width = image.shape[1]
    assert (image[:, : width // 2 - 2] == 255).all() and (image[:, width // 2 + 2 :] == 100).all()


def test_an_opaque_alpha_channel_is_not_worth_a_word():
    image, note = open_image(encoded(np.dstack([RGB, np.full((H, W), 255, np.uint8)])))
    assert_close(image, RGB, 0)
    assert note == ""


@pytest.mark.parametrize("size", [1, 50])
def test_a_palette_with_a_transparent_colour_is_laid_over_white(size):
    indices = np.zeros((H * size, W * size), np.uint8)
    indices[:, W * size // 2 :] = 1
    picture = Image.fromarray(indices, "L").convert("P")
    picture.putpalette([9, 9, 9, 200, 30, 60])
    image, note = open_image(encoded(picture, transparency=0))
    assert "laid over white" in note
    width = image.shape[1]
    assert (image[:, : width // 2 - 2] == 255).all() and (image[:, width // 2 + 2 :] == (200, 30, 60)).all()


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_of_an_animation_the_first_frame_is_shown_and_that_is_said(kind, options):
    first = Image.new("RGB", (W, H), (200, 30, 60))
    more = [Image.new("RGB", (W, H), colour) for colour in ("blue", "white")]
    image, note = open_image(encoded(first, kind, save_all=True, append_images=more, **options))
    assert (image == (200, 30, 60)).all()
    assert note == "the first of its frames"


def test_a_phones_photograph_with_a_hidden_second_image_is_no_animation():
    second = Image.new("RGB", (W, H), "blue")
    data = encoded(RGB, "MPO", save_all=True, append_images=[second], quality=95)
    image, note = open_image(data)
    assert_close(image, RGB, 12)
    assert note == ""


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000)])
def test_odd_shapes(size):
    image, note = open_image(encoded(Image.new("RGB", size, (200, 30, 60))))
    assert image.shape == (min(size[1], LONG_SIDE), min(size[0], LONG_SIDE), 3)
    assert (image == (200, 30, 60)).all()
    assert bool(note) == (max(size) > LONG_SIDE)


# ---------------------------------------------------------------- clear messages


def test_what_is_no_picture_is_told_apart(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.jpg").write_text("milk, eggs")
    (tmp_path / "drawing.png").write_text("<?xml version='1.0'?><svg></svg>")
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "paper.png").write_bytes(b"%PDF-1.7\n\xff")
    (tmp_path / "noise.png").write_bytes(bytes(range(1, 255)))
    for name, said in {
        "empty.png": "is empty",
        "notes.jpg": "it seems to be text, 'milk, eggs'",
        "drawing.png": "SVG",
        "phone.jpg": "HEIC",
        "paper.png": "PDF",
        "noise.png": "its first bytes are 01 02",
        "missing.png": "there is no file",
        ".": "is a folder",
    }.items():
        with pytest.raises(ValueError, match=said) as error:
            open_image(tmp_path / name)
        assert name.strip(".") in str(error.value)
    with pytest.raises(ValueError, match="empty"):
        open_image(b"")
    with pytest.raises(ValueError, match="text, 'hello'"):
        open_image(b"hello")
    with pytest.raises(ValueError, match="no file"):
        open_image("a\0b")
    with pytest.raises(TypeError, match="got int"):
        open_image(3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_a_file_cut_short_is_an_error_not_half_a_picture(kind):
    data = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8), kind)
    with pytest.raises(ValueError, match="cut short"):
        open_image(data[: len(data) // 2])


DAMAGED = [encoded(np.kron(RGB, np.ones((2, 2, 1), np.uint8)), kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF")]


@settings(max_examples=300)
@given(st.sampled_from(DAMAGED), st.data())
def test_a_damaged_file_is_a_picture_or_a_value_error(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    damaged = damaged[: draw.draw(st.integers(1, len(damaged)))]
    try:
        image, _ = open_image(damaged)
    except ValueError:
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and max(image.shape) <= LONG_SIDE


# ---------------------------------------------------------------- a hundred megapixels

# In a process of its own, which tells after each file by how many MB its memory has grown at the most.
GROWTH = """
import resource, sys
from pathlib import Path
from blendlab.pictures.upload import open_image
folder = Path(sys.argv[1])
for kind in ("jpg", "png"):
    open_image(folder / f"small.{kind}")  # so that the decoders are in place
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in ("drawing.png", "progressive.jpg", "plain.jpg"):
    try:
        image, note = open_image(folder / name)
        print(image.shape, image[0, 0], image[-1, -1], note)
    except ValueError as error:
        print(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // (1024 if sys.platform == "linux" else 2**20))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the module resource, which measures memory, is Unix's")
def test_a_hundred_megapixels_take_little_memory(tmp_path):
    """A right picture or a clear message, at no more than 100 MB: the whole picture would be 300 MB in RGB."""
    picture = Image.new("L", (10_000, 10_000), 0)
    picture.paste(255, (5_000, 0, 10_000, 10_000))
    picture.save(tmp_path / "plain.jpg")
    picture.save(tmp_path / "progressive.jpg", progressive=True)
    picture.convert("1").save(tmp_path / "drawing.png")
    for name in ("small.jpg", "small.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    command = [sys.executable, "-c", GROWTH, tmp_path]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for said, name in zip(told[:4:2], ("drawing.png", "progressive.jpg"), strict=True):
        assert (
            name in said and "10000 × 10000 pixels, 100 megapixels" in said and "plain (not progressive) JPEG" in said
        )
    assert told[4] == "(1333, 1333, 3) [0 0 0] [255 255 255] reduced from 10000 × 10000"
    assert max(map(int, told[1::2])) < 100


def test_more_than_pil_opens_at_all_is_said_too():
    small = bytearray(encoded(RGB))
    small[16:24] = struct.pack(">II", 20_000, 20_000)  # a PNG's first chunk: its width and height ...
    small[29:33] = struct.pack(">I", zlib.crc32(small[12:29]))  # ... and its checksum
    with pytest.raises(ValueError, match="too large: over 178 megapixels"):
        open_image(small)


def test_damaged_exif_is_noted_and_the_pixels_are_shown():
    exif = Image.Exif()
    exif[0x0112] = 6
    sound = encoded(RGB, "JPEG", exif=exif, quality=95)
    image, note = open_image(sound)
    assert image.shape == (W, H, 3) and "turned upright" in note
    image, note = open_image(sound.replace(b"MM\0*", b"MM\xae*"))
    assert_close(image, RGB, 30)
    assert "EXIF data are damaged" in note and "turned" not in note
