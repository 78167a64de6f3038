"""Any image file that a reader has, opened safely: the right picture and a word on what was done to it, or an error
that says what is wrong with the file. Never memory without bound.
"""

from __future__ import annotations

import io
import math
import os
import warnings

import numpy as np
from PIL import Image, ImageOps

from .convert import to_rgb

# What photographs and drawings come as. Others stay unread: PIL would call a program for EPS, for one.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
LONG_SIDE = 1333  # as the authors' network takes its images; more would only be thrown away
MOST = 50_000_000  # pixels that are decoded whole: at most 0.2 GB in PIL's four bytes a pixel
ORIENTATION = 0x0112  # the number of this EXIF tag
BOMB = 178_956_970  # pixels from which PIL refuses to open a file at all, of any format


def open_image(source: str | os.PathLike | bytes, long_side: int = LONG_SIDE) -> tuple[np.ndarray, str]:
    """(H,W,3) uint8 RGB of an image file, upright, its long side at most `long_side`; and a note, "" if none is due.

    source: a path, or the bytes of a file. JPEG, PNG, WebP, GIF, BMP and TIFF.
    The note says in words what was changed: reduced, turned upright, the first of several frames, transparency laid
    over white, CMYK, 16 bits. A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, so that its memory stays small.

    ValueError for a file that is missing, empty, cut short, no image, or too large to decode. TypeError for no file.
    """
    told, data = _read(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's, on sizes, which are looked at here, and on damage, which is an error
        try:
            with Image.open(io.BytesIO(data) if data is not None else source, formats=FORMATS) as picture:
                return _decoded(picture, told, long_side)
        except Image.UnidentifiedImageError as error:
            raise ValueError(f"{told} is not an image that can be read here: {_what(source, data)}") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"{told} is too large: over {BOMB // 10**6} megapixels; save it smaller") from error
        except _Refused:
            raise
        except Exception as error:  # a decoder's error on a damaged file may be of any type
            what = str(error) or type(error).__name__
            raise ValueError(f"{told} cannot be read; it may be damaged or cut short ({what})") from error


class _Refused(ValueError):
    """Already said in our own words."""


def _read(source) -> tuple[str, bytes | None]:
    """How messages call the source, and its bytes where it came as such."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        if not data:
            raise ValueError("the file is empty (0 bytes)")
        return "the file", data
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"an image comes as a path or as the bytes of a file, got {type(source).__name__}")
    told = repr(os.fspath(source))
    if os.path.isdir(source):
        raise ValueError(f"{told} is a folder; expected an image file")
    try:
        size = os.stat(source).st_size
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise ValueError(f"there is no file {told} that can be opened ({getattr(error, 'strerror', error)})") from error
    if not size:
        raise ValueError(f"{told} is empty (0 bytes)")
    return told, None


def _decoded(picture: Image.Image, told: str, long_side: int) -> tuple[np.ndarray, str]:
    width, height = picture.size
    notes = []
    if picture.format in ("JPEG", "MPO"):
        share = min(1.0, long_side / max(width, height))
        picture.draft(None, (math.ceil(width * share), math.ceil(height * share)))
    # a progressive JPEG is held whole by its decoder, whatever size is asked of it
    held = width * height if picture.info.get("progressive") else picture.width * picture.height
    if held > MOST:
        size = f"{width} × {height} pixels, {width * height / 1e6:.0f} megapixels, as {picture.format}"
        advice = "save it smaller, or as a plain (not progressive) JPEG"
        raise _Refused(f"{told} is {size}: more than {MOST // 10**6} would take too much memory here; {advice}")
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # that is a phone's: a hidden second image
        notes.append("the first of its frames")
    try:
        Image.Exif().load(picture.info.get("exif"))  # anew: of damaged data PIL's first reading was silent
        if picture.getexif().get(ORIENTATION, 1) in range(2, 9):
            ImageOps.exif_transpose(picture, in_place=True)
            notes.append("turned upright, as its EXIF orientation says")
    except Exception as problem:  # of many types: SyntaxError, struct.error, TypeError, ...; the pixels are sound
        notes.append(f"its EXIF data are damaged ({problem}), so it may lie on its side")
        picture.info.pop("exif", None)
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        notes.append("16 bits scaled to 8")
    if picture.mode == "CMYK":
        notes.append("from CMYK, so its colours are close, not exact")
    if picture.mode[0] != "I" and ({"A", "a"} & set(picture.getbands()) or "transparency" in picture.info):
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] < 255:
            notes.append("its transparent parts laid over white")
    if max(width, height) > long_side:
        notes.append("reduced from {} × {}".format(*sorted((width, height), reverse=picture.width > picture.height)))
        picture = _reduced(picture, long_side)
    return to_rgb(picture), "; ".join(notes)


def _reduced(picture: Image.Image, long_side: int) -> Image.Image:
    """Made smaller before all else, while it is bytes: the sums of to_rgb take eight bytes a value."""
    if picture.mode.startswith("I;16"):
        picture = picture.convert("I")  # keeps its values; PIL resizes no 16 bits
    elif picture.mode not in ("I", "F", "RGBA"):
        picture = picture.convert("RGB")
    picture.thumbnail((long_side, long_side), Image.Resampling.BILINEAR)  # over all pixels; it never overshoots
    return picture


def _what(source: str | os.PathLike, data: bytes | None) -> str:
    """What a file that is no image seems to be, from its first bytes."""
    if data is None:
        with open(source, "rb") as file:
            data = file.read(512)
    head = data[:512]
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "it is HEIC, as iPhones save it; export it as JPEG"
    if head.startswith(b"%PDF"):
        return "it is a PDF"
    if b"<svg" in head:
        return "it is SVG, a drawing without pixels; export it as PNG"
    if head.isascii() and b"\0" not in head:
        return f"it seems to be text, {head[:30].decode()!r}"
    return f"its first bytes are {head[:8].hex(' ')}; expected {', '.join(FORMATS)}"
