"""The explorer of a reader's own photograph: objects found by the authors' models, or drawn by hand."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import Layout

from ..pictures import load, names
from ..pictures.upload import open_image
from .base import Share
from .device import model_on
from .hand import HandExplorer

if TYPE_CHECKING:
    from ..blendmask import BlendMask
    from ..blendmask.found import Found

HAND = "drawn by hand"


class PhotoExplorer(HandExplorer):
    """Any photograph, and the whole explorer of the blender on what is found or drawn in it.

    photo    a bundled one's name, a path, or the bytes of a file: see pictures.upload.open_image.
    models   name -> a function that makes the model, or raises ValueError with a word on what is missing. Absent, the
             authors' three, each where its weights are on this machine. None is made before it is chosen.

    The menu `masks` says who finds the objects: "drawn by hand" is HandExplorer's way; a model keeps all that it finds
    in `found`, and the slider `score` says what of that is shown. `model` is the one in memory. `look_at` takes another
    photograph. device: where a model looks, bases are fitted and masks are blended.
    """

    def __init__(
        self,
        photo: str | os.PathLike | bytes = "voc",
        *,
        models: "Mapping[str, Callable[[], BlendMask]] | None" = None,
        device: str | torch.device = "cpu",
    ):
        self._models = dict(models) if models is not None else _official_models()
        self.model: BlendMask | None = None
        self.found: Found | None = None
        self._asked = self._word = self._refused = ""
        image, name, self._note = _read(photo)
        super().__init__(image, name, device=device)

    def _make_controls(self) -> None:
        super()._make_controls()
        menu = {"style": {"description_width": "100px"}, "layout": Layout(width="232px")}
        self.photo = widgets.Dropdown(description="photograph", **menu)
        self.upload = widgets.FileUpload(accept="image/*", description="upload", layout=Layout(width="110px"))
        self.path = widgets.Text(description="path", placeholder="then Enter", continuous_update=False, **menu)
        self.masks = widgets.Dropdown(options=[HAND, *self._models], description="masks", **menu)
        self.score = Share(0.5, least=0.25, step=0.01, description="score", layout=Layout(width="320px"))
        first = [self.photo, self.upload, self.path, self.masks]
        self._first_row.children = [*first, *self._first_row.children, self.score]

    def _connect(self) -> None:
        super()._connect()
        self._listen(self.photo, self._chosen)
        self._listen(self.path, self._path_entered)
        self.path.on_msg(self._guarded(lambda _, message, __: self._path_entered_again(message)))
        self._listen(self.upload, self._uploaded)
        self._listen(self.masks, self._begin)
        self._listen(self.score, lambda: self._show_found(keep=True))

    # ------------------------------------------------------------------ the photograph

    def look_at(self, photo: str | os.PathLike | bytes, name: str | None = None) -> None:
        """Another photograph: a bundled one's name, a path, or bytes. ValueError says what is wrong with the file."""
        image, known_as, note = _read(photo)
        self._new(image, name or known_as)
        self._note, self._word = note, ""
        self._start()

    def _chosen(self) -> None:
        if self.photo.value == self._name:  # back from a file that could not be read
            self._start()
        elif self.photo.value is not None:
            self.look_at(self.photo.value)

    def _path_entered(self) -> None:
        self._refused = self.path.value
        if path := self.path.value.strip(" \t'\""):  # as a file manager's "copy as path" has it
            self._try(os.path.expanduser(path))
        self._refused = ""

    def _path_entered_again(self, message: dict) -> None:
        """Enter on a path that could not be read: the page sends no value that is as before, but it says `submit`."""
        if message.get("event") == "submit" and self._refused and self.path.value == self._refused:
            self._path_entered()

    def _try(self, photo: str | bytes, name: str | None = None) -> None:
        """As look_at. A file that cannot be read leaves the menu on none: any photograph in it can then be chosen."""
        try:
            self.look_at(photo, name)
        except ValueError:
            with self._hold():
                self.photo.value = None
            raise

    def _uploaded(self) -> None:
        if not self.upload.value:
            return
        (file,) = self.upload.value
        with self._hold():
            self.upload.value = ()  # its bytes are let go; and the same file can be given again
        try:
            self._try(bytes(file["content"]), file["name"])
        except ValueError as problem:
            raise ValueError(f"{file['name']}: {problem}") from problem

    def _start(self) -> None:
        with self._hold():
            self.photo.options = [*names(), *({self._name} - set(names()))]
            self.photo.value = self._name
        self.board.show_picture(self._bare())
        self._begin()

    def _begin(self) -> None:
        """From the photograph alone, as the menu `masks` says."""
        self.found = None
        if self.masks.value != HAND:
            self._find(self.masks.value)
        if self.found is None:
            self._show_hand()

    # ------------------------------------------------------------------ found by a model

    def _find(self, name: str) -> None:
        """Ask the model of this name; if it is not here, a word on that, and back to drawing."""
        from ..blendmask.found import look  # here: what does without a network starts without its code
        from ..blendmask.official import DEPTHS, LICENCE

        self._show_nothing(f"{self._name}: {name} looks at the photograph. On a CPU this takes some seconds ...")
        try:
            if name != self._asked:
                self.model, self._asked = None, ""  # two never live at once
                self.model, self._asked = self._models[name](), name
            self.model = model_on(self.model, self.device.value)
        except ValueError as missing:
            self._word = f"{name} cannot be asked: {missing}"
            with self._hold():
                self.masks.value = HAND
            return
        self._word = ""
        note = "what it says about this photograph" + (f". {LICENCE.rstrip('.')}" if name in DEPTHS else "")
        self.found = look(self.model, self._image, self._name, source=name, note=note)
        self._show_found()

    def _show_found(self, keep: bool = False) -> None:
        """The detections above the score. They and their bases are kept: the network is not asked again."""
        if self.found is None:
            return
        self.board.tool, self.against = "", "the mask as detected"
        shown = self.found.above(self.score.value)
        if len(shown.picture):
            return self._show(shown.picture, shown.source, keep)
        best = f"; the best is {self.found.picture.labels[0]}" if len(self.found.picture) else " at all"
        self._show_nothing(
            f"{self._name}: {self._asked} finds nothing that scores {self.score.value:.2f} or more{best}."
        )

    def _show_nothing(self, text: str) -> None:
        """The photograph without what was found, or drawn, in this one or in another."""
        with self._hold():
            self._name_instances([], None)
        self.board.tool, self.board.boxes = "", []
        self._blank(text)

    # ------------------------------------------------------------------ HandExplorer's

    def _show_hand(self, chosen: int | None = None) -> None:
        if self.found is None:  # a fit may end while a model's objects are looked at; it waits for the hand's turn
            super()._show_hand(chosen)

    @property
    def _drawing(self) -> bool:
        return self.found is None and super()._drawing

    def _update(self, bases: bool = False) -> None:
        if self.found is None or len(self.picture):  # else the score leaves nothing to show
            super()._update(bases)

    def _lay_out(self, steps: bool) -> None:
        super()._lay_out(steps)
        self._hand_row.layout.display = None if self.masks.value == HAND else "none"
        self.score.layout.display = None if self.found is not None else "none"

    def _words(self) -> list[str]:
        words = [f"{self._name}: {self._note}."] * bool(self._note) + [self._word] * bool(self._word)
        if self.found is not None:
            n, more = len(self.picture), f"; {self.found.empty} more have no pixel" if self.found.empty else ""
            words.append(f"{n} of {len(self.found.picture)} detections score {self.score.value:.2f} or more{more}.")
        return words

    def __repr__(self) -> str:
        return f"PhotoExplorer({self._name!r}, masks={self.masks.value!r})"


def _read(photo: str | os.PathLike | bytes) -> tuple[np.ndarray, str, str]:
    """Image, name, and the note on what was done to it."""
    if isinstance(photo, str) and photo in names():
        return load(photo).image, photo, ""
    image, note = open_image(photo)
    return image, "photograph" if isinstance(photo, bytes) else os.path.basename(os.fspath(photo)), note


def _official_models() -> "dict[str, Callable[[], BlendMask]]":
    return {name: lambda name=name: _official(name) for name in ("R_50_1x", "R_50_3x", "R_101_3x")}


def _official(name: str) -> "BlendMask":
    """The authors' model from this machine. An explorer downloads nothing: that is for the reader to start."""
    from ..blendmask.official import LICENCE, PAGE, by_hand, official, official_file

    if official_file(name) is None:
        raise ValueError(
            f"its weights, {name}.pth, are not on this machine. With a network, run `from blendlab.blendmask import "
            f"official; official({name!r})` in a cell, once; or download {name}.pth from {PAGE} and put it at "
            f"{by_hand(name)}. {LICENCE} Until then, draw by hand."
        )
    return official(name)
