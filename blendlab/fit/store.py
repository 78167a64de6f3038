"""Where fitted sources are kept: the photographs' in the package, a reader's own in the user's cache folder."""

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..pictures import Picture, names
from ..sources import Source, map_size
from .optimise import K_MAX, M_MAX, NOTE, STEPS, Progress, check_picture, fit_nested

SHIPPED = Path(__file__).parent
VERSION = 1  # raise it when a fit comes out differently, so that no old result is served for it


def fitted(picture: Picture, *, progress: Progress | None = None, device: str | torch.device = "cpu") -> Source:
    """`fit_nested` of a picture, made once.

    Shipped with the package for the photographs "voc" and "arc2017"; for any other picture read from the user's cache
    folder, or fitted on the spot and stored there. A damaged file is fitted anew, with a warning; a folder that cannot
    be written to is a warning too.
    progress, device: as in `fit_nested`. ValueError where the picture has no instances. An interrupted fit
    stores nothing.
    """
    check_picture(picture)
    key = digest(picture)
    kept = cache_folder() / f"{key}.safetensors"
    shipped = [SHIPPED / f"{name}.safetensors" for name in names() if name == picture.name]
    for path in (*shipped, kept):
        source = _read(path, picture, key)
        if source is not None:
            return source.to(device)
    source = fit_nested(picture, progress=progress, device=device).to("cpu")
    try:
        write(kept, source, key)
    except OSError as error:
        warnings.warn(f"the fit of {picture.name!r} is not kept in {kept.parent}: {error}", stacklevel=2)
    again = _source(source.bases.half(), source.attention.half(), picture)  # as it will be read the next time
    return again.to(device)


def cache_folder() -> Path:
    return Path(platformdirs.user_cache_dir("blendlab", appauthor=False)) / "fitted"


def digest(picture: Picture) -> str:
    """A name for a picture's pixels, masks and boxes, and for how they are fitted."""
    sha = hashlib.sha256(repr((VERSION, STEPS, picture.image.shape, picture.masks.shape)).encode())
    for part in (picture.image, np.packbits(picture.masks), picture.boxes):
        sha.update(np.ascontiguousarray(part).data)
    return sha.hexdigest()[:32]


def write(path: Path, source: Source, key: str) -> None:
    """Keep bases and attention in half precision: all or nothing, whenever it is stopped."""
    arrays = {"bases": source.bases.half().contiguous(), "attention": source.attention.half().contiguous()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        draft = Path(folder) / path.name
        save_file(arrays, draft, metadata={"key": key})
        os.replace(draft, path)  # one step: a reader sees the old file or the new one


def _read(path: Path, picture: Picture, key: str) -> Source | None:
    """The source in a file, or None where there is none for this very picture. A damaged file is one warning."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") != key:  # another picture of this name
                return None
            return _source(file.get_tensor("bases"), file.get_tensor("attention"), picture)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}); {picture.name!r} is fitted anew", stacklevel=3)
        return None


def _source(bases: Tensor, attention: Tensor, picture: Picture) -> Source:
    """From half precision; ValueError where the arrays are not this picture's."""
    for name, array, shape in (
        ("bases", bases, (1, K_MAX, *map_size(picture))),
        ("attention", attention, (len(picture), K_MAX, M_MAX, M_MAX)),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} must be {shape}; got {tuple(array.shape)}")
        if not array.isfinite().all():
            raise ValueError(f"{name} must be finite")
    return Source("fitted", NOTE, bases.float(), attention.float(), torch.from_numpy(picture.boxes.copy()))
