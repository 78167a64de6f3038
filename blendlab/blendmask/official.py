"""The authors' COCO models by name: from a file that is here, or once from the hub and then from its cache.

Files of the hub repository ZjuCv/AdelaiDet, where the authors' trained models lie since their old store closed.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

import platformdirs
import torch

from .adelaidet import from_adelaidet, load_file
from .model import BlendMask

REPOSITORY = "ZjuCv/AdelaiDet"
PAGE = f"https://huggingface.co/{REPOSITORY}/tree/main"
DEPTHS = {"R_50_1x": 50, "R_50_3x": 50, "R_101_3x": 101}
LICENCE = (
    "These weights are by the authors of BlendMask (github.com/aim-uofa/AdelaiDet);"
    " their licence allows non-commercial use only."
)


def official(name: str = "R_50_1x", path: str | Path | None = None) -> BlendMask:
    """The authors' model, trained on COCO, in eval mode on the CPU: K = 4, M to 14, any R.

    name: "R_50_1x", "R_50_3x" or "R_101_3x", as in the authors' model zoo.
    path: a file of these weights; absent, the one that `official_file` finds, and otherwise the hub's, which is fetched
        once, with progress, into the hub's cache folder, and checked against the SHA-256 that the hub states.

    Prints the licence of the weights the first time that any are loaded. ValueError for another name, for a file that
    is missing, damaged or of another network, and, where the hub cannot be reached, one that says which file to bring
    from where.
    """
    depth = _depth(name)
    path = Path(path) if path is not None else official_file(name) or fetch(name)
    model = from_adelaidet(load_file(path), depth)
    _state_licence()
    return model.to(memory_format=torch.channels_last)  # weight by weight; convolutions then take 0.7 of the time


def official_file(name: str = "R_50_1x") -> Path | None:
    """Where this model's weights lie on this machine, or None. Asks no network and loads nothing.

    Looks in `by_hand`'s place first, then in the hub's cache folder.
    """
    _depth(name)
    if by_hand(name).is_file():
        return by_hand(name)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(REPOSITORY, f"{name}.pth")
    return Path(cached) if isinstance(cached, str) else None


def by_hand(name: str) -> Path:
    """Where a file that was brought by hand is found without being named."""
    return Path(platformdirs.user_data_dir("blendlab", appauthor=False)) / f"{name}.pth"


def fetch(name: str, endpoint: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Download one model's file and check it: its path in the hub's cache folder.

    endpoint, cache_dir: the hub's address and its cache folder, huggingface_hub's own (HF_ENDPOINT, HF_HUB_CACHE) where
    absent. A connection that breaks is taken up where it broke (before version 2 of huggingface_hub, by the next call).
    ValueError where nothing, or not the hub's file, came.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    file = f"{name}.pth"
    try:
        stated = get_hf_file_metadata(hf_hub_url(REPOSITORY, file, endpoint=endpoint)).etag or ""
        path = Path(hf_hub_download(REPOSITORY, file, endpoint=endpoint, cache_dir=cache_dir))
    except Exception as error:  # huggingface_hub's versions stand on different HTTP libraries, each with its errors
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{file} could not be fetched ({type(error).__name__}: {reason}). {_advice(name)}") from error
    if not re.fullmatch("[0-9a-f]{64}", stated):
        raise ValueError(f"{file}: the hub states no SHA-256 to check it by (etag {stated!r}). {_advice(name)}")
    came = _sha256(path)
    if came != stated:
        blob = path.resolve()  # the cache keeps the file once and links to it
        path.unlink()
        blob.unlink(missing_ok=True)
        raise ValueError(
            f"{file} came damaged and was removed: its SHA-256 is {came}, the hub states {stated}. {_advice(name)}"
        )
    return path


def _depth(name: str) -> int:
    if name not in DEPTHS:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(DEPTHS)}")
    return DEPTHS[name]


def _advice(name: str) -> str:
    return (
        f"Call it again, or download {name}.pth from {PAGE} on any machine and put it at {by_hand(name)}"
        f" or say where it is: official({name!r}, path='.../{name}.pth')"
    )


def _sha256(path: Path) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            sha.update(piece)
    return sha.hexdigest()


@lru_cache(maxsize=1)
def _state_licence() -> None:
    print(LICENCE)
