"""COCO's average precision of boxes and masks, by pycocotools. AP here means COCO's AP."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable

import numpy as np

from ..pictures.picture import Picture
from .model import BlendMask
from .nested import sizes


def average_precision(
    model: BlendMask, pictures: Iterable[Picture], K: int | None = None, M: int | None = None, R: int | None = None
) -> dict[str, float]:
    """Mask and box AP of `model` on pictures with known objects: {"mask_ap", "box_ap"}, fractions of 1.

    Every detection above the model's own low threshold counts. K, M, R: the model's own where None. NaN where the
    pictures hold no object at all. Raises ValueError for a picture whose labels the model does not know.
    """
    from pycocotools import mask as rle

    K, M, R = sizes(model.config, K, M, R)
    categories = list(model.config.categories)
    images, truth, found = [], [], []
    for i, picture in enumerate(pictures, 1):
        height, width = picture.image.shape[:2]
        images.append({"id": i, "height": height, "width": width})
        if unknown := sorted(set(picture.labels) - set(categories)):
            raise ValueError(f"{picture.name} has categories {unknown}; the model knows {categories}")
        for mask, box, label in zip(picture.masks, picture.boxes, picture.labels, strict=True):
            entry = _entry(i, categories.index(label), box, rle.encode(np.asfortranarray(mask, dtype=np.uint8)))
            truth.append(entry | {"id": len(truth) + 1, "iscrowd": 0, "area": int(mask.sum())})
        seen = model.predict(picture.image, model.config.score_threshold**0.5, K, M, R)
        codes = rle.encode(np.asfortranarray(seen.masks.cpu().numpy().transpose(1, 2, 0), dtype=np.uint8))
        for code, box, label, score in zip(
            codes, seen.boxes.tolist(), seen.labels.tolist(), seen.scores.tolist(), strict=True
        ):
            found.append(_entry(i, label, box, code) | {"score": score})
    if not truth:
        return {"mask_ap": float("nan"), "box_ap": float("nan")}
    return {
        "mask_ap": _run(images, truth, found, "segm", categories),
        "box_ap": _run(images, truth, found, "bbox", categories),
    }


def _entry(image: int, label: int, box: Iterable[float], code: dict) -> dict:
    x1, y1, x2, y2 = map(float, box)
    return {"image_id": image, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": code}


def _run(images: list[dict], truth: list[dict], found: list[dict], kind: str, categories: list[str]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not found:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress and a table
        dataset = COCO()
        dataset.dataset = {
            "info": {},
            "images": images,
            "annotations": truth,
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
        }
        dataset.createIndex()
        # loadRes would take a result's area from its mask or box itself; it copies nothing, so give it fresh entries
        results = dataset.loadRes(
            [{k: v for k, v in one.items() if k != ("bbox" if kind == "segm" else "segmentation")} for one in found]
        )
        evaluation = COCOeval(dataset, results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])
