"""What a threshold and NMS leave of what a network said of a picture, up to the masks.

One letter legend: R output side, H x W image.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..pictures import Picture

if TYPE_CHECKING:
    from ..blendmask import BlendMask
    from ..blendmask.postprocess import Proposals
    from ..blendmask.predict import Detections, Stages

R = 56


class Decided:
    """Both decisions on what `model` said, `seen`. Everything lies where the model does.

    threshold  on the score; `candidates` are above it, `top` the best of each level, which NMS is given.
    nms        of two boxes of one class with a larger IoU the weaker goes; `after` stay, `kept` are the best of those.
    """

    def __init__(self, model: BlendMask, seen: Stages, picture: Picture, threshold: float, nms: float):
        from ..blendmask import postprocess  # here: what does without a network starts without its code

        self._model, self._seen, self._picture = model, seen, picture
        config, self.threshold = model.config, threshold
        self.candidates = postprocess.above_threshold(seen.output.dense, 0, threshold**2)
        top = postprocess.top_of_each_level(self.candidates, config.top_k, config.levels)
        self.top = postprocess.square_root(top)
        self.after = postprocess.suppress(self.top, nms)
        self.kept = self.after[: config.max_detections]

    def blended(self, proposals: Proposals) -> Detections:
        """Their masks."""
        from ..blendmask.predict import finish

        seen, config = self._seen, self._model.config
        sizes = (seen.resized.size, seen.picture.size, config.bases, config.attention_side, R)
        return finish(self._model, seen.output, proposals, *sizes)

    @cached_property
    def detections(self) -> Detections:
        """What is blended of `kept`: made when first asked for, since a slider's picture need not wait for it."""
        return self.blended(self.kept)

    @cached_property
    def found(self) -> list[int]:
        """The true objects that have a detection of their class with a mask IoU of at least 0.5."""
        detections, picture = self.detections, self._picture
        masks = detections.masks.flatten(1).float()  # (d,H·W)
        truth = torch.from_numpy(picture.masks).to(masks.device).flatten(1).float()  # (n,H·W)
        both = truth @ masks.T  # (n,d) pixels: counts, exact in float32
        ious = both / (truth.sum(1, keepdim=True) + masks.sum(1) - both).clamp(min=1)
        said = np.array([detections.categories[label] for label in detections.labels.tolist()], object)
        same = np.array(picture.labels, object)[:, None] == said  # (n,d)
        return ((ious >= 0.5).cpu().numpy() & same).any(1).nonzero()[0].tolist()
