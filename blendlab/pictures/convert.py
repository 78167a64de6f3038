"""What a user has (a path, a PIL image, arrays, an instance map) -> the arrays of a Picture."""

from __future__ import annotations

import io
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def to_rgb(image) -> np.ndarray:
    """Any usual form of an image as an (H,W,3) uint8 RGB array.

    image: a path, the bytes of an image file, a PIL image, or an array (H,W), (H,W,1), (H,W,3) or (H,W,4) that is
        bool, an integer type in 0..255, uint16 in 0..65535, or a float type in 0..1.
    The EXIF orientation is applied, and transparency is laid over white.
    Raises TypeError for another type and ValueError for an unreadable file, another shape, or values out of range.
    """
    if isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview)):
        image = _open(image)
    if isinstance(image, Image.Image):
        return pixels(_upright(image))
    if isinstance(image, np.ndarray) or hasattr(image, "__array__"):
        return _from_array(to_array(image))
    raise TypeError(f"image must be a path, bytes, a PIL image or an array, got {type(image).__name__}")


def to_array(value) -> np.ndarray:
    """A NumPy array of anything that can be one; a tensor may carry a gradient and lie on another device."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def _open(source) -> Image.Image:
    is_path = isinstance(source, (str, os.PathLike))
    told = repr(os.fspath(source)) if is_path else f"{len(source)} bytes"
    try:
        with Image.open(source if is_path else io.BytesIO(source)) as picture:
            picture.load()
            return _upright(picture)
    except FileNotFoundError as error:
        raise ValueError(f"image: there is no file {told}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"image: {told} is not an image that PIL can read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image: {told} cannot be read ({error})") from error


def _upright(picture: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF orientation says; as it is stored, with a warning, where the EXIF data are damaged."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception as error:  # of many types: SyntaxError, struct.error, TypeError, ...; the pixels are sound
        warnings.warn(f"image: its EXIF data are damaged ({error}), so it may lie on its side", stacklevel=2)
        copy = picture.copy()
        copy.info.pop("exif", None)
        return copy


def pixels(picture: Image.Image) -> np.ndarray:
    """(H,W,3) uint8 RGB of a PIL image as it lies: 16 bits scaled to 8, transparency laid over white."""
    if picture.mode[0] in "IF":  # 16 or 32 bits a pixel: PIL's own convert would clip them to 255, not scale them
        array = np.asarray(picture)
        return _from_array(array.astype(np.uint16) if picture.mode == "I" and _within(array, 0, 65535) else array)
    if picture.mode == "La":  # the one mode that PIL converts to no other but this
        picture = picture.convert("LA")
    if {"A", "a"} & set(picture.getbands()) or "transparency" in picture.info:
        return _from_array(np.asarray(picture.convert("RGBA")))
    return np.array(picture.convert("RGB"))


def _from_array(array: np.ndarray) -> np.ndarray:
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in shape:
        hint = (
            "; are the channels first? Then pass image.transpose(1, 2, 0)" if array.ndim == 3 and shape[0] < 5 else ""
        )
        raise ValueError(f"image must have the shape (H,W), (H,W,1), (H,W,3) or (H,W,4), got {shape}{hint}")
    array = _to_uint8(array)
    if array.shape[2] == 4:
        alpha = array[:, :, 3:] / 255
        array = np.rint(array[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.array(array)


def _to_uint8(array: np.ndarray) -> np.ndarray:
    kind, dtype = array.dtype.kind, array.dtype
    if dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * 255
    if dtype == np.uint16:
        return np.rint(array / 257).astype(np.uint8)
    if kind not in "iuf":
        raise TypeError(f"image must hold bool, integer or float values, got dtype {dtype}")
    top = 1 if kind == "f" else 255
    if not _within(array, 0, top):  # false for NaN too
        what = f"a {dtype} image must have values in 0..{top}"
        raise ValueError(f"image: {what}, got {array.min()}..{array.max()}")
    return np.rint(array * 255).astype(np.uint8) if kind == "f" else array.astype(np.uint8)


def _within(array: np.ndarray, low: float, high: float) -> bool:
    return bool(((array >= low) & (array <= high)).all())


def to_masks(masks, height: int, width: int) -> np.ndarray:
    """Any usual form of instance masks as an (N,H,W) bool array.

    masks: (N,H,W) of bool, 0/1 or 0/255; a list of N such (H,W); an (H,W) instance map, where 0 is background and each
        other integer is one instance (in rising order); or None for no instances.
    Raises ValueError for masks of another size than height x width, an empty mask, or other values.
    """
    if masks is None or (isinstance(masks, (list, tuple)) and len(masks) == 0):
        return np.zeros((0, height, width), bool)
    if isinstance(masks, (list, tuple)):
        masks = [to_array(mask) for mask in masks]
        for i, mask in enumerate(masks):
            if mask.shape != (height, width):
                raise ValueError(f"masks[{i}] has the shape {mask.shape}, expected the image's {(height, width)}")
    array = to_array(masks)
    if array.ndim not in (2, 3) or array.shape[-2:] != (height, width):
        raise ValueError(f"masks must be (N,H,W) or (H,W) with the image's H,W = {(height, width)}, got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"masks must hold bool or number values, got dtype {array.dtype}")
    masks = _split_map(array) if array.ndim == 2 else _to_bool(array)
    for i, mask in enumerate(masks):
        if not mask.any():
            raise ValueError(f"masks[{i}] is empty: each instance needs at least one pixel")
    return masks


def _split_map(instance_map: np.ndarray) -> np.ndarray:
    if instance_map.dtype.kind == "f":
        raise TypeError(f"masks: an (H,W) instance map must hold integers, got dtype {instance_map.dtype}")
    numbers = np.unique(instance_map)
    numbers = numbers[numbers != 0]
    return instance_map[None] == numbers[:, None, None]


def _to_bool(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        return array
    values = np.unique(array)
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
        shown = ", ".join(str(v) for v in values[:6]) + (", ..." if len(values) > 6 else "")
        raise ValueError(f"masks of shape (N,H,W) must hold only 0 and 1 (or 0 and 255), got {shown}")
    return array != 0
