"""COCO-format folders: written, read back, read by pycocotools itself, and refused when damaged. Exact comparisons."""

import json

import numpy as np
import pytest
from PIL import Image

from blendlab.pictures import CATEGORIES, Picture, scene
from blendlab.pictures.coco import read_coco, write_coco


@pytest.fixture
def folder(tmp_path):
    """Two scenes and a picture with no instances."""
    write_coco([scene(0), scene(1), Picture.from_masks(np.zeros((20, 30, 3), np.uint8))], tmp_path)
    return tmp_path


def change(folder, edit) -> None:
    path = folder / "annotations.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def read(folder, **options):
    return read_coco(folder / "annotations.json", folder / "images", **options)


def test_what_is_written_is_read_back(folder):
    pictures = read(folder, categories=CATEGORIES)
    assert len(pictures) == 3 and pictures.image_ids == [1, 2, 3] and pictures.categories == list(CATEGORIES)
    for original, back in zip([scene(0), scene(1)], pictures, strict=False):
        for field in ("image", "masks", "boxes"):
            np.testing.assert_array_equal(getattr(back, field), getattr(original, field))
        assert back.labels == original.labels
    assert pictures[2].masks.shape == (0, 20, 30) and pictures[-1].name == "000003.png"
    assert [p.name for p in pictures[:2]] == ["000001.png", "000002.png"]
    with pytest.raises(IndexError):
        pictures[3]
    assert repr(pictures).endswith(f"3 images, {len(scene(0)) + len(scene(1))} instances)")


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # pycocotools' own
def test_pycocotools_reads_the_same_masks_and_areas(folder):
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "annotations.json"))
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    np.testing.assert_array_equal(np.stack([coco.annToMask(a) for a in annotations]).astype(bool), scene(0).masks)
    assert [a["area"] for a in annotations] == scene(0).masks.sum(axis=(1, 2)).tolist()
    boxes = np.array([a["bbox"] for a in annotations])
    np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], scene(0).boxes[:, 2:])
    assert coco.loadCats([1, 10]) == [{"id": 1, "name": "fruit"}, {"id": 10, "name": "clothing"}]


def test_polygons_plain_rle_crowds_and_what_covers_no_pixel(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 6), 90).save(tmp_path / "images" / "a.png")  # grey: becomes RGB
    square = [[1, 1, 5, 1, 5, 4, 1, 4], [6, 0, 8, 0, 8, 2, 6, 2]]
    segmentations = [square, {"size": [6, 8], "counts": [0, 6, 42]}, [], [[1, 1, 1, 1, 1, 1]]]
    annotations = [{"image_id": 7, "category_id": 3, "segmentation": s} for s in segmentations]
    annotations.append({"image_id": 7, "category_id": 3, "iscrowd": 1, "segmentation": square})
    data = {
        "images": [{"id": 7, "file_name": "a.png", "height": 6, "width": 8}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cup"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    (picture,) = read(tmp_path)
    expected = np.zeros((2, 6, 8), bool)
    expected[0, 1:4, 1:5] = expected[0, 0:2, 6:8] = expected[1, :, 0] = True
    np.testing.assert_array_equal(picture.masks, expected)
    np.testing.assert_array_equal(picture.boxes, [[1, 0, 8, 4], [0, 0, 1, 6]])
    assert picture.labels == ["cup", "cup"] and (picture.image == 90).all()


@pytest.mark.parametrize("seed", range(5))
def test_compressed_masks_come_back_bit_for_bit(tmp_path, seed):
    """Against pycocotools' own encoder: noise, blobs, full and nearly empty masks, of odd sizes."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 200, 2)
    noise = rng.random((height, width))
    masks = np.stack(
        [noise < share for share in (0.002, 0.5, 0.998, 2)] + [np.add.outer(*map(np.arange, noise.shape)) % 7 < 3]
    )
    masks = masks[masks.any((1, 2))]
    picture = Picture.from_masks(np.zeros((height, width, 3), np.uint8), masks, labels=["cup"] * len(masks))
    write_coco([picture], tmp_path, categories=["cup"])
    np.testing.assert_array_equal(read(tmp_path)[0].masks, masks)


def test_what_other_tools_write_is_understood(folder):
    """A byte order mark, sizes and ids as 128.0, ids in words, a crowd mark in words."""

    def edit(data):
        for entry in data["images"]:
            entry.update(height=float(entry["height"]), width=float(entry["width"]), id=f"scene {entry['id']}")
        for entry in data["annotations"]:
            entry.update(image_id=f"scene {entry['image_id']}", category_id=float(entry["category_id"]), iscrowd="0")

    change(folder, edit)
    path = folder / "annotations.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    pictures = read(folder)
    assert pictures.image_ids == ["scene 1", "scene 2", "scene 3"]
    np.testing.assert_array_equal(pictures[0].masks, scene(0).masks)


def test_writing_an_unknown_label_names_it(tmp_path):
    picture = Picture.from_masks(np.zeros((4, 4)), np.ones((1, 4, 4)), labels=["sofa"])
    with pytest.raises(ValueError, match="'sofa'.*fruit"):
        write_coco([picture], tmp_path)
    write_coco([picture], tmp_path, categories=["sofa"])
    with pytest.raises(ValueError, match="annotation 1.*'sofa'.*fruit"):
        read(tmp_path, categories=CATEGORIES)


EDITS = {
    "missing category": (lambda d: d["categories"].pop(), "annotation.*category_id 10.*categories lack"),
    "missing image entry": (lambda d: d["images"].pop(0), "annotation 1 .*image_id 1.*images lack"),
    "no images": (lambda d: d.update(images=[], annotations=[]), "lists no images"),
    "no annotations list": (lambda d: d.pop("annotations"), 'no list "annotations"'),
    "no categories list": (lambda d: d.update(categories={}), 'no list "categories"'),
    "no field": (lambda d: d["images"][1].pop("width"), r"images\[1\] has no width"),
    "an entry that is no object": (lambda d: d["annotations"].append(5), r"annotations\[\d+\] has no image_id"),
    "missing file": (lambda d: d["images"][0].update(file_name="x.jpg"), "no file 'x.jpg'"),
    "an image twice": (lambda d: d["images"].append(d["images"][0]), "images have the id 1 more than once"),
    "a category twice": (lambda d: d["categories"].append({"id": 99, "name": "fruit"}), "the name 'fruit' more than"),
    "an id that is none": (lambda d: d["categories"][0].update(id=None), r"id of categories\[0\] must be.*got None"),
    "a list for an id": (
        lambda d: d["annotations"][0].update(category_id=[1]),
        r"category_id of annotations\[0\] must be.*got \[1\]",
    ),
    "a size in words": (lambda d: d["images"][1].update(height="20"), r"height of images\[1\] must be.*got '20'"),
    "no file name": (lambda d: d["images"][0].update(file_name=None), r"file_name of images\[0\] must be a string"),
}


@pytest.mark.parametrize("case", EDITS)
def test_damaged_annotations_are_refused_when_opened(folder, case):
    edit, words = EDITS[case]
    change(folder, lambda data: data["annotations"][0].update(category_id=10))  # so that dropping the last one matters
    change(folder, edit)
    with pytest.raises(ValueError, match=words):
        read(folder)


@pytest.mark.parametrize(
    "text, words", [("", "is empty"), ("{", "not JSON"), ("[]", 'no list "images"'), (None, "cannot be read")]
)
def test_files_that_are_no_annotations(tmp_path, text, words):
    if text is not None:
        (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        read(tmp_path)


BAD_SHAPES = {
    "two points": [[1, 1, 2, 2]],
    "odd": [[1, 1, 2, 2, 3, 3, 4]],
    "infinite": [[1, 1, 2, 2, float("inf"), 3]],
    "words": [["a"] * 6],
    "other size": {"size": [3, 3], "counts": [9]},
    "sum": {"size": [128, 128], "counts": [9, 9]},
    "negative": {"size": [128, 128], "counts": [128 * 128 + 1, -1]},
    "overlong compressed": {"size": [128, 128], "counts": "oooooo0" * 9},
    "compressed that ends early": {"size": [128, 128], "counts": "c26"},
    "empty compressed": {"size": [128, 128], "counts": ""},
    "cut within a number": {"size": [128, 128], "counts": "c26P"},
    "no characters of RLE": {"size": [128, 128], "counts": "ü!"},
    "fractions": {"size": [128, 128], "counts": [0.5, 128 * 128 - 0.5]},
    "a corner far away": [[1, 1, 1e30, 1, 5, 5]],  # pycocotools would end the process
    "number": 5,
    "none": None,
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_bad_segmentations_name_the_annotation(folder, case):
    change(folder, lambda d: d["annotations"][0].update(segmentation=BAD_SHAPES[case]))
    pictures = read(folder)
    with pytest.raises(ValueError, match="annotation 1: segmentation"):
        pictures[0]
    assert len(pictures[1]) == len(scene(1)), "other pictures can still be read"


def test_image_of_another_size_or_damaged(folder):
    Image.new("RGB", (9, 9)).save(folder / "images" / "000001.png")
    (folder / "images" / "000002.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"000001.png is \(9, 9\).*\(128, 128\)"):
        read(folder)[0]
    with pytest.raises(ValueError, match="000002.png.*PIL"):
        read(folder)[1]
