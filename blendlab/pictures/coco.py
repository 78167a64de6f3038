"""Pictures to and from a folder in COCO's format: annotations.json and images. Needs pycocotools."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .convert import to_rgb
from .picture import Picture, tight_boxes
from .sprites import CATEGORIES


def write_coco(pictures: Iterable[Picture], folder, categories: Sequence[str] = CATEGORIES) -> Path:
    """Write pictures as folder/annotations.json and folder/images/*.png; returns the annotations' path.

    Labels must be among `categories`, whose ids are 1, 2, ... in their order. Masks are written as compressed RLE.
    """
    from pycocotools import mask as rle

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    ids = {name: i + 1 for i, name in enumerate(categories)}
    images, annotations = [], []
    for number, picture in enumerate(pictures, 1):
        file, (height, width) = f"{number:06d}.png", picture.size
        Image.fromarray(picture.image).save(folder / "images" / file)
        images.append({"id": number, "file_name": file, "height": height, "width": width})
        for mask, (x1, y1, x2, y2), label in zip(picture.masks, picture.boxes.tolist(), picture.labels, strict=True):
            if label not in ids:
                raise ValueError(f"pictures: label {label!r} of {picture!r} is not among the categories {list(ids)}")
            code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[label],
                    "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
    named = [{"id": i, "name": name} for name, i in ids.items()]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": named}), encoding="utf-8")
    return path


def read_coco(annotations, images, categories: Sequence[str] | None = None) -> CocoPictures:
    """The pictures of a COCO-format data set, in the order of its "images"; each is read when it is asked for.

    annotations: path of the JSON file. images: the folder that its file names are relative to.
    categories: where given, every category that an annotation uses must be among these names.
    Raises ValueError for a missing, empty or damaged file, no images, an image that is not in the folder, and an
    annotation whose category or image the file does not define.
    """
    return CocoPictures(annotations, images, categories)


class CocoPictures(Sequence):
    """A sequence of Picture; `categories` are the file's names in the order of their ids, `image_ids` its image ids.

    Masks are the annotated ones and may overlap; boxes are tight round them (an annotation's own bbox is not used).
    Crowd annotations are left out, and so are those that cover no pixel.
    """

    def __init__(self, annotations, images, categories: Sequence[str] | None = None) -> None:
        self.path, self.folder = Path(annotations), Path(images)
        data = _parse(self.path)
        names = {entry["id"]: entry["name"] for entry in data["categories"]}
        self.categories = [names[i] for i in sorted(names, key=lambda i: (isinstance(i, str), i))]
        self._images = data["images"]
        self.image_ids = [entry["id"] for entry in self._images]
        self._instances: dict[int, list[dict]] = {i: [] for i in self.image_ids}
        for entry in data["annotations"]:
            told = f"annotations: {self.path}: annotation {entry.get('id')}"
            if entry["category_id"] not in names:
                raise ValueError(f"{told} has category_id {entry['category_id']}, which the file's categories lack")
            if entry["image_id"] not in self._instances:
                raise ValueError(f"{told} has image_id {entry['image_id']}, which the file's images lack")
            name = names[entry["category_id"]]
            if categories is not None and name not in categories:
                raise ValueError(f"{told} is of category {name!r}, expected one of {list(categories)}")
            if entry.get("iscrowd") in (None, 0, "0"):
                self._instances[entry["image_id"]].append({**entry, "label": name})
        for entry in self._images:
            if not (self.folder / entry["file_name"]).is_file():
                raise ValueError(f"images: {self.folder} has no file {entry['file_name']!r}, which {self.path} lists")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        entry = self._images[index]
        size, file = (entry["height"], entry["width"]), entry["file_name"]
        image = to_rgb(self.folder / file)
        if image.shape[:2] != size:
            raise ValueError(f"images: {file} is {image.shape[:2]}, {self.path} says {size} (height, width)")
        found = [(_decode(one, *size), one["label"]) for one in self._instances[entry["id"]]]
        found = [(mask, label) for mask, label in found if mask.any()]
        masks = np.stack([mask for mask, _ in found]) if found else np.zeros((0, *size), bool)
        return Picture(file, image, masks, tight_boxes(masks), [label for _, label in found])

    def __repr__(self) -> str:
        instances = sum(map(len, self._instances.values()))
        return f"CocoPictures({os.fspath(self.path)!r}, {len(self)} images, {instances} instances)"


ID = (int, str)  # numbers in COCO's own files; some tools write names of files
FIELDS = {  # field -> its type in JSON
    "images": {"id": ID, "file_name": str, "height": int, "width": int},
    "annotations": {"image_id": ID, "category_id": ID, "segmentation": object},
    "categories": {"id": ID, "name": str},
}
UNIQUE = (("images", "id"), ("categories", "id"), ("categories", "name"))
FARTHEST = 1e5  # pixels: pycocotools ends the process on a polygon whose corner is much farther away


def _parse(path: Path) -> dict:
    """The JSON file as a dict whose three lists are there, with the fields that are read from each entry."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"annotations: {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        what = "is empty" if path.stat().st_size == 0 else f"is not JSON ({error})"
        raise ValueError(f"annotations: {path} {what}") from error
    for name, fields in FIELDS.items():
        entries = data.get(name) if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f'annotations: {path} has no list "{name}", as COCO\'s format asks for')
        for i, entry in enumerate(entries):
            lacking = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if lacking:
                raise ValueError(f"annotations: {path}: {name}[{i}] has no {', '.join(lacking)}")
            for field, kind in fields.items():
                value = entry[field]
                if isinstance(value, float) and value.is_integer() and kind is not object:
                    value = entry[field] = int(value)  # 640.0, as some tools write it
                if isinstance(value, bool) or not isinstance(value, kind):
                    wanted = {str: "a string", int: "a whole number"}.get(kind, "a whole number or a string")
                    raise ValueError(f"annotations: {path}: {field} of {name}[{i}] must be {wanted}, got {value!r:.80}")
    for name, field in UNIQUE:
        values = [entry[field] for entry in data[name]]
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"annotations: {path}: {name} have the {field} {twice[0]!r} more than once")
    if not data["images"]:
        raise ValueError(f"annotations: {path} lists no images")
    return data


def _decode(entry: dict, height: int, width: int) -> np.ndarray:
    """An annotation's polygons or RLE as an (H,W) bool mask."""
    shape = entry["segmentation"]
    if shape == []:
        return np.zeros((height, width), bool)
    if isinstance(shape, list):
        good = all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and _numbers(p) for p in shape)
        wanted = f"polygons of three or more x,y pairs, at most {FARTHEST:g} px away"
    else:
        good = isinstance(shape, dict) and shape.get("size") == [height, width] and "counts" in shape
        wanted = f"polygons, or RLE with size {[height, width]} and counts"
    if good:
        counts = _outlined(shape, height, width) if isinstance(shape, list) else _counts(shape["counts"])
        good = min(counts, default=-1) >= 0 and sum(counts) == height * width
        wanted = wanted if good else f"RLE whose counts add up to {height} x {width} pixels"
    if not good:
        raise ValueError(f"annotations: annotation {entry.get('id')}: segmentation must be {wanted}, got {shape!r:.80}")
    runs = np.arange(len(counts)) % 2 == 1  # background first, in columns
    return np.repeat(runs, counts).reshape(width, height).T


def _numbers(values: list) -> bool:
    """Whether all are numbers that pycocotools can bear."""
    return all(isinstance(v, (int, float)) and abs(v) <= FARTHEST for v in values)  # false for NaN too


def _outlined(polygons: list, height: int, width: int) -> list[int]:
    """The run lengths of polygons drawn and united by COCO's own rule."""
    from pycocotools import mask as rle

    return _counts(rle.merge(rle.frPyObjects(polygons, height, width))["counts"].decode("ascii"))


def _counts(counts: object) -> list[int]:
    """Run lengths from a list, or from COCO's compressed text; empty where it is neither.

    In the text a number is a row of characters, least digits first: 5 bits each above "0", the sixth says that more
    follow, the highest of the last is the sign. From the fourth on, each is the difference to the last but one.
    pycocotools reads it unchecked: a text that ends early gives it a mask of whatever lay in memory.
    """
    if isinstance(counts, list):
        whole = all(isinstance(v, int) or (isinstance(v, float) and v.is_integer()) for v in counts)
        return [int(v) for v in counts] if whole else []
    if not isinstance(counts, str):
        return []
    numbers, value, shift = [], 0, 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64:
            return []
        value, shift = value | (code & 31) << shift, shift + 5
        if not code & 32:
            value -= (code & 16) << shift - 4
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value, shift = 0, 0
    return numbers if shift == 0 else []
